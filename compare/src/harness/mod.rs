//! Measures a [`Library`](crate::library::Library) between real processes. Every measurement runs in child processes, each
//! pinned to a core if asked; the parent only starts them, watches them and cleans up.

mod alloc;
mod chain;
mod cli;
mod connections;
mod kill;
mod latency;
mod message;
mod parent;
mod resources;
mod side;
mod stream;
mod timing;

use std::process::ExitCode;

use clap::Parser;

use crate::library::Library;
use crate::signals::report_failure;

/// The program that measures `L`.
#[must_use]
pub fn main<L: Library>() -> ExitCode {
    match cli::Cli::parse().command {
        cli::Command::Side { task } => side::run::<L>(&task),
        cli::Command::Measure(measurement) => match measurement.run::<L>() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => report_failure(&format!("peer-{}", L::NAME), &error),
        },
    }
}
