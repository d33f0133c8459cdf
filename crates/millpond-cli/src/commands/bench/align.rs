//! `millpond bench align`: sets of stamped buffers that several processes send.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use millpond::align::{Aligner, Config, Exact, Poll, PortConfig, Pushed};
use millpond_shm::{Buffer, Input, InputConfig, OutputConfig, Pond, ReceiveError, Role, Timestamp, Wait};
use serde::{Deserialize, Serialize};

use super::bench_pond::BenchPond;
use super::options::Seconds;
use super::peer::{self, Peer, Task};
use super::report::{Quantity, Report};

const SIZE_BYTES: usize = 64;
/// Buffers handed over in one go.
const BATCH: usize = 128;
/// From one stamp of a stream to the next; those of the next stream are 100 ns later.
const PERIOD_NS: i64 = 1000;
const OFFSET_NS: i64 = 100;

/// Options of `millpond bench align`.
#[derive(clap::Args, Serialize)]
#[command(after_help = "\
The streams have the same rate and stamps that differ by 100 ns; sets are made by
the policy `exact` with a tolerance. The sets hold the buffers themselves. Every
set is checked: none may be missing or mixed.

Examples:
  millpond bench align
  millpond bench align --sources 2 --json")]
pub struct Args {
    /// Sending processes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=8))]
    sources: u32,
    /// Buffers a queue holds
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    depth: u32,
    /// How long to measure
    #[arg(long, value_name = "S", default_value = "2")]
    seconds: Seconds,
}

/// Measures.
///
/// # Errors
/// If a process fails, or a set is not what it has to be.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    // What the queues, the aligner and both sides' batches can hold at once, twice: senders then never wait for a block.
    let blocks = 2 * args.sources * (2 * args.depth + 2 * BATCH as u32);
    let pond = BenchPond::create("align", SIZE_BYTES, blocks)?;
    let mut ports = Vec::new();
    for source in 0..args.sources {
        let name = format!("merger.in{source}");
        pond.connect_lossless(&format!("source{source}.out"), &name, args.depth)?;
        let input = pond.input(&name, &InputConfig { wait: Wait::Adaptive, ..InputConfig::default() })?;
        ports.push(Port { input, taken: Vec::new(), waiting: VecDeque::new(), has_ended: false });
    }
    let (warm_up, measured) = (args.seconds.warm_up(), args.seconds.measured());
    let mut sources = Vec::new();
    for source in 0..args.sources {
        let task = Source { pond: pond.name().to_owned(), source, duration: warm_up + measured };
        sources.push(Peer::start("sending process", Task::Stamp(task))?);
    }

    let port = PortConfig { depth: args.depth as usize, ..PortConfig::default() };
    let tolerance_ns = OFFSET_NS as u64 * u64::from(args.sources);
    let mut aligner = Aligner::new(Exact::new(tolerance_ns), Config::of(ports.len(), port));
    let (mut sets, mut first, mut measured_from) = (0, None, None);
    let mut is_done = false;
    while !is_done {
        for (index, port) in ports.iter_mut().enumerate() {
            port.take()?;
            while let Some(buffer) = port.waiting.pop_front() {
                if let Pushed::Full(buffer) = aligner.push(index, stamp_ns(&buffer)?, buffer) {
                    port.waiting.push_front(buffer);
                    break;
                }
            }
            if port.has_ended && port.waiting.is_empty() {
                aligner.end(index);
            }
        }
        let before = sets;
        is_done = loop {
            match aligner.poll() {
                Poll::Set(set) => {
                    for (port, stamp_ns) in (0..).zip(set.stamps_ns()) {
                        let expected_ns = sets as i64 * PERIOD_NS + port * OFFSET_NS;
                        ensure!(
                            stamp_ns == expected_ns,
                            "set {sets} has the stamp {stamp_ns} on port {port}, not {expected_ns}"
                        );
                    }
                    sets += 1;
                }
                Poll::Waiting => break false,
                Poll::Done => break true,
            }
        };
        if sets == before && !is_done {
            // A set needs one of each: it is right to wait for any that has nothing.
            pond.check_running()?;
            if let Some(port) = ports.iter_mut().find(|port| port.waiting.is_empty() && !port.has_ended) {
                port.wait()?;
            }
        } else if measured_from.is_none() {
            let now = Instant::now();
            if now.duration_since(*first.get_or_insert(now)) >= warm_up {
                measured_from = Some((now, sets));
            }
        }
    }
    let end = Instant::now();
    let (start, before) = measured_from.unwrap_or((end, sets));
    ensure!(sets > before, "the streams were over before the warm-up: measure for longer");
    for (source, mut port) in sources.into_iter().zip(ports) {
        while !port.has_ended {
            port.waiting.clear();
            port.wait()?;
        }
        let mut source = source;
        let sent: u64 = source.listen()?;
        source.finish()?;
        ensure!(sent >= sets, "{sets} sets were made of {sent} buffers");
    }

    let sets_per_s = (sets - before) as f64 / end.duration_since(start).as_secs_f64();
    let method = format!(
        "Sets of {} buffers, each from a process of its own, made by `exact` in one thread and checked; {sets} in all. The \
         first {:.2} s are warm-up. Up to {BATCH} buffers are handed over in one go.",
        args.sources,
        warm_up.as_secs_f64()
    );
    Ok(Report::new("align", args, None, method)?
        .figure("sets_per_s", Quantity::PerSecond(sets_per_s))
        .figure("buffers_per_s", Quantity::PerSecond(sets_per_s * f64::from(args.sources)))
        .figure("sets", Quantity::Count(sets)))
}

/// A receiving end.
struct Port {
    input: Input,
    taken: Vec<Buffer>,
    /// Taken, but the aligner had no room.
    waiting: VecDeque<Buffer>,
    has_ended: bool,
}

impl Port {
    /// Takes what is there, if nothing is waiting.
    fn take(&mut self) -> anyhow::Result<()> {
        if !self.waiting.is_empty() || self.has_ended {
            return Ok(());
        }
        match self.input.receive_batch(BATCH, &mut self.taken) {
            Ok(_) => self.waiting.extend(self.taken.drain(..)),
            Err(ReceiveError::EndOfStream) => self.has_ended = true,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Waits for one buffer, or the end.
    fn wait(&mut self) -> anyhow::Result<()> {
        match self.input.receive() {
            Ok(buffer) => self.waiting.push_back(buffer),
            Err(ReceiveError::EndOfStream) => self.has_ended = true,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn stamp_ns(buffer: &Buffer) -> anyhow::Result<i64> {
    match buffer.timestamp() {
        Timestamp::Relative(ns) => Ok(ns),
        stamp => bail!("a buffer with the stamp {stamp} arrived"),
    }
}

/// A sending process.
#[derive(Serialize, Deserialize)]
pub struct Source {
    pond: String,
    source: u32,
    duration: Duration,
}

impl Source {
    /// Sends stamped buffers for a while, ends the stream and tells how many they were.
    ///
    /// # Errors
    /// If the receiver dies, or the pond fails.
    pub fn run(self) -> anyhow::Result<()> {
        let pond = Pond::attach(&self.pond, Role::Block)?;
        let config = OutputConfig { wait: Wait::Adaptive, ..OutputConfig::default() };
        let mut output = pond.output(&format!("source{}.out", self.source), &config)?;
        let end = Instant::now() + self.duration;
        let mut sent = 0u64;
        let mut batch = VecDeque::with_capacity(BATCH);
        while Instant::now() < end {
            for _ in 0..BATCH {
                let mut buffer = output.allocate(SIZE_BYTES)?;
                let stamp_ns = sent as i64 * PERIOD_NS + i64::from(self.source) * OFFSET_NS;
                buffer.set_timestamp(Timestamp::Relative(stamp_ns));
                batch.push_back(buffer.freeze());
                sent += 1;
            }
            while !batch.is_empty() {
                if output.send_batch(&mut batch)? == 0
                    && let Some(first) = batch.pop_front()
                {
                    output.send(first).map_err(|refused| refused.reason)?;
                }
            }
        }
        output.finish();
        peer::tell(&sent)
    }
}
