//! Throughput: one process sends a lossless stream to one or several others.

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::arena::ArenaName;
use crate::message::{self, Role};
use crate::parent::Parent;
use crate::ports::{self, Shape};
use crate::timing::{BATCH, END, WARM_UP};

/// The topic of the stream.
const TOPIC: &str = "stream";

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Plan {
    /// Words in a payload.
    pub words: usize,
    /// Messages a consumer's buffer holds.
    pub depth: usize,
    /// Processes that receive the stream.
    pub consumers: usize,
    /// Whether the producer writes every word, and not only the first.
    pub fill: bool,
    /// Whether a consumer reads every word, and not only the first.
    pub touch: bool,
    /// Whether a consumer that finds nothing lets others run: needed when there are more processes
    /// than cores.
    pub polite: bool,
    /// How long to measure.
    pub time: Duration,
}

impl Plan {
    fn shape(&self) -> Shape {
        Shape { words: self.words, depth: self.depth, held: 1, subscribers: self.consumers, overflow: false }
    }
}

/// What one consumer measured.
#[derive(Debug, Serialize, Deserialize)]
struct Received {
    messages: u64,
    payload_span_bytes: usize,
    counted: u64,
    seconds: f64,
}

/// What was measured. Each message counts once, however many consumers it went to.
#[derive(Debug, Serialize)]
pub struct Throughput {
    messages_per_s: f64,
    bytes_per_s: f64,
    consumers: usize,
    messages: u64,
    lost: u64,
    /// From the first byte of the lowest to the last of the highest payload: how much memory they came from.
    payload_span_bytes: usize,
}

/// Measures in child processes: the producer on the first of `cores`, the consumers on the others.
pub fn measure(plan: Plan, cores: &[Option<usize>]) -> Result<Throughput> {
    let mut parent = Parent::new(plan.time)?;
    let mut cores = cores.iter().copied();
    parent.start(Role::Produce(plan), cores.next().flatten())?;
    for _ in 0..plan.consumers {
        parent.start(Role::Consume(plan), cores.next().flatten())?;
    }

    let mut results = parent.finish()?.into_iter();
    let sent: u64 = message::result(results.next().context("the producer's result is missing")?)?;
    // The slowest consumer decides: the producer waits for it.
    let mut messages_per_s = f64::INFINITY;
    let mut payload_span_bytes = 0;
    for result in results {
        let received: Received = message::result(result)?;
        ensure!(received.messages == sent, "{} of {sent} messages arrived", received.messages);
        ensure!(received.counted > 0, "nothing arrived in the measured time");
        payload_span_bytes = payload_span_bytes.max(received.payload_span_bytes);
        messages_per_s = messages_per_s.min(received.counted as f64 / received.seconds);
    }
    Ok(Throughput {
        messages_per_s,
        bytes_per_s: messages_per_s * (plan.words * size_of::<u64>()) as f64,
        consumers: plan.consumers,
        messages: sent,
        lost: 0,
        payload_span_bytes,
    })
}

/// The sending side. Gives the number of messages sent.
pub fn produce(arena: &ArenaName, plan: Plan) -> Result<u64> {
    let node = ports::node(arena)?;
    let publisher = ports::publisher(&ports::topic(&node, TOPIC, plan.shape())?, plan.shape())?;
    ports::connect(Some(&publisher), None)?;

    let end = Instant::now() + WARM_UP + plan.time;
    let mut sequence = 0;
    while Instant::now() < end {
        for _ in 0..BATCH {
            let sample = ports::loan(&publisher, plan.words)?;
            let message = if plan.fill {
                ports::filled(sample, sequence)
            } else {
                ports::with_first_word(sample, sequence)
            };
            let receivers = message.send()?;
            ensure!(receivers == plan.consumers, "message {sequence} went to {receivers} consumers");
            sequence += 1;
        }
    }
    let receivers = ports::with_first_word(ports::loan(&publisher, plan.words)?, END).send()?;
    ensure!(receivers == plan.consumers, "the end of the stream went to {receivers} consumers");
    Ok(sequence)
}

/// The receiving side: checks that nothing is missing, and measures once it is warm.
pub fn consume(arena: &ArenaName, plan: Plan) -> Result<impl Serialize> {
    let node = ports::node(arena)?;
    let subscriber = ports::subscriber(&ports::topic(&node, TOPIC, plan.shape())?)?;
    ports::connect(None, Some(&subscriber))?;

    let warm = Instant::now() + WARM_UP;
    let mut counting_since = None;
    let mut expected: u64 = 0;
    let (mut lowest, mut highest) = (usize::MAX, 0);
    loop {
        let Some(sample) = subscriber.receive()? else {
            if plan.polite {
                thread::yield_now()
            } else {
                hint::spin_loop()
            }
            continue;
        };
        let words = sample.payload();
        let first = words.first().copied().context("an empty message came")?;
        if first == END {
            break;
        }
        let address = words.as_ptr().addr();
        (lowest, highest) = (lowest.min(address), highest.max(address));
        ensure!(first == expected, "message {first} came instead of {expected}");
        if plan.touch {
            let sum = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word));
            if plan.fill {
                ensure!(sum == sum_of_run(first, words.len()), "message {first} came damaged");
            } else {
                hint::black_box(sum);
            }
        }
        drop(sample);
        expected += 1;
        if counting_since.is_none() && expected.is_multiple_of(BATCH) && Instant::now() >= warm {
            counting_since = Some((Instant::now(), expected));
        }
    }

    let (since, already) = counting_since.context("the stream ended before it was warm")?;
    let seconds = since.elapsed().as_secs_f64();
    let payload_span_bytes = (highest + plan.words * size_of::<u64>()).saturating_sub(lowest);
    Ok(Received { messages: expected, payload_span_bytes, counted: expected - already, seconds })
}

/// The wrapping sum of `length` words that count up from `first`.
fn sum_of_run(first: u64, length: usize) -> u64 {
    let length = length as u128;
    let sum = u128::from(first) * length + length * length.saturating_sub(1) / 2;
    // Only the low half is the wrapping sum.
    sum as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_run_is_that_of_its_words() {
        for (first, length) in [(0, 0), (0, 1), (7, 8), (7, 9), (u64::MAX - 3, 10)] {
            let sum = (0..length as u64).fold(0, |sum: u64, step| sum.wrapping_add(first.wrapping_add(step)));
            assert_eq!(sum_of_run(first, length), sum, "{length} words from {first}");
        }
    }
}
