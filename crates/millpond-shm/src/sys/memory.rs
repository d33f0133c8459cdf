//! Memory that belongs to no file system: memfds, mappings, commitment, and how much the machine still has.

#![allow(unsafe_code)]

use super::fork_copies::ForkCopy;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FallocateFlags, MemfdFlags, Mode, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use std::fs;
use std::io;
use std::ptr::NonNull;

/// Page size assumed for rounding; a multiple of every page size in use on x86-64, and of 4 KiB pages elsewhere.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// `n` rounded up to a multiple of `to` (a power of two).
pub(crate) const fn round_up(n: u64, to: u64) -> u64 {
    (n + to - 1) & !(to - 1)
}

/// Makes a sparse memory file of `len` bytes, readable and writable by its owner only, that can never shrink.
pub(crate) fn create_memfd(name: &str, len: u64, may_grow: bool) -> rustix::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::ftruncate(&fd, len)?;
    // A shrunk file would turn loads into SIGBUS; sealing makes that impossible for any process.
    let seals =
        if may_grow { SealFlags::SHRINK } else { SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL };
    rustix::fs::fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

/// Gives a range of the file real memory now, so that touching it later can never fail.
///
/// Looks at the machine's and the cgroup's free memory first: asking the kernel for more than a cgroup may have would bring
/// the out-of-memory killer instead of an error.
pub(crate) fn commit(fd: &impl AsFd, offset: u64, len: u64) -> io::Result<()> {
    let available = available_bytes();
    if len.saturating_add(RESERVE_BYTES) > available {
        return Err(io::Error::new(
            io::ErrorKind::OutOfMemory,
            format!("{len} bytes wanted, {available} available (of which {RESERVE_BYTES} are left alone)"),
        ));
    }
    // A signal that comes meanwhile (a timer's, a profiler's) ends the call, which is no lack of memory.
    Ok(rustix::io::retry_on_intr(|| rustix::fs::fallocate(fd, FallocateFlags::empty(), offset, len))?)
}

/// What a commitment leaves to everybody else.
const RESERVE_BYTES: u64 = 16 << 20;

/// Bytes that can still be had: the smaller of the machine's estimate and what the cgroups above this process allow.
pub(crate) fn available_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(u64::MAX, |kib| kib * 1024);
    machine.min(cgroup_available_bytes())
}

fn cgroup_available_bytes() -> u64 {
    let Ok(groups) = fs::read_to_string("/proc/self/cgroup") else { return u64::MAX };
    let mut least = u64::MAX;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, limit, usage) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current"),
            c if c.split(',').any(|c| c == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
            _ => continue,
        };
        // Every level up to the root may have a limit; in a container the path may not exist below the mount.
        let mut dir = Some(std::path::Path::new(path));
        while let Some(level) = dir {
            let at = format!("{root}{}", level.display());
            let read = |f: &str| fs::read_to_string(format!("{at}/{f}")).ok()?.trim().parse::<u64>().ok();
            if let (Some(limit), Some(usage)) = (read(limit), read(usage)) {
                least = least.min(limit.saturating_sub(usage));
            }
            dir = level.parent();
        }
    }
    least
}

/// One mapping of a memory file. Unmapped on drop, except in a forked child, which never had it.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    fork: super::fork::ForkMark,
    copy: Option<ForkCopy>,
}

// SAFETY: a mapping is plain address space; whoever makes references into it answers for their aliasing.
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods only hand out the base address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd` from `offset`, shared with everybody who maps the same file. The range is left out of core
    /// dumps (a dying process must not hold its buffers for seconds) and of forked children.
    pub(crate) fn new(fd: &impl AsFd, offset: u64, len: u64, writable: bool) -> io::Result<Mapping> {
        let fork = super::fork::ForkMark::here()?;
        let len = usize::try_from(len).map_err(|_| rustix::io::Errno::NOMEM)?;
        let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of this program. The file cannot shrink
        // (sealed) and the range is inside it, so no access of a committed page faults.
        let base = unsafe {
            let at = mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, offset)?;
            // A forked child is no participant. What is read-only it may keep: a monitor goes on looking.
            if writable {
                madvise(at, len, Advice::LinuxDontFork)?;
            }
            madvise(at, len, Advice::LinuxDontDump)?;
            at
        };
        let base = NonNull::new(base.cast::<u8>()).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Mapping { base, len, fork, copy: None })
    }

    /// Forked children have, at the same place, a copy of their own of what is mapped: a reference into it that a child inherited does
    /// not kill it. `fd` and `offset` are those of the mapping; the descriptor must stay open for as long as it lives.
    pub(crate) fn copied_in_children(mut self, fd: &impl AsFd, offset: u64) -> io::Result<Mapping> {
        self.copy = Some(ForkCopy::announce(self.base.as_ptr(), self.len, fd, offset)?);
        Ok(self)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Fills the page tables of a range now instead of at the first touch.
    pub(crate) fn populate(&self, offset: u64, len: u64) {
        let (Ok(offset), Ok(len)) = (usize::try_from(offset), usize::try_from(len)) else { return };
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return;
        }
        // SAFETY: the range lies inside this mapping; the advice changes no contents. A refusal costs only time later.
        let _ = unsafe { madvise(self.base.as_ptr().add(offset).cast(), len, Advice::LinuxPopulateWrite) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.fork.is_forked() {
            return; // MADV_DONTFORK: the range is not ours in a child; something inherited may still refer to its copy
        }
        // Before the range can be somebody else's.
        if let Some(copy) = &self.copy {
            copy.withdraw();
        }
        // SAFETY: base and len are from mmap; the owner of the Mapping guarantees that no reference into it is left.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
