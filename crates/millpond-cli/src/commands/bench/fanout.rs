//! `millpond bench fanout`: one process sends, several receive everything.

use std::time::Instant;

use anyhow::ensure;
use millpond_shm::{InputConfig, OutputConfig, Pond, Role, Wait};
use serde::{Deserialize, Serialize};

use super::bench_pond::BenchPond;
use super::options::{Seconds, parse_size};
use super::peer::{self, Peer, Task};
use super::report::{Quantity, Report};
use super::stream::Stream;

/// Options of `millpond bench fanout`.
#[derive(clap::Args, Serialize)]
#[command(after_help = "\
Every consumer gets every message, and checks that; none is copied.

Examples:
  millpond bench fanout --consumers 4
  millpond bench fanout --consumers 3 --size 64K --json")]
pub struct Args {
    /// Processes that receive
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    consumers: u32,
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_size)]
    #[serde(rename = "size_bytes")]
    size: usize,
    /// Messages each queue holds
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=524_288))]
    depth: u32,
    /// How long to measure
    #[arg(long, value_name = "S", default_value = "2")]
    seconds: Seconds,
}

/// Measures.
///
/// # Errors
/// If a process fails, or a consumer misses a message.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let stream = Stream { size_bytes: args.size, depth: args.depth, fill: false, touch: false };
    let pond = BenchPond::create("fanout", args.size, stream.blocks(args.consumers))?;
    let mut consumers = Vec::new();
    for i in 0..args.consumers {
        let port = format!("sink{i}.in");
        pond.connect_lossless("source.out", &port, args.depth)?;
        let task = Consumer { pond: pond.name().to_owned(), port, stream };
        consumers.push(Peer::start("receiving process", Task::Consume(task))?);
    }
    for consumer in &mut consumers {
        let _ready: bool = consumer.listen()?;
    }

    let config = OutputConfig { wait: Wait::Adaptive, ..OutputConfig::default() };
    let mut output = pond.output("source.out", &config)?;
    let (warm_up, measured) = (args.seconds.warm_up(), args.seconds.measured());
    let first = Instant::now();
    let mut measured_from = None;
    let mut last = (first, 0);
    let sent = stream.send(&mut output, |sent| {
        let now = Instant::now();
        if measured_from.is_none() && now.duration_since(first) >= warm_up {
            measured_from = Some((now, sent));
        }
        last = (now, sent);
        now.duration_since(first) >= warm_up + measured || pond.stop_requested()
    })?;
    for mut consumer in consumers {
        let received: u64 = consumer.listen()?;
        consumer.finish()?;
        ensure!(sent == received, "{sent} messages were sent and a consumer received {received}");
    }

    let (start, before) = measured_from.unwrap_or((first, 0));
    let (end, after) = last;
    let messages_per_s = (after - before) as f64 / end.duration_since(start).as_secs_f64();
    let method = format!(
        "Messages sent in a second; each of the {} processes received and checked all {sent}. The first {:.2} s are \
         warm-up. Waiting is adaptive.",
        args.consumers,
        warm_up.as_secs_f64()
    );
    Ok(Report::new("fanout", args, None, method)?
        .figure("messages_per_s", Quantity::PerSecond(messages_per_s))
        .figure("deliveries_per_s", Quantity::PerSecond(messages_per_s * f64::from(args.consumers)))
        .figure("messages", Quantity::Count(sent)))
}

/// A receiving process.
#[derive(Serialize, Deserialize)]
pub struct Consumer {
    pond: String,
    port: String,
    stream: Stream,
}

impl Consumer {
    /// Says that it is ready, receives until the stream ends, and tells how many messages that were.
    ///
    /// # Errors
    /// If a message is missing, the sender dies, or the pond fails.
    pub fn run(self) -> anyhow::Result<()> {
        let pond = Pond::attach(&self.pond, Role::Block)?;
        let config = InputConfig { wait: Wait::Adaptive, ..InputConfig::default() };
        let mut input = pond.input(&self.port, &config)?;
        peer::tell(&true)?;
        let received = self.stream.receive(&mut input, |_| Ok(()))?;
        peer::tell(&received.messages)
    }
}
