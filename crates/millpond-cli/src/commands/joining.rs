//! How commands take part in a pond that runs: attach, join its message bus, say why nobody answered.

use std::process::ExitCode;
use std::time::Duration;

use millpond::bus::{Bus, BusError, Json};
use millpond_shm::{Pond, Role};

use crate::args::UsageError;

/// Nobody answered: absent, stopped, too slow, or gone before it could.
pub const EXIT_NO_ANSWER: u8 = 3;

/// How long a command waits for an answer unless told otherwise.
pub const DEFAULT_TIMEOUT: &str = "5s";

/// Joins the message bus of a pond.
///
/// # Errors
/// If there is no such pond, or it has no room for one more process.
pub fn join(pond: &str) -> anyhow::Result<Bus> {
    Ok(Bus::open(&Pond::attach(pond, Role::Tool)?)?)
}

/// A value as typed: JSON if it is any, else text.
pub fn value(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_owned()))
}

/// Calls, and hands the answer to `show`; a missing answer becomes its own exit code.
///
/// # Errors
/// A refusal, in the responder's words; a topic that is none counts as misuse.
pub fn call(
    bus: &Bus,
    topic: &str,
    argument: &Json,
    timeout: Duration,
    show: impl FnOnce(Json) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    match bus.call(topic, argument, timeout) {
        Ok(answer) => show(answer).map(|()| ExitCode::SUCCESS),
        Err(error @ BusError::InvalidTopic { .. }) => Err(UsageError(error.to_string()).into()),
        Err(
            error @ (BusError::Absent { .. }
            | BusError::Gone { .. }
            | BusError::Full { .. }
            | BusError::TimedOut { .. }
            | BusError::Stopped),
        ) => {
            eprintln!("millpond: {error}");
            Ok(ExitCode::from(EXIT_NO_ANSWER))
        }
        Err(error) => Err(error.into()),
    }
}
