//! `millpond subscribe`: shows what is published on a pond's message bus.

use std::process::ExitCode;
use std::time::Duration;

use millpond::bus::{BusError, json};

use super::joining;
use crate::args::UsageError;
use crate::output;

/// Longest sleep: a message or a stop wakes at once.
const LONG: Duration = Duration::from_secs(3600);

/// Options of `millpond subscribe`.
#[derive(clap::Args)]
#[command(after_help = "\
In a pattern, * stands for one segment and ** at the end for the rest. What a block
publishes has topics that begin with its name. Ends with the pond, or with Ctrl-C.

Examples:
  millpond subscribe studio                    everything
  millpond subscribe studio 'meter/*' --json | jq .value
  millpond subscribe studio meter/level --count 1

Exit codes:
  0  ended: Ctrl-C, --count reached, or the pond stopped
  1  no such pond
  2  the arguments are wrong")]
pub struct Args {
    /// The pond
    pond: String,
    /// Topics to show
    #[arg(default_value = "**")]
    pattern: String,
    /// End after so many messages
    #[arg(long, value_name = "MESSAGES")]
    count: Option<u64>,
    /// Print one JSON object a line: {\"topic\", \"value\", \"pid\"}
    #[arg(long)]
    json: bool,
}

/// Shows until told to end.
///
/// # Errors
/// If there is no such pond, or standard output cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bus = joining::join(&args.pond)?;
    let heard = bus.subscribe(&args.pattern).map_err(|error| match error {
        BusError::InvalidTopic { .. } => UsageError(error.to_string()).into(),
        error => anyhow::Error::from(error),
    })?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        match heard.next(LONG) {
            Ok(None) => {}
            Ok(Some(message)) => {
                let (topic, value, pid) = (message.topic, message.value, message.sender_pid);
                let line = match args.json {
                    true => json!({ "topic": topic, "value": value, "pid": pid }).to_string(),
                    false => format!("{topic}  {value}"),
                };
                if !output::print_while_read(&(line + "\n"))? {
                    break;
                }
                shown += 1;
            }
            Err(BusError::Stopped) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if heard.dropped() > 0 {
        eprintln!("millpond: {} messages were dropped: this terminal is too slow", heard.dropped());
    }
    Ok(ExitCode::SUCCESS)
}
