//! The physical floor that benchmarks compare with: bare words shared by two processes, nothing of a pond.

#![allow(unsafe_code)]

use crate::error::{Context, Error, Result};
use crate::rendezvous::open_descriptor;
use crate::sys::memory::{Mapping, create_memfd};
use rustix::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

const WORDS: usize = 16;
/// Two lines apart, so that neither shares a line or a prefetched pair with another.
const STRIDE: usize = 128;

/// A page of words that two processes share.
pub struct SharedWords {
    mapping: Mapping,
    fd: OwnedFd,
}

impl SharedWords {
    /// Makes a page of zero words.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn create() -> Result<SharedWords> {
        let fd = create_memfd("millpond-floor", (WORDS * STRIDE) as u64, false)
            .doing(|| "make a shared page".to_owned())?;
        Self::map(fd)
    }

    /// Opens the page that process `pid` has as descriptor `fd`.
    ///
    /// # Errors
    /// [`Error::System`]; [`Error::NotAPond`] if it is something else.
    pub fn open(pid: u32, fd: i32) -> Result<SharedWords> {
        let number = u32::try_from(fd).unwrap_or(u32::MAX);
        let fd = open_descriptor(pid, number, true)
            .doing(|| format!("open descriptor {number} of process {pid}"))?;
        let length = rustix::fs::fstat(&fd).doing(|| "look at a shared page".to_owned())?.st_size;
        if length != (WORDS * STRIDE) as i64 {
            return Err(Error::NotAPond {
                name: "benchmark page".to_owned(),
                what: "size",
                expected: (WORDS * STRIDE).to_string(),
                found: length.to_string(),
            });
        }
        Self::map(fd)
    }

    fn map(fd: OwnedFd) -> Result<SharedWords> {
        let mapping =
            Mapping::new(&fd, 0, (WORDS * STRIDE) as u64, true).doing(|| "map a shared page".to_owned())?;
        Ok(SharedWords { mapping, fd })
    }

    /// Its descriptor's number, for the other process.
    #[must_use]
    pub fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Word `i` of 16, each on a line pair of its own.
    ///
    /// # Panics
    /// If `i` is 16 or more.
    #[must_use]
    pub fn word(&self, i: usize) -> &AtomicU64 {
        assert!(i < WORDS, "a benchmark page has {WORDS} words");
        // SAFETY: inside the mapping (checked above), aligned to 128, accessed as an atomic only (here and in `futex_word`,
        // whose callers use one of the two for an index).
        unsafe { self.mapping.base().add(i * STRIDE).cast::<AtomicU64>().as_ref() }
    }

    /// Word `i` of 16 as a futex.
    ///
    /// # Panics
    /// If `i` is 16 or more.
    #[must_use]
    pub fn futex_word(&self, i: usize) -> &AtomicU32 {
        assert!(i < WORDS, "a benchmark page has {WORDS} words");
        // SAFETY: as in `word`; half a word behind it, so that the two never overlap.
        unsafe { self.mapping.base().add(i * STRIDE + 64).cast::<AtomicU32>().as_ref() }
    }

    /// Sleeps while futex word `i` is `expected`, at most `timeout`.
    pub fn futex_wait(&self, i: usize, expected: u32, timeout: Option<Duration>) {
        crate::sys::futex::wait(self.futex_word(i), expected, timeout);
    }

    /// Wakes those who sleep on futex word `i`.
    pub fn futex_wake(&self, i: usize) {
        crate::sys::futex::wake_all(self.futex_word(i));
    }
}
