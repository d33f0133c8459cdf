//! What a forked child finds where its parent has a writable mapping: a private copy.
//!
//! A child is no participant, so it must not have the mapping itself; but it inherits references into it (a buffer that the parent
//! is filling, a numpy array of it), and following one must not kill it. As with all other memory of its parent, it then
//! sees what is there, and what it writes is its own. Nothing is copied until it writes.
//!
//! The kernel has no advice for that, so a handler of the C library's `fork` maps it. It runs in the child between any two steps
//! of the parent's other threads, which are not there: it takes no lock and allocates nothing. A child made by the bare
//! system call has no copies, and dies if it follows such a reference.

#![allow(unsafe_code)]

use rustix::fd::{AsFd, AsRawFd as _, BorrowedFd};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::ffi::c_int;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// A mapping of this process that children are to have copies of. Entries are never freed, but used again.
#[derive(Debug)]
struct Entry {
    /// Start of the mapping; null: nobody's; [`TAKEN`]: somebody's who has not filled the rest in yet.
    base: AtomicPtr<u8>,
    len: AtomicUsize,
    fd: AtomicI32,
    offset: AtomicU64,
    next: Option<&'static Entry>,
}

const TAKEN: *mut u8 = std::ptr::dangling_mut();

/// The latest entry, which leads to all others.
static ENTRIES: AtomicPtr<Entry> = AtomicPtr::new(std::ptr::null_mut());

fn entries() -> impl Iterator<Item = &'static Entry> {
    // SAFETY: null, or from `Box::leak` in `add`, which wrote the whole entry before it stored its address with Release.
    let first = unsafe { ENTRIES.load(Ordering::Acquire).as_ref() };
    std::iter::successors(first, |entry| entry.next)
}

/// An entry that is the caller's.
fn take() -> &'static Entry {
    let is_taken = |entry: &&Entry| {
        entry.base.compare_exchange(std::ptr::null_mut(), TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    entries().find(is_taken).unwrap_or_else(add)
}

fn add() -> &'static Entry {
    let entry = Box::leak(Box::new(Entry {
        base: AtomicPtr::new(TAKEN),
        len: AtomicUsize::new(0),
        fd: AtomicI32::new(-1),
        offset: AtomicU64::new(0),
        next: None,
    }));
    let mut latest = ENTRIES.load(Ordering::Acquire);
    loop {
        // SAFETY: as in `entries`.
        entry.next = unsafe { latest.as_ref() };
        match ENTRIES.compare_exchange_weak(latest, entry, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return entry,
            Err(now) => latest = now,
        }
    }
}

/// The announcement of one mapping.
#[derive(Debug)]
pub(crate) struct ForkCopy(&'static Entry);

impl ForkCopy {
    /// Children forked from now on have a private copy of the `len` bytes of `fd` from `offset` at `base`.
    pub(crate) fn announce(base: *mut u8, len: usize, fd: &impl AsFd, offset: u64) -> io::Result<ForkCopy> {
        install()?;
        let entry = take();
        entry.len.store(len, Ordering::Relaxed);
        entry.fd.store(fd.as_fd().as_raw_fd(), Ordering::Relaxed);
        entry.offset.store(offset, Ordering::Relaxed);
        // Last: a child that sees the address sees the rest.
        entry.base.store(base, Ordering::Release);
        Ok(ForkCopy(entry))
    }

    /// Children forked from now on have nothing there.
    pub(crate) fn withdraw(&self) {
        self.0.base.store(std::ptr::null_mut(), Ordering::Release);
    }
}

unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<unsafe extern "C" fn()>,
        parent: Option<unsafe extern "C" fn()>,
        child: Option<unsafe extern "C" fn()>,
    ) -> c_int;
}

/// Has the C library call [`in_child`] in every child, once and for all.
fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<c_int> = OnceLock::new();
    // SAFETY: `in_child` does what a child of a process with threads may do: system calls and loads.
    match *INSTALLED.get_or_init(|| unsafe { pthread_atfork(None, None, Some(in_child)) }) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

unsafe extern "C" fn in_child() {
    for entry in entries() {
        let base = entry.base.load(Ordering::Acquire);
        if base.is_null() || base == TAKEN {
            continue;
        }
        // SAFETY: whoever announced the mapping keeps the descriptor open until it withdraws it. The address is free in the child
        // (MADV_DONTFORK), or has the copy of the child's own parent, which NOREPLACE leaves alone. Without memory for it the
        // child has nothing there, as if it had not been announced.
        let _ = unsafe {
            mmap(
                base.cast(),
                entry.len.load(Ordering::Relaxed),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE | MapFlags::NORESERVE,
                BorrowedFd::borrow_raw(entry.fd.load(Ordering::Relaxed)),
                entry.offset.load(Ordering::Relaxed),
            )
        };
    }
}
