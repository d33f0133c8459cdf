//! Telling a forked child from the process that attached.
//!
//! A forked child is not a participant: its writable mappings of the pond are gone (`MADV_DONTFORK`; see `fork_copies` for what is
//! there instead) and every handle that it inherited must be inert. One page of private memory that the kernel wipes in a
//! child (`MADV_WIPEONFORK`) tells them apart: it works for every way to fork, needs no handler, and a look costs one load.

#![allow(unsafe_code)]

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

/// A number that differs between a process and any child that it forks.
///
/// For things around a pond that a child inherits and must not use: threads that are not there, descriptors that the parent reads.
#[derive(Clone, Copy, Debug)]
pub struct ForkMark {
    word: &'static AtomicU64,
    value: u64,
}

impl ForkMark {
    /// The mark of this process, made on first use.
    ///
    /// # Errors
    /// The kernel gives no memory.
    pub fn here() -> std::io::Result<ForkMark> {
        let mut page = PAGE.load(Ordering::Acquire);
        if page.is_null() {
            // SAFETY: a fresh anonymous mapping, aliased by nothing; it is never unmapped (one page for the process's life).
            let fresh = unsafe {
                let at = mmap_anonymous(
                    std::ptr::null_mut(),
                    4096,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE,
                )?;
                madvise(at, 4096, Advice::LinuxWipeOnFork)?;
                at.cast::<AtomicU64>()
            };
            page =
                match PAGE.compare_exchange(std::ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire)
                {
                    Ok(_) => fresh,
                    Err(other) => other, // another thread was first; one page is lost, once
                };
        }
        // SAFETY: `page` points to a mapped, aligned, never unmapped word; it is only ever accessed as an atomic.
        let word: &'static AtomicU64 = unsafe { &*page };
        // Zero means: first use in this process, be it the first one ever or a forked child.
        let pid = u64::from(std::process::id());
        let fresh = (crate::sys::time::monotonic_ns() << 22) | pid;
        let value = match word.compare_exchange(0, fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => fresh,
            Err(present) => present,
        };
        Ok(ForkMark { word, value })
    }

    /// Whether this process is a child forked after the mark was taken.
    #[inline]
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != self.value
    }
}
