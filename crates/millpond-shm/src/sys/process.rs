//! Who is alive: pid, start time, pidfd.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::time::Duration;

/// A process that cannot be mistaken for a later one with the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks after boot at which it started (field 22 of `/proc/PID/stat`). 0: not known yet.
    pub(crate) start_time: u64,
}

impl Identity {
    /// This process.
    pub(crate) fn own() -> std::io::Result<Identity> {
        let pid = std::process::id();
        let start_time = start_time(pid).ok_or_else(|| {
            std::io::Error::other("/proc/self/stat cannot be read: is /proc mounted for this pid namespace?")
        })?;
        Ok(Identity { pid, start_time })
    }

    /// A descriptor that becomes readable when this very process has exited; `None` if it already has.
    pub(crate) fn open(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // The start time is read after opening: if it matches now, the descriptor is of this process and no later one.
        if self.start_time != 0 && start_time(self.pid) != Some(self.start_time) {
            return None;
        }
        if has_exited(&pidfd) { None } else { Some(pidfd) }
    }

    /// Whether the kernel still runs this very process (a zombie has exited).
    pub(crate) fn is_alive(&self) -> bool {
        self.open().is_some()
    }

    /// Whether the process still maps the memory file with this inode. A process that called `exec` lives on under its pid
    /// but has lost its mappings: as a participant it is dead. `true` when the kernel will not say.
    pub(crate) fn maps_inode(&self, inode: u64) -> bool {
        let Ok(maps) = fs::read_to_string(format!("/proc/{}/maps", self.pid)) else { return true };
        maps.lines()
            .any(|line| line.split_ascii_whitespace().nth(4).and_then(|i| i.parse().ok()) == Some(inode))
    }
}

/// Whether the process of this pidfd has exited.
pub(crate) fn has_exited(pidfd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&timespec(Duration::ZERO))), Ok(n) if n > 0)
}

pub(crate) fn timespec(d: Duration) -> rustix::time::Timespec {
    rustix::time::Timespec { tv_sec: d.as_secs() as i64, tv_nsec: i64::from(d.subsec_nanos()) }
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold spaces and parentheses: fields count from behind the last ')'.
    let rest = stat.rsplit_once(')')?.1;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The inode that names this process's pid namespace.
pub(crate) fn pid_namespace() -> std::io::Result<u64> {
    let link = fs::read_link("/proc/self/ns/pid")?;
    let text = link.to_string_lossy();
    text.trim_start_matches("pid:[").trim_end_matches(']').parse().map_err(|_| {
        std::io::Error::other(format!("/proc/self/ns/pid reads `{text}`, expected `pid:[NUMBER]`"))
    })
}

/// The command line's program name, for people.
pub(crate) fn command_name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map(|s| s.trim().to_owned()).unwrap_or_default()
}
