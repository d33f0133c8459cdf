//! Clocks.

use rustix::time::{ClockId, clock_gettime};

fn ns(clock: ClockId) -> i64 {
    let t = clock_gettime(clock);
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// Monotonic nanoseconds, the same in every process.
pub(crate) fn monotonic_ns() -> u64 {
    ns(ClockId::Monotonic) as u64
}

/// Monotonic nanoseconds at the resolution of the timer tick (1 to 10 ms): some nanoseconds to read, good enough to say how
/// long ago a buffer was taken.
pub(crate) fn coarse_ns() -> u64 {
    ns(ClockId::MonotonicCoarse) as u64
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn unix_ns() -> i64 {
    ns(ClockId::Realtime)
}
