//! Throughput: one process sends a lossless stream to one or several others.

use std::hint;
use std::slice;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::message::{self, Role};
use super::parent::Parent;
use super::side::{connect, meet};
use super::timing::{BATCH, END, WARM_UP};
use crate::library::{Library, Message, Receiver, Sender, Shape};

/// The topic of the stream.
const TOPIC: &str = "stream";
/// Messages handed over in one go hold about this much together, where the library can hand over several.
const BATCH_BYTES: usize = 8192;

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Words in a payload.
    pub(super) words: usize,
    /// Messages a consumer's buffer holds.
    pub(super) depth: usize,
    /// Processes that receive the stream.
    pub(super) consumers: usize,
    /// Whether the producer writes every word, and not only the first.
    pub(super) fill: bool,
    /// Whether a consumer reads every word, and not only the first.
    pub(super) touch: bool,
    /// Whether there are more processes than cores.
    pub(super) crowded: bool,
    /// How long to measure.
    pub(super) time: Duration,
}

impl Plan {
    fn shape<L: Library>(&self) -> Shape {
        let wait = if self.crowded { L::CROWDED } else { L::WAIT };
        Shape { receivers: self.consumers, ..Shape::pair(self.words, self.depth, wait) }
    }

    fn batch(&self) -> u64 {
        (BATCH_BYTES / (self.words * size_of::<u64>())).clamp(1, (self.depth / 2).max(1)) as u64
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
pub(super) struct Throughput {
    messages_per_s: f64,
    bytes_per_s: f64,
    consumers: usize,
    messages: u64,
    lost: u64,
    /// From the first byte of the lowest to the last of the highest payload: how much memory they came from.
    payload_span_bytes: usize,
}

/// Measures in child processes: the producer on the first of `cores`, the consumers on the others.
pub(super) fn measure<L: Library>(plan: Plan, cores: &[Option<usize>]) -> Result<Throughput> {
    let mut parent = Parent::<L>::new(plan.time, &plan.shape::<L>(), 1)?;
    let mut cores = cores.iter().copied();
    parent.start(Role::Produce(plan), cores.next().flatten())?;
    for index in 0..plan.consumers {
        parent.start(Role::Consume(plan, index), cores.next().flatten())?;
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
pub(super) fn produce<L: Library>(place: &str, plan: Plan) -> Result<u64> {
    let library = L::join(place)?;
    let mut sender = library.sender(TOPIC, &plan.shape::<L>())?;
    connect::<L>(slice::from_mut(&mut sender), &mut [])?;

    let batch = plan.batch();
    let end = Instant::now() + WARM_UP + plan.time;
    let mut sequence = 0;
    while Instant::now() < end {
        for _ in 0..BATCH / batch.min(BATCH) {
            sender.send_many(sequence, batch, plan.fill)?;
            sequence += batch;
        }
    }
    sender.send(Message { sequence: END, fill: false })?;
    // With some libraries a process takes what it has sent along when it ends: it waits for the receivers.
    meet()?;
    Ok(sequence)
}

/// The receiving side: checks that nothing is missing, and measures once it is warm.
pub(super) fn consume<L: Library>(place: &str, plan: Plan, index: usize) -> Result<impl Serialize> {
    let library = L::join(place)?;
    let mut receiver = library.receiver(TOPIC, index, &plan.shape::<L>())?;
    connect::<L>(&mut [], slice::from_mut(&mut receiver))?;

    let warm = Instant::now() + WARM_UP;
    let mut counting_since = None;
    let mut expected: u64 = 0;
    let mut ended = false;
    let (mut lowest, mut highest) = (usize::MAX, 0);
    let mut checked = 0;
    while !ended {
        receiver.receive_some(
            #[inline(always)]
            |words| {
                let first = words.first().copied().context("an empty message came")?;
                if first == END {
                    ended = true;
                    return Ok(());
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
                expected += 1;
                Ok(())
            },
        )?;
        if counting_since.is_none() && expected - checked >= BATCH {
            checked = expected;
            counting_since = (Instant::now() >= warm).then(|| (Instant::now(), expected));
        }
    }

    let (since, already) = counting_since.context("the stream ended before it was warm")?;
    let seconds = since.elapsed().as_secs_f64();
    meet()?;
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
