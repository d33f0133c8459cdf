//! What the parent process and its children say to each other: one JSON line per message.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::arena::ArenaName;
use crate::{alloc, latency, stream, stuck};

/// What a child is to do. Passed to it as its only argument.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The process that gives the task. The child must not outlive it.
    pub parent: u32,
    /// Where the run's files are.
    pub arena: ArenaName,
    /// The core to stay on, if any.
    pub core: Option<usize>,
    /// The part to play.
    pub role: Role,
}

/// The parts a child can play.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Role {
    /// Starts each round trip and measures it.
    Ping(latency::Plan),
    /// Answers each round trip.
    Pong(latency::Plan),
    /// Sends a stream.
    Produce(stream::Plan),
    /// Receives a stream and measures it.
    Consume(stream::Plan),
    /// Takes and gives back samples.
    Loan(alloc::Plan),
    /// Sends until it is stuck.
    StuckPublisher(stuck::Plan),
    /// Takes samples, keeps them, and waits to be killed.
    StuckSubscriber(stuck::Plan),
    /// Cleans up after dead processes, over and over.
    Cleaner,
}

/// What a child says on its standard output.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Said {
    /// It waits until every child says so.
    Ready,
    /// It reached a point the parent waits for.
    Note(stuck::Point),
    /// It finished; this is its result.
    Done(Value),
    /// It gave up.
    Failed(String),
}

/// What the parent answers, on a child's standard input, once all are ready.
pub const GO: &str = "go";

/// Reads a child's result.
///
/// # Errors
///
/// Fails when the value is not the result expected of that child.
pub fn result<T: DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    Ok(serde_json::from_value(value)?)
}
