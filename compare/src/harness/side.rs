//! A child process: one side of a measurement.

use std::io::{self, BufRead, Write};
use std::os::unix::process::parent_id;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;
use serde_json::Value;

use super::kill::Point;
use super::message::{GO, Role, Said, Task};
use super::{alloc, chain, connections, kill, latency, stream};
use crate::library::{Library, Receiver as _, Sender as _};

/// Plays the part described by `task` and tells the parent how it went.
pub(super) fn run<L: Library>(task: &str) -> ExitCode {
    let said = match play::<L>(task) {
        Ok(result) => Said::Done(result),
        Err(error) => Said::Failed(format!("{error:#}")),
    };
    let status = if matches!(said, Said::Done(_)) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match say(&said) {
        Ok(()) => status,
        // The parent is gone, and with it everyone who could be told.
        Err(_) => ExitCode::FAILURE,
    }
}

fn play<L: Library>(task: &str) -> Result<Value> {
    let task: Task = serde_json::from_str(task).context("the task is not one of this program's")?;
    end_with(task.parent)?;
    if let Some(core) = task.core {
        pin(core)?;
    }
    let place = &task.place;
    match task.role {
        Role::Ping(plan) => value(latency::ping::<L>(place, plan)?),
        Role::Pong(plan) => value(latency::pong::<L>(place, plan)?),
        Role::Produce(plan) => value(stream::produce::<L>(place, plan)?),
        Role::Consume(plan, index) => value(stream::consume::<L>(place, plan, index)?),
        Role::Loan(plan) => value(alloc::loan::<L>(place, plan)?),
        Role::Ends(plan) => value(chain::ends::<L>(place, plan)?),
        Role::Stage(plan, index) => value(chain::stage::<L>(place, plan, index)?),
        Role::Many(plan, sending) => value(connections::open::<L>(place, plan, sending)?),
        Role::Kill(plan, part) => value(kill::play::<L>(place, plan, part)?),
        Role::Cleaner => value(kill::clean::<L>(place)?),
    }
}

/// Waits until every child of the run got here. The parent passes the word, so that no side has to
/// poll for the other while the ports connect.
pub(super) fn meet() -> Result<()> {
    say(&Said::Ready)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("cannot hear the parent process")?;
    if line.trim_end() != GO {
        bail!("the parent process ended");
    }
    Ok(())
}

/// Tells the parent that `point` was reached.
pub(super) fn note(point: Point) -> Result<()> {
    say(&Said::Note(point))
}

fn say(said: &Said) -> Result<()> {
    let mut line = serde_json::to_string(said)?;
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("cannot tell the parent process")
}

fn value(result: impl Serialize) -> Result<Value> {
    Ok(serde_json::to_value(result)?)
}

/// Has the system kill this process when its parent ends, in whatever way it ends.
fn end_with(parent: u32) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot ask to end with the parent")?;
    // The parent may have ended before the line above, and somebody else adopted this process.
    if parent_id() != parent {
        bail!("the parent process ended");
    }
    Ok(())
}

/// Brings this process's ends together with those of the others. After this no message is lost.
pub(super) fn connect<L: Library>(senders: &mut [L::Sender], receivers: &mut [L::Receiver]) -> Result<()> {
    // Until every side has opened its ends ...
    meet()?;
    for sender in senders {
        sender.settle()?;
    }
    for receiver in receivers {
        receiver.settle()?;
    }
    // ... and until every side has found those of the others.
    meet()
}

fn pin(core: usize) -> Result<()> {
    if core >= CpuSet::MAX_CPU {
        bail!("cannot pin to core {core}: the highest possible is {}", CpuSet::MAX_CPU - 1);
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot pin to core {core}"))
}
