//! `millpond call`: asks a block, or whoever answers a topic, and prints the answer.

use std::process::ExitCode;
use std::time::Duration;

use millpond::bus::Json;
use millpond::parse_duration;

use super::joining;
use crate::output;

/// Options of `millpond call`.
#[derive(clap::Args)]
#[command(after_help = "\
A block answers the topics that begin with its name: BLOCK/NAME. The answer is
printed as JSON.

Examples:
  millpond call studio meter/reset
  millpond call studio recorder/mark '{\"label\": \"take 2\"}'

Exit codes:
  0  answered
  1  refused, in the words of whoever was asked; or no such pond
  2  the arguments are wrong
  3  nobody answered: absent, stopped, too slow, or gone before it could")]
pub struct Args {
    /// The pond
    pond: String,
    /// What is asked: BLOCK/NAME, or any other topic that somebody answers
    topic: String,
    /// The argument: JSON, or text as it is; null if left out
    value: Option<String>,
    /// How long to wait for the answer
    #[arg(long, default_value = joining::DEFAULT_TIMEOUT, value_parser = parse_duration)]
    timeout: Duration,
}

/// Calls.
///
/// # Errors
/// A refusal, or that there is no such pond.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bus = joining::join(&args.pond)?;
    let argument = args.value.as_deref().map_or(Json::Null, joining::value);
    joining::call(&bus, &args.topic, &argument, args.timeout, |answer| output::print_json(&answer))
}
