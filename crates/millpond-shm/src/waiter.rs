//! Waiting without polling: one bell for each party that waits, whatever number of ports it serves.
//!
//! How a party sleeps and is woken without missing anything is the module `doorbell`; here it meets the kernel: the futex, the
//! fence (only the compiler's on the ringing side where there is `membarrier`: the sleeper pays for both), spinning, timeouts.

use crate::attachment::{Attachment, Belonging, Session};
use crate::doorbell::{Doorbell, Sleepers};
use crate::error::{Context, Error, Result};
use crate::layout::MAX_WAITERS;
use crate::sync::{Ordering, private};
use crate::sys::{futex, time};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How a party waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Never sleeps: lowest latency, one core each.
    Spin,
    /// Sleeps at once: no CPU while idle.
    Block,
    /// Spins a little when that has paid off lately, then sleeps.
    #[default]
    Adaptive,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The condition holds.
    Ready,
    /// The timeout passed.
    Timeout,
    /// The pond was asked to stop.
    Stopped,
}

/// Longest spin of an adaptive wait: about what going to sleep and being woken costs.
const MAX_SPIN_NS: u32 = 50_000;
const MIN_SPIN_NS: u32 = 1_000;
/// A wait that slept and was over within this would have been shorter by spinning: sleeping and being woken are included.
const SHORT_WAIT_NS: u64 = 2 * MAX_SPIN_NS as u64;
/// A spin that took this much longer than it should have was preempted: more threads want to run than there are cores.
const PREEMPTED_NS: u64 = 100_000;
/// Longest sleep while the kernel refuses the fence that makes sleeping safe.
const UNFENCED: Duration = Duration::from_millis(1);
/// How long spinning is off after that.
const SPIN_PAUSE_NS: u64 = 20_000_000;

struct Shared {
    session: Arc<Session>,
    index: u32,
    wait: Wait,
    sleepers: Arc<Sleepers>,
    carrier: Mutex<Option<Carrier>>,
    spin_ns: private::AtomicU32,
    no_spin_before_ns: private::AtomicU64,
}

/// A waiting party of this process. Clones are the same party; give it to every port that one thread serves.
#[derive(Clone)]
pub struct Waiter(Arc<Shared>);

impl Waiter {
    pub(crate) fn new(session: &Arc<Session>, wait: Wait) -> Result<Waiter> {
        let registry = session.lock_registry()?;
        let free = (1..MAX_WAITERS as u32)
            .find(|&i| session.control.waiter(i).is_some_and(|w| w.owner.load(Ordering::Relaxed) == 0));
        let Some((index, slot)) = free.and_then(|i| Some((i, session.control.waiter(i)?))) else {
            return Err(Error::TableFull {
                pond: session.name.clone(),
                what: "waiter",
                limit: MAX_WAITERS - 1,
                advice: "let ports of one thread share a waiter",
            });
        };
        Doorbell { bell: &slot.bell, asleep: &slot.asleep }.forget_sleepers();
        crash_point!(WaiterReset);
        slot.owner.store(session.me.into(), Ordering::Release);
        drop(registry);
        Ok(Waiter(Arc::new(Shared {
            session: Arc::clone(session),
            index,
            wait,
            sleepers: Arc::default(),
            carrier: Mutex::new(None),
            spin_ns: private::AtomicU32::new(MAX_SPIN_NS),
            no_spin_before_ns: private::AtomicU64::new(0),
        })))
    }

    pub(crate) fn may_spin(&self) -> bool {
        self.0.wait != Wait::Block
    }

    pub(crate) fn index(&self) -> u32 {
        self.0.index
    }

    /// Whether both are the same party.
    #[must_use]
    pub fn is_same(&self, other: &Waiter) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits until `ready` says true, at most `timeout` (`None`: without end). `ready` is called before sleeping and after
    /// every ring; it must look at what this party's ports report, or at memory that is written before
    /// [`ring`](Waiter::ring).
    ///
    /// # Crash safety
    /// The death of a peer rings, once what it held is given back; so `ready` may ask for that, too.
    pub fn wait(&self, timeout: Option<Duration>, mut ready: impl FnMut() -> bool) -> Woken {
        let this = &*self.0;
        let Some(doorbell) = this.session.control.doorbell(this.index) else { return Woken::Stopped };
        // What is there already costs no look at the clock.
        if ready() {
            return Woken::Ready;
        }
        let start_ns = time::monotonic_ns();
        let timeout = timeout.unwrap_or(Duration::MAX);
        let elapsed = || Duration::from_nanos(time::monotonic_ns() - start_ns);
        loop {
            if this.session.is_forked() || this.session.stop_requested() {
                return Woken::Stopped;
            }
            if this.spin(start_ns, timeout, &mut ready) {
                return Woken::Ready;
            }
            let left = timeout.saturating_sub(elapsed());
            if left.is_zero() {
                return Woken::Timeout;
            }
            if this.wait == Wait::Spin {
                continue;
            }
            if this.sleep(doorbell, (timeout != Duration::MAX).then_some(left), &mut ready) || ready() {
                this.learn_from_sleep(start_ns);
                return Woken::Ready;
            }
        }
    }

    /// Wakes the party, from any thread of this process. What it should see must have been stored before.
    pub fn ring(&self) {
        if !self.0.session.is_forked() {
            self.0.session.ring(self.0.index);
        }
    }

    /// A descriptor that becomes readable when the bell rings, for epoll and async runtimes. Read its 8 bytes, serve the ports
    /// until they have nothing more, wait for the descriptor again. The end of the party makes it readable a last time.
    ///
    /// A thread carries the rings over, one for all descriptors of a party; whoever rings then pays for a futex wake each time.
    /// Both end with the party. A party that never asks for a descriptor pays nothing; one that asks again and again tells which
    /// it needs no longer, by [`forget_event_fd`](Waiter::forget_event_fd).
    ///
    /// # Errors
    /// [`Error::System`] if the kernel gives no descriptor or thread.
    pub fn event_fd(&self) -> Result<OwnedFd> {
        self.0.session.check_fork()?;
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .doing(|| "make an eventfd".to_owned())?;
        // Not plain `dup`: whatever program this process starts would inherit it.
        let copy = rustix::io::fcntl_dupfd_cloexec(&fd, 0).doing(|| "duplicate an eventfd".to_owned())?;
        let ours = (fd.as_raw_fd(), copy);
        let mut carrier = self.0.carrier.lock().unwrap_or_else(PoisonError::into_inner);
        match &*carrier {
            Some(carrier) => carrier.rings.add(ours),
            None => *carrier = Some(self.0.start_carrier(ours)?),
        }
        Ok(fd)
    }

    /// Nothing is carried to this descriptor any more. Call it before closing one that [`event_fd`](Waiter::event_fd) gave: one
    /// that is closed without costs a descriptor until the party goes.
    pub fn forget_event_fd(&self, fd: RawFd) {
        // The thread that carries is not there in a forked child, and one of the parent's may have had the locks.
        if self.0.session.is_forked() {
            return;
        }
        if let Some(carrier) = &*self.0.carrier.lock().unwrap_or_else(PoisonError::into_inner) {
            carrier.rings.forget(fd);
        }
    }
}

/// The thread behind a party's event descriptors.
struct Carrier {
    rings: Arc<Rings>,
    thread: JoinHandle<()>,
}

/// Where rings are carried to.
struct Rings {
    /// The number of each descriptor that was handed out, and a duplicate, as its holder may close it at any time.
    fds: Mutex<Vec<(RawFd, OwnedFd)>>,
    /// The party is going.
    over: private::AtomicBool,
}

impl Rings {
    fn fds(&self) -> MutexGuard<'_, Vec<(RawFd, OwnedFd)>> {
        self.fds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, fd: (RawFd, OwnedFd)) {
        self.fds().push(fd);
    }

    /// All of that number: one that was closed and not forgotten may have left it to another.
    fn forget(&self, fd: RawFd) {
        self.fds().retain(|(number, _)| *number != fd);
    }

    /// Makes every descriptor readable.
    fn tell(&self) {
        for (_, fd) in &*self.fds() {
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes()); // full: readable already
        }
    }

    /// Makes every descriptor readable after each ring. Sleeps until there is one, and for ever if nobody rings.
    fn carry(&self, pond: &Attachment, doorbell: Doorbell<'_>, sleepers: &Sleepers, mut seen: u32) {
        let mut is_fenced = true;
        loop {
            futex::wait(doorbell.bell, seen, (!is_fenced).then_some(UNFENCED));
            // The bell first: whoever sees the ring that follows `over` sees `over`, and the next wait does not sleep on that ring. The
            // other way round, the last ring could be taken for one to carry over, and nobody would ring again.
            let now = doorbell.bell.load(Ordering::Acquire);
            if self.over.load(private::Ordering::Acquire) {
                // Whoever waits for a descriptor looks once more, and finds its ports closed.
                self.tell();
                return;
            }
            if now != seen || !is_fenced {
                seen = now;
                // Before the descriptors: whoever serves the ports afterwards sees all that nobody rang for again.
                doorbell.announce_again(sleepers);
                is_fenced = pond.heavy_fence();
                self.tell();
            }
        }
    }
}

impl Shared {
    /// Spins as the mode allows; `true`: ready.
    fn spin(&self, start_ns: u64, timeout: Duration, ready: &mut impl FnMut() -> bool) -> bool {
        let begun = time::monotonic_ns();
        let budget = match self.wait {
            Wait::Block => return false,
            Wait::Spin => u64::MAX,
            Wait::Adaptive if begun < self.no_spin_before_ns.load(private::Ordering::Relaxed) => {
                return false;
            }
            Wait::Adaptive => u64::from(self.spin_ns.load(private::Ordering::Relaxed)),
        };
        let mut last = begun;
        loop {
            // A look costs some nanoseconds, a clock some tens: many looks for one clock.
            for _ in 0..64 {
                if ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
            let now = time::monotonic_ns();
            if now - last > PREEMPTED_NS && self.wait == Wait::Adaptive {
                self.no_spin_before_ns.store(now + SPIN_PAUSE_NS, private::Ordering::Relaxed);
                return false;
            }
            last = now;
            if now - begun > budget {
                return false;
            }
            if self.wait == Wait::Spin
                && (self.session.stop_requested()
                    || (timeout != Duration::MAX && Duration::from_nanos(now - start_ns) >= timeout))
            {
                return false;
            }
        }
    }

    /// A wait that began at `start_ns` had to sleep: the next one spins for longer if that would have done, else shorter. (The
    /// rule is that of the Linux kernel's halt polling, which decides the same for virtual processors.)
    ///
    /// Where even the longest spin did not do and the wait was short all the same, the other side could only run while this one
    /// slept: they share a core, whatever the number of cores that this process may use. Then spinning pauses.
    fn learn_from_sleep(&self, start_ns: u64) {
        if self.wait != Wait::Adaptive {
            return;
        }
        let now = time::monotonic_ns();
        let budget = self.spin_ns.load(private::Ordering::Relaxed);
        let paused = now < self.no_spin_before_ns.load(private::Ordering::Relaxed);
        let next = match now - start_ns < SHORT_WAIT_NS {
            _ if paused => return,
            true if budget == MAX_SPIN_NS => {
                self.no_spin_before_ns.store(now + SPIN_PAUSE_NS, private::Ordering::Relaxed);
                MIN_SPIN_NS
            }
            true => (budget * 4).min(MAX_SPIN_NS),
            false => (budget / 2).max(MIN_SPIN_NS),
        };
        self.spin_ns.store(next, private::Ordering::Relaxed);
    }

    /// Sleeps until the bell rings or the timeout passes. `true`: ready before sleeping.
    fn sleep(
        &self,
        doorbell: Doorbell<'_>,
        timeout: Option<Duration>,
        ready: &mut impl FnMut() -> bool,
    ) -> bool {
        let mut found = false;
        let need_not_sleep = || {
            found = ready();
            found || self.session.stop_requested()
        };
        let is_fenced = Cell::new(false);
        doorbell.sleep(
            &self.sleepers,
            || is_fenced.set(self.session.heavy_fence()),
            need_not_sleep,
            |bell, rung| {
                // Without the fence somebody may have published and not have seen this party asleep: it looks again soon.
                let timeout = match is_fenced.get() {
                    true => timeout,
                    false => Some(timeout.map_or(UNFENCED, |t| t.min(UNFENCED))),
                };
                futex::wait(bell, rung, timeout);
            },
        );
        found
    }

    /// An event user does not call `wait`: its descriptors count as one more sleeper, for as long as the party lives.
    fn start_carrier(&self, fd: (RawFd, OwnedFd)) -> Result<Carrier> {
        // Ended by `drop`, before this party lets go of its session, which keeps the attachment.
        let pond = self.session.attachment();
        let index = self.index;
        let rings = Arc::new(Rings { fds: Mutex::new(vec![fd]), over: private::AtomicBool::new(false) });
        let (carried, sleepers) = (Arc::clone(&rings), Arc::clone(&self.sleepers));
        let doorbell = pond.control.doorbell(index).ok_or(Error::Forked)?;
        let seen = doorbell.announce(&self.sleepers);
        if !self.session.heavy_fence() {
            doorbell.withdraw(&self.sleepers);
            return Err(Error::InvalidConfig {
                what: format!("event descriptor in pond `{}`", self.session.name),
                expected: "the kernel's membarrier, as when this process joined".to_owned(),
                found: "the kernel (or a seccomp filter) refuses it now".to_owned(),
            });
        }
        let thread = std::thread::Builder::new()
            .name("millpond-bell".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || carried.carry(pond, doorbell, &sleepers, seen))
            .doing(|| "start the thread behind an event descriptor".to_owned());
        if thread.is_err() {
            doorbell.withdraw(&self.sleepers);
        }
        Ok(Carrier { rings, thread: thread? })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let carrier = self.carrier.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if self.session.is_forked() {
            // Its thread is not there, and what the C library had of it may by now be a thread of this process.
            std::mem::forget(carrier);
            return;
        }
        if let Some(carrier) = carrier {
            carrier.rings.over.store(true, private::Ordering::Release);
            self.session.ring(self.index);
            let _ = carrier.thread.join();
        }
        self.session.let_go(Belonging::Waiter(self.index));
    }
}
