//! `millpond ps`: the ponds of this user, with their processes and connections.

use std::fmt::Write as _;
use std::process::ExitCode;

use millpond_shm::{Monitor, Snapshot};

use super::pond_tables;
use crate::output;

/// Options of `millpond ps`.
#[derive(clap::Args)]
#[command(after_help = "\
Looking disturbs nobody: ponds are read, never attached to. A process that is
stopped (by a signal), traced (halted by a debugger) or stalled (alive, but has
not run for a while) keeps what it holds.

Examples:
  millpond ps
  millpond ps --json | jq '.ponds[].connections[] | {from, to, queued}'

Exit codes:
  0  listed
  1  a pond, or the directory of the ponds, cannot be read
  2  the arguments are wrong")]
pub struct Args {
    /// Print one JSON object: {\"ponds\": [...]}
    #[arg(long)]
    json: bool,
}

/// Lists.
///
/// # Errors
/// If the directory of the ponds, or one of them, cannot be read; the others are listed first.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut ponds = Vec::new();
    let mut failures = Vec::new();
    for entry in millpond_shm::list()? {
        match Monitor::open(&entry.name).map(|monitor| monitor.snapshot()) {
            Ok(pond) => ponds.push(pond),
            // It may have ended since it was listed.
            Err(millpond_shm::Error::PondNotFound { .. }) => {}
            Err(error) => failures.push(error),
        }
    }
    if args.json {
        output::print_json(&serde_json::json!({ "ponds": ponds }))?;
    } else if ponds.is_empty() && failures.is_empty() {
        output::print("no ponds\n")?;
    } else {
        let texts: Vec<String> = ponds.iter().map(describe).collect();
        output::print(&texts.join("\n"))?;
    }
    for failure in &failures {
        eprintln!("millpond: {failure}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(pond: &Snapshot) -> String {
    let mut text = format!("pond {}\n{}", pond.name, pond_tables::processes(pond));
    let connections = pond_tables::connections(pond);
    if !connections.is_empty() {
        let _ = write!(text, "\n{connections}");
    }
    text
}
