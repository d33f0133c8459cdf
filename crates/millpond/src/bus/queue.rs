//! What waits inside this process for whoever subscribed or answers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millpond_shm::Waiter;

use super::BusError;
use super::topic::Pattern;

/// How much may wait.
const CAPACITY: usize = 1024;

pub(super) struct Queue<T> {
    pub(super) pattern: Pattern,
    waiting: Mutex<Waiting<T>>,
    news: Condvar,
    /// As in `waiting`, for a look without the lock.
    length: AtomicUsize,
    dropped: AtomicU64,
    /// Rung for every entry.
    party: Option<Waiter>,
}

struct Waiting<T> {
    entries: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(pattern: Pattern, party: Option<Waiter>) -> Self {
        let waiting = Mutex::new(Waiting { entries: VecDeque::new(), closed: false });
        Self {
            pattern,
            waiting,
            news: Condvar::new(),
            length: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            party,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry, or gives it back when too many wait or nobody will take it any more.
    pub(super) fn push(&self, entry: T) -> Result<(), T> {
        let mut waiting = self.lock();
        if waiting.closed || waiting.entries.len() >= CAPACITY {
            // Relaxed: a number for people.
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Err(entry);
        }
        waiting.entries.push_back(entry);
        // Release, with the acquire in `has_any`: what the party does after seeing it finds the entry.
        self.length.store(waiting.entries.len(), Ordering::Release);
        drop(waiting);
        self.news.notify_one();
        if let Some(party) = &self.party {
            party.ring();
        }
        Ok(())
    }

    #[inline]
    pub(super) fn has_any(&self) -> bool {
        self.length.load(Ordering::Acquire) != 0
    }

    pub(super) fn try_next(&self) -> Option<T> {
        if !self.has_any() {
            return None;
        }
        self.take(&mut self.lock())
    }

    fn take(&self, waiting: &mut Waiting<T>) -> Option<T> {
        let entry = waiting.entries.pop_front();
        self.length.store(waiting.entries.len(), Ordering::Release);
        entry
    }

    pub(super) fn next(&self, timeout: Duration) -> Result<Option<T>, BusError> {
        let start = Instant::now();
        let mut waiting = self.lock();
        loop {
            if let Some(entry) = self.take(&mut waiting) {
                return Ok(Some(entry));
            }
            if waiting.closed {
                return Err(BusError::Stopped);
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            waiting = self.news.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.news.notify_all();
        if let Some(party) = &self.party {
            party.ring();
        }
    }

    /// Takes everything out: nobody will read it.
    pub(super) fn clear(&self) -> VecDeque<T> {
        let mut waiting = self.lock();
        waiting.closed = true;
        self.length.store(0, Ordering::Release);
        std::mem::take(&mut waiting.entries)
    }
}
