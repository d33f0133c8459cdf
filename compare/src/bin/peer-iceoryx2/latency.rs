//! Latency: two processes hand a message back and forth.

use std::hint;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use serde::{Deserialize, Serialize};

use crate::arena::ArenaName;
use crate::message::{self, Role};
use crate::parent::Parent;
use crate::ports::{self, Ipc, Loan, Publisher, Shape, Subscriber};
use crate::timing::{END, WARM_UP};

/// Round trips are recorded up to this many nanoseconds; longer ones count as this long.
const LONGEST_ROUND_TRIP: u64 = 60_000_000_000;

/// How the receiving side waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Asks again and again.
    Spin,
    /// Sleeps until the sender rings an iceoryx2 event service.
    Block,
}

/// Which of iceoryx2's settings to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// As in the other measurements: a full buffer holds the sender up, and a sample is taken when
    /// it is needed.
    Lossless,
    /// As in iceoryx2's own latency benchmark: a full buffer loses its oldest message (which cannot
    /// happen here), and the next sample is taken while waiting for an answer.
    Upstream,
}

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Plan {
    /// Words in a payload.
    pub words: usize,
    /// How to wait.
    pub wait: Wait,
    /// Which settings to use.
    pub style: Style,
    /// How long to measure.
    pub time: Duration,
}

/// What was measured: half of each round trip.
#[derive(Debug, Serialize, Deserialize)]
pub struct Latency {
    one_way_p50_ns: f64,
    one_way_p99_ns: f64,
    one_way_mean_ns: f64,
    round_trips: u64,
}

/// Measures in two child processes on `cores`.
pub fn measure(plan: Plan, cores: [Option<usize>; 2]) -> Result<Latency> {
    let mut parent = Parent::new(plan.time)?;
    parent.start(Role::Ping(plan), cores[0])?;
    parent.start(Role::Pong(plan), cores[1])?;
    let ping = parent.finish()?.into_iter().next().context("the result is missing")?;
    message::result(ping)
}

/// The side that starts each round trip.
pub fn ping(arena: &ArenaName, plan: Plan) -> Result<Latency> {
    let mut line = Line::open(arena, plan, ["there", "back"])?;
    let mut sequence = 0;
    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        line.round_trip(sequence)?;
        sequence += 1;
    }

    let mut times = Histogram::<u64>::new_with_bounds(1, LONGEST_ROUND_TRIP, 3)?;
    let mut before = Instant::now();
    let end = before + plan.time;
    while before < end {
        line.round_trip(sequence)?;
        sequence += 1;
        // One look at the clock ends this round trip and begins the next.
        let now = Instant::now();
        times.saturating_record(u64::try_from((now - before).as_nanos())?);
        before = now;
    }
    line.send(END)?;

    Ok(Latency {
        one_way_p50_ns: times.value_at_quantile(0.50) as f64 / 2.0,
        one_way_p99_ns: times.value_at_quantile(0.99) as f64 / 2.0,
        one_way_mean_ns: times.mean() / 2.0,
        round_trips: times.len(),
    })
}

/// The side that answers each round trip. Gives how many it answered.
pub fn pong(arena: &ArenaName, plan: Plan) -> Result<u64> {
    let mut line = Line::open(arena, plan, ["back", "there"])?;
    let mut answered = 0;
    loop {
        let sequence = line.receive()?;
        if sequence == END {
            return Ok(answered);
        }
        ensure!(sequence == answered, "message {sequence} came instead of {answered}");
        line.send(sequence)?;
        answered += 1;
    }
}

/// One side's end of the two topics, and of the two bells when it sleeps.
struct Line {
    plan: Plan,
    publisher: Publisher,
    subscriber: Subscriber,
    bells: Option<(Notifier<Ipc>, Listener<Ipc>)>,
    /// The sample for the next message, if it is taken already.
    ahead: Option<Loan>,
}

impl Line {
    fn open(arena: &ArenaName, plan: Plan, [out, back]: [&str; 2]) -> Result<Self> {
        let overflow = plan.style == Style::Upstream;
        let shape = Shape { words: plan.words, depth: 1, held: 1, subscribers: 1, overflow };
        let node = ports::node(arena)?;
        let publisher = ports::publisher(&ports::topic(&node, out, shape)?, shape)?;
        let subscriber = ports::subscriber(&ports::topic(&node, back, shape)?)?;
        let bells = match plan.wait {
            Wait::Spin => None,
            Wait::Block => {
                let notifier = ports::notifier(&ports::bell(&node, out)?)?;
                Some((notifier, ports::listener(&ports::bell(&node, back)?)?))
            }
        };
        ports::connect(Some(&publisher), Some(&subscriber))?;
        Ok(Self { plan, publisher, subscriber, bells, ahead: None })
    }

    fn round_trip(&mut self, sequence: u64) -> Result<()> {
        self.send(sequence)?;
        let answer = self.receive()?;
        ensure!(answer == sequence, "message {answer} came back instead of {sequence}");
        Ok(())
    }

    fn send(&mut self, sequence: u64) -> Result<()> {
        let sample = match self.ahead.take() {
            Some(sample) => sample,
            None => ports::loan(&self.publisher, self.plan.words)?,
        };
        let receivers = ports::with_first_word(sample, sequence).send()?;
        ensure!(receivers == 1, "message {sequence} was not delivered");
        if let Some((notifier, _)) = &self.bells {
            notifier.notify().context("cannot ring the bell")?;
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<u64> {
        if self.plan.style == Style::Upstream {
            self.ahead = Some(ports::loan(&self.publisher, self.plan.words)?);
        }
        loop {
            if let Some((_, listener)) = &self.bells {
                listener.blocking_wait(|_| {}).context("cannot wait for the bell")?;
            }
            if let Some(sample) = self.subscriber.receive()? {
                return sample.payload().first().copied().context("an empty message came");
            }
            hint::spin_loop();
        }
    }
}
