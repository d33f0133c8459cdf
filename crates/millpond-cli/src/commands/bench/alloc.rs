//! `millpond bench alloc`: what it costs to take a buffer and give it back.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;

use super::bench_pond::BenchPond;
use super::options::{Seconds, parse_size};
use super::report::{Quantity, Report};

/// Cycles between two readings of the clock: their cost vanishes, a disturbance spoils few slices.
const CYCLES_PER_SLICE: u32 = 4096;

/// Options of `millpond bench alloc`.
#[derive(clap::Args, Serialize)]
#[command(after_help = "\
Examples:
  millpond bench alloc
  millpond bench alloc --slots 1048576 --json")]
pub struct Args {
    /// Bytes of a buffer
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_size)]
    #[serde(rename = "size_bytes")]
    size: usize,
    /// Buffers in the pool, and slots in the table
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    slots: u32,
    /// How long to measure
    #[arg(long, value_name = "S", default_value = "1")]
    seconds: Seconds,
}

/// Measures, in this process: taking and giving back is the work of one process.
///
/// # Errors
/// If there is not enough memory.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let pond = BenchPond::create("alloc", args.size, args.slots)?;
    let mut allocator = pond.allocator();
    let mut slice = || {
        let start = Instant::now();
        for _ in 0..CYCLES_PER_SLICE {
            drop(black_box(allocator.allocate(args.size)?));
        }
        anyhow::Ok(start.elapsed().as_nanos() as f64 / f64::from(CYCLES_PER_SLICE))
    };
    let warm_up_end = Instant::now() + args.seconds.warm_up();
    while Instant::now() < warm_up_end {
        slice()?;
    }
    let mut slices = Vec::new();
    let end = Instant::now() + args.seconds.measured();
    while slices.is_empty() || Instant::now() < end {
        slices.push(slice()?);
        pond.check_running()?;
    }
    slices.sort_unstable_by(f64::total_cmp);

    let method = format!(
        "Median of slices of {CYCLES_PER_SLICE} cycles in one process; the first {:.2} s are warm-up.",
        args.seconds.warm_up().as_secs_f64()
    );
    Ok(Report::new("alloc", args, None, method)?
        .figure("ns_per_cycle", Quantity::Nanoseconds(slices[slices.len() / 2]))
        .figure("slices", Quantity::Count(slices.len() as u64)))
}
