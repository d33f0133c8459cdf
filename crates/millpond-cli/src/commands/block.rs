//! `millpond block`: runs one block in this process.

use std::process::ExitCode;

use millpond::{BlockJob, BlockProcess, Catalog, Error, Placement};

use crate::args::UsageError;

/// Options of `millpond block`.
#[derive(clap::Args)]
#[command(after_help = "\
The first Ctrl-C lets the block take what is queued and end its streams, the second stops it at once.

Example:
  millpond block gain louder --pond studio --param k=2.0

Exit codes:
  0  the block was done, or ended after Ctrl-C
  1  it failed, or there is no such pond
  2  the arguments are wrong")]
pub struct Args {
    /// Type of the block, such as gain
    #[arg(value_name = "TYPE")]
    block_type: String,
    /// Name of the block in the pond; its ports are NAME.PORT
    name: String,
    /// The pond to attach to
    #[arg(long)]
    pond: String,
    /// A parameter of the block; may be given several times
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = name_and_value)]
    params: Vec<(String, String)>,
    /// Set by the supervisor that starts this process, with whose death it ends
    #[arg(long, value_name = "PID", hide = true)]
    supervisor: Option<u32>,
    /// What happens when the supervisor dies: end, or go-on
    #[arg(long, value_name = "WHAT", hide = true, value_parser = ["end", "go-on"], default_value = "end")]
    if_orphaned: String,
    /// What a block that is done by itself does with its streams: end, or stay-open
    #[arg(long, value_name = "WHAT", hide = true, value_parser = ["end", "stay-open"], default_value = "end")]
    when_done: String,
}

/// Runs the block to its end.
///
/// # Errors
/// What is wrong with the type, the parameters or the pond, and why the block failed.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { block_type, name, pond, params, supervisor, if_orphaned, when_done } = args;
    let blocks = vec![BlockJob { block_type, name, params }];
    let process = BlockProcess {
        blocks,
        pond,
        supervisor,
        goes_on_alone: if_orphaned == "go-on",
        stays_open: when_done == "stay-open",
        obeys_stdin: false,
        placement: Placement::default(),
    };
    run_process(&process)
}

/// Runs a process's blocks to their ends.
///
/// # Errors
/// As [`run`].
pub fn run_process(process: &BlockProcess) -> anyhow::Result<ExitCode> {
    process.run(&Catalog::builtin()).map_err(|error| match error {
        Error::UnknownBlockType { .. }
        | Error::UnknownParameter { .. }
        | Error::MissingParameter { .. }
        | Error::BadParameter { .. } => UsageError(error.to_string()).into(),
        error => error.into(),
    })
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
