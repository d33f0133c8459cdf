//! `millpond connect`: connects two ports of a pond that runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use millpond::{Catalog, Policy, Spec, parse_duration};
use millpond_shm::{ConnectionConfig, Direction, Monitor, OnReceiverDeath, Pond, PortInfo, Role, Snapshot};

use serde_json::json;

use crate::output;

/// Options of `millpond connect`.
#[derive(clap::Args)]
#[command(after_help = "\
What the sender sends from now on goes to the new receiver as well. Blocks take
part at once; nothing that is queued elsewhere is touched.

Examples:
  millpond block csv-sink log --pond studio --param path=log.csv &
  millpond connect studio meter.out log.in --depth 16 --policy drop-oldest

Exit codes:
  0  connected
  1  no such pond, block or port; they do not fit together; connected already
  2  the arguments are wrong")]
pub struct Args {
    /// The pond
    pond: String,
    /// The output port, BLOCK.PORT
    from: String,
    /// The input port, BLOCK.PORT
    to: String,
    /// Buffers that may wait
    #[arg(long, value_name = "BUFFERS")]
    depth: Option<u32>,
    /// Time that the timestamps of what waits may be apart, like 50ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    max_time: Option<Duration>,
    /// What happens when it is full
    #[arg(long, value_enum, default_value = "block")]
    policy: When,
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
    if !args.ahead {
        check(&Monitor::open(&args.pond)?.snapshot(), &args.from, &args.to)?;
    }
    let policy = match args.policy {
        When::Block => Policy::Block,
        When::DropNewest => Policy::DropNewest,
        When::DropOldest => Policy::DropOldest,
    };
    let config = ConnectionConfig {
        depth: args.depth,
        max_time: args.max_time,
        policy,
        on_receiver_death: OnReceiverDeath::Wait,
    };
    Pond::attach(&args.pond, Role::Tool)?.connect(&args.from, &args.to, &config)?;
    if args.json {
        output::print_json(&json!({ "pond": args.pond, "from": args.from, "to": args.to }))?;
    } else {
        output::print(&format!("connected {} -> {}\n", args.from, args.to))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Both ports are there, or will be, and the receiver takes what the sender sends, as far as their types are known.
fn check(pond: &Snapshot, from: &str, to: &str) -> anyhow::Result<()> {
    let catalog = Catalog::builtin();
    let sender = port(pond, &catalog, from, Direction::Output)?;
    port(pond, &catalog, to, Direction::Input)?;
    let format = sender.and_then(|sender| sender.format.as_ref());
    let (Some(format), Some((spec, name))) = (format, spec_of(pond, &catalog, to)) else { return Ok(()) };
    match spec.input_accepts(name, format) {
        Some(Err(expected)) => bail!(
            "`{from}` sends {}[{}], but `{to}` takes {expected}; put a `convert` between them",
            format.dtype,
            format.shape.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ),
        _ => Ok(()),
    }
}

/// What the type of a port's block states, if it is a builtin one, and the port's name within the block.
fn spec_of<'a>(pond: &Snapshot, catalog: &'a Catalog, port: &'a str) -> Option<(&'a Spec, &'a str)> {
    let (block, port) = port.split_once('.')?;
    let known = pond.blocks.iter().find(|known| known.name == block)?;
    Some((catalog.find(&known.block_type).ok()?.spec(), port))
}

/// The port of that name, or what there is instead. `None`: the block will open it, as soon as it knows what comes in.
fn port<'a>(
    pond: &'a Snapshot,
    catalog: &Catalog,
    name: &str,
    direction: Direction,
) -> anyhow::Result<Option<&'a PortInfo>> {
    if let Some(port) = pond.ports.iter().find(|port| port.name == name) {
        return Ok(Some(port));
    }
    if let Some((spec, port)) = spec_of(pond, catalog, name) {
        let stated = match direction {
            Direction::Input => spec.input_ports(),
            Direction::Output => spec.output_ports(),
        };
        if stated.iter().any(|stated| stated.for_each_of().is_none() && stated.name() == port) {
            return Ok(None);
        }
    }
    let known = pond.ports.iter().filter(|port| port.direction == direction);
    let known: Vec<&str> = known.map(|port| port.name.as_str()).collect();
    let what = if direction == Direction::Output { "output" } else { "input" };
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    bail!(
        "pond `{}` has no {what} port `{name}`; there are: {known} (with --ahead it need not exist yet)",
        pond.name
    )
}
