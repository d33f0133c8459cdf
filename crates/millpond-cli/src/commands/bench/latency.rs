//! `millpond bench latency`: ping-pong between two processes, beside the floor that the machine itself sets.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use millpond_shm::floor::SharedWords;
use millpond_shm::{Input, InputConfig, Output, OutputConfig, Pond, ReceiveError, Role};
use serde::{Deserialize, Serialize};

use super::bench_pond::BenchPond;
use super::floor::Floor;
use super::histogram::Histogram;
use super::options::{Pin, Seconds, WaitMode, parse_size, pin_to};
use super::peer::{self, Partner, Peer, Task};
use super::report::{Quantity, Report};
use super::slice::Slice;
use super::stream::{sequence_of, set_sequence};

/// One message each way is under way at most; the rest is room for handles that are let go a little later.
const BLOCKS: u32 = 64;
const DEPTH: u32 = 8;
/// The message that ends a slice instead of being answered.
const END_OF_SLICE: u64 = u64::MAX;

/// Options of `millpond bench latency`.
#[derive(clap::Args, Serialize)]
#[command(after_help = "\
Examples:
  millpond bench latency --pin 0,1
  millpond bench latency --wait block --pin 0,1 --json
  millpond bench latency --size 64K --seconds 10")]
pub struct Args {
    /// Bytes of a message
    #[arg(long, value_name = "BYTES", default_value = "64", value_parser = parse_size)]
    #[serde(rename = "size_bytes")]
    size: usize,
    /// How a side waits for the other
    #[arg(long, value_enum, default_value_t = WaitMode::Spin)]
    wait: WaitMode,
    /// Cores of the asking and of the answering process
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

impl Args {
    /// The floor below this way of waiting. On one core a side that spins only keeps the other from running.
    fn floor(&self) -> Floor {
        match (self.wait, self.pin) {
            (WaitMode::Block, _) => Floor::Futex,
            (WaitMode::Adaptive, Some(Pin(a, b))) if a == b => Floor::Futex,
            _ => Floor::CacheLine,
        }
    }

    /// Short, so that noise hits floor and pond alike, and long beside the switch from one to the other.
    fn slice(&self) -> Duration {
        (self.seconds.measured() / 8).min(Duration::from_millis(25))
    }
}

/// Measures.
///
/// # Errors
/// If a process fails, or a message is lost.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    args.pin.map_or(Ok(()), Pin::check)?;
    let pond = BenchPond::create("latency", args.size, BLOCKS)?;
    pond.connect_lossless("ask.out", "answer.in", DEPTH)?;
    pond.connect_lossless("answer.out", "ask.in", DEPTH)?;
    let words = SharedWords::create()?;
    let echo = Echo {
        pond: pond.name().to_owned(),
        size_bytes: args.size,
        wait: args.wait,
        core: args.pin.map(|pin| pin.1),
        floor: args.floor(),
        words: (std::process::id(), words.fd()),
    };
    let mut peer: Partner<()> = if args.threads {
        let pond = Pond::clone(&pond);
        Partner::Thread(std::thread::spawn(move || echo.answer(&pond)))
    } else {
        Partner::Process(Peer::start("answering process", Task::Echo(echo))?)
    };
    pin_to(args.pin.map(|pin| pin.0))?;
    let mut asking = Ends::open(&pond, "ask", args.size, args.wait)?;

    let (mut sequence, mut asked) = (0, 0);
    let mut slices = |pond_times: &mut Histogram, floor_times: &mut Histogram| {
        pond.check_running()?;
        asking.ask(&mut sequence, args.slice(), pond_times)?;
        args.floor().ask(&words, &mut asked, args.slice(), floor_times, || {
            pond.check_running()?;
            peer.check_alive()
        })
    };
    // Warm-up: one slice of each.
    slices(&mut Histogram::new(), &mut Histogram::new())?;
    let (mut pond_times, mut floor_times) = (Histogram::new(), Histogram::new());
    let start = Instant::now();
    while start.elapsed() < args.seconds.measured() {
        slices(&mut pond_times, &mut floor_times)?;
    }
    asking.output.finish();
    peer.finish()?;

    let one_way = |ns: f64| Quantity::Nanoseconds(ns / 2.0);
    let floor_name = match args.floor() {
        Floor::CacheLine => "a bare cache line",
        Floor::Futex => "a bare futex",
    };
    let method = format!(
        "One way is half a round trip. Slices of {} ms alternate with the floor, {floor_name} passed between the same \
         processes; one slice of each is warm-up, the first round trip of each slice is not counted. Both include one \
         reading of the clock a round trip.",
        args.slice().as_millis()
    );
    Ok(Report::new("latency", args, args.pin, method)?
        .figure("one_way_p50_ns", one_way(pond_times.quantile(0.5)))
        .figure("one_way_p99_ns", one_way(pond_times.quantile(0.99)))
        .figure("one_way_mean_ns", one_way(pond_times.mean()))
        .figure("floor_p50_ns", one_way(floor_times.quantile(0.5)))
        .figure("floor_p99_ns", one_way(floor_times.quantile(0.99)))
        .figure("floor_mean_ns", one_way(floor_times.mean()))
        .figure("round_trips", Quantity::Count(pond_times.count())))
}

/// The answering process.
#[derive(Serialize, Deserialize)]
pub struct Echo {
    pond: String,
    size_bytes: usize,
    wait: WaitMode,
    core: Option<usize>,
    floor: Floor,
    /// Process and descriptor in which the words of the floor are found.
    words: (u32, i32),
}

impl Echo {
    /// Answers until the asking side ends its stream.
    ///
    /// # Errors
    /// If the other side dies, or the pond fails.
    pub fn run(self) -> anyhow::Result<()> {
        let pond = Pond::attach(&self.pond, Role::Block)?;
        self.answer(&pond)?;
        peer::tell(&())
    }

    fn answer(&self, pond: &Pond) -> anyhow::Result<()> {
        pin_to(self.core)?;
        let words = SharedWords::open(self.words.0, self.words.1)?;
        let mut ends = Ends::open(pond, "answer", self.size_bytes, self.wait)?;
        let mut seen = 0;
        while ends.answer()? {
            self.floor.answer(&words, &mut seen, || {
                ensure!(!pond.stop_requested(), "stopped");
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Both ports of one side.
struct Ends {
    output: Output,
    input: Input,
    size_bytes: usize,
}

impl Ends {
    fn open(pond: &Pond, block: &str, size_bytes: usize, wait: WaitMode) -> anyhow::Result<Self> {
        let wait = wait.into();
        Ok(Self {
            output: pond
                .output(&format!("{block}.out"), &OutputConfig { wait, ..OutputConfig::default() })?,
            input: pond.input(&format!("{block}.in"), &InputConfig { wait, ..InputConfig::default() })?,
            size_bytes,
        })
    }

    fn send(&mut self, sequence: u64) -> anyhow::Result<()> {
        let mut buffer = self.output.allocate(self.size_bytes)?;
        set_sequence(&mut buffer, sequence)?;
        self.output.send(buffer).map_err(|refused| refused.reason)?;
        Ok(())
    }

    fn ask(
        &mut self,
        sequence: &mut u64,
        duration: Duration,
        round_trips: &mut Histogram,
    ) -> anyhow::Result<()> {
        let mut slice = Slice::begin(duration);
        loop {
            *sequence += 1;
            self.send(*sequence)?;
            let answer = sequence_of(&self.input.receive()?)?;
            if answer != *sequence {
                bail!("{answer} was answered to {sequence}");
            }
            if !slice.lap(round_trips) {
                return self.send(END_OF_SLICE);
            }
        }
    }

    /// Answers one slice; false at the end of the stream.
    fn answer(&mut self) -> anyhow::Result<bool> {
        loop {
            let asked = match self.input.receive() {
                Ok(buffer) => sequence_of(&buffer)?,
                Err(ReceiveError::EndOfStream) => return Ok(false),
                Err(error) => return Err(error.into()),
            };
            if asked == END_OF_SLICE {
                return Ok(true);
            }
            self.send(asked)?;
        }
    }
}
