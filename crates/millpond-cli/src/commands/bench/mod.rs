//! `millpond bench`: figures by which users can judge their machine, and everybody can judge us. Every process is a
//! real one; a benchmark leaves no process and no pond behind, however it ends.

mod align;
mod alloc;
mod bench_pond;
mod chain;
mod fanout;
mod floor;
mod histogram;
mod latency;
mod machine;
mod options;
mod peer;
mod recover;
mod report;
mod slice;
mod stream;
mod throughput;

use std::process::ExitCode;

use anyhow::ensure;
use clap::Subcommand;

use self::machine::Machine;
use crate::{output, signals};
pub use peer::{PeerArgs, run as run_peer};

/// Options of `millpond bench`.
#[derive(clap::Args)]
#[command(after_help = "\
A figure is worth as much as the machine is quiet: compare only figures of one
run, or of runs in turns.

Examples:
  millpond bench latency --pin 0,1
  millpond bench throughput --size 64K --fill --touch
  millpond bench recover --kills 100 --json

Exit codes:
  0  measured
  1  the measurement failed: no memory, or a process of it died
  2  the arguments are wrong")]
pub struct Args {
    /// What to measure.
    #[command(subcommand)]
    bench: Bench,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Bench {
    /// One-way latency between two processes, beside what the machine itself costs
    Latency(latency::Args),
    /// A lossless stream from one process to another
    Throughput(throughput::Args),
    /// Taking a buffer and giving it back
    Alloc(alloc::Args),
    /// One process sends, several receive everything
    Fanout(fanout::Args),
    /// Forwarding through several processes without copying
    Chain(chain::Args),
    /// Sets of stamped buffers from several processes, as time alignment makes them
    Align(align::Args),
    /// How fast all is well again after a process that holds buffers was killed
    Recover(recover::Args),
}

/// Measures and prints.
///
/// # Errors
/// If a process fails, a message is lost, or somebody presses Ctrl-C.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Looked at before the benchmark itself keeps it busy.
    let machine = Machine::here();
    let report = match &args.bench {
        Bench::Latency(args) => latency::run(args),
        Bench::Throughput(args) => throughput::run(args),
        Bench::Alloc(args) => alloc::run(args),
        Bench::Fanout(args) => fanout::run(args),
        Bench::Chain(args) => chain::run(args),
        Bench::Align(args) => align::run(args),
        Bench::Recover(args) => recover::run(args),
    };
    // Whatever failed then, failed because of it.
    ensure!(!signals::interrupted(), "interrupted");
    let report = report?;
    if args.json {
        output::print_json(&report.to_json(&machine))?;
    } else {
        output::print(&report.to_text(&machine))?;
    }
    Ok(ExitCode::SUCCESS)
}
