//! One process of a block, as its supervisor sees it: alive or how it died, and what it says.

use std::ffi::OsString;
use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Context, Error, Result};
use crate::flowgraph::programs;
use crate::flowgraph::{Flowgraph, Group, Node, RestartWhen};
use crate::process::EXIT_LEFT_OPEN;
use crate::report::Report;

/// The program that runs blocks of the catalog: started as `PROGRAM block ...` or `PROGRAM worker ...`, it has to call
/// [`BlockProcess::run`](crate::BlockProcess::run); [`millpond::main`](crate::main) does.
#[derive(Clone, Debug)]
pub struct Launcher {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Launcher {
    /// This program runs the blocks itself.
    ///
    /// # Errors
    /// If the system does not tell where the program is.
    pub fn this_program() -> Result<Self> {
        Ok(Self::program(std::env::current_exe().context(|| "find this program's file")?))
    }

    /// Another program runs the blocks.
    pub fn program(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), arguments: Vec::new() }
    }

    /// First arguments of the program, before those that say what it has to run.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The command that runs these blocks of a group.
    fn command(&self, group: &Group, nodes: &[&Node], flowgraph: &Flowgraph) -> Command {
        let mut command = match &group.program {
            Some(program) => programs::command(program),
            None => {
                let mut command = Command::new(&self.program);
                command.args(&self.arguments);
                command
            }
        };
        if group.is_shared() {
            command.args(["worker", &group.name]).args(group.placement.arguments());
        } else {
            command.args(["block", &nodes[0].block_type, &nodes[0].name]);
        }
        command.args(["--pond", &flowgraph.name, "--supervisor", &std::process::id().to_string()]);
        if flowgraph.detach {
            command.args(["--if-orphaned", "go-on"]);
        }
        if nodes.iter().any(|node| node.restart.when == RestartWhen::Always) {
            command.args(["--when-done", "stay-open"]);
        }
        for node in nodes {
            let mut scope = String::new();
            if group.is_shared() {
                command.args(["--block", &format!("{}={}", node.name, node.block_type)]);
                scope = format!("{}.", node.name);
            }
            for (name, value) in node.given_as_text() {
                command.args(["--param", &format!("{scope}{name}={value}")]);
            }
        }
        // A process group of its own: Ctrl-C in a terminal reaches the supervisor only, which then stops the blocks in order.
        let reads_stdin = nodes.iter().any(|node| node.reads_stdin);
        let stdin = match group.is_shared() {
            _ if reads_stdin => Stdio::inherit(),
            true => Stdio::piped(),
            false => Stdio::null(),
        };
        if group.is_shared() && !reads_stdin {
            command.arg("--control=stdin");
        }
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
    /// The block was done by itself, and has left its streams open because it is always started again.
    Ended,
    /// It was to be started again, and could not be.
    NotStarted {
        /// What the system said.
        cause: String,
    },
}

impl Death {
    fn of(status: ExitStatus, cause: Option<String>, last_words: Option<String>) -> Self {
        if let Some(signal) = status.signal() {
            return Death::Signal { signal };
        }
        if status.code() == Some(EXIT_LEFT_OPEN.into()) {
            return Death::Ended;
        }
        let told = cause.or_else(|| last_words.map(|words| format!("{status}; its last words: {words}")));
        Death::Failed { cause: told.unwrap_or_else(|| status.to_string()) }
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
            Death::Ended => f.write_str("ended by itself"),
            Death::NotStarted { cause } => write!(f, "could not be started again: {cause}"),
        }
    }
}

/// Of what a process writes to its standard error, so much is read before others get their turn.
const MOST_AT_ONCE: usize = 64 << 10;
/// A longer line is told in pieces.
const LONGEST_LINE: usize = 64 << 10;

/// Something that a block's process wrote.
pub(super) enum Said {
    /// What a block, the first, tells the user.
    Note(String, String),
    /// A block has ended its streams.
    Done(String),
    /// Anything else, and who is to be named: a warning, the text of a panic.
    Line(String, String),
}

/// A process that runs blocks. Dropping it kills the process: nothing is orphaned.
pub(super) struct Process {
    child: Child,
    pidfd: OwnedFd,
    /// `None`: nobody can write to it any more.
    stderr: Option<ChildStderr>,
    /// The blocks that it runs.
    blocks: Vec<String>,
    /// Who speaks where no block is named: the only block of the process, or the process itself.
    speaker: String,
    /// What was read of a line that is not complete yet.
    partial: Vec<u8>,
    /// The last line ended with a carriage return, of which a line feed may be the rest.
    after_return: bool,
    /// It was asked by a signal to end: the second one would mean "at once".
    signalled: bool,
    /// Why a block failed, in its own words.
    cause: Option<String>,
    /// The last thing that it wrote to its standard error, beside reports.
    last_words: Option<String>,
    /// Buffers that the blocks had taken and sent before this process started.
    pub(super) moved_before: u64,
}

impl Process {
    pub(super) fn start(
        launcher: &Launcher,
        group: &Group,
        nodes: &[&Node],
        flowgraph: &Flowgraph,
        moved_before: u64,
    ) -> Result<Self> {
        let cannot = |cause| Error::Start { block: group.name.clone(), cause };
        let mut child = launcher.command(group, nodes, flowgraph).spawn().map_err(cannot)?;
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
                stderr: Some(stderr),
                blocks: nodes.iter().map(|node| node.name.clone()).collect(),
                after_return: false,
                signalled: false,
                speaker: match nodes {
                    [node] => node.name.clone(),
                    _ => group.name.clone(),
                },
                partial: Vec::new(),
                cause: None,
                last_words: None,
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
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.pidfd.as_fd()].into_iter().chain(self.stderr.as_ref().map(ChildStderr::as_fd))
    }

    /// What it has said since the last call, and how it ended, if it did: `Ok` when the block was done.
    pub(super) fn look(&mut self) -> (Vec<Said>, Option<Result<(), Death>>) {
        // The end is looked for first, so that nothing said before it is missed.
        let ended = self.child.try_wait().ok().flatten();
        let mut lines = self.read_lines();
        let Some(status) = ended else { return (lines, None) };
        lines.extend(self.read_lines()); // there is no next time
        if !self.partial.is_empty() {
            let rest = std::mem::take(&mut self.partial);
            lines.extend(self.line(&rest));
        }
        let end = if status.success() {
            Ok(())
        } else {
            Err(Death::of(status, self.cause.take(), self.last_words.take()))
        };
        (lines, Some(end))
    }

    /// The lines that are complete. One that writes without end keeps nobody else waiting: there is a next time.
    fn read_lines(&mut self) -> Vec<Said> {
        let mut chunk = [0; 4096];
        let mut lines = Vec::new();
        for _ in 0..MOST_AT_ONCE / chunk.len() {
            let Some(stderr) = &mut self.stderr else { break };
            match stderr.read(&mut chunk) {
                // Closed for good: it would be readable all the time.
                Ok(0) => self.stderr = None,
                Ok(bytes) => self.partial.extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // `WouldBlock`: there is no more for now.
                Err(_) => break,
            }
            self.split_lines(&mut lines);
        }
        lines
    }

    /// Takes what is complete. Programs that show their progress end a line with a carriage return, and some never end one.
    fn split_lines(&mut self, lines: &mut Vec<Said>) {
        loop {
            let found = self.partial.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (end, rest) = match found {
                Some(end) => (end, end + 1),
                None if self.partial.len() >= LONGEST_LINE => (LONGEST_LINE, LONGEST_LINE),
                None => return,
            };
            let line: Vec<u8> = self.partial.drain(..rest).collect();
            let is_rest_of_one = end == 0 && self.after_return && line == b"\n";
            self.after_return = line.last() == Some(&b'\r');
            if !is_rest_of_one {
                lines.extend(self.line(&line[..end]));
            }
        }
    }

    /// What a line means. The cause of a failure is told with the death.
    fn line(&mut self, bytes: &[u8]) -> Option<Said> {
        let line = String::from_utf8_lossy(bytes);
        Some(match Report::of(&line) {
            Report::Failed(None, cause) => {
                self.cause = Some(cause.to_owned());
                return None;
            }
            Report::Failed(Some(block), cause) => {
                self.cause = Some(format!("block `{block}`: {cause}"));
                return None;
            }
            Report::Note(block, note) => {
                Said::Note(block.unwrap_or(&self.speaker).to_owned(), note.to_owned())
            }
            Report::Done(block) if self.blocks.iter().any(|known| known == block) => {
                Said::Done(block.to_owned())
            }
            Report::Done(_) | Report::Line(_) => {
                if !line.trim().is_empty() {
                    self.last_words = Some(line.trim().to_owned());
                }
                Said::Line(self.speaker.clone(), line.into_owned())
            }
        })
    }

    /// Asks a block to take what is queued and to end its streams.
    pub(super) fn tell_to_end(&mut self, block: &str) {
        // If it cannot be told it has died, which is noticed elsewhere.
        match &mut self.child.stdin {
            Some(stdin) => drop(stdin.write_all(format!("end {block}\n").as_bytes())),
            None if self.signalled => {}
            None => {
                self.signalled = true;
                let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
            }
        }
    }

    /// Tells all blocks to stop at once.
    pub(super) fn tell_to_stop(&mut self) {
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
