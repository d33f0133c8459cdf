//! The command line: what can be measured, and how the result is printed.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use millpond_compare::seconds;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{alloc, latency, stream, stuck};

/// The version measured. Checked against `Cargo.lock` by a test.
const ICEORYX2: &str = "0.10.0";

/// Benchmarks iceoryx2 between real processes.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What this process is.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Measure(Measurement),
    /// One side of a measurement; started by the program itself.
    #[command(hide = true)]
    Side { task: String },
}

/// What can be measured.
#[derive(Debug, Subcommand)]
pub enum Measurement {
    /// Two processes hand a message back and forth.
    Latency {
        #[command(flatten)]
        size: Size,
        /// How the receiving side waits.
        #[arg(long, value_enum, default_value = "spin")]
        wait: latency::Wait,
        /// Which of iceoryx2's settings to use.
        #[arg(long, value_enum, default_value = "lossless")]
        style: latency::Style,
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
    /// Kills the only subscriber of a lossless publisher and sees how long that blocks.
    Stuck {
        /// Lets a third process clean up after dead ones all the while.
        #[arg(long)]
        cleaner: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// `--size`
#[derive(Debug, Args)]
pub struct Size {
    /// Bytes in a payload: a multiple of 8.
    #[arg(long = "size", value_name = "BYTES", default_value = "64", value_parser = words)]
    words: usize,
}

/// `--depth`
#[derive(Debug, Args)]
pub struct Depth {
    /// Messages a subscriber's buffer holds.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    depth: u32,
}

/// `--pin`
#[derive(Debug, Args)]
pub struct Pin {
    /// Cores to stay on: the first for the sending process, the others for the receiving ones.
    #[arg(long = "pin", value_name = "CORE,CORE", value_delimiter = ',')]
    cores: Vec<usize>,
}

/// What every measurement takes.
#[derive(Debug, Args)]
pub struct Common {
    /// How long to measure, in seconds.
    #[arg(long = "seconds", default_value = "2", value_parser = seconds::parse)]
    time: Duration,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Measurement {
    /// Measures and prints.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Latency { size, wait, style, pin, common } => {
                let plan = latency::Plan { words: size.words, wait, style, time: common.time };
                let cores = pin.for_sides(2)?;
                common.print("latency", latency::measure(plan, [cores[0], cores[1]])?)
            }
            Self::Throughput { size, fill, touch, depth, pin, common } => {
                let plan = stream::Plan {
                    words: size.words,
                    depth: depth.depth as usize,
                    consumers: 1,
                    fill,
                    touch,
                    polite: false,
                    time: common.time,
                };
                common.print("throughput", stream::measure(plan, &pin.for_sides(2)?)?)
            }
            Self::Alloc { size, common } => {
                let plan = alloc::Plan { words: size.words, time: common.time };
                common.print("alloc", alloc::measure(plan)?)
            }
            Self::Fanout { consumers, size, depth, pin, common } => {
                let consumers = usize::from(consumers);
                let cores = std::thread::available_parallelism()?.get();
                let plan = stream::Plan {
                    words: size.words,
                    depth: depth.depth as usize,
                    consumers,
                    fill: false,
                    touch: false,
                    polite: consumers + 1 > cores,
                    time: common.time,
                };
                common.print("fanout", stream::measure(plan, &pin.for_sides(consumers + 1)?)?)
            }
            Self::Stuck { cleaner, common } => {
                common.print("stuck", stuck::measure(stuck::Plan { time: common.time, cleaner })?)
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
    fn print(&self, name: &str, result: impl Serialize) -> Result<()> {
        let mut fields = Map::new();
        fields.insert("bench".into(), name.into());
        fields.insert("library".into(), "iceoryx2".into());
        fields.insert("version".into(), ICEORYX2.into());
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
    fn the_version_printed_is_the_version_built() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"iceoryx2\"\nversion = \"{ICEORYX2}\"")));
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
