//! What a process uses: descriptors and memory.

use std::fs;

use anyhow::{Context, Result};

/// Open file descriptors of this process.
pub(super) fn descriptors() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/fd").context("cannot count file descriptors")?.count())
}

/// Bytes of memory of this process: its proportional set, in which a page that n processes share counts for 1/n.
pub(super) fn memory() -> Result<u64> {
    let rollup =
        fs::read_to_string("/proc/self/smaps_rollup").context("cannot read this process's memory use")?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("there is no Pss")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().context("Pss is no number")?;
    Ok(kib * 1024)
}
