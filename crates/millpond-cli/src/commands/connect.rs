//! `millpond connect`: connects two ports of a pond that runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use millpond::bus::Bus;
use millpond::{Policy, Port, parse_duration};
use millpond_shm::{ConnectionConfig, Direction, Monitor, OnReceiverDeath, Pond, Role, Snapshot};

use serde_json::json;

use crate::commands::ends::Ends;
use crate::commands::joining;
use crate::output;

/// Options of `millpond connect`.
#[derive(clap::Args)]
#[command(after_help = "\
What the sender sends from now on goes to the new receiver as well. Blocks take
part at once; nothing that is queued elsewhere is touched.

Examples:
  millpond block csv-sink log --pond studio --param path=log.csv &
  millpond connect studio meter log
  millpond connect studio meter.out log.in --depth 16 --policy drop-oldest

Exit codes:
  0  connected
  1  no such pond, block or port; they do not fit together; connected already
  2  the arguments are wrong")]
pub struct Args {
    /// The pond
    pond: String,
    /// The output port, BLOCK.PORT; BLOCK will do if it has only one
    from: String,
    /// The input port, BLOCK.PORT; BLOCK will do if it has only one
    to: String,
    /// Buffers that may wait [default: what the input states, else 256]
    #[arg(long, value_name = "BUFFERS")]
    depth: Option<u32>,
    /// Time that the timestamps of what waits may be apart, like 50ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_time: Option<Duration>,
    /// What happens when it is full [default: what the input states, else the output, else block]
    #[arg(long, value_enum)]
    policy: Option<When>,
    /// Do not insist that both ports are there: blocks that start later find the connection
    #[arg(long)]
    ahead: bool,
    /// Print one JSON object: the pond and both ports
    #[arg(long)]
    json: bool,
}

/// The policies, as they are typed.
#[derive(Clone, Copy, clap::ValueEnum)]
enum When {
    /// The sender waits.
    Block,
    /// What is sent is dropped.
    DropNewest,
    /// The oldest that waits is dropped.
    DropOldest,
}

/// Connects.
///
/// # Errors
/// Why the ports cannot be connected.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let policy = args.policy.map(|policy| match policy {
        When::Block => Policy::Block,
        When::DropNewest => Policy::DropNewest,
        When::DropOldest => Policy::DropOldest,
    });
    let (depth, max_time, on_receiver_death) = (args.depth, args.max_time, OnReceiverDeath::Wait);
    let config = ConnectionConfig { depth, max_time, policy, on_receiver_death };
    let (from, to) = if args.ahead {
        Pond::attach(&args.pond, Role::Tool)?.connect(&args.from, &args.to, &config)?;
        (args.from, args.to)
    } else {
        connect(&args.pond, &args.from, &args.to, config)?
    };
    if args.json {
        output::print_json(&json!({ "pond": args.pond, "from": from, "to": to }))?;
    } else {
        output::print(&format!("connected {from} -> {to}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Connects what is there, and returns the names of the two ports.
fn connect(pond: &str, from: &str, to: &str, config: ConnectionConfig) -> anyhow::Result<(String, String)> {
    let snapshot = Monitor::open(pond)?.snapshot();
    let ends = Ends::of(&snapshot);
    let (from, to) = (ends.port(from, Direction::Output)?, ends.port(to, Direction::Input)?);
    check_format(&snapshot, &ends, &from, &to)?;
    let bus = joining::join(pond)?;
    let config = with_stated(&bus, &ends, &from, &to, config)?;
    bus.pond().connect(&from, &to, &config)?;
    Ok((from, to))
}

/// Where nothing is asked for, the connection is as the types of the blocks say.
fn with_stated(
    bus: &Bus,
    ends: &Ends<'_>,
    from: &str,
    to: &str,
    config: ConnectionConfig,
) -> anyhow::Result<ConnectionConfig> {
    if config.depth.is_some() && config.policy.is_some() {
        return Ok(config);
    }
    let stated = |port, direction| {
        let what = || {
            format!(
                "ask for the depth and the policy that `{port}` states (--depth and --policy make that needless)"
            )
        };
        ends.stated(bus, port, direction).with_context(what)
    };
    let (output, input) = (stated(from, Direction::Output)?, stated(to, Direction::Input)?);
    Ok(Port::complete(config, output.as_ref(), input.as_ref()))
}

/// The receiver takes what the sender sends, as far as their types are known.
fn check_format(pond: &Snapshot, ends: &Ends<'_>, from: &str, to: &str) -> anyhow::Result<()> {
    let sender = pond.ports.iter().find(|port| port.name == from && port.direction == Direction::Output);
    let format = sender.and_then(|sender| sender.format.as_ref());
    let (Some(format), Some((spec, name))) = (format, ends.spec_of(to)) else { return Ok(()) };
    match spec.input_accepts(name, format) {
        Some(Err(expected)) => bail!(
            "`{from}` sends {}[{}], but `{to}` takes {expected}; put a `convert` between them",
            format.dtype,
            format.shape.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ),
        _ => Ok(()),
    }
}
