//! `millpond align`: the alignment engine over recorded events.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use millpond::align::{
    Approximate, Config, Exact, Grid, Linear, Nearest, Overflow, PortConfig, PortSet, Statistics, Window,
};

use crate::args::UsageError;
use crate::output;

mod drive;
mod events;
mod lines;

use drive::{Drive, Report};
use events::{Event, Events};
use lines::{Panes, Rows, Sets};

/// Events worked on at a time, once the number of streams is known.
const CHUNK_EVENTS: usize = 1 << 16;

/// Options of `millpond align`.
#[derive(clap::Args)]
#[command(after_help = "\
INPUT is CSV in the order of arrival, with the header
  stream,stamp_ns,value,arrival_ns,seq
and streams numbered from 0. Three more columns, index,rate_num,rate_den, tell a
sample's index and the stream's rate in Hz; a stream's first such row anchors it,
the times of its other samples are counted from there, exactly. They are empty for
streams without them. Times are whole nanoseconds.

Output is CSV with a header. In rows `emit_row` is the input row (from 0) after
which the set came out, tK and rowK stamp and input row of stream K:
  exact, nearest, approximate   emit_row,t0,row0,t1,row1,...
  linear                        stamp_ns,v0,v1,...
  window                        start_ns,end_ns,stream,count,mean,min,max,sum,last

An event that comes to a full stream (--depth) pushes the oldest one out. Timeouts
run on arrival_ns as the clock.

Examples:
  millpond align --policy exact --tolerance 2000000 events.csv
  millpond align --policy linear --grid-rate 50 --output at50hz.csv events.csv
  millpond align --policy window --size 1000000000 --stats json < events.csv

Exit codes:
  0  aligned
  1  the events cannot be read or are none, or the output cannot be written
  2  the arguments are wrong")]
pub struct Args {
    /// The events; - or nothing is standard input
    input: Option<PathBuf>,
    /// How events are put together
    #[arg(long, value_enum)]
    policy: Policy,
    /// exact: from the earliest to the latest stamp of a set at most
    #[arg(long, value_name = "NS", default_value_t = 0)]
    tolerance: u64,
    /// nearest: how far away the nearest may be [default: any distance]
    #[arg(long, value_name = "NS")]
    max_distance: Option<u64>,
    /// linear: how far apart neighbours may be to have values between them [default: any distance]
    #[arg(long, value_name = "NS")]
    max_gap: Option<u64>,
    /// nearest, linear: the stream at whose stamps the others are looked up
    #[arg(long, value_name = "K", default_value_t = 0)]
    reference: usize,
    /// linear: look all streams up at this rate in Hz instead, at times counted from --origin
    #[arg(long, value_name = "N/D", value_parser = rate)]
    grid_rate: Option<(u32, u32)>,
    /// window: how long
    #[arg(long, value_name = "NS", value_parser = clap::value_parser!(i64).range(1..))]
    size: Option<i64>,
    /// window: from the start of one to that of the next [default: the size]
    #[arg(long, value_name = "NS", value_parser = clap::value_parser!(i64).range(1..))]
    slide: Option<i64>,
    /// window, linear: where a window starts, a moment of the grid
    #[arg(long, value_name = "NS", default_value_t = 0, allow_hyphen_values = true)]
    origin: i64,
    /// window: how long after its end late events are still added to a window, which then comes again
    #[arg(long, value_name = "NS", default_value_t = 0)]
    lateness: u64,
    /// By how much an event may be earlier than the newest one of its stream
    #[arg(long, value_name = "NS", default_value_t = 0)]
    disorder: u64,
    /// Events held of each stream at most [default: any number]
    #[arg(long, value_name = "N", value_parser = depth)]
    depth: Option<usize>,
    /// How long a stream may keep the others waiting [default: for ever]
    #[arg(long, value_name = "NS")]
    timeout: Option<u64>,
    /// approximate: a set that ends T later must be smaller by more than T * PERMILLE / 1000 to be better
    #[arg(long, value_name = "PERMILLE", default_value_t = 100)]
    age_penalty: u32,
    /// approximate: from the earliest to the latest stamp of a set at most [default: any distance]
    #[arg(long, value_name = "NS")]
    max_interval: Option<u64>,
    /// approximate: the least distance of two events, of stream 0, 1, ...
    #[arg(long, value_name = "NS,...", value_delimiter = ',')]
    lower_bounds: Vec<u64>,
    /// Streams that sets can do without
    #[arg(long, value_name = "K,...", value_delimiter = ',')]
    optional: Vec<usize>,
    /// nearest: use each event in one set at most
    #[arg(long)]
    consume: bool,
    /// How many streams there are, so that events are worked on as they come [default: find out by reading all]
    #[arg(long, value_name = "N")]
    streams: Option<usize>,
    /// Write there instead of standard output; not into INPUT
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write statistics to standard error
    #[arg(long, value_enum)]
    stats: Option<StatsFormat>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Policy {
    /// One event of each stream, within --tolerance; as many sets as possible
    Exact,
    /// For each event of the --reference the nearest of each other stream
    Nearest,
    /// Values interpolated at the stamps of the --reference or at a --grid-rate
    Linear,
    /// Statistics over windows of a --size
    Window,
    /// One event of each stream, close together; ROS's ApproximateTime
    Approximate,
}

#[derive(Clone, Copy, ValueEnum)]
enum StatsFormat {
    /// One JSON object
    Json,
}

/// Aligns.
///
/// # Errors
/// Arguments that do not fit together; mistakes in the input, by line.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let name = args.input.as_deref().filter(|path| *path != Path::new("-"));
    if let Some(output) = &args.output {
        output::check_is_not(name.unwrap_or(Path::new("/dev/stdin")), output)?;
    }
    let reader: Box<dyn BufRead> = match name {
        Some(path) => Box::new(BufReader::with_capacity(
            1 << 20,
            File::open(path).with_context(|| format!("cannot read {}", path.display()))?,
        )),
        None => Box::new(stdin().lock()),
    };
    let name = name.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let mut events = Events::new(name.clone(), reader, args.streams)?;
    let mut first = Vec::new();
    let streams = match args.streams {
        Some(streams) => streams,
        None => {
            while events.read(&mut first, usize::MAX)? {}
            events.streams()?
        }
    };
    let config = config(&args, streams)?;
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => {
            Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?)
        }
        None => Box::new(stdout().lock()),
    };
    let mut buffered = BufWriter::with_capacity(1 << 20, &mut out);
    let input = Input { events, first };
    let report = match align(&args, config, input, &mut buffered) {
        // A reader that has seen enough is no failure.
        Err(error) if is_broken_pipe(&error) => return Ok(ExitCode::SUCCESS),
        result => result?,
    };
    match buffered.flush() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        result => result.context("cannot write the result")?,
    }
    match args.stats {
        Some(StatsFormat::Json) => eprintln!("{}", serde_json::to_string(&report)?),
        None => report.warnings.iter().for_each(|warning| eprintln!("millpond: {warning}")),
    }
    Ok(ExitCode::SUCCESS)
}

/// What has been read, and the rest.
struct Input {
    events: Events,
    first: Vec<Event>,
}

impl Input {
    /// Replaces `chunk` by the next events; returns whether there are any.
    fn next(&mut self, chunk: &mut Vec<Event>) -> anyhow::Result<bool> {
        chunk.clear();
        if !self.first.is_empty() {
            std::mem::swap(chunk, &mut self.first);
            return Ok(true);
        }
        self.events.read(chunk, CHUNK_EVENTS)
    }
}

fn config(args: &Args, streams: usize) -> Result<Config, UsageError> {
    if streams == 0 || streams > PortSet::MAX_PORTS {
        let most = PortSet::MAX_PORTS;
        return Err(UsageError(format!("expected 1 to {most} streams, found {streams}")));
    }
    let check = |option: &str, stream: usize| match stream < streams {
        true => Ok(()),
        false => Err(UsageError(format!("{option} {stream}: there are only streams 0 to {}", streams - 1))),
    };
    check("--reference", args.reference)?;
    args.optional.iter().try_for_each(|stream| check("--optional", *stream))?;
    let port = PortConfig {
        disorder_ns: args.disorder,
        depth: args.depth.unwrap_or(usize::MAX),
        timeout_ns: args.timeout,
        ..PortConfig::default()
    };
    let mut config = Config { overflow: Overflow::Async, ..Config::of(streams, port) };
    for stream in &args.optional {
        config.ports[*stream].optional = true;
    }
    if config.ports.iter().all(|port| port.optional) {
        return Err(UsageError("--optional: at least one stream must be required".to_owned()));
    }
    Ok(config)
}

fn align(args: &Args, config: Config, input: Input, out: &mut dyn Write) -> anyhow::Result<Report> {
    let drive = Drive { config, input, out };
    match args.policy {
        Policy::Exact => drive.run(Exact::new(args.tolerance), |row, _| row, Sets::default()),
        Policy::Nearest => {
            let policy = Nearest::new(args.reference, args.max_distance);
            let policy = if args.consume { policy.consuming() } else { policy };
            drive.run(policy, |row, _| row, Sets::default())
        }
        Policy::Approximate => {
            let mut policy = Approximate::new(args.age_penalty).lower_bounds_ns(args.lower_bounds.clone());
            if let Some(max) = args.max_interval {
                policy = policy.max_interval_ns(max);
            }
            drive.run(policy, |row, _| row, Sets::default())
        }
        Policy::Linear => {
            let policy = match args.grid_rate {
                Some((rate_num, rate_den)) => {
                    Linear::onto_grid(Grid { origin_ns: args.origin, rate_num, rate_den }, args.max_gap)
                }
                None => Linear::onto_reference(args.reference, args.max_gap),
            };
            drive.run(policy, |_, value| value, Rows::default())
        }
        Policy::Window => {
            let Some(size) = args.size else {
                return Err(UsageError("--policy window needs a --size".to_owned()).into());
            };
            let policy = Window::new(size, args.slide.unwrap_or(size), args.origin, Statistics::default());
            drive.run(policy.lateness_ns(args.lateness), |_, value| value, Panes::default())
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

/// `50` or `30000/1001`
fn rate(text: &str) -> Result<(u32, u32), String> {
    let (num, den) = text.split_once('/').unwrap_or((text, "1"));
    match (num.trim().parse(), den.trim().parse()) {
        (Ok(num), Ok(den)) if num > 0 && den > 0 => Ok((num, den)),
        _ => Err("expected a rate in Hz, such as 50 or 30000/1001".to_owned()),
    }
}

fn depth(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|depth| *depth >= 2).ok_or_else(|| "expected 2 or more".to_owned())
}
