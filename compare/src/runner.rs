//! Runs one benchmark program at a time, with a time limit, and reads the JSON object it prints.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value};

use crate::signals::{self, Interrupted};

/// Time a run may take beyond what it measures. A peer's program gives up a little earlier by itself,
/// and says why.
const SLACK: Duration = Duration::from_secs(45);
/// What a run that counts, instead of measuring for a time, may take before that.
const COUNTED: Duration = Duration::from_secs(30);
/// Time a program asked to stop has before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// The object a program printed.
pub type Object = Map<String, Value>;

/// Runs programs, one at a time.
#[derive(Debug)]
pub struct Runner {
    events: Receiver<Event>,
    sender: Sender<Event>,
    runs: u64,
}

/// Something that happens while a program runs.
enum Event {
    /// An output of run `run` ended with this text.
    Output { run: u64, stream: Stream, text: io::Result<String> },
    /// A signal asks this program to stop.
    Stop(Interrupted),
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Out,
    Err,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Output { run, stream, .. } => write!(f, "Output of run {run}, {stream:?}"),
            Self::Stop(interrupted) => write!(f, "Stop({interrupted:?})"),
        }
    }
}

impl Runner {
    /// A runner; from now on a signal that asks this program to stop ends the run.
    ///
    /// # Errors
    ///
    /// Fails when signals cannot be watched.
    pub fn new() -> Result<Self> {
        let (sender, events) = mpsc::channel();
        signals::forward(sender.clone(), Event::Stop).context("cannot watch for signals")?;
        Ok(Self { events, sender, runs: 0 })
    }

    /// Runs a command line and gives the object it printed. `time`: what it is expected to take; `None`: it counts.
    ///
    /// # Errors
    ///
    /// Fails when the program cannot be run, does not end in time, fails, or prints something else, and with [`Interrupted`] when
    /// this program is asked to stop.
    pub fn run(&mut self, line: &[String], time: Option<Duration>) -> Result<Object> {
        let shown = line.join(" ");
        let object = self.output(line, time).and_then(|out| match serde_json::from_str(out.trim()) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) | Err(_) => bail!("it printed no JSON object but: {}", out.trim()),
        });
        object.with_context(|| format!("`{shown}`"))
    }

    /// As [`run`](Self::run), for a program that prints something else than an object.
    ///
    /// # Errors
    ///
    /// As `run`.
    pub fn output(&mut self, line: &[String], time: Option<Duration>) -> Result<String> {
        let (program, arguments) = line.split_first().context("there is no program to run")?;
        self.runs += 1;
        let mut running = self.start(Path::new(program), arguments)?;
        let (out, err) = self.outputs(Instant::now() + time.unwrap_or(COUNTED) + SLACK)?;
        let status = running.wait()?;
        let err = err.trim();
        ensure!(status.success(), "{status}: {}", if err.is_empty() { "it did not say why" } else { err });
        Ok(out)
    }

    fn start(&self, program: &Path, arguments: &[String]) -> Result<Running> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut running = Running { child, ended: false };
        self.collect(running.child.stdout.take(), Stream::Out)?;
        self.collect(running.child.stderr.take(), Stream::Err)?;
        Ok(running)
    }

    /// Reads an output to its end, in a thread of its own: a program must never wait for this one.
    fn collect(&self, output: Option<impl Read + Send + 'static>, stream: Stream) -> Result<()> {
        let mut output = output.ok_or_else(|| anyhow!("the program has no pipe"))?;
        let (run, sender) = (self.runs, self.sender.clone());
        thread::Builder::new().name("output".into()).spawn(move || {
            let mut text = String::new();
            let text = output.read_to_string(&mut text).map(|_| text);
            // Nobody listens any more when the comparison was stopped.
            let _ = sender.send(Event::Output { run, stream, text });
        })?;
        Ok(())
    }

    /// Waits for both outputs of the current run.
    fn outputs(&self, deadline: Instant) -> Result<(String, String)> {
        let (mut out, mut err) = (None, None);
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Stop(interrupted)) => return Err(interrupted.into()),
                Ok(Event::Output { run, stream, text }) if run == self.runs => {
                    let text = text.context("cannot read its output")?;
                    match stream {
                        Stream::Out => out = Some(text),
                        Stream::Err => err = Some(text),
                    }
                }
                // The late output of a run that was given up.
                Ok(Event::Output { .. }) => {}
                Err(RecvTimeoutError::Timeout) => bail!("it did not end in time"),
                Err(RecvTimeoutError::Disconnected) => bail!("its output was lost"),
            }
            if let (Some(out), Some(err)) = (&mut out, &mut err) {
                return Ok((std::mem::take(out), std::mem::take(err)));
            }
        }
    }
}

/// A running program. Dropped before it ended, it is first asked to stop, so that it can clean up
/// after itself, and killed if it does not.
#[derive(Debug)]
struct Running {
    child: Child,
    ended: bool,
}

impl Running {
    fn wait(&mut self) -> Result<ExitStatus> {
        let status = self.child.wait().context("cannot await the program's end")?;
        self.ended = true;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // From here on, what fails only fails because the program has just ended.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
