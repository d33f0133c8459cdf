//! What a living process uses, as the kernel says it.

use std::fs::{read_dir, read_link, read_to_string};

/// Threads, open files and private memory of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    threads: u64,
    /// Without pidfds.
    files: u64,
    /// Whom it watches just now: one file for each other process at most.
    watched: u64,
    private_kib: u64,
}

/// Private memory may grow so much: stacks and heaps find their size in the first seconds.
const GROWTH_KIB: u64 = 4096;

impl Resources {
    /// `None`: the process is gone.
    pub fn of(pid: u32) -> Option<Self> {
        let status = read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse().ok()
        };
        let (mut files, mut watched) = (0, 0);
        for file in read_dir(format!("/proc/{pid}/fd")).ok()? {
            let is_pidfd =
                read_link(file.ok()?.path()).is_ok_and(|to| to.to_string_lossy().contains("pidfd"));
            *if is_pidfd { &mut watched } else { &mut files } += 1;
        }
        Some(Self { threads: field("Threads:")?, files, watched, private_kib: field("RssAnon:")? })
    }

    /// What has grown since, in a pond of so many processes; `None`: nothing.
    pub fn growth_since(&self, before: &Self, processes: usize) -> Option<String> {
        let grown = self.threads > before.threads
            || self.files > before.files
            || self.watched > processes as u64
            || self.private_kib > before.private_kib + GROWTH_KIB;
        grown.then(|| {
            format!(
                "threads {} -> {}, files {} -> {}, watched processes {} -> {}, private memory {} -> {} KiB",
                before.threads,
                self.threads,
                before.files,
                self.files,
                before.watched,
                self.watched,
                before.private_kib,
                self.private_kib
            )
        })
    }
}
