//! `millpond connect`: connects two ports of a pond that runs.

use std::process::ExitCode;

use anyhow::bail;
use millpond::{Catalog, Policy};
use millpond_shm::{ConnectionConfig, Direction, Monitor, OnReceiverDeath, Pond, PortInfo, Role, Snapshot};

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
    /// What happens when that many wait
    #[arg(long, value_enum, default_value = "block")]
    policy: When,
    /// Do not insist that both ports are there: blocks that start later find the connection
    #[arg(long)]
    ahead: bool,
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
    let config = ConnectionConfig { depth: args.depth, policy, on_receiver_death: OnReceiverDeath::Wait };
    Pond::attach(&args.pond, Role::Tool)?.connect(&args.from, &args.to, &config)?;
    output::print(&format!("connected {} -> {}\n", args.from, args.to))?;
    Ok(ExitCode::SUCCESS)
}

/// Both ports are there, and the receiver takes what the sender sends, as far as their types are known.
fn check(pond: &Snapshot, from: &str, to: &str) -> anyhow::Result<()> {
    let sender = port(pond, from, Direction::Output)?;
    port(pond, to, Direction::Input)?;
    let (Some(format), Some((block, name))) = (&sender.format, to.split_once('.')) else { return Ok(()) };
    let block_type = pond.blocks.iter().find(|known| known.name == block).map(|known| &known.block_type);
    let catalog = Catalog::builtin();
    let Some(block_type) = block_type.and_then(|name| catalog.find(name).ok()) else { return Ok(()) };
    match block_type.spec().input_accepts(name, format) {
        Some(Err(expected)) => bail!(
            "`{from}` sends {}[{}], but `{to}` takes {expected}; put a `convert` between them",
            format.dtype,
            format.shape.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ),
        _ => Ok(()),
    }
}

/// The port of that name, or what there is instead.
fn port<'a>(pond: &'a Snapshot, name: &str, direction: Direction) -> anyhow::Result<&'a PortInfo> {
    if let Some(port) = pond.ports.iter().find(|port| port.name == name) {
        return Ok(port);
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
