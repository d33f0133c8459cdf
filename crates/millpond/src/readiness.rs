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

/// Watches the descriptors of one wait at a time. The thread exists from the first wait on and ends when this is dropped.
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
    Watch(Vec<(Arc<OwnedFd>, Interest)>),
    End,
}

impl Readiness {
    /// Rings `waiter` when one of the descriptors is ready, once; [`is_ready`](Readiness::is_ready) is true from then to the next
    /// call.
    pub(crate) fn watch(&mut self, fds: Vec<(Arc<OwnedFd>, Interest)>, waiter: &Waiter) -> Result<()> {
        let watcher = match &mut self.watcher {
            Some(watcher) => watcher,
            none => none.insert(Watcher::start(waiter.clone())?),
        };
        watcher.shared.wish(Wish::Watch(fds));
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
        let mut watched: Vec<(Arc<OwnedFd>, Interest)> = Vec::new();
        loop {
            let mut descriptors = vec![PollFd::new(&self.changed, PollFlags::IN)];
            for (fd, interest) in &watched {
                let flags = if *interest == Interest::Read { PollFlags::IN } else { PollFlags::OUT };
                descriptors.push(PollFd::from_borrowed_fd(fd.as_fd(), flags));
            }
            // An interruption is no event, and nothing else can go wrong with descriptors that are open.
            if poll(&mut descriptors, None).is_err() {
                continue;
            }
            // Errors and hang-ups count as ready: the block will find out which.
            let is_ready = descriptors.iter().skip(1).any(|fd| !fd.revents().is_empty());
            let mut wish = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
            let mut count = [0; 8];
            let changed = rustix::io::read(&self.changed, &mut count).is_ok();
            match std::mem::replace(&mut *wish, Wish::Nothing) {
                Wish::End => return,
                Wish::Watch(fds) => watched = fds,
                Wish::Nothing if is_ready && !changed => {
                    watched.clear();
                    self.ready.store(true, Ordering::Relaxed);
                    waiter.ring();
                }
                Wish::Nothing => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use millpond_shm::{Pond, PondConfig, PoolConfig, Role, Wait, Woken};

    use super::*;

    #[test]
    fn rings_when_a_descriptor_becomes_ready() {
        let name = format!("readiness-{}", std::process::id());
        let config = PondConfig { pools: vec![PoolConfig::new(4096, 8)], ..PondConfig::default() };
        let pond = Pond::create(&name, &config, Role::Worker).unwrap();
        let waiter = pond.waiter(Wait::Block).unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let (reader, writer) = (Arc::new(reader), Arc::new(writer));
        let mut readiness = Readiness::default();
        assert!(!readiness.is_ready());
        let read = || vec![(Arc::clone(&reader), Interest::Read)];
        readiness.watch(read(), &waiter).unwrap();
        let short = std::time::Duration::from_millis(20);
        assert_eq!(waiter.wait(Some(short), || readiness.is_ready()), Woken::Timeout);
        rustix::io::write(&writer, b"x").unwrap();
        assert_eq!(waiter.wait(None, || readiness.is_ready()), Woken::Ready);
        // Watched again, it is not ready until it has been looked at.
        rustix::io::read(&reader, &mut [0; 8]).unwrap();
        readiness.watch(read(), &waiter).unwrap();
        assert_eq!(waiter.wait(Some(short), || readiness.is_ready()), Woken::Timeout);
        let both = [read(), vec![(Arc::clone(&writer), Interest::Write)]].concat();
        readiness.watch(both, &waiter).unwrap();
        assert_eq!(waiter.wait(None, || readiness.is_ready()), Woken::Ready);
    }
}
