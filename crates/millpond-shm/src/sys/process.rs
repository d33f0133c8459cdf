//! Who is alive: pid, start time, pidfd.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
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
        let start_time = start_time(pid).map_err(|e| {
            std::io::Error::other(format!(
                "/proc/{pid}/stat cannot be read: is /proc mounted for this pid namespace? {e}"
            ))
        })?;
        Ok(Identity { pid, start_time })
    }

    /// A descriptor that becomes readable when this very process has exited; `None` if it already has.
    ///
    /// # Errors
    /// The kernel does not say, for instance because this process has no descriptor left. That is no sign of death: taken for
    /// one, what a living process holds would be given to others.
    pub(crate) fn open(&self) -> std::io::Result<Option<OwnedFd>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            // No such process; or (the other two, by the kernel's version) the number is now that of a thread.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        // The start time is read after opening: if it matches now, the descriptor is of this process and no later one.
        let started = if self.start_time == 0 { Ok(0) } else { start_time(self.pid) };
        match started {
            _ if has_exited(&pidfd) => Ok(None),
            Ok(started) if started == self.start_time => Ok(Some(pidfd)),
            Ok(_) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the kernel still runs this very process (a zombie has exited). `true` when it will not say.
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.open(), Ok(None))
    }

    /// Whether the process still maps this file. A process that called `exec` lives on under its pid
    /// but has lost its mappings: as a participant it is dead. `true` when the kernel will not say; it shows no mapping at all of
    /// a process whose first thread has ended, though others may run.
    pub(crate) fn maps(&self, file: FileId) -> bool {
        // Bytes: a path need not be UTF-8.
        let Ok(maps) = fs::read(format!("/proc/{}/maps", self.pid)) else { return true };
        let is_it = |line: &str| {
            let mut fields = line.split_ascii_whitespace().skip(3);
            let device = fields.next().and_then(|device| device.split_once(':'));
            let number = |hex: &str| u32::from_str_radix(hex, 16).ok();
            let device = device.and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
            let inode = fields.next().and_then(|inode| inode.parse().ok());
            device.zip(inode).is_some_and(|(device, inode)| file == FileId { device, inode })
        };
        maps.is_empty() || String::from_utf8_lossy(&maps).lines().any(is_it)
    }
}

/// What the kernel knows a file by: its inode's number alone, other file systems have as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    /// Major and minor number.
    device: (u32, u32),
    inode: u64,
}

impl FileId {
    /// Of an open file.
    pub(crate) fn of(file: &impl AsFd) -> rustix::io::Result<FileId> {
        let stat = rustix::fs::fstat(file)?;
        let device = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        Ok(FileId { device, inode: stat.st_ino })
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

fn start_time(pid: u32) -> std::io::Result<u64> {
    // Bytes: a command name need not be UTF-8.
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let stat = String::from_utf8_lossy(&stat);
    // The command name may hold spaces and parentheses: fields count from behind the last ')'.
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_ascii_whitespace().nth(19)?.parse().ok())
        .ok_or_else(|| std::io::Error::other(format!("/proc/{pid}/stat reads `{stat}`")))
}

/// Why the kernel does not run the process: `stopped` by a signal, `traced` by a debugger that has halted it. `None`: neither.
pub(crate) fn halted(pid: u32) -> Option<&'static str> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The state comes behind the command name, which may hold parentheses itself.
    match stat.rsplit(|byte| *byte == b')').next()?.trim_ascii_start().first()? {
        b'T' => Some("stopped"),
        b't' => Some("traced"),
        _ => None,
    }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::memory::{Mapping, create_memfd};

    #[test]
    fn a_mapping_is_known_by_device_and_inode() {
        let own = Identity::own().unwrap();
        let file = create_memfd("millpond-test", 4096, false).unwrap();
        let id = FileId::of(&file).unwrap();
        assert!(!own.maps(id), "it is open, not mapped");
        let mapping = Mapping::new(&file, 0, 4096, false).unwrap();
        assert!(own.maps(id));
        assert!(!own.maps(FileId { device: (id.device.0, id.device.1 + 1), ..id }));
        drop(mapping);
        assert!(!own.maps(id));
    }
}
