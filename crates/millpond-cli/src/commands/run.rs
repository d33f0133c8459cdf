//! `millpond run`: runs a pipeline file, its blocks in processes of their own or together, and shows how it is doing.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use millpond::supervisor::{Launcher, Outcome, Supervisor};
use millpond::{Catalog, Error, Flowgraph, parse_duration};

use crate::args::UsageError;

mod display;
mod status_json;
mod status_table;

use display::{Display, Style};

/// A signal stopped everything at once: 128 + SIGINT, as shells have it.
const EXIT_STOPPED: u8 = 130;
/// The pipeline file is wrong; the same code as for wrong arguments.
pub const EXIT_BAD_FILE: u8 = 2;

/// Options of `millpond run`.
#[derive(clap::Args)]
#[command(after_help = "\
The first Ctrl-C stops the sources and lets the rest drain, the second stops everything at once.

Examples:
  millpond run examples/telemetry.toml
  millpond run examples/telemetry.toml --duration 1min --quiet
  millpond run examples/telemetry.toml --fused
  millpond run examples/telemetry.toml --duration 5s --json | jq .connections
  millpond run 'signal freq=440 duration=5 ! gain k=0.5 ! wav-sink path=a.wav'

In one line each block sends to the next. Words are quoted as in a shell; a parameter
may be called by the beginning of its name, if that is enough to know which.

Exit codes:
  0    every block was done, or ended in order after Ctrl-C
  1    a block failed, or something could not be started
  2    the arguments or the pipeline file are wrong
  130  stopped at once by a second Ctrl-C")]
pub struct Args {
    /// The pipeline file, or a pipeline in one line: types and parameters, separated by ` ! `
    #[arg(value_name = "FILE|LINE")]
    pipeline: PathBuf,
    /// Stop the sources after this time, such as 10s, 500ms or 2h, instead of what the file says
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Run all blocks in one process, whatever the file says
    #[arg(long)]
    fused: bool,
    /// With --fused: threads that run the blocks [default: 1]
    #[arg(long, value_name = "N", requires = "fused", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Show nothing but problems
    #[arg(long, short)]
    quiet: bool,
    /// Show nothing but problems, and at the end how it went, as one JSON object
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

/// Runs the pipeline to its end.
///
/// # Errors
/// What keeps it from starting. The failure of a block is an exit code.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut flowgraph = match load(&args.pipeline, &Catalog::builtin()) {
        Ok(flowgraph) => flowgraph,
        Err(Error::Flowgraph(diagnostics)) => {
            eprint!("{diagnostics}");
            return Ok(ExitCode::from(EXIT_BAD_FILE));
        }
        Err(error) => return Err(UsageError(error.to_string()).into()),
    };
    if let Some(warning) = flowgraph.pool_warning() {
        eprintln!("warning: {warning}");
    }
    if args.duration.is_some() {
        flowgraph.duration = args.duration;
    }
    if args.fused {
        // A chain whose buffers stay in the caches of one core is faster than one that is spread over several.
        flowgraph.fuse(args.threads.map_or(1, usize::from));
    }
    let style = match (args.quiet, args.json) {
        (true, _) => Style::Quiet,
        (_, true) => Style::Json,
        _ if std::io::stdout().is_terminal() => Style::InPlace,
        _ => Style::Lines,
    };
    let mut display = Display::new(&flowgraph, style);
    let supervisor =
        Supervisor::new(flowgraph, Launcher::this_program()?).context("cannot run the pipeline")?;
    let summary = supervisor.run(&mut |event| display.show(&event))?;
    display.finish(&summary);
    Ok(match summary.outcome {
        Outcome::Done { .. } => ExitCode::SUCCESS,
        Outcome::Stopped => ExitCode::from(EXIT_STOPPED),
        _ => ExitCode::FAILURE,
    })
}

/// Reads a file, or a line if there is no such file and it looks like one.
fn load(pipeline: &Path, catalog: &Catalog) -> millpond::Result<Flowgraph> {
    match pipeline.to_str() {
        Some(line) if line.split_whitespace().any(|word| word == "!") && !pipeline.exists() => {
            // Several may run at the same time.
            Flowgraph::parse_line(&format!("line-{}", std::process::id()), line, catalog)
        }
        Some(line) if line.contains('!') && !pipeline.exists() => Err(millpond::Error::Refused(format!(
            "there is no file `{line}`; a pipeline in one line has spaces around each `!`"
        ))),
        _ => Flowgraph::load(pipeline, catalog),
    }
}
