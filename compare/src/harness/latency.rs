//! Latency: two processes hand a message back and forth.

use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::message::{self, Role};
use super::parent::Parent;
use super::side::{connect, meet};
use super::timing::{END, WARM_UP};
use crate::library::{Library, Message, Receiver, Sender, Shape, Wait};

/// Times are recorded up to this many nanoseconds; longer ones count as this long.
const LONGEST: u64 = 60_000_000_000;

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Words in a payload.
    pub(super) words: usize,
    /// How to wait.
    pub(super) wait: Wait,
    /// Whether to use the settings of the library's own benchmark.
    pub(super) upstream: bool,
    /// How long to measure.
    pub(super) time: Duration,
}

impl Plan {
    fn shape(&self) -> Shape {
        Shape { upstream: self.upstream, ..Shape::pair(self.words, 1, self.wait) }
    }
}

/// What was measured: half of each round trip.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Latency {
    one_way_p50_ns: f64,
    one_way_p99_ns: f64,
    one_way_mean_ns: f64,
    round_trips: u64,
}

/// Times of something that happens again and again.
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, 3)?))
    }

    #[inline(always)]
    pub(super) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST));
    }

    pub(super) fn quantile_ns(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64
    }
}

/// Measures in two child processes on `cores`.
pub(super) fn measure<L: Library>(plan: Plan, cores: [Option<usize>; 2]) -> Result<Latency> {
    let mut parent = Parent::<L>::new(plan.time, &plan.shape(), 2)?;
    parent.start(Role::Ping(plan), cores[0])?;
    parent.start(Role::Pong(plan), cores[1])?;
    let ping = parent.finish()?.into_iter().next().context("the result is missing")?;
    message::result(ping)
}

/// The side that starts each round trip.
pub(super) fn ping<L: Library>(place: &str, plan: Plan) -> Result<Latency> {
    let library = L::join(place)?;
    let mut line = Line::<L>::open(&library, plan, ["there", "back"])?;
    let mut sequence = 0;
    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        line.round_trip(sequence)?;
        sequence += 1;
    }

    let mut times = Times::new()?;
    let mut before = Instant::now();
    let end = before + plan.time;
    while before < end {
        line.round_trip(sequence)?;
        sequence += 1;
        // One look at the clock ends this round trip and begins the next.
        let now = Instant::now();
        times.record(now - before);
        before = now;
    }
    line.send(END)?;
    // With some libraries a process takes what it has sent along when it ends: it waits for the other side.
    meet()?;

    Ok(Latency {
        one_way_p50_ns: times.quantile_ns(0.50) / 2.0,
        one_way_p99_ns: times.quantile_ns(0.99) / 2.0,
        one_way_mean_ns: times.0.mean() / 2.0,
        round_trips: times.0.len(),
    })
}

/// The side that answers each round trip. Gives how many it answered.
pub(super) fn pong<L: Library>(place: &str, plan: Plan) -> Result<u64> {
    let library = L::join(place)?;
    let mut line = Line::<L>::open(&library, plan, ["back", "there"])?;
    let mut answered = 0;
    loop {
        let sequence = line.receive()?;
        if sequence == END {
            meet()?;
            return Ok(answered);
        }
        ensure!(sequence == answered, "message {sequence} came instead of {answered}");
        line.send(sequence)?;
        answered += 1;
    }
}

/// One side's end of the two topics.
struct Line<L: Library> {
    upstream: bool,
    sender: L::Sender,
    receiver: L::Receiver,
}

impl<L: Library> Line<L> {
    fn open(library: &L, plan: Plan, [out, back]: [&str; 2]) -> Result<Self> {
        let shape = plan.shape();
        let mut sender = library.sender(out, &shape)?;
        let mut receiver = library.receiver(back, 0, &shape)?;
        connect::<L>(slice::from_mut(&mut sender), slice::from_mut(&mut receiver))?;
        Ok(Self { upstream: plan.upstream, sender, receiver })
    }

    #[inline(always)]
    fn round_trip(&mut self, sequence: u64) -> Result<()> {
        self.send(sequence)?;
        let answer = self.receive()?;
        ensure!(answer == sequence, "message {answer} came back instead of {sequence}");
        Ok(())
    }

    #[inline(always)]
    fn send(&mut self, sequence: u64) -> Result<()> {
        self.sender.send(Message { sequence, fill: false })
    }

    #[inline(always)]
    fn receive(&mut self) -> Result<u64> {
        if self.upstream {
            self.sender.prepare()?;
        }
        self.receiver.receive(|words| words.first().copied())?.context("an empty message came")
    }
}
