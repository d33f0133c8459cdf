//! The registry mutex: serialises control operations across processes and survives its owner's death.
//!
//! A word in shared memory names the owner's process slot. A slot is never freed without this lock, so the word names one
//! process exactly; when the kernel says that it is dead, the next one takes the lock over and redoes what was half done. The
//! data path never takes it.

use crate::attachment::Attachment;
use crate::control::LANE_CLOSING;
use crate::error::{Error, Result};
use crate::sync::Ordering;
use crate::sys::futex;
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

const WAITED: u32 = 1 << 31;
const DEADLINE: Duration = Duration::from_secs(10);
const SLICE: Duration = Duration::from_millis(2);

/// Holds the lock; control operations are methods of it or take it as a proof.
pub(crate) struct Registry<'a> {
    pub(crate) pond: &'a Attachment,
    _threads: MutexGuard<'a, ()>,
}

impl Attachment {
    /// Locks the registry. Blocks while another process changes it, at most 10 s.
    pub(crate) fn lock_registry(&self) -> Result<Registry<'_>> {
        self.check_fork()?;
        let threads = self.registry_threads();
        let word = &self.control.header().registry_lock;
        let me = u32::from(self.me);
        let start = Instant::now();
        let mut contended = 0;
        loop {
            let seen = word.load(Ordering::Relaxed);
            if seen & !WAITED == 0 {
                // WAITED is kept once anybody slept: an unlock then wakes somebody who may find nothing; never the reverse.
                if word
                    .compare_exchange(seen, me | contended | seen, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
                {
                    crash_point!(LockTaken);
                    return Ok(Registry { pond: self, _threads: threads });
                }
                continue;
            }
            let owner = seen & !WAITED;
            if start.elapsed() > DEADLINE {
                return Err(Error::RegistryBusy {
                    pond: self.name.clone(),
                    pid: self.pid_of(owner),
                    waited: start.elapsed(),
                });
            }
            if seen & WAITED == 0
                && word.compare_exchange(seen, seen | WAITED, Ordering::Relaxed, Ordering::Relaxed).is_err()
            {
                continue;
            }
            contended = WAITED;
            futex::wait(word, owner | WAITED, Some(SLICE));
            let unlisted = u16::try_from(owner).is_ok_and(|o| self.control.process(o.into()).is_none());
            let dead = unlisted || u16::try_from(owner).is_ok_and(|o| self.has_died(o));
            if dead
                && word
                    .compare_exchange(owner | WAITED, me | WAITED, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                crash_point!(LockTaken);
                let registry = Registry { pond: self, _threads: threads };
                registry.redo();
                return Ok(registry);
            }
        }
    }
}

impl Registry<'_> {
    /// After taking the lock from a dead owner: records are made so that a half-made one is free, so all that can be missing
    /// is that somebody was told. Everybody looks again.
    fn redo(&self) {
        for (_, port) in self.pond.control.used_ports() {
            port.epoch.fetch_add(1, Ordering::Release);
        }
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
        if word.swap(0, Ordering::Release) & WAITED != 0 {
            futex::wake_all(word);
        }
    }
}
