//! What the parent process and its children say to each other: one JSON line per message.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{alloc, chain, connections, kill, latency, stream};

/// What a child is to do. Passed to it as its only argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Task {
    /// The process that gives the task. The child must not outlive it.
    pub(super) parent: u32,
    /// Where the run meets, in the library's own words.
    pub(super) place: String,
    /// The core to stay on, if any.
    pub(super) core: Option<usize>,
    /// The part to play.
    pub(super) role: Role,
}

/// The parts a child can play.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Role {
    /// Starts each round trip and measures it.
    Ping(latency::Plan),
    /// Answers each round trip.
    Pong(latency::Plan),
    /// Sends a stream.
    Produce(stream::Plan),
    /// Receives a stream and measures it, as receiver of this number.
    Consume(stream::Plan, usize),
    /// Takes and gives back samples.
    Loan(alloc::Plan),
    /// Sends through a chain and receives what comes out of it.
    Ends(chain::Plan),
    /// Forwards, as stage of this number.
    Stage(chain::Plan, usize),
    /// Opens one end of many topics; the sending ones if so.
    Many(connections::Plan, bool),
    /// A part in the death of a process.
    Kill(kill::Plan, kill::Part),
    /// Cleans up after dead processes, over and over.
    Cleaner,
}

/// What a child says on its standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Said {
    /// It waits until every child says so.
    Ready,
    /// It reached a point the parent waits for.
    Note(kill::Point),
    /// It finished; this is its result.
    Done(Value),
    /// It gave up.
    Failed(String),
}

/// What the parent answers, on a child's standard input, once all are ready.
pub(super) const GO: &str = "go";

/// Reads a child's result.
///
/// # Errors
///
/// Fails when the value is not the result expected of that child.
pub(super) fn result<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    Ok(serde_json::from_value(value)?)
}
