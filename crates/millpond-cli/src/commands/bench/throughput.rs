//! `millpond bench throughput`: a lossless stream from one process to another.

use std::time::{Duration, Instant};

use anyhow::ensure;
use millpond_shm::{InputConfig, OutputConfig, Pond, Role};
use serde::{Deserialize, Serialize};

use super::bench_pond::BenchPond;
use super::options::{Pin, Seconds, WaitMode, parse_size, pin_to};
use super::peer::{self, Partner, Peer, Task};
use super::report::{Quantity, Report};
use super::stream::{Received, Stream};
use crate::args::UsageError;

/// Options of `millpond bench throughput`.
#[derive(clap::Args, Serialize)]
#[command(after_help = "\
Each message begins with its sequence number, which the receiver checks: one that
is lost, doubled or out of order is a failure.

Examples:
  millpond bench throughput --pin 0,1
  millpond bench throughput --size 1M --fill --touch --depth 8
  millpond bench throughput --size 64K --fill --touch --json")]
pub struct Args {
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_size)]
    #[serde(rename = "size_bytes")]
    size: usize,
    /// The sender writes every word of a message, not only the first
    #[arg(long)]
    fill: bool,
    /// The receiver reads every word of a message and checks their sum
    #[arg(long)]
    touch: bool,
    /// Messages the queue holds
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=524_288))]
    depth: u32,
    /// How a side waits for the other
    #[arg(long, value_enum, default_value_t = WaitMode::Adaptive)]
    wait: WaitMode,
    /// Cores of the sending and of the receiving process
    #[arg(long, value_name = "A,B")]
    #[serde(skip)]
    pin: Option<Pin>,
    /// Both sides are threads of one process
    #[arg(long)]
    threads: bool,
    /// How long to measure
    #[arg(long, value_name = "S", default_value = "2")]
    seconds: Seconds,
}

/// Measures.
///
/// # Errors
/// If a process fails, or the stream arrives with a gap.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    if (args.fill || args.touch) && !args.size.is_multiple_of(8) {
        return Err(
            UsageError("--fill and --touch need a --size that is a multiple of 8 bytes".to_owned()).into()
        );
    }
    args.pin.map_or(Ok(()), Pin::check)?;
    let stream = Stream { size_bytes: args.size, depth: args.depth, fill: args.fill, touch: args.touch };
    let pond = BenchPond::create("throughput", args.size, stream.blocks(1))?;
    pond.connect_lossless("source.out", "sink.in", args.depth)?;
    pin_to(args.pin.map(|pin| pin.1))?;
    let config = InputConfig { wait: args.wait.into(), ..InputConfig::default() };
    let mut input = pond.input("sink.in", &config)?;
    let (warm_up, measured) = (args.seconds.warm_up(), args.seconds.measured());
    let task = Producer {
        pond: pond.name().to_owned(),
        stream,
        wait: args.wait,
        core: args.pin.map(|pin| pin.0),
        duration: warm_up + measured,
    };
    let producer: Partner<u64> = if args.threads {
        let pond = Pond::clone(&pond);
        Partner::Thread(std::thread::spawn(move || task.send(&pond)))
    } else {
        Partner::Process(Peer::start("sending process", Task::Produce(task))?)
    };

    // The clock is read until the warm-up is over, and then only once more, when the stream has ended.
    let mut first = None;
    let mut measured_from = None;
    let Received { messages: received, payload_span_bytes } = stream.receive(&mut input, |received| {
        if measured_from.is_none() {
            let now = Instant::now();
            if now.duration_since(*first.get_or_insert(now)) >= warm_up {
                measured_from = Some((now, received));
            }
        }
        pond.check_running()
    })?;
    let end = Instant::now();
    let sent = producer.finish()?;
    ensure!(sent == received, "{sent} messages were sent and {received} arrived");
    let (start, before) = measured_from.unwrap_or((end, received));
    ensure!(received > before, "the stream was over before the warm-up: measure for longer");

    let messages_per_s = (received - before) as f64 / end.duration_since(start).as_secs_f64();
    let method = format!(
        "Lossless and checked: {received} messages sent and received in order. The first {:.2} s are warm-up. \
         {} messages are handed over in one go where they are there.",
        warm_up.as_secs_f64(),
        stream.batch()
    );
    Ok(Report::new("throughput", args, args.pin, method)?
        .figure("messages_per_s", Quantity::PerSecond(messages_per_s))
        .figure("bytes_per_s", Quantity::BytesPerSecond(messages_per_s * args.size as f64))
        .figure("messages", Quantity::Count(received))
        .figure("payload_span_bytes", Quantity::Count(payload_span_bytes)))
}

/// The sending process.
#[derive(Serialize, Deserialize)]
pub struct Producer {
    pond: String,
    stream: Stream,
    wait: WaitMode,
    core: Option<usize>,
    duration: Duration,
}

impl Producer {
    /// Sends for a while, ends the stream and tells how many messages that were.
    ///
    /// # Errors
    /// If the receiver dies, or the pond fails.
    pub fn run(self) -> anyhow::Result<()> {
        let pond = Pond::attach(&self.pond, Role::Block)?;
        peer::tell(&self.send(&pond)?)
    }

    fn send(&self, pond: &Pond) -> anyhow::Result<u64> {
        pin_to(self.core)?;
        let config = OutputConfig { wait: self.wait.into(), ..OutputConfig::default() };
        let mut output = pond.output("source.out", &config)?;
        let end = Instant::now() + self.duration;
        self.stream.send(&mut output, |_| Instant::now() >= end)
    }
}
