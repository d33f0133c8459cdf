//! The registry mutex: serialises control operations across processes and survives its owner's death.
//!
//! A word in shared memory names the owner's process slot. A slot is never freed without this lock, so the word names one
//! process exactly; when the kernel says that it is dead, the next one takes the lock over and redoes what was half done. Each
//! taking raises a count in the word, so that a take-over by compare-and-swap cannot hit a later owner in the same slot. The data
//! path takes the lock only to follow a change of its connections or to get more buffers, and goes on without if somebody is
//! stopped who holds it.

use crate::attachment::Attachment;
use crate::control::{LANE_CLOSING, PROCESS_FREE};
use crate::error::{Error, Result};
use crate::sync::Ordering;
use crate::sys::futex;
use std::sync::{MutexGuard, TryLockError};
use std::time::{Duration, Instant};

const OWNER: u32 = 0x3ff;
const COUNT: u32 = !OWNER & !WAITED;
const WAITED: u32 = 1 << 31;
/// How long a control operation waits for one holder.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long a stream stands still for whoever holds the lock: longer than any operation takes, unless its process does not run.
pub(crate) const STREAM_PATIENCE: Duration = Duration::from_millis(200);
const SLICE: Duration = Duration::from_millis(2);

/// Holds the lock; control operations are methods of it or take it as a proof.
pub(crate) struct Registry<'a> {
    pub(crate) pond: &'a Attachment,
    /// The word's count while we hold it; it stays behind.
    count: u32,
    _threads: MutexGuard<'a, ()>,
}

impl Attachment {
    /// Locks the registry. Blocks while other processes change it, until one of them has kept it for 10 s.
    pub(crate) fn lock_registry(&self) -> Result<Registry<'_>> {
        self.check_fork()?;
        let start = Instant::now();
        self.take_registry(self.registry_threads(), DEADLINE).map_err(|owner| Error::RegistryBusy {
            pond: self.name.clone(),
            pid: self.pid_of(owner),
            waited: start.elapsed(),
        })
    }

    /// As [`lock_registry`](Self::lock_registry), for whoever can go on without: `None` once somebody has kept it for `patience`.
    pub(crate) fn lock_registry_within(&self, patience: Duration) -> Result<Option<Registry<'_>>> {
        self.check_fork()?;
        let start = Instant::now();
        let threads = loop {
            match self.registry.try_lock() {
                Ok(threads) => break threads,
                Err(TryLockError::Poisoned(threads)) => break threads.into_inner(),
                Err(TryLockError::WouldBlock) if start.elapsed() >= patience => return Ok(None),
                Err(TryLockError::WouldBlock) => std::thread::sleep(SLICE / 20),
            }
        };
        Ok(self.take_registry(threads, patience.saturating_sub(start.elapsed())).ok())
    }

    /// Takes the lock; or the process slot of whoever has kept it for `patience`.
    fn take_registry<'a>(
        &'a self,
        threads: MutexGuard<'a, ()>,
        patience: Duration,
    ) -> std::result::Result<Registry<'a>, u32> {
        let word = &self.control.header().registry_lock;
        let me = u32::from(self.me);
        let (mut holder, mut since) = (0, Instant::now());
        let mut contended = 0;
        loop {
            // Acquire: pairs with the taker's Release; whoever sees an owner sees that its slot is not free.
            let seen = word.load(Ordering::Acquire);
            let count = (seen & COUNT).wrapping_add(OWNER + 1) & COUNT;
            if seen & OWNER == 0 {
                // WAITED is kept once anybody slept: an unlock then wakes somebody who may find nothing; never the reverse.
                let taken = me | count | contended | seen & WAITED;
                if word.compare_exchange(seen, taken, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                    crash_point!(LockTaken);
                    return Ok(Registry { pond: self, count, _threads: threads });
                }
                continue;
            }
            // Whoever takes it raises the count: the time begins anew with each of them.
            if holder != seen & !WAITED {
                (holder, since) = (seen & !WAITED, Instant::now());
            }
            if seen & WAITED == 0
                && word.compare_exchange(seen, seen | WAITED, Ordering::Relaxed, Ordering::Relaxed).is_err()
            {
                continue;
            }
            contended = WAITED;
            crash_point!(LockWaited);
            futex::wait(word, seen | WAITED, Some(SLICE));
            let owner = seen & OWNER;
            let taken = me | count | WAITED;
            if self.cannot_unlock(owner)
                && word.compare_exchange(seen | WAITED, taken, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                crash_point!(LockTakenOver);
                let registry = Registry { pond: self, count, _threads: threads };
                registry.redo();
                return Ok(registry);
            }
            if since.elapsed() >= patience && word.load(Ordering::Relaxed) & !WAITED == holder {
                return Err(owner);
            }
        }
    }

    /// Whether the lock's owner is dead (or lost it by `exec`), or names nobody, which only a stray write can have done.
    fn cannot_unlock(&self, owner: u32) -> bool {
        let state = self.control.process(owner as usize).map(|p| p.state.load(Ordering::Acquire) >> 56);
        state.is_none_or(|s| s == PROCESS_FREE)
            || self.has_died(owner as u16)
            || self.has_called_exec(owner as u16)
    }
}

impl Registry<'_> {
    /// After taking the lock from a dead owner: records are made so that a half-made one is free, so all that can be missing
    /// is that ends and parties were told, and the rest of a removal. Everybody looks again.
    fn redo(&self) {
        self.mend_ends();
        for (_, port) in self.pond.control.used_ports() {
            port.epoch.fetch_add(1, Ordering::Release);
            crash_point!(RedoTold);
        }
        self.pond.control.header().pool_epoch.fetch_add(1, Ordering::Release);
        crash_point!(RedoPools);
        let closing: Vec<u32> = self
            .pond
            .control
            .live_lanes()
            .filter(|(_, lane)| lane.state.load(Ordering::Relaxed) == LANE_CLOSING)
            .map(|(index, _)| index)
            .collect();
        for index in closing {
            self.teardown_if_abandoned(index);
        }
        self.pond.ring_everybody();
        crash_point!(RedoDone);
    }
}

impl Attachment {
    /// Rings every waiter in use.
    pub(crate) fn ring_everybody(&self) {
        for index in 1..crate::layout::MAX_WAITERS as u32 {
            if let Some(waiter) = self.control.waiter(index)
                && waiter.owner.load(Ordering::Relaxed) != 0
            {
                self.ring(index);
            }
        }
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        let word = &self.pond.control.header().registry_lock;
        crash_point!(LockReleasing);
        let before = word.swap(self.count, Ordering::Release);
        crash_point!(LockReleased);
        if before & WAITED != 0 {
            futex::wake_all(word);
        }
    }
}
