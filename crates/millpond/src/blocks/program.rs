//! A program on a pipe: what the `exec` blocks have in common.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::prelude::*;

/// How often a program is looked at that has closed its output but not ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a program's guard runs: it waits for the end of its standard input, which is the end of the block's process even if that was killed, and
/// then kills its process group: itself, the program, and what that has started. Signals that the program sends to its group are
/// not meant for the guard.
const GUARD: &str = "trap '' HUP INT TERM; read _; kill -KILL 0";
/// The same for a program that only reads: its input has ended as well, so it gets a moment to finish what it was given.
const PATIENT_GUARD: &str = "trap '' HUP INT TERM; read _; sleep 2; kill -KILL 0";

/// A running program. When this is dropped the program is killed, with all that it has started, unless it has ended; also when the
/// process dies in which this is.
pub(super) struct Program {
    command: String,
    child: Child,
    /// Leads the process group, so that its number is not given to others before both have ended.
    guard: Child,
    ended: bool,
}

impl Program {
    /// Adds the parameter that [`start`](Program::start) takes.
    pub(super) fn params(spec: Spec) -> Spec {
        spec.param(Param::text("command", "what a shell runs, pipes and quotes included").fixed())
    }

    /// Starts `/bin/sh -c COMMAND`, with or without pipes to its input and from its output.
    pub(super) fn start(command: &str, input: bool, output: bool) -> Result<Self> {
        let pipe = |wanted: bool, other: Stdio| if wanted { Stdio::piped() } else { other };
        let doing = || format!("run `{command}`");
        let guard = Command::new("/bin/sh")
            .args(["-c", if input && !output { PATIENT_GUARD } else { GUARD }])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context(doing)?;
        let group = i32::try_from(guard.id()).map_err(std::io::Error::other).context(doing)?;
        let child = Command::new("/bin/sh")
            .args(["-c", command])
            .stdin(pipe(input, Stdio::null()))
            .stdout(pipe(output, Stdio::inherit()))
            .process_group(group)
            .spawn()
            .context(doing)?;
        Ok(Self { command: command.to_owned(), child, guard, ended: false })
    }

    pub(super) fn name(&self) -> String {
        format!("`{}`", self.command)
    }

    /// Our end of its standard input; does not block.
    pub(super) fn take_input(&mut self) -> Result<Arc<OwnedFd>> {
        let doing = || format!("write to `{}`", self.command);
        let pipe =
            self.child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe).map_err(std::io::Error::from);
        let pipe = pipe.context(doing)?;
        let flags = fcntl_getfl(pipe.as_fd()).map_err(std::io::Error::from).context(doing)?;
        fcntl_setfl(pipe.as_fd(), flags | OFlags::NONBLOCK).map_err(std::io::Error::from).context(doing)?;
        Ok(Arc::new(pipe.into()))
    }

    /// Our end of its standard output.
    pub(super) fn take_output(&mut self) -> Result<Arc<OwnedFd>> {
        let doing = || format!("read from `{}`", self.command);
        let pipe =
            self.child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe).map_err(std::io::Error::from);
        Ok(Arc::new(pipe.context(doing)?.into()))
    }

    /// After its output has ended: how it ended itself.
    ///
    /// # Errors
    /// [`Pause::Done`] if all is well, a failure if it says that it has failed, a pause while it still runs.
    pub(super) fn end(&mut self) -> WorkResult {
        match self.child.try_wait().context(|| format!("wait for `{}`", self.command))? {
            None => Err(Pause::Until(Instant::now() + LOOK_EVERY)),
            Some(status) => {
                self.ended = true;
                self.judge(status)?;
                Err(Pause::Done)
            }
        }
    }

    fn judge(&self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let advice = match status.code() {
            Some(127) => "; the shell has not found a program: is it installed, and its name right?",
            Some(126) => "; the shell may not run a program: is it executable?",
            _ => "",
        };
        Err(Error::Refused(format!("`{}` has failed: {status}{advice}", self.command)))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.ended {
            // What the program has left behind on purpose goes on.
            let _ = self.guard.kill();
        } else {
            let _ = kill_process_group(Pid::from_child(&self.guard), Signal::KILL);
            let _ = self.child.wait();
        }
        let _ = self.guard.wait();
    }
}
