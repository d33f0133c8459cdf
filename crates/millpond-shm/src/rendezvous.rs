//! How a process finds a pond by its name.
//!
//! The memory belongs to no file system; what can be found is a small owner-only file that names the pond's processes and
//! their descriptors. Whoever wants to attach opens `/proc/PID/fd/N` of any of them that is alive, so no process has to
//! serve, and the kernel checks the rights. When all of them are dead the file is stale and the next command removes it.

use crate::error::{Context, Error, Result};
use crate::sys::process::{Identity, pid_namespace};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FIRST_LINE: &str = "millpond rendezvous 1";
/// How long one process may keep the directory locked before others stop waiting for it.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);
const LOOK_AT_HOLDER: Duration = Duration::from_secs(1);
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// A process that can hand out the pond's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) identity: Identity,
    pub(crate) control_fd: u32,
    pub(crate) data_fd: u32,
}

/// The contents of one pond's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) uuid: u128,
    pub(crate) pid_namespace: u64,
    pub(crate) members: Vec<Member>,
}

/// The locked directory: nobody else creates, attaches or leaves while it is held. Given back by the kernel on death.
pub(crate) struct Directory {
    path: PathBuf,
    lock: OwnedFd,
}

/// Where this user's ponds are found: `MILLPOND_RUNTIME_DIR`, else `/run/user/UID/millpond`, else `/tmp/millpond-UID`.
pub(crate) fn directory_path() -> PathBuf {
    if let Some(dir) = std::env::var_os("MILLPOND_RUNTIME_DIR").filter(|d| !d.is_empty()) {
        return PathBuf::from(dir);
    }
    let uid = rustix::process::geteuid().as_raw();
    let run = PathBuf::from(format!("/run/user/{uid}"));
    let ours = std::fs::symlink_metadata(&run).is_ok_and(|m| m.is_dir() && m.uid() == uid);
    if ours { run.join("millpond") } else { PathBuf::from(format!("/tmp/millpond-{uid}")) }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Closing is not enough: a child that another thread has forked meanwhile has the same open file, and keeps it locked.
        let _ = rustix::fs::flock(&self.lock, FlockOperation::Unlock);
    }
}

impl Directory {
    /// Makes the directory if need be, checks that it is this user's alone, and locks it. Waits at most 10 s for any one process.
    pub(crate) fn lock() -> Result<Directory> {
        let path = directory_path();
        let shown = path.display().to_string();
        let refuse = |problem: String| Error::Rendezvous { path: shown.clone(), problem };
        match rustix::fs::mkdir(&path, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(refuse(format!("the directory cannot be made: {e}"))),
        }
        // A link or a directory of somebody else, planted in advance, is refused: O_NOFOLLOW, then a look at what was opened.
        let dir = rustix::fs::open(
            &path,
            OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY,
            Mode::empty(),
        )
        .map_err(|e| refuse(format!("it is not a directory of this user, or is a link: {e}; remove it")))?;
        let stat = rustix::fs::fstat(&dir).doing(|| format!("look at {shown}"))?;
        let uid = rustix::process::geteuid().as_raw();
        if stat.st_uid != uid {
            return Err(refuse(format!("it belongs to user {}, this is user {uid}; remove it", stat.st_uid)));
        }
        if stat.st_mode & 0o077 != 0 {
            return Err(refuse(format!(
                "its rights are {:o}, expected 700: chmod 700 it",
                stat.st_mode & 0o777
            )));
        }
        let mut since = Instant::now();
        let (mut looked, mut holder, mut pause) = (since, None, SHORTEST_PAUSE);
        loop {
            match rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Directory { path, lock: dir }),
                Err(rustix::io::Errno::WOULDBLOCK) if since.elapsed() < LOCK_DEADLINE => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    // Many may come and go meanwhile: what must not take long is one of them.
                    if looked.elapsed() >= LOOK_AT_HOLDER {
                        looked = Instant::now();
                        let now = lock_holder(&stat);
                        if now != holder {
                            (holder, since) = (now, looked);
                        }
                    }
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = lock_holder(&stat).map_or_else(
                        || format!("another process (`fuser {shown}` names it)"),
                        |pid| format!("process {pid}"),
                    );
                    return Err(refuse(format!(
                        "{holder} has kept it locked for {LOCK_DEADLINE:?}: if it is stopped, continue or kill it"
                    )));
                }
                Err(e) => return Err(refuse(format!("it cannot be locked: {e}"))),
            }
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.pond"))
    }

    pub(crate) fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// The file of `name`, with its members that are still alive; `None`: no such pond. A stale file is removed.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Entry>> {
        let path = self.file(name);
        let shown = path.display().to_string();
        let refuse = |problem: String| Error::Rendezvous { path: shown.clone(), problem };
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(e) => return Err(refuse(format!("it cannot be opened: {e}; remove it"))),
        };
        let file = File::from(fd);
        let meta = file.metadata().doing(|| format!("look at {shown}"))?;
        if !meta.is_file()
            || meta.uid() != rustix::process::geteuid().as_raw()
            || meta.permissions().mode() & 0o077 != 0
        {
            return Err(refuse("it is not a file of this user alone; remove it".to_owned()));
        }
        let mut text = String::new();
        file.take(1 << 20).read_to_string(&mut text).doing(|| format!("read {shown}"))?;
        let mut entry = parse(&text).map_err(|problem| refuse(format!("{problem}; remove it")))?;
        let ours = pid_namespace().doing(|| "read /proc/self/ns/pid".to_owned())?;
        if entry.pid_namespace != ours {
            // Its pids mean nothing here: it may be alive, so it is left alone.
            return Err(Error::PidNamespace { name: name.to_owned(), theirs: entry.pid_namespace, ours });
        }
        entry.members.retain(|m| m.identity.is_alive());
        if entry.members.is_empty() {
            self.remove(name)?;
            return Ok(None);
        }
        Ok(Some(entry))
    }

    /// Writes the file of `name` in one step.
    pub(crate) fn write(&self, name: &str, entry: &Entry) -> Result<()> {
        let mut text =
            format!("{FIRST_LINE}\nuuid {:032x}\npid_namespace {}\n", entry.uuid, entry.pid_namespace);
        for m in &entry.members {
            let _ = writeln!(
                text,
                "member {} {} {} {}",
                m.identity.pid, m.identity.start_time, m.control_fd, m.data_fd
            );
        }
        let (path, temporary) = (self.file(name), self.path.join(format!(".{name}.new")));
        let _ = rustix::fs::unlink(&temporary); // left by a process that was killed here
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(&temporary, flags, Mode::RUSR | Mode::WUSR)
            .doing(|| format!("make {}", temporary.display()))?;
        std::io::Write::write_all(&mut File::from(fd), text.as_bytes())
            .doing(|| format!("write {}", temporary.display()))?;
        crash_point!(RendezvousWritten);
        rustix::fs::rename(&temporary, &path).doing(|| format!("write {}", path.display()))?;
        crash_point!(RendezvousDone);
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        match rustix::fs::unlink(&path) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(e) => Err(e).doing(|| format!("remove {}", path.display())),
        }
    }

    /// Names of all files, stale ones included; leftovers of killed writers are removed.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let listing = std::fs::read_dir(&self.path).doing(|| format!("list {}", self.shown()))?;
        for file in listing.flatten() {
            let file = file.file_name().to_string_lossy().into_owned();
            if let Some(name) = file.strip_suffix(".pond") {
                names.push(name.to_owned());
            } else if file.starts_with('.') && file.ends_with(".new") {
                let _ = rustix::fs::unlinkat(rustix::fs::CWD, self.path.join(file), AtFlags::empty());
            }
        }
        names.sort();
        Ok(names)
    }
}

/// The process that has locked this file, as far as `/proc/locks` tells: lines like `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`.
fn lock_holder(stat: &rustix::fs::Stat) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let file = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            [_, "FLOCK", _, _, pid, of, ..] if of == file => pid.parse().ok(),
            _ => None,
        }
    })
}

/// Opens descriptor `fd` of a living process. The description is our own: nothing is shared with that process.
pub(crate) fn open_descriptor(pid: u32, fd: u32, writable: bool) -> rustix::io::Result<OwnedFd> {
    let mode = if writable { OFlags::RDWR } else { OFlags::RDONLY };
    let path = format!("/proc/{pid}/fd/{fd}");
    rustix::fs::open(Path::new(&path), mode | OFlags::CLOEXEC, Mode::empty())
}

fn parse(text: &str) -> std::result::Result<Entry, String> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Err(format!("it does not begin with `{FIRST_LINE}`"));
    }
    let mut entry = Entry { uuid: 0, pid_namespace: 0, members: Vec::new() };
    for line in lines {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |i: usize| words.get(i).and_then(|w| w.parse::<u64>().ok());
        let small = |i: usize| number(i).and_then(|n| u32::try_from(n).ok());
        let understood = match words.first() {
            Some(&"uuid") => {
                words.get(1).and_then(|w| u128::from_str_radix(w, 16).ok()).map(|uuid| entry.uuid = uuid)
            }
            Some(&"pid_namespace") => number(1).map(|inode| entry.pid_namespace = inode),
            Some(&"member") => small(1).zip(number(2)).zip(small(3).zip(small(4))).map(
                |((pid, start_time), (control_fd, data_fd))| {
                    entry.members.push(Member {
                        identity: Identity { pid, start_time },
                        control_fd,
                        data_fd,
                    });
                },
            ),
            _ => None,
        };
        understood.ok_or_else(|| format!("its line `{line}` makes no sense"))?;
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_rendezvous_file_is_refused() {
        for text in ["", "hello", "millpond rendezvous 1\nmember 1 x 2 3", "millpond rendezvous 1\nuuid zz"] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_forked_child_does_not_keep_the_directory_locked() {
        let locked = Directory::lock().unwrap();
        let _inherited = rustix::io::dup(&locked.lock).unwrap(); // the same open file, as a child has it
        drop(locked);
        drop(Directory::lock().unwrap());
    }

    #[test]
    fn members_are_read_back() {
        let text = "millpond rendezvous 1\nuuid 00ff\npid_namespace 7\nmember 12 345 6 7\n";
        let entry = parse(text).unwrap();
        assert_eq!((entry.uuid, entry.pid_namespace), (0xff, 7));
        let member = Member { identity: Identity { pid: 12, start_time: 345 }, control_fd: 6, data_fd: 7 };
        assert_eq!(entry.members, [member]);
    }
}
