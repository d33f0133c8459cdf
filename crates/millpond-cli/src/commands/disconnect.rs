//! `millpond disconnect`: removes a connection of a pond that runs.

use std::process::ExitCode;

use anyhow::bail;
use millpond_shm::{ConnectionInfo, Monitor, Pond, Role, Snapshot};

use serde_json::json;

use crate::output;

/// Options of `millpond disconnect`.
#[derive(clap::Args)]
#[command(after_help = "\
What is queued on the connection is still received, if somebody receives; else it
is given back and counted with the input port. Both blocks go on; a block whose
only input is taken away waits for another one.

Examples:
  millpond disconnect studio meter log
  millpond disconnect studio meter.out log.in

Exit codes:
  0  disconnected
  1  no such pond or connection
  2  the arguments are wrong")]
pub struct Args {
    /// The pond
    pond: String,
    /// The output port, BLOCK.PORT; BLOCK will do if only one connection can be meant
    from: String,
    /// The input port, as the output port
    to: String,
    /// Print one JSON object: the pond and both ports
    #[arg(long)]
    json: bool,
}

/// Disconnects.
///
/// # Errors
/// If there is no such pond or connection.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (from, to) = meant(&Monitor::open(&args.pond)?.snapshot(), &args.from, &args.to)?;
    Pond::attach(&args.pond, Role::Tool)?.disconnect(&from, &to)?;
    if args.json {
        output::print_json(&json!({ "pond": args.pond, "from": from, "to": to }))?;
    } else {
        output::print(&format!("disconnected {from} -> {to}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The ports of the connection that is meant.
fn meant(pond: &Snapshot, from: &str, to: &str) -> anyhow::Result<(String, String)> {
    let is_meant = |port: &str, typed: &str| {
        port == typed || port.split_once('.').is_some_and(|(block, _)| block == typed)
    };
    let all = pond.connections.iter().filter(|connection| connection.state != "closing");
    let (meant, others): (Vec<_>, Vec<_>) = all.partition(|c| is_meant(&c.from, from) && is_meant(&c.to, to));
    let shown = |connections: &[&ConnectionInfo]| {
        let shown: Vec<String> = connections.iter().map(|c| format!("{} -> {}", c.from, c.to)).collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
    };
    match meant.as_slice() {
        [one] => Ok((one.from.clone(), one.to.clone())),
        [] => bail!("pond `{}` has no connection {from} -> {to}; there are: {}", pond.name, shown(&others)),
        several => bail!("which connection of pond `{}` is meant? There are: {}", pond.name, shown(several)),
    }
}
