//! `millpond logs`: what the blocks of a pond and their supervisor have to say, from one place.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use millpond_shm::{Level, LogLine, Monitor};

use crate::output;

/// How often `--follow` looks for new lines.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Options of `millpond logs`.
#[derive(clap::Args)]
#[command(after_help = "\
A pond keeps its latest 1024 lines, and nothing when its last process has ended.
Blocks log with `tracing` (Rust) or `logging` (Python); what else they write to
their standard error stands here as a warning. Set MILLPOND_LOG=debug where the
pipeline is started to see more than what is worth knowing.

Examples:
  millpond logs telemetry
  millpond logs telemetry csv -f
  millpond logs telemetry --level warn --json | jq .text

Exit codes:
  0  shown; with -f, the pond has ended
  1  there is no such pond or block, or it cannot be read
  2  the arguments are wrong")]
pub struct Args {
    /// Name of the pond, as `millpond ps` shows it
    #[arg(value_name = "NAME")]
    pond: String,
    /// Only what is about this block
    block: Option<String>,
    /// Go on showing new lines until the pond ends
    #[arg(long, short)]
    follow: bool,
    /// Leave out what matters less
    #[arg(long, value_enum, default_value = "trace")]
    level: LeastLevel,
    /// Print each line as a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LeastLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LeastLevel {
    fn level(self) -> Level {
        match self {
            Self::Error => Level::Error,
            Self::Warn => Level::Warn,
            Self::Info => Level::Info,
            Self::Debug => Level::Debug,
            Self::Trace => Level::Trace,
        }
    }
}

/// The block is there, or was there and has said something.
fn known_block(monitor: &Monitor, block: &str) -> anyhow::Result<()> {
    let pond = monitor.snapshot();
    let is_known = pond.blocks.iter().any(|known| known.name == block)
        || monitor.log(0).lines.iter().any(|line| line.block == block);
    if !is_known {
        let known: Vec<&str> = pond.blocks.iter().map(|known| known.name.as_str()).collect();
        bail!("pond `{}` has no block `{block}`; there are: {}", pond.name, known.join(", "));
    }
    Ok(())
}

/// Shows.
///
/// # Errors
/// If there is no such pond, or it cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let monitor = Monitor::open(&args.pond)?;
    let colours =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    // One that is followed may come later.
    if let Some(block) = args.block.as_ref().filter(|_| !args.follow) {
        known_block(&monitor, block)?;
    }
    let mut next = 0;
    loop {
        // Asked before reading: what was written before the end is shown.
        let goes_on = args.follow && monitor.has_living_process();
        let log = monitor.log(next);
        let mut text = String::new();
        // Before the first look, older lines may have been overwritten: nobody asked for them.
        if log.missed > 0 && next > 0 {
            eprintln!("millpond: {} lines were overwritten before they could be shown", log.missed);
        }
        next = log.next;
        let wanted = |line: &&LogLine| {
            line.level <= args.level.level() && args.block.as_ref().is_none_or(|block| *block == line.block)
        };
        for line in log.lines.iter().filter(wanted) {
            if args.json {
                text += &serde_json::to_string(line)?;
                text.push('\n');
            } else {
                describe(&mut text, line, colours);
            }
        }
        if !text.is_empty() && !output::print_while_read(&text)? {
            return Ok(ExitCode::SUCCESS);
        }
        if !goes_on {
            return Ok(ExitCode::SUCCESS);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// `2026-11-25T13:12:31.123Z warn  camera: text`
fn describe(text: &mut String, line: &LogLine, colours: bool) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(line.unix_ns);
    let time = humantime::format_rfc3339_millis(time);
    let (name, colour) = match line.level {
        Level::Error => ("error", "\x1b[31m"),
        Level::Warn => ("warn ", "\x1b[33m"),
        Level::Info => ("info ", ""),
        Level::Debug => ("debug", "\x1b[2m"),
        Level::Trace => ("trace", "\x1b[2m"),
    };
    let (on, off) = if colours && !colour.is_empty() { (colour, "\x1b[0m") } else { ("", "") };
    let about = if line.block.is_empty() { String::new() } else { format!("{}: ", line.block) };
    // A control character from a block shall not get at the terminal.
    let said: String =
        line.text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
    let _ = writeln!(text, "{time} {on}{name}{off} {about}{said}");
}
