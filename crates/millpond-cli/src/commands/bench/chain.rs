//! `millpond bench chain`: buffers forwarded from process to process without being copied.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::ensure;
use millpond_shm::{
    BufferId, ConnectionConfig, Input, InputConfig, Output, OutputConfig, Pond, ReceiveError, Role,
};
use serde::{Deserialize, Serialize};

use super::bench_pond::BenchPond;
use super::histogram::Histogram;
use super::options::{Seconds, WaitMode, parse_size};
use super::peer::{self, Peer, Task};
use super::report::{Quantity, Report};
use super::slice::Slice;
use super::stream::{sequence_of, set_sequence};

/// Messages under way at once when the rate is measured. No queue is shorter, so that this process, which is both ends
/// of the chain, never waits for itself.
const IN_FLIGHT: usize = 256;
/// The stages hold some in their hands; twice as many are always enough.
const BLOCKS: u32 = 2 * IN_FLIGHT as u32;

/// Options of `millpond bench chain`.
#[derive(clap::Args, Serialize)]
#[command(after_help = "\
This process sends through the chain and receives what comes out of it. A hop is
one hand-over between processes; a chain of N stages has N + 1. It is compared
with the hand-over between two processes in the same run.

Examples:
  millpond bench chain --stages 5
  millpond bench chain --stages 2 --size 1M --json")]
pub struct Args {
    /// Processes that forward
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    stages: u32,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_size)]
    #[serde(rename = "size_bytes")]
    size: usize,
    /// How every side waits [default: block with more processes than cores, else adaptive]
    #[arg(long, value_enum)]
    wait: Option<WaitMode>,
    /// How long to measure
    #[arg(long, value_name = "S", default_value = "2")]
    seconds: Seconds,
}

/// Measures.
///
/// # Errors
/// If a process fails, or a message is lost.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let pond = BenchPond::create("chain", args.size, BLOCKS)?;
    let cores = std::thread::available_parallelism()?.get();
    // Neither figure is to be taken with a side that spins where the other's cannot.
    let crowded = args.stages as usize + 1 > cores;
    let wait = args.wait.unwrap_or(if crowded { WaitMode::Block } else { WaitMode::Adaptive });
    let mut stages = Vec::new();
    let mut chain = Loop::start(&pond, "chain", args.stages, args.size, wait, &mut stages)?;
    let mut single = Loop::start(&pond, "single", 1, args.size, wait, &mut stages)?;

    let slice = (args.seconds.measured() / 16).min(Duration::from_millis(100));
    let (mut through, mut there_and_back) = (Histogram::new(), Histogram::new());
    let (mut through_rate, mut there_and_back_rate) = (Rate::default(), Rate::default());
    // Warm-up: one slice of each.
    chain.one_at_a_time(slice, &mut Histogram::new())?;
    single.one_at_a_time(slice, &mut Histogram::new())?;
    chain.many_at_a_time(slice, &mut Rate::default())?;
    single.many_at_a_time(slice, &mut Rate::default())?;
    let start = Instant::now();
    while start.elapsed() < args.seconds.measured() {
        pond.check_running()?;
        chain.one_at_a_time(slice, &mut through)?;
        single.one_at_a_time(slice, &mut there_and_back)?;
        chain.many_at_a_time(slice, &mut through_rate)?;
        single.many_at_a_time(slice, &mut there_and_back_rate)?;
    }
    let bytes_copied = chain.bytes_copied + single.bytes_copied;
    chain.finish();
    single.finish();
    for stage in stages {
        stage.finish()?;
    }

    let hops = f64::from(args.stages + 1);
    let one_way_p50 = through.quantile(0.5);
    let method = format!(
        "Each buffer that left is compared with the one that arrived: another one would count as copied. p50: one \
         message under way through {hops} hops. Rate and busy: {IN_FLIGHT} under way; busy is the time of the whole machine \
         for each hop. One hop: the same to one more process and back, halved. Slices of {} ms take turns, one of each \
         is warm-up. Waiting: {wait}.",
        slice.as_millis()
    );
    Ok(Report::new("chain", args, None, method)?
        .figure("messages_per_s", Quantity::PerSecond(through_rate.per_second()))
        .figure("bytes_copied", Quantity::Count(bytes_copied))
        .figure("one_way_p50_ns", Quantity::Nanoseconds(one_way_p50))
        .figure("per_hop_p50_ns", Quantity::Nanoseconds(one_way_p50 / hops))
        .figure("one_hop_p50_ns", Quantity::Nanoseconds(there_and_back.quantile(0.5) / 2.0))
        .figure("per_hop_busy_ns", Quantity::Nanoseconds(1e9 / through_rate.per_second() / hops))
        .figure("one_hop_busy_ns", Quantity::Nanoseconds(1e9 / there_and_back_rate.per_second() / 2.0)))
}

/// Messages that arrived in a time.
#[derive(Default)]
struct Rate {
    messages: u64,
    time: Duration,
}

impl Rate {
    fn per_second(&self) -> f64 {
        self.messages as f64 / self.time.as_secs_f64()
    }
}

/// A chain of stages that begins and ends in this process.
struct Loop {
    output: Output,
    input: Input,
    size_bytes: usize,
    sent: u64,
    under_way: VecDeque<BufferId>,
    bytes_copied: u64,
}

impl Loop {
    fn start(
        pond: &Pond,
        name: &str,
        length: u32,
        size_bytes: usize,
        wait: WaitMode,
        stages: &mut Vec<Peer>,
    ) -> anyhow::Result<Self> {
        let connection = ConnectionConfig { depth: Some(IN_FLIGHT as u32), ..ConnectionConfig::default() };
        let mut from = format!("{name}-source.out");
        let output = pond.output(&from, &OutputConfig { wait: wait.into(), ..OutputConfig::default() })?;
        for i in 0..length {
            let block = format!("{name}{i}");
            pond.connect(&from, &format!("{block}.in"), &connection)?;
            from = format!("{block}.out");
            let stage = Stage { pond: pond.name().to_owned(), block, wait };
            stages.push(Peer::start("stage", Task::Forward(stage))?);
        }
        let to = format!("{name}-sink.in");
        pond.connect(&from, &to, &connection)?;
        let input = pond.input(&to, &InputConfig { wait: wait.into(), ..InputConfig::default() })?;
        // The last stages started have not been waited for by the first ones of this loop.
        for stage in stages.iter_mut().rev().take(length as usize) {
            let _ready: bool = stage.listen()?;
        }
        Ok(Self { output, input, size_bytes, sent: 0, under_way: VecDeque::new(), bytes_copied: 0 })
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let mut buffer = self.output.allocate(self.size_bytes)?;
        set_sequence(&mut buffer, self.sent)?;
        self.sent += 1;
        self.under_way.push_back(buffer.id());
        self.output.send(buffer).map_err(|refused| refused.reason)?;
        Ok(())
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        let expected = self.sent - self.under_way.len() as u64;
        let buffer = self.input.receive()?;
        let sequence = sequence_of(&buffer)?;
        ensure!(sequence == expected, "message {sequence} arrived where {expected} was expected");
        if self.under_way.pop_front() != Some(buffer.id()) {
            self.bytes_copied += buffer.len() as u64;
        }
        Ok(())
    }

    /// One message under way; records the time from source to sink.
    fn one_at_a_time(&mut self, duration: Duration, times: &mut Histogram) -> anyhow::Result<()> {
        let mut slice = Slice::begin(duration);
        loop {
            self.send()?;
            self.receive()?;
            if !slice.lap(times) {
                return Ok(());
            }
        }
    }

    /// [`IN_FLIGHT`] messages under way; adds how many arrived, and in which time.
    fn many_at_a_time(&mut self, duration: Duration, rate: &mut Rate) -> anyhow::Result<()> {
        let (start, sent_before) = (Instant::now(), self.sent);
        while start.elapsed() < duration {
            while self.under_way.len() < IN_FLIGHT {
                self.send()?;
            }
            // As many as have arrived by now, one at least, before new ones are sent.
            self.receive()?;
            for _ in 0..self.input.queued() {
                self.receive()?;
            }
        }
        while !self.under_way.is_empty() {
            self.receive()?;
        }
        rate.messages += self.sent - sent_before;
        rate.time += start.elapsed();
        Ok(())
    }

    /// Ends the stream; the stages pass that on and end.
    fn finish(mut self) {
        self.output.finish();
    }
}

/// A forwarding process.
#[derive(Serialize, Deserialize)]
pub struct Stage {
    pond: String,
    block: String,
    wait: WaitMode,
}

impl Stage {
    /// Says that it is ready, and forwards until the stream ends.
    ///
    /// # Errors
    /// If a neighbour dies, or the pond fails.
    pub fn run(self) -> anyhow::Result<()> {
        let pond = Pond::attach(&self.pond, Role::Block)?;
        let mut input = pond.input(
            &format!("{}.in", self.block),
            &InputConfig { wait: self.wait.into(), ..InputConfig::default() },
        )?;
        let mut output = pond.output(
            &format!("{}.out", self.block),
            &OutputConfig { wait: self.wait.into(), ..OutputConfig::default() },
        )?;
        peer::tell(&true)?;
        let mut arrived = Vec::with_capacity(IN_FLIGHT);
        let mut to_forward = VecDeque::with_capacity(IN_FLIGHT);
        loop {
            match input.receive() {
                Ok(buffer) => arrived.push(buffer),
                Err(ReceiveError::EndOfStream) => {
                    output.finish();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
            input.receive_batch(IN_FLIGHT, &mut arrived).or_else(none_at_end_of_stream)?;
            to_forward.extend(arrived.drain(..));
            while !to_forward.is_empty() {
                if output.send_batch(&mut to_forward)? == 0
                    && let Some(first) = to_forward.pop_front()
                {
                    output.send(first).map_err(|refused| refused.reason)?;
                }
            }
        }
    }
}

/// The end of the stream is told again by the next call; what was taken before it comes first.
fn none_at_end_of_stream(error: ReceiveError) -> Result<usize, ReceiveError> {
    match error {
        ReceiveError::EndOfStream => Ok(0),
        error => Err(error),
    }
}
