//! `millpond remove`: takes a block out of a pond that runs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use millpond::parse_duration;
use millpond_shm::{ConnectionInfo, Monitor, Pond, Role, Snapshot};
use rustix::process::Signal;

use super::processes::Victim;
use crate::output;

/// Between two looks at how far the block has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Options of `millpond remove`.
#[derive(clap::Args)]
#[command(after_help = "\
The block's inputs are disconnected; it takes what is queued there and sends it
on; then its outputs are disconnected and its process ends. Those who received from
it go on, and take what is queued. Only blocks that were started with `millpond
block` can be removed; a supervisor would end the others of its pipeline as well.

Example:
  millpond remove studio log

Exit codes:
  0  removed
  1  no such pond or block, or it did not end in time
  2  the arguments are wrong")]
pub struct Args {
    /// The pond
    pond: String,
    /// The block
    block: String,
    /// How long the block may take to work off what is queued
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
}

/// Removes.
///
/// # Errors
/// Why it cannot be removed; the block may have been disconnected by then.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { pond: name, block, timeout } = args;
    let deadline = Instant::now() + timeout;
    let monitor = Monitor::open(&name)?;
    let before = monitor.snapshot();
    let Some(info) = before.blocks.iter().find(|known| known.name == block) else {
        let known: Vec<&str> = before.blocks.iter().map(|known| known.name.as_str()).collect();
        bail!("pond `{name}` has no block `{block}`; there are: {}", known.join(", "));
    };
    let victim = info.pid.map(|pid| sole_process(&before, &block, pid)).transpose()?.flatten();
    let pond = Pond::attach(&name, Role::Tool)?;
    let disconnect = |connections: Vec<&ConnectionInfo>| {
        for connection in connections {
            // Somebody may have been faster.
            let _ = pond.disconnect(&connection.from, &connection.to);
        }
    };
    let is_of = |port: &str| port.rsplit_once('.').is_some_and(|(known, _)| known == block);
    disconnect(before.connections.iter().filter(|c| is_of(&c.to)).collect());
    if let Some(victim) = victim {
        let still_queued = |pond: &Snapshot| pond.connections.iter().any(|c| is_of(&c.to) && c.queued > 0);
        while still_queued(&monitor.snapshot()) && victim.is_alive() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        disconnect(monitor.snapshot().connections.iter().filter(|c| is_of(&c.from)).collect());
        victim.signal(Signal::TERM);
        if !victim.ends_before(deadline)? {
            bail!(
                "block `{block}` (process {}) has not ended after {timeout:?}; it is disconnected. Kill it and try again",
                victim.pid
            );
        }
        pond.recover_dead()?;
    }
    pond.remove_block(&block).with_context(|| format!("cannot remove block `{block}`"))?;
    output::print(&format!("removed {block}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The process of the block, if it is there for nothing else. `None`: it has just ended.
fn sole_process(pond: &Snapshot, block: &str, pid: u32) -> anyhow::Result<Option<Victim>> {
    let others: Vec<&str> = pond
        .blocks
        .iter()
        .filter(|other| other.pid == Some(pid) && other.name != block)
        .map(|other| other.name.as_str())
        .collect();
    if !others.is_empty() {
        bail!(
            "process {pid} runs block `{block}` together with {}: it would end them, too",
            others.join(", ")
        );
    }
    let Some(victim) = Victim::open(pid) else { return Ok(None) };
    let supervisor = pond.processes.iter().find(|process| process.role == Role::Server);
    if let Some(supervisor) = supervisor.filter(|supervisor| victim.parent() == Some(supervisor.pid)) {
        bail!(
            "block `{block}` belongs to the pipeline that process {} supervises: change the pipeline file, or `millpond stop {}`",
            supervisor.pid,
            pond.name
        );
    }
    Ok(Some(victim))
}
