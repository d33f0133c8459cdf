//! What a connection costs before anything is sent: time, descriptors and memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::message::{self, Role};
use super::parent::Parent;
use super::resources::{descriptors, memory};
use super::side::{connect, meet};
use crate::library::{Library, Message, Receiver, Sender, Shape};

/// Messages a connection holds.
const DEPTH: usize = 16;

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Words in a payload.
    pub(super) words: usize,
    /// How many connections.
    pub(super) count: usize,
    /// How long it may take.
    pub(super) time: Duration,
}

impl Plan {
    fn shape<L: Library>(&self) -> Shape {
        Shape::pair(self.words, DEPTH, L::WAIT)
    }
}

/// What one process saw.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    join_ms: f64,
    join_descriptors: usize,
    join_bytes: u64,
    open_ms: f64,
    descriptors: f64,
    bytes: f64,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Connections {
    count: usize,
    /// From the start of the two processes' joining until both had joined.
    join_ms: f64,
    /// What joining costs a process, the mean of both.
    join_descriptors: f64,
    join_bytes: f64,
    /// Time until all connections carried a message, divided by their number.
    per_connection_us: f64,
    /// Of both processes together.
    per_connection_descriptors: f64,
    per_connection_bytes: f64,
}

/// Measures in two child processes.
pub(super) fn measure<L: Library>(plan: Plan) -> Result<Connections> {
    let mut parent = Parent::<L>::new(plan.time, &plan.shape::<L>(), plan.count)?;
    parent.start(Role::Many(plan, true), None)?;
    parent.start(Role::Many(plan, false), None)?;
    let mut seen: Vec<Seen> = Vec::new();
    for result in parent.finish()? {
        seen.push(message::result(result)?);
    }
    let [sending, receiving] = seen.try_into().ok().context("a result is missing")?;
    Ok(Connections {
        count: plan.count,
        join_ms: sending.join_ms.max(receiving.join_ms),
        join_descriptors: (sending.join_descriptors + receiving.join_descriptors) as f64 / 2.0,
        join_bytes: (sending.join_bytes + receiving.join_bytes) as f64 / 2.0,
        per_connection_us: sending.open_ms.max(receiving.open_ms) * 1e3 / plan.count as f64,
        per_connection_descriptors: sending.descriptors + receiving.descriptors,
        per_connection_bytes: sending.bytes + receiving.bytes,
    })
}

/// One of the two processes: opens its ends, and sends or receives a message over each.
pub(super) fn open<L: Library>(place: &str, plan: Plan, sending: bool) -> Result<impl Serialize> {
    meet()?;
    let (descriptors_before, memory_before, start) = (descriptors()?, memory()?, Instant::now());
    let library = L::join(place)?;
    let join_ms = start.elapsed().as_secs_f64() * 1e3;
    let (descriptors_joined, memory_joined) = (descriptors()?, memory()?);
    meet()?;

    let shape = plan.shape::<L>();
    let start = Instant::now();
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for i in 0..plan.count {
        let topic = format!("connection{i}");
        if sending {
            senders.push(library.sender(&topic, &shape)?);
        } else {
            receivers.push(library.receiver(&topic, 0, &shape)?);
        }
    }
    connect::<L>(&mut senders, &mut receivers)?;
    for (sender, sequence) in senders.iter_mut().zip(0..) {
        sender.send(Message { sequence, fill: true })?;
    }
    for (receiver, sequence) in receivers.iter_mut().zip(0..) {
        let first = receiver.receive(|words| words.first().copied())?;
        ensure!(first == Some(sequence), "message {first:?} came over connection {sequence}");
    }
    let open_ms = start.elapsed().as_secs_f64() * 1e3;
    // Nobody measures before every message has arrived, or goes before the other has measured.
    meet()?;
    let count = plan.count as f64;
    let seen = Seen {
        join_ms,
        join_descriptors: descriptors_joined.saturating_sub(descriptors_before),
        join_bytes: memory_joined.saturating_sub(memory_before),
        open_ms,
        descriptors: descriptors()?.saturating_sub(descriptors_joined) as f64 / count,
        bytes: memory()?.saturating_sub(memory_joined) as f64 / count,
    };
    meet()?;
    Ok(seen)
}
