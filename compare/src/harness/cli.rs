//! The command line: what can be measured, and how the result is printed.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{alloc, chain, connections, kill, latency, stream};
use crate::library::{Library, Wait};
use crate::seconds;

/// Benchmarks a library between real processes.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What this process is.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(flatten)]
    Measure(Measurement),
    /// One side of a measurement; started by the program itself.
    #[command(hide = true)]
    Side { task: String },
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub(super) enum Measurement {
    /// Two processes hand a message back and forth.
    Latency {
        #[command(flatten)]
        size: Size,
        /// How the receiving side waits.
        #[arg(long, value_parser = wait, default_value = "spin")]
        wait: Wait,
        /// Which settings to use: as everywhere here, or as in the library's own benchmark.
        #[arg(long, value_enum, default_value = "lossless")]
        style: Style,
        #[command(flatten)]
        pin: Pin,
        #[command(flatten)]
        common: Common,
    },
    /// One process streams to another, and nothing may be lost.
    Throughput {
        #[command(flatten)]
        size: Size,
        /// The producer writes the whole payload, and not only its first 8 bytes.
        #[arg(long)]
        fill: bool,
        /// The consumer reads the whole payload, and not only its first 8 bytes.
        #[arg(long)]
        touch: bool,
        #[command(flatten)]
        depth: Depth,
        #[command(flatten)]
        pin: Pin,
        #[command(flatten)]
        common: Common,
    },
    /// One process takes a sample and gives it back, unsent.
    Alloc {
        #[command(flatten)]
        size: Size,
        #[command(flatten)]
        common: Common,
    },
    /// One process streams to several, and nothing may be lost.
    Fanout {
        /// Processes that receive the stream.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=64))]
        consumers: u8,
        #[command(flatten)]
        size: Size,
        #[command(flatten)]
        depth: Depth,
        #[command(flatten)]
        pin: Pin,
        #[command(flatten)]
        common: Common,
    },
    /// Forwards through several processes.
    Chain {
        /// Processes that forward.
        #[arg(long, default_value = "5", value_parser = clap::value_parser!(u8).range(1..=64))]
        stages: u8,
        #[command(flatten)]
        size: Size,
        #[command(flatten)]
        common: Common,
    },
    /// Opens many connections between two processes: what one of them costs.
    Connections {
        /// How many.
        #[arg(long, default_value = "64", value_parser = clap::value_parser!(u16).range(1..=1000))]
        count: u16,
        #[command(flatten)]
        size: Size,
        #[command(flatten)]
        common: Common,
    },
    /// Kills the only receiver of a lossless sender and sees how long that blocks.
    Stuck {
        /// Lets a third process clean up after dead ones all the while.
        #[arg(long)]
        cleaner: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Kills one process and sees what becomes of the other.
    Kill {
        /// Which.
        #[arg(long, value_enum)]
        victim: kill::Victim,
        /// How many receivers of a stream are killed.
        #[arg(long, default_value = "10", value_parser = clap::value_parser!(u16).range(1..=1000))]
        kills: u16,
        #[command(flatten)]
        size: Size,
        #[command(flatten)]
        common: Common,
    },
}

/// Which settings to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Style {
    /// A full buffer holds the sender up, and a buffer is taken when it is needed.
    Lossless,
    /// As in the library's own latency benchmark.
    Upstream,
}

fn wait(text: &str) -> Result<Wait, String> {
    match text {
        "spin" => Ok(Wait::Spin),
        "block" => Ok(Wait::Block),
        _ => Err(format!("`{text}` is neither `spin` nor `block`")),
    }
}

/// `--size`
#[derive(Debug, Args)]
pub(super) struct Size {
    /// Bytes in a payload: a multiple of 8.
    #[arg(long = "size", value_name = "BYTES", default_value = "64", value_parser = words)]
    words: usize,
}

/// `--depth`
#[derive(Debug, Args)]
pub(super) struct Depth {
    /// Messages a subscriber's buffer holds.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    depth: u32,
}

/// `--pin`
#[derive(Debug, Args)]
pub(super) struct Pin {
    /// Cores to stay on: the first for the sending process, the others for the receiving ones.
    #[arg(long = "pin", value_name = "CORE,CORE", value_delimiter = ',')]
    cores: Vec<usize>,
}

/// What every measurement takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// How long to measure, in seconds.
    #[arg(long = "seconds", default_value = "2", value_parser = seconds::parse)]
    time: Duration,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Measurement {
    /// Measures and prints.
    pub(super) fn run<L: Library>(self) -> Result<()> {
        let cores = std::thread::available_parallelism()?.get();
        match self {
            Self::Latency { size, wait, style, pin, common } => {
                let upstream = style == Style::Upstream;
                let plan = latency::Plan { words: size.words, wait, upstream, time: common.time };
                let cores = pin.for_sides(2)?;
                common.print::<L>("latency", latency::measure::<L>(plan, [cores[0], cores[1]])?)
            }
            Self::Throughput { size, fill, touch, depth, pin, common } => {
                let plan = stream::Plan {
                    words: size.words,
                    depth: depth.depth as usize,
                    consumers: 1,
                    fill,
                    touch,
                    crowded: false,
                    time: common.time,
                };
                common.print::<L>("throughput", stream::measure::<L>(plan, &pin.for_sides(2)?)?)
            }
            Self::Alloc { size, common } => {
                let plan = alloc::Plan { words: size.words, time: common.time };
                common.print::<L>("alloc", alloc::measure::<L>(plan)?)
            }
            Self::Fanout { consumers, size, depth, pin, common } => {
                let consumers = usize::from(consumers);
                let plan = stream::Plan {
                    words: size.words,
                    depth: depth.depth as usize,
                    consumers,
                    fill: false,
                    touch: false,
                    crowded: consumers + 1 > cores,
                    time: common.time,
                };
                common.print::<L>("fanout", stream::measure::<L>(plan, &pin.for_sides(consumers + 1)?)?)
            }
            Self::Chain { stages, size, common } => {
                let stages = usize::from(stages);
                let crowded = stages + 1 > cores;
                let plan = chain::Plan { words: size.words, stages, crowded, time: common.time };
                common.print::<L>("chain", chain::measure::<L>(plan)?)
            }
            Self::Connections { count, size, common } => {
                let plan = connections::Plan { words: size.words, count: count.into(), time: common.time };
                common.print::<L>("connections", connections::measure::<L>(plan)?)
            }
            Self::Stuck { cleaner, common } => {
                let plan = kill::Plan { words: 8, time: common.time, kills: 1, cleaner };
                common.print::<L>("stuck", kill::receiver::<L>(plan)?)
            }
            Self::Kill { victim, kills, size, common } => {
                let plan =
                    kill::Plan { words: size.words, time: common.time, kills: kills.into(), cleaner: false };
                match victim {
                    kill::Victim::Receiver => common.print::<L>("kill-receiver", kill::receiver::<L>(plan)?),
                    kill::Victim::Sender => common.print::<L>("kill-sender", kill::sender::<L>(plan)?),
                    kill::Victim::Midway => common.print::<L>("kill-midway", kill::midway::<L>(plan)?),
                }
            }
        }
    }
}

impl Pin {
    /// The core of each side, in order. With fewer cores than sides the receiving sides share theirs.
    fn for_sides(&self, sides: usize) -> Result<Vec<Option<usize>>> {
        match self.cores.as_slice() {
            [] => Ok(vec![None; sides]),
            [_] => bail!("--pin needs a core for each direction, like 0,1"),
            [first, others @ ..] => {
                let others = others.iter().cycle();
                Ok(std::iter::once(first).chain(others).copied().map(Some).take(sides).collect())
            }
        }
    }
}

impl Common {
    fn print<L: Library>(&self, name: &str, result: impl Serialize) -> Result<()> {
        let mut fields = Map::new();
        fields.insert("bench".into(), name.into());
        fields.insert("library".into(), L::NAME.into());
        fields.insert("version".into(), L::version().into());
        fields.insert("copies".into(), L::COPIES.into());
        match serde_json::to_value(result)? {
            Value::Object(measured) => fields.extend(measured),
            other => bail!("the result is no object: {other}"),
        }
        if self.json {
            println!("{}", Value::Object(fields));
        } else {
            for (name, value) in &fields {
                match value {
                    Value::String(text) => println!("{name:16} {text}"),
                    other => println!("{name:16} {other}"),
                }
            }
        }
        Ok(())
    }
}

/// Reads `--size`, in bytes, as a number of words.
fn words(text: &str) -> Result<usize, String> {
    const LARGEST: usize = 64 << 20;
    let bytes: usize = text.parse().map_err(|_| format!("`{text}` is not a number of bytes"))?;
    if bytes == 0 || bytes > LARGEST || !bytes.is_multiple_of(size_of::<u64>()) {
        return Err(format!("`{text}` is not a multiple of 8 from 8 to {LARGEST}"));
    }
    Ok(bytes / size_of::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_whole_words() {
        assert_eq!(words("64"), Ok(8));
        for text in ["0", "12", "-8", "many", "99999999999"] {
            assert!(words(text).is_err(), "`{text}` was accepted");
        }
    }

    #[test]
    fn receiving_sides_share_the_cores_after_the_first() {
        let pin = Pin { cores: vec![0, 1, 2] };
        let cores = pin.for_sides(5).expect("two cores or more are enough");
        assert_eq!(cores, [Some(0), Some(1), Some(2), Some(1), Some(2)]);
        assert!(Pin { cores: vec![0] }.for_sides(2).is_err());
    }
}
