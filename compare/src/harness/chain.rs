//! A chain of processes: each forwards what it receives to the next.

use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::latency::Times;
use super::message::{self, Role};
use super::parent::Parent;
use super::side::connect;
use super::timing::{END, WARM_UP};
use crate::library::{Library, Message, Receiver, Sender, Shape};

/// Messages under way while the rate is measured.
const UNDER_WAY: u64 = 16;

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Words in a payload.
    pub(super) words: usize,
    /// Processes that forward.
    pub(super) stages: usize,
    /// Whether there are more processes than cores.
    pub(super) crowded: bool,
    /// How long to measure: half of it one message at a time, half of it many.
    pub(super) time: Duration,
}

impl Plan {
    fn shape<L: Library>(&self) -> Shape {
        let wait = if self.crowded { L::CROWDED } else { L::WAIT };
        Shape::pair(self.words, UNDER_WAY as usize, wait)
    }
}

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Chain {
    stages: usize,
    messages_per_s: f64,
    bytes_per_s: f64,
    through_p50_ns: f64,
    through_p99_ns: f64,
}

/// Measures in child processes: one at both ends of the chain, and one for each stage.
pub(super) fn measure<L: Library>(plan: Plan) -> Result<Chain> {
    let mut parent = Parent::<L>::new(plan.time, &plan.shape::<L>(), plan.stages + 1)?;
    parent.start(Role::Ends(plan), None)?;
    for index in 0..plan.stages {
        parent.start(Role::Stage(plan, index), None)?;
    }
    let ends = parent.finish()?.into_iter().next().context("the result is missing")?;
    message::result(ends)
}

fn topic(index: usize) -> String {
    format!("hop{index}")
}

/// Both ends: sends into the first hop and receives from the last.
pub(super) fn ends<L: Library>(place: &str, plan: Plan) -> Result<Chain> {
    let library = L::join(place)?;
    let shape = plan.shape::<L>();
    let mut sender = library.sender(&topic(0), &shape)?;
    let mut receiver = library.receiver(&topic(plan.stages), 0, &shape)?;
    connect::<L>(slice::from_mut(&mut sender), slice::from_mut(&mut receiver))?;

    let (mut sent, mut received) = (0, 0);
    let mut receive = |received: &mut u64| -> Result<()> {
        let first = receiver.receive(|words| words.first().copied())?.context("an empty message came")?;
        ensure!(first == *received, "message {first} came instead of {received}");
        *received += 1;
        Ok(())
    };
    let mut send = |sent: &mut u64| -> Result<()> {
        sender.send(Message { sequence: *sent, fill: false })?;
        *sent += 1;
        Ok(())
    };

    let warm = Instant::now() + WARM_UP;
    let mut times = Times::new()?;
    let mut before = Instant::now();
    while before < warm + plan.time / 2 {
        send(&mut sent)?;
        receive(&mut received)?;
        let now = Instant::now();
        if before >= warm {
            times.record(now - before);
        }
        before = now;
    }

    let start = Instant::now();
    let already = received;
    while start.elapsed() < plan.time / 2 {
        while sent - received < UNDER_WAY {
            send(&mut sent)?;
        }
        receive(&mut received)?;
    }
    let messages_per_s = (received - already) as f64 / start.elapsed().as_secs_f64();
    while received < sent {
        receive(&mut received)?;
    }
    sender.send(Message { sequence: END, fill: false })?;
    let last = receiver.receive(|words| words.first().copied())?;
    ensure!(last == Some(END), "message {last:?} came after the end");

    Ok(Chain {
        stages: plan.stages,
        messages_per_s,
        bytes_per_s: messages_per_s * shape.bytes() as f64,
        through_p50_ns: times.quantile_ns(0.5),
        through_p99_ns: times.quantile_ns(0.99),
    })
}

/// A stage: forwards until the end of the stream. Gives how many it forwarded.
pub(super) fn stage<L: Library>(place: &str, plan: Plan, index: usize) -> Result<u64> {
    let library = L::join(place)?;
    let shape = plan.shape::<L>();
    let mut receiver = library.receiver(&topic(index), 0, &shape)?;
    let mut sender = library.sender(&topic(index + 1), &shape)?;
    connect::<L>(slice::from_mut(&mut sender), slice::from_mut(&mut receiver))?;
    let mut forwarded = 0;
    while receiver.forward(&mut sender)? != END {
        forwarded += 1;
    }
    Ok(forwarded)
}
