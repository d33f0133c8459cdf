//! `millpond set`: changes a parameter of a block that runs.

use std::process::ExitCode;
use std::time::Duration;

use millpond::bus::json;
use millpond::parse_duration;

use super::joining;
use crate::output;

/// Options of `millpond set`.
#[derive(clap::Args)]
#[command(after_help = "\
The block sees the new value at its next piece of work. A restarted block goes on
with it, for as long as the pond lives; the pipeline file is not changed.
`millpond get POND BLOCK` lists what can be set, with the ranges.

Examples:
  millpond set studio gain k 2.5
  millpond set studio gain k -- -0.5

Exit codes:
  0  it is set
  1  refused: out of range, no such parameter, fixed; or no such pond
  2  the arguments are wrong
  3  nobody answered: no such block runs, or it is stopped")]
pub struct Args {
    /// The pond
    pond: String,
    /// The block
    block: String,
    /// The parameter
    param: String,
    /// Its new value, as in a pipeline file; lists are separated by commas
    value: String,
    /// How long to wait for the block
    #[arg(long, default_value = joining::DEFAULT_TIMEOUT, value_parser = parse_duration)]
    timeout: Duration,
    /// Print the parameter as one JSON object
    #[arg(long)]
    json: bool,
}

/// Sets.
///
/// # Errors
/// What the value is refused for.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { pond, block, param, value, timeout, json } = args;
    let bus = joining::join(&pond)?;
    let argument = json!({ "param": param, "value": value });
    joining::call(&bus, &format!("{block}/set"), &argument, timeout, |answer| {
        if json {
            return output::print_json(&answer);
        }
        let value = answer["value"].as_str().unwrap_or_default();
        Ok(output::print(&format!("{block}.{param} = {value}\n"))?)
    })
}
