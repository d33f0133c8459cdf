//! Compares Millpond with iceoryx2: both sides take turns, in one run, on the same cores.

mod measure;
mod report;
mod rows;
mod sides;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use millpond_compare::machine::Machine;
use millpond_compare::probe::Probe;
use millpond_compare::{seconds, signals};

use crate::report::Report;
use crate::rows::Row;
use crate::sides::Sides;

/// Where the main workspace builds our side.
const MILLPOND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/millpond");

/// The exit status when everything was measured and something is not as asked.
const NOT_MET: u8 = 3;

/// Compares Millpond with iceoryx2 and prints a table.
///
/// The exit status is 0 when everything is as asked, 3 when something is not, and 1 when something
/// could not be measured.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Measure only this row; may be given several times.
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// How often each side of a row is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How long each run measures, in seconds, instead of the time each row sets.
    #[arg(long = "seconds", value_parser = seconds::parse)]
    time: Option<Duration>,
    /// The cores for the two processes of a pair.
    #[arg(long, value_name = "CORE,CORE", default_value = "0,1", value_delimiter = ',')]
    pin: Vec<usize>,
    /// Our program.
    #[arg(long, value_name = "PATH", default_value = MILLPOND)]
    millpond: PathBuf,
    /// The peer's program; by default the one built along with this one.
    #[arg(long, value_name = "PATH")]
    peer: Option<PathBuf>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(status) => status,
        Err(error) => signals::report_failure("compare", &error),
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let &[first, second] = cli.pin.as_slice() else { bail!("--pin needs two cores, like 0,1") };
    let pin = format!("{first},{second}");
    let rows = chosen(rows::all(&pin, cli.time), &cli.only)?;
    let mut sides = Sides::new(cli.millpond_program()?, cli.peer_program()?)?;
    let mut probe = Probe::new([first, second]);

    let machine = Machine::this();
    let rounds = usize::from(cli.rounds);
    let mut outcomes = Vec::new();
    for row in rows {
        outcomes.push(measure::measure(row, &mut sides, &mut probe, rounds)?);
    }
    let report = Report { machine, rounds, pin, handoff_ns: probe.spread(), outcomes };
    if cli.json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    Ok(match (report.is_complete(), report.is_met()) {
        (false, _) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(NOT_MET),
        (true, true) => ExitCode::SUCCESS,
    })
}

impl Cli {
    fn millpond_program(&self) -> Result<PathBuf> {
        ensure!(
            self.millpond.is_file(),
            "there is no program at {}; build it in the main workspace with `cargo build --release -p \
             millpond-cli`, or say where it is with --millpond",
            self.millpond.display()
        );
        // A path without a slash would be searched for in PATH.
        self.millpond.canonicalize().with_context(|| format!("cannot find {}", self.millpond.display()))
    }

    fn peer_program(&self) -> Result<PathBuf> {
        let peer = match &self.peer {
            Some(peer) => peer.clone(),
            None => std::env::current_exe()
                .context("cannot find this program's own file")?
                .with_file_name("peer-iceoryx2"),
        };
        ensure!(
            peer.is_file(),
            "there is no program at {}; build it here with `cargo build --release`, or say where it is with \
             --peer",
            peer.display()
        );
        peer.canonicalize().with_context(|| format!("cannot find {}", peer.display()))
    }
}

/// The rows named in `only`, or all of them.
fn chosen(rows: Vec<Row>, only: &[String]) -> Result<Vec<Row>> {
    for name in only {
        if !rows.iter().any(|row| row.name == name) {
            let known: Vec<_> = rows.iter().map(|row| row.name).collect();
            bail!("there is no row `{name}`; the rows are {}", known.join(", "));
        }
    }
    Ok(rows.into_iter().filter(|row| only.is_empty() || only.iter().any(|name| row.name == name)).collect())
}
