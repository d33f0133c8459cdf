//! `millpond inspect`: everything about one pond, and where each of its buffers is.

use std::fmt::Write as _;
use std::process::ExitCode;

use millpond_shm::{CheckReport, MessageTotals, Monitor, Snapshot};

use super::pond_tables;
use crate::output;

/// Options of `millpond inspect`.
#[derive(clap::Args)]
#[command(after_help = "\
The accounting matches every reference with its owner: each buffer is free, held
by a living process or queued on a connection. It looks twice and judges only
what both looks agree on; what moved between them is unsettled.

Examples:
  millpond inspect telemetry
  millpond inspect telemetry --json | jq .check

Exit codes:
  0  every buffer is accounted for
  1  there are problems, or there is no such pond
  2  the arguments are wrong")]
pub struct Args {
    /// Name of the pond, as `millpond ps` shows it
    #[arg(value_name = "NAME")]
    pond: String,
    /// Print one JSON object: {\"pond\": ..., \"check\": ...}
    #[arg(long)]
    json: bool,
}

/// Shows.
///
/// # Errors
/// If there is no such pond, or it cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let monitor = Monitor::open(&args.pond)?;
    let pond = monitor.snapshot();
    let check = monitor.check();
    if args.json {
        output::print_json(&serde_json::json!({ "pond": pond, "check": check }))?;
    } else {
        output::print(&describe(&pond, &check))?;
    }
    Ok(if check.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn describe(pond: &Snapshot, check: &CheckReport) -> String {
    let sections = [
        ("processes", pond_tables::processes(pond)),
        ("pools", pond_tables::pools(pond)),
        ("shares of the pools", pond_tables::shares(pond)),
        ("blocks", pond_tables::blocks(pond)),
        ("ports", pond_tables::ports(pond)),
        ("connections", pond_tables::connections(pond)),
        ("positions and losses", pond_tables::positions(pond)),
        ("message bus", pond_tables::mailboxes(pond)),
    ];
    let mut text = format!("pond {}, uuid {}\n", pond.name, pond.uuid);
    for (title, table) in sections {
        if !table.is_empty() {
            let _ = write!(text, "\n{title}\n{table}");
        }
    }
    text + "\naccounting\n" + &account(check) + &messages(&pond.messages)
}

fn messages(totals: &MessageTotals) -> String {
    let MessageTotals { accepted, received, lost, waiting, unaddressed, .. } = totals;
    format!(
        "  {accepted} messages accepted: {received} received, {lost} lost with their mailbox, {waiting} waiting; \
         {unaddressed} to mailboxes that were gone\n"
    )
}

fn account(check: &CheckReport) -> String {
    let mut text = format!("  {} buffers: {} free, {} in use\n", check.slots, check.free, check.used);
    let _ = writeln!(text, "  {} references in queues", check.queued);
    for held in &check.held {
        let _ = writeln!(text, "  {} references held by pid {}", held.references, held.pid);
    }
    let _ = writeln!(text, "  {} unsettled: they moved between the two looks", check.unsettled);
    if check.problems.is_empty() {
        text.push_str("  no problems\n");
    }
    for problem in &check.problems {
        let _ = writeln!(text, "  PROBLEM: {problem}");
    }
    text
}
