//! `millpond clean`: removes what ponds without a living process left behind.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::output;

/// Options of `millpond clean`.
#[derive(clap::Args)]
#[command(after_help = "\
A pond lives in memory that vanishes with its last process. Only the small file by
which it is found can be left behind, when all its processes were killed at once.
Ponds with a living process are never touched.

Examples:
  millpond clean
  millpond clean --json

Exit codes:
  0  nothing is left behind
  1  the directory of the ponds cannot be read or changed
  2  the arguments are wrong")]
pub struct Args {
    /// Print one JSON object: {\"removed\": [names]}
    #[arg(long)]
    json: bool,
}

/// Removes and says what.
///
/// # Errors
/// If the directory of the ponds cannot be read or changed.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let removed = millpond_shm::clean().context("cannot clean up")?;
    if args.json {
        output::print_json(&serde_json::json!({ "removed": removed }))?;
    } else if removed.is_empty() {
        output::print("nothing to remove\n")?;
    } else {
        let lines: String = removed.iter().map(|name| format!("removed {name}\n")).collect();
        output::print(&lines)?;
    }
    Ok(ExitCode::SUCCESS)
}
