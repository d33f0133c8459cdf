//! Benchmarks iceoryx2 between processes, for the comparison with Millpond.
//!
//! Every measurement runs in child processes of this program, each pinned to a core if asked. The
//! parent only starts them, watches them and cleans up.

mod alloc;
mod arena;
mod cli;
mod latency;
mod message;
mod parent;
mod ports;
mod side;
mod stream;
mod stuck;
mod timing;

use std::process::ExitCode;

use clap::Parser;
use millpond_compare::signals::report_failure;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Side { task } => side::run(&task),
        Command::Measure(measurement) => match measurement.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report_failure("peer-iceoryx2", &error),
        },
    }
}
