//! `millpond worker`: runs several blocks in this process, as `millpond run` starts it.

use std::process::ExitCode;

use millpond::BlockProcess;

use super::block;
use crate::args::UsageError;

/// Options of `millpond worker`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// As supervisors write them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs the blocks to their ends.
///
/// # Errors
/// As [`block::run`].
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    block::run_process(&BlockProcess::of_worker(&args.arguments).map_err(UsageError)?)
}
