//! Short stretches of time in which one thing is measured, before it is the turn of another.

use std::time::{Duration, Instant};

use super::histogram::Histogram;

/// One slice of back-to-back measurements: each ends where the next begins, so that one reading of the clock does for both.
pub struct Slice {
    start: Instant,
    duration: Duration,
    last: Option<Instant>,
}

impl Slice {
    /// Begins now.
    pub fn begin(duration: Duration) -> Self {
        Self { start: Instant::now(), duration, last: None }
    }

    /// Something has just been completed. Records what it took, except for the first time, which includes the change from
    /// another kind of slice; false when the slice is over.
    pub fn lap(&mut self, times: &mut Histogram) -> bool {
        let now = Instant::now();
        let Some(last) = self.last.replace(now) else { return true };
        times.record(now.duration_since(last).as_nanos() as u64);
        now.duration_since(self.start) < self.duration
    }
}
