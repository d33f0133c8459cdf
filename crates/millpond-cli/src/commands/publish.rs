//! `millpond publish`: publishes one message on a pond's message bus.

use std::process::ExitCode;

use millpond::bus::{BusError, json};

use super::joining;
use crate::args::UsageError;
use crate::output;

/// Options of `millpond publish`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  millpond publish studio lights/red true
  millpond publish studio operator/note 'door opened'

Exit codes:
  0  every subscriber got it, also when there are none
  1  some subscriber's mailbox was full, or no such pond
  2  the arguments are wrong")]
pub struct Args {
    /// The pond
    pond: String,
    /// The topic: segments joined by /
    topic: String,
    /// The message: JSON, or text as it is
    value: String,
    /// Print one JSON object: how many got it, and how many had no room
    #[arg(long)]
    json: bool,
}

/// Publishes.
///
/// # Errors
/// If the message cannot be sent, or there is no such pond.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bus = joining::join(&args.pond)?;
    let sent = bus.publish(&args.topic, &joining::value(&args.value)).map_err(|error| match error {
        BusError::InvalidTopic { .. } => UsageError(error.to_string()).into(),
        error => anyhow::Error::from(error),
    })?;
    if args.json {
        output::print_json(&json!({ "delivered": sent.delivered, "full": sent.full }))?;
    } else {
        output::print(&format!("delivered to {}\n", subscribers(sent.delivered)))?;
    }
    if sent.full > 0 {
        eprintln!("millpond: {} had no room for it", subscribers(sent.full));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn subscribers(count: u32) -> String {
    format!("{count} subscriber{}", if count == 1 { "" } else { "s" })
}
