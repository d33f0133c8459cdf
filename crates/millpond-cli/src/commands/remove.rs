//! `millpond remove`: takes a block out of a pond that runs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use millpond::bus::{Bus, BusError, Json};
use millpond::{BlockStatistics, Stage, parse_duration};
use millpond_shm::{BlockInfo, Monitor, Snapshot};
use serde_json::json;

use super::joining::join;
use super::processes::Victim;
use crate::output;

/// Between two looks at how far the block has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Options of `millpond remove`.
#[derive(clap::Args)]
#[command(after_help = "\
The block's inputs are disconnected; it takes what is queued there and sends what
comes of it; then its outputs are disconnected and it ends, and with it its process
if that runs nothing else. A supervisor does not start it again. Those who received
from it take what is queued and go on, as after `millpond disconnect`. If the block
is killed meanwhile and started again, its successor is removed.

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
    /// Print one JSON object: the pond and the block
    #[arg(long)]
    json: bool,
}

/// Removes.
///
/// # Errors
/// Why it cannot be removed; the block may have been disconnected by then, and may yet end.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { pond, block, timeout, json } = args;
    let deadline = Instant::now() + timeout;
    let monitor = Monitor::open(&pond)?;
    let mut snapshot = monitor.snapshot();
    if find(&snapshot, &block).is_none() {
        let known: Vec<&str> = snapshot.blocks.iter().map(|known| known.name.as_str()).collect();
        bail!("pond `{pond}` has no block `{block}`; there are: {}", known.join(", "));
    }
    let bus = join(&pond)?;
    let mut asked = None;
    let mut process = None;
    // Until the block is gone, whoever runs it meanwhile.
    while let Some(info) = find(&snapshot, &block) {
        let running =
            info.pid.filter(|_| BlockStatistics::from_counters(&info.counters).stage != Stage::Done);
        match running {
            Some(pid) if asked != Some(pid) => {
                process = sole_process(&snapshot, &block, pid);
                if ask(&bus, &block, pid, deadline)? {
                    asked = Some(pid);
                }
            }
            Some(_) => {}
            None => match bus.pond().remove_block(&block) {
                // Its process is about to let go of the ports.
                Err(millpond_shm::Error::PortInUse { .. }) => {}
                removed => {
                    removed.with_context(|| format!("cannot remove block `{block}`"))?;
                    break;
                }
            },
        }
        if Instant::now() >= deadline {
            bail!("{}", what_keeps(&snapshot, &block, asked, timeout));
        }
        std::thread::sleep(LOOK_EVERY);
        snapshot = monitor.snapshot();
    }
    if let Some(process) = process
        && !process.ends_before(deadline)?
    {
        bail!("block `{block}` is removed, but its process {} has not ended after {timeout:?}", process.pid);
    }
    if json {
        output::print_json(&json!({ "pond": pond, "block": block }))?;
    } else {
        output::print(&format!("removed {block}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn find<'a>(pond: &'a Snapshot, block: &str) -> Option<&'a BlockInfo> {
    pond.blocks.iter().find(|known| known.name == block)
}

/// Asks the block to leave; `false`: it did not hear that, because its process has died or has not got so far yet.
fn ask(bus: &Bus, block: &str, pid: u32, deadline: Instant) -> anyhow::Result<bool> {
    let left = deadline.saturating_duration_since(Instant::now());
    match bus.call(&format!("{block}/remove"), &Json::Null, left) {
        Ok(_) => Ok(true),
        Err(BusError::Absent { .. } | BusError::Gone { .. }) => Ok(false),
        Err(BusError::TimedOut { .. } | BusError::Full { .. }) => bail!(
            "block `{block}` (process {pid}) does not answer: it is stopped, or stuck in one call. It is still connected; kill \
             the process and try again"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot remove block `{block}`")),
    }
}

/// The block's process, if it is there for nothing else: then it ends, too.
fn sole_process(pond: &Snapshot, block: &str, pid: u32) -> Option<Victim> {
    let is_other = |other: &BlockInfo| other.pid == Some(pid) && other.name != block;
    if pond.blocks.iter().any(is_other) { None } else { Victim::open(pid) }
}

/// Why the block is still there.
fn what_keeps(pond: &Snapshot, block: &str, asked: Option<u32>, timeout: Duration) -> String {
    let Some(pid) = asked else {
        return format!(
            "block `{block}` did not answer within {timeout:?}: its program has to be one of Millpond's, or use its library"
        );
    };
    let is_of = |port: &str| port.split_once('.').is_some_and(|(known, _)| known == block);
    let full = pond.connections.iter().find(|c| is_of(&c.from) && c.queued >= u64::from(c.depth));
    let held = pond.connections.iter().find(|c| is_of(&c.to));
    let why = match (full, held) {
        (Some(full), _) => format!("`{}` has no room for what it still has to send", full.to),
        (None, Some(held)) if held.queued > 0 => format!("{} buffers are still queued for it", held.queued),
        (None, Some(held)) => format!("the sender `{}` has not let go of it yet", held.from),
        (None, None) => "it works on what it has taken".to_owned(),
    };
    format!(
        "block `{block}` (process {pid}) has not ended after {timeout:?}: {why}. It is disconnected, and ends by itself as soon as it can; \
         or kill it and try again"
    )
}
