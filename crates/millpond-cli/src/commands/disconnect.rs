//! `millpond disconnect`: removes a connection of a pond that runs.

use std::process::ExitCode;

use millpond_shm::{Pond, Role};

use serde_json::json;

use crate::output;

/// Options of `millpond disconnect`.
#[derive(clap::Args)]
#[command(after_help = "\
What is queued on the connection is still received, if somebody receives; else it
is given back and counted with the input port. Both blocks go on; a block whose
only input is taken away waits for another one.

Example:
  millpond disconnect studio meter.out log.in

Exit codes:
  0  disconnected
  1  no such pond or connection
  2  the arguments are wrong")]
pub struct Args {
    /// The pond
    pond: String,
    /// The output port, BLOCK.PORT
    from: String,
    /// The input port, BLOCK.PORT
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
    Pond::attach(&args.pond, Role::Tool)?.disconnect(&args.from, &args.to)?;
    if args.json {
        output::print_json(&json!({ "pond": args.pond, "from": args.from, "to": args.to }))?;
    } else {
        output::print(&format!("disconnected {} -> {}\n", args.from, args.to))?;
    }
    Ok(ExitCode::SUCCESS)
}
