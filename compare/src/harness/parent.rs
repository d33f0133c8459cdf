//! The parent process of a measurement: starts one child per side, brings them together, collects
//! their results, and ends them on every way out.
//!
//! The parent itself takes no part in what is measured and sleeps while the children work.

use std::io::{BufRead, BufReader, Write};
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::message::{GO, Role, Said, Task};
use crate::library::{Library, Shape};
use crate::signals::{self, Interrupted};

/// Time a run may take beyond what it was asked to measure: starting, connecting, warming up.
const SLACK: Duration = Duration::from_secs(30);

/// Something the parent has to react to.
#[derive(Debug)]
pub(super) enum Event {
    /// A child said something, and was heard at this moment.
    Said(usize, Said, Instant),
    /// A child's output ended: the process is gone.
    Gone(usize),
    /// A signal asks the program to stop.
    Stop(Interrupted),
}

/// The children of a run.
pub(super) struct Parent<L: Library> {
    // Declared before the place: fields are dropped in this order, so the children are dead before
    // their files are removed.
    sides: Vec<Side>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    deadline: Instant,
    place: String,
    _place: L::Place,
}

impl<L: Library> Parent<L> {
    /// Prepares a run of `topics` topics of this shape that measures for `time`.
    pub(super) fn new(time: Duration, shape: &Shape, topics: usize) -> Result<Self> {
        let (sender, events) = mpsc::channel();
        signals::forward(sender.clone(), Event::Stop).context("cannot watch for signals")?;
        let (guard, place) = L::place(shape, topics)?;
        let deadline = Instant::now() + time + SLACK;
        Ok(Self { sides: Vec::new(), events, sender, deadline, place, _place: guard })
    }

    /// Starts a child and gives its number, counted from 0.
    pub(super) fn start(&mut self, role: Role, core: Option<usize>) -> Result<usize> {
        let task = Task { parent: process::id(), place: self.place.clone(), core, role };
        let number = self.sides.len();
        let side = Side::start(&task, number, self.sender.clone())?;
        self.sides.push(side);
        Ok(number)
    }

    /// Kills a child the hard way, as a crash would; gives the moment of that.
    pub(super) fn kill(&mut self, number: usize) -> Result<Instant> {
        let side = self.sides.get_mut(number).ok_or_else(|| anyhow!("there is no side {number}"))?;
        let killed = Instant::now();
        side.child.kill().context("cannot kill a side")?;
        side.child.wait().context("cannot await a killed side")?;
        side.killed = true;
        Ok(killed)
    }

    /// Waits for the next event, at most until `until`: `None` when nothing happened.
    ///
    /// # Errors
    ///
    /// Fails when a signal asks to stop, or a child gave up.
    pub(super) fn next(&self, until: Instant) -> Result<Option<Event>> {
        match self.listen(until)? {
            Some(Event::Said(number, Said::Failed(why), _)) => bail!("side {number} failed: {why}"),
            event => Ok(event),
        }
    }

    /// As [`next`](Self::next), for a run in which a child may give up.
    pub(super) fn listen(&self, until: Instant) -> Result<Option<Event>> {
        let wait = until.min(self.deadline).saturating_duration_since(Instant::now());
        match self.events.recv_timeout(wait) {
            Ok(Event::Stop(interrupted)) => Err(interrupted.into()),
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) if Instant::now() >= self.deadline => {
                bail!("the measurement did not end in time")
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("there is nobody left to wait for"),
        }
    }

    /// Lets every child that is ready go on, once all of them are. Gives whether they went.
    pub(super) fn mark_ready(&mut self, number: usize) -> Result<bool> {
        if let Some(side) = self.sides.get_mut(number) {
            side.ready = true;
        }
        if !self.sides.iter().all(|side| side.ready || side.killed) {
            return Ok(false);
        }
        for side in self.sides.iter_mut().filter(|side| !side.killed) {
            side.go()?;
        }
        Ok(true)
    }

    /// Runs all children to their end and gives their results, in the order they were started.
    pub(super) fn finish(mut self) -> Result<Vec<Value>> {
        let mut results: Vec<Option<Value>> = vec![None; self.sides.len()];
        while results.iter().any(Option::is_none) {
            match self.next(self.deadline)? {
                Some(Event::Said(number, Said::Ready, _)) => {
                    self.mark_ready(number)?;
                }
                Some(Event::Said(number, Said::Done(result), _)) => {
                    if let Some(place) = results.get_mut(number) {
                        *place = Some(result);
                    }
                }
                Some(Event::Gone(number)) if results.get(number).is_some_and(Option::is_none) => {
                    bail!("side {number} ended without a result: {}", self.how_it_ended(number));
                }
                _ => {}
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    fn how_it_ended(&mut self, number: usize) -> String {
        match self.sides.get_mut(number).map(|side| side.child.wait()) {
            Some(Ok(status)) => status.to_string(),
            Some(Err(error)) => error.to_string(),
            None => "it never started".into(),
        }
    }
}

/// One child process, killed when dropped.
#[derive(Debug)]
struct Side {
    child: Child,
    input: ChildStdin,
    ready: bool,
    killed: bool,
}

impl Side {
    fn start(task: &Task, number: usize, events: Sender<Event>) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .arg("side")
            .arg(serde_json::to_string(task)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a side of the measurement")?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a side of the measurement has no pipes");
        };
        let side = Self { child, input, ready: false, killed: false };
        thread::Builder::new()
            .name(format!("side {number}"))
            .spawn(move || listen(output, number, &events))
            .context("cannot start a thread to listen to a side")?;
        Ok(side)
    }

    fn go(&mut self) -> Result<()> {
        self.ready = false;
        writeln!(self.input, "{GO}").context("cannot tell a side to go on")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Both fail only for a child that has already ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on what a child says, until it ends. Sending fails only when the run is already over.
fn listen(output: ChildStdout, number: usize, events: &Sender<Event>) {
    for line in BufReader::new(output).lines() {
        let Ok(line) = line else { break };
        let said = serde_json::from_str(&line)
            .unwrap_or_else(|error| Said::Failed(format!("it said `{line}`, which is no message: {error}")));
        if events.send(Event::Said(number, said, Instant::now())).is_err() {
            return;
        }
    }
    let _ = events.send(Event::Gone(number));
}
