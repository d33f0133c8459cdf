//! Waiting for sockets and pipes beside the pond's bell: a thread polls the descriptor and rings.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use millpond_shm::Waiter;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use crate::error::{Context, Result};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    Read,
    Write,
}

/// Watches at most one descriptor at a time. The thread exists from the first wait on and ends when this is dropped.
#[derive(Default)]
pub(crate) struct Readiness {
    watcher: Option<Watcher>,
}

struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// What to watch next; taken by the thread.
    wish: Mutex<Wish>,
    /// Readable when the wish has changed.
    changed: OwnedFd,
    ready: AtomicBool,
}

enum Wish {
    Nothing,
    Watch(Arc<OwnedFd>, Interest),
    End,
}

impl Readiness {
    /// Rings `waiter` when `fd` is ready, once; [`is_ready`](Readiness::is_ready) is true from then to the next call.
    pub(crate) fn watch(&mut self, fd: &Arc<OwnedFd>, interest: Interest, waiter: &Waiter) -> Result<()> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => none.insert(Watcher::start(waiter.clone())?),
        };
        watcher.shared.wish(Wish::Watch(Arc::clone(fd), interest));
        Ok(())
    }

    /// The descriptor is ready.
    pub(crate) fn is_ready(&self) -> bool {
        // Acquire is not needed: what is ready is asked of the kernel afterwards.
        self.watcher.as_ref().is_some_and(|watcher| watcher.shared.ready.load(Ordering::Relaxed))
    }
}

impl Watcher {
    fn start(waiter: Waiter) -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let changed =
            eventfd(0, flags).map_err(std::io::Error::from).context(|| "make an event descriptor")?;
        let wish = Mutex::new(Wish::Nothing);
        let shared = Arc::new(Shared { wish, changed, ready: AtomicBool::new(false) });
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("readiness".to_owned());
        let thread = thread.spawn(move || watched.run(&waiter)).context(|| "start a thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The thread holds a waiter, and with it the pond: it has to end before the pond can be left.
        self.shared.wish(Wish::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wish(&self, wish: Wish) {
        let mut slot = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        self.ready.store(false, Ordering::Relaxed);
        *slot = wish;
        drop(slot);
        // It can only fail when the counter is full, and then the descriptor is readable anyway.
        let _ = rustix::io::write(&self.changed, &1u64.to_ne_bytes());
    }

    fn run(&self, waiter: &Waiter) {
        let mut watched: Option<(Arc<OwnedFd>, Interest)> = None;
        loop {
            let mut descriptors = vec![PollFd::new(&self.changed, PollFlags::IN)];
            if let Some((fd, interest)) = &watched {
                let flags = if *interest == Interest::Read { PollFlags::IN } else { PollFlags::OUT };
                descriptors.push(PollFd::from_borrowed_fd(fd.as_fd(), flags));
            }
            // An interruption is no event, and nothing else can go wrong with descriptors that are open.
            if poll(&mut descriptors, None).is_err() {
                continue;
            }
            // Errors and hang-ups count as ready: the block will find out which.
            let is_ready = descriptors.get(1).is_some_and(|fd| !fd.revents().is_empty());
            let mut wish = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
            let mut count = [0; 8];
            let changed = rustix::io::read(&self.changed, &mut count).is_ok();
            match std::mem::replace(&mut *wish, Wish::Nothing) {
                Wish::End => return,
                Wish::Watch(fd, interest) => watched = Some((fd, interest)),
                Wish::Nothing if is_ready && !changed => {
                    watched = None;
                    self.ready.store(true, Ordering::Relaxed);
                    waiter.ring();
                }
                Wish::Nothing => {}
            }
        }
    }
}
