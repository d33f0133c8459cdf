//! Sleeping and waking across processes on a word in shared memory.

use rustix::thread::futex::{Flags, wait as futex_wait, wake as futex_wake};
use rustix::time::Timespec;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Sleeps while `word == expected`, at most `timeout`. Returns on a wake, a changed word, a signal or the timeout: the caller
/// looks again. No `FUTEX_PRIVATE`: the word is shared between processes.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|t| Timespec {
        tv_sec: t.as_secs().min(i64::MAX as u64 / 2) as i64,
        tv_nsec: i64::from(t.subsec_nanos()),
    });
    let _ = futex_wait(word, Flags::empty(), expected, timeout.as_ref());
}

/// Wakes every sleeper of `word`.
pub(crate) fn wake_all(word: &AtomicU32) {
    let _ = futex_wake(word, Flags::empty(), i32::MAX as u32);
}
