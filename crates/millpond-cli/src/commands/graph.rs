//! `millpond graph`: a picture of a pipeline file, or of a running pond with rates on its arrows.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use millpond::flowgraph::{Picture, PictureBlock, PictureConnection};
use millpond::{BlockStatistics, Catalog, Error, Flowgraph, Stage};
use millpond_shm::Monitor;

use super::run::EXIT_BAD_FILE;
use crate::rates::Rates;
use crate::{output, units};

/// How long a running pond is watched for its rates.
const WATCH: Duration = Duration::from_secs(1);

/// Options of `millpond graph`.
#[derive(clap::Args)]
#[command(after_help = "\
A running pond is watched for a second; its arrows then show buffers a second,
what is queued and what was lost.

Examples:
  millpond graph examples/telemetry.toml -o telemetry.svg
  millpond graph telemetry --dot | dot -Tpng > telemetry.png

Exit codes:
  0  drawn
  1  there is no such file or pond, or the picture cannot be written
  2  the arguments or the pipeline file are wrong")]
pub struct Args {
    /// A pipeline file, or the name of a running pond
    #[arg(value_name = "FILE|NAME")]
    of: String,
    /// Where to write the picture; standard output if left out
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write DOT, for Graphviz, instead of SVG
    #[arg(long)]
    dot: bool,
}

/// Draws.
///
/// # Errors
/// If there is neither such a file nor such a pond, or the picture cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let path = Path::new(&args.of);
    let picture = if path.exists() {
        match Flowgraph::load(path, &Catalog::builtin()) {
            Ok(flowgraph) => Picture::of(&flowgraph),
            Err(Error::Flowgraph(diagnostics)) => {
                eprint!("{diagnostics}");
                return Ok(ExitCode::from(EXIT_BAD_FILE));
            }
            Err(error) => return Err(error.into()),
        }
    } else if path.extension().is_some() {
        anyhow::bail!("there is no file `{}`, and the name of a pond has no dot", args.of);
    } else {
        let monitor = Monitor::open(&args.of)
            .with_context(|| format!("`{}` is neither a file nor a running pond", args.of))?;
        watch(&monitor)
    };
    let text = if args.dot { picture.to_dot() } else { picture.to_svg() };
    match &args.output {
        Some(path) => std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?,
        None => output::print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn watch(monitor: &Monitor) -> Picture {
    let mut rates = Rates::default();
    let start = Instant::now();
    let mut look = || {
        let pond = monitor.snapshot();
        let names: Vec<String> = pond.connections.iter().map(|c| format!("{} -> {}", c.from, c.to)).collect();
        let counts = names.iter().zip(&pond.connections);
        let rates = rates.add(start.elapsed(), counts.map(|(n, c)| (n.as_str(), c.taken, c.published)));
        (pond, rates)
    };
    look();
    std::thread::sleep(WATCH);
    let (pond, rates) = look();
    let blocks = pond.blocks.iter().map(|block| {
        let stage = match BlockStatistics::from_counters(&block.counters).stage {
            Stage::Running => String::new(),
            stage => format!(", {}", format!("{stage:?}").to_lowercase()),
        };
        PictureBlock { name: block.name.clone(), detail: format!("{}{stage}", block.block_type) }
    });
    let port = |name: &str| {
        let (block, port) = name.rsplit_once('.').unwrap_or((name, ""));
        (block.to_owned(), port.to_owned())
    };
    let connections = pond.connections.iter().zip(rates).map(|(connection, rate)| {
        let mut label = units::per_second(rate.sent);
        if connection.queued > 0 {
            label += &format!(", {} queued", connection.queued);
        }
        let lost = connection.dropped_newest + connection.dropped_oldest + connection.lost_in_hand;
        if lost > 0 {
            label += &format!(", {lost} lost");
        }
        PictureConnection { from: port(&connection.from), to: port(&connection.to), label }
    });
    Picture { blocks: blocks.collect(), connections: connections.collect() }
}
