//! One process of a block, as its supervisor sees it: alive or how it died, and what it says.

use std::fmt;
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Context, Error, Result};
use crate::flowgraph::Node;
use crate::process::{FAILED_PREFIX, NOTE_PREFIX};

/// The program that runs blocks: started as `PROGRAM block TYPE NAME --pond POND --supervisor PID --param NAME=VALUE ...`, it
/// has to call [`BlockProcess::run`](crate::BlockProcess::run).
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
}

impl Launcher {
    /// This program runs the blocks itself.
    ///
    /// # Errors
    /// If the system does not tell where the program is.
    pub fn this_program() -> Result<Self> {
        Ok(Self { program: std::env::current_exe().context(|| "find this program's file")? })
    }

    /// Another program runs the blocks.
    pub fn program(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    fn command(&self, node: &Node, pond: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["block", &node.block_type, &node.name, "--pond", pond]);
        command.args(["--supervisor", &std::process::id().to_string()]);
        for (name, value) in node.given_as_text() {
            command.args(["--param", &format!("{name}={value}")]);
        }
        // A process group of its own: Ctrl-C in a terminal reaches the supervisor only, which then stops the blocks in order.
        let stdin = if node.reads_stdin { Stdio::inherit() } else { Stdio::null() };
        command.stdin(stdin).stderr(Stdio::piped()).process_group(0);
        command
    }
}

/// How a block's process died before the block was done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Death {
    /// It was killed, or crashed.
    Signal {
        /// The signal's number.
        signal: i32,
    },
    /// The block failed.
    Failed {
        /// What it said.
        cause: String,
    },
}

impl Death {
    fn of(status: ExitStatus, cause: Option<String>) -> Self {
        match status.signal() {
            Some(signal) => Death::Signal { signal },
            None => Death::Failed { cause: cause.unwrap_or_else(|| status.to_string()) },
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::Signal { signal } => {
                let name = signal_hook::low_level::signal_name(*signal).unwrap_or("unknown");
                write!(f, "killed by signal {signal} ({name})")
            }
            Death::Failed { cause } => write!(f, "failed: {cause}"),
        }
    }
}

/// Something that a block's process wrote.
pub(super) enum Said {
    /// What the block tells the user.
    Note(String),
    /// Anything else: a warning, the text of a panic.
    Line(String),
}

/// A process that runs a block. Dropping it kills the process: nothing is orphaned.
pub(super) struct Process {
    child: Child,
    pidfd: OwnedFd,
    stderr: ChildStderr,
    /// What was read of a line that is not complete yet.
    partial: Vec<u8>,
    /// Why the block failed, in its own words.
    cause: Option<String>,
    /// It was asked to end.
    pub(super) told_to_end: bool,
    /// Buffers that the block had taken and sent before this process started.
    pub(super) moved_before: u64,
}

impl Process {
    pub(super) fn start(launcher: &Launcher, node: &Node, pond: &str, moved_before: u64) -> Result<Self> {
        let cannot = |cause| Error::Start { block: node.name.clone(), cause };
        let mut child = launcher.command(node, pond).spawn().map_err(cannot)?;
        let watch = || {
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
            let stderr = child.stderr.take().ok_or(ErrorKind::BrokenPipe)?;
            fcntl_setfl(&stderr, fcntl_getfl(&stderr)? | OFlags::NONBLOCK)?;
            Ok((pidfd, stderr))
        };
        match { watch }() {
            Ok((pidfd, stderr)) => Ok(Self {
                child,
                pidfd,
                stderr,
                partial: Vec::new(),
                cause: None,
                told_to_end: false,
                moved_before,
            }),
            Err(cause) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(cannot(cause))
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Descriptors that become readable when the process dies or says something.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.pidfd.as_fd(), self.stderr.as_fd()]
    }

    /// What it has said since the last call, and how it ended, if it did: `Ok` when the block was done.
    pub(super) fn look(&mut self) -> (Vec<Said>, Option<Result<(), Death>>) {
        // The end is looked for first, so that nothing said before it is missed.
        let ended = self.child.try_wait().ok().flatten();
        let mut lines = self.read_lines();
        let Some(status) = ended else { return (lines, None) };
        if !self.partial.is_empty() {
            let rest = std::mem::take(&mut self.partial);
            lines.extend(self.line(&rest));
        }
        let end = if status.success() { Ok(()) } else { Err(Death::of(status, self.cause.take())) };
        (lines, Some(end))
    }

    fn read_lines(&mut self) -> Vec<Said> {
        let mut chunk = [0; 4096];
        // Any error is like the end: `WouldBlock` says that there is no more for now.
        while let Ok(bytes @ 1..) = self.stderr.read(&mut chunk) {
            self.partial.extend_from_slice(&chunk[..bytes]);
        }
        let mut lines = Vec::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            lines.extend(self.line(&line[..end]));
        }
        lines
    }

    /// What a line means. The cause of a failure is told with the death.
    fn line(&mut self, bytes: &[u8]) -> Option<Said> {
        let line = String::from_utf8_lossy(bytes).into_owned();
        if let Some(cause) = line.strip_prefix(FAILED_PREFIX) {
            self.cause = Some(cause.to_owned());
            return None;
        }
        Some(match line.strip_prefix(NOTE_PREFIX) {
            Some(note) => Said::Note(note.to_owned()),
            None => Said::Line(line),
        })
    }

    /// Asks the block to take what is queued and to end its streams.
    pub(super) fn tell_to_end(&mut self) {
        if !self.told_to_end {
            self.told_to_end = true;
            let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        }
    }

    /// Tells the block to stop at once.
    pub(super) fn tell_to_stop(&mut self) {
        self.told_to_end = true;
        // Two requests mean "at once". Of one kind they could merge into one.
        for signal in [Signal::TERM, Signal::INT] {
            let _ = pidfd_send_signal(&self.pidfd, signal);
        }
    }

    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has ended is left alone by both.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
