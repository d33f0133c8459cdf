//! Writes the comparison page: measures what is asked for, keeps every other result, and makes page and plots of all of them.

mod external;
mod numbers;
mod page;
mod plot;
mod questions;
mod results;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use millpond_compare::machine::Machine;
use millpond_compare::probe::Probe;
use millpond_compare::runner::Runner;
use millpond_compare::signals::{self, Interrupted};
use millpond_compare::{seconds, stats};

use crate::external::External;
use crate::questions::{PEERS, Peer, QUESTIONS};
use crate::results::{Measured, Results};

/// Where the page goes, unless told otherwise.
const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// Measures Millpond beside its peers, and writes `comparison.md`, its plots, and the results they are made of.
///
/// A peer that is not built or not installed becomes a row that says so. What an earlier run measured of peers that this run
/// leaves out is kept.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Measure only this peer (and keep the results of the others); may be given several times.
    #[arg(long, value_name = "PEER")]
    only: Vec<String>,
    /// How often each figure is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// How long each run measures, in seconds.
    #[arg(long = "seconds", default_value = "1", value_parser = seconds::parse)]
    time: Duration,
    /// The cores for the two processes of a pair.
    #[arg(long, value_name = "CORE,CORE", default_value = "0,1")]
    pin: String,
    /// The Python interpreter that has `dora-rs`, `dora-rs-cli`, `pyarrow` and `millpond`.
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python: PathBuf,
    /// The directory for the page.
    #[arg(long, value_name = "DIRECTORY", default_value = DOCS)]
    docs: PathBuf,
    /// Measure nothing: write page and plots anew from the results there are.
    #[arg(long)]
    render: bool,
    /// Measure and write nothing: fail if page or plots are not what the results say.
    #[arg(long, conflicts_with = "render")]
    check: bool,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => signals::report_failure("page", &error),
    }
}

fn run(cli: &Cli) -> Result<()> {
    let stored = cli.docs.join("comparison.json");
    let mut results = match fs::read_to_string(&stored) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("{} holds no results of this program", stored.display()))?,
        Err(_) if !cli.render && !cli.check => Results::default(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", stored.display())),
    };
    if !cli.render && !cli.check {
        measure(cli, &mut results)?;
        fs::create_dir_all(cli.docs.join("images"))?;
        fs::write(&stored, serde_json::to_string_pretty(&results)? + "\n")
            .with_context(|| format!("cannot write {}", stored.display()))?;
    }
    for (name, text) in page::files(&results) {
        let path = cli.docs.join(&name);
        if cli.check {
            let found =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            ensure!(
                found == text,
                "docs/{name} is not what docs/comparison.json says: write it anew with `page --render`"
            );
        } else {
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

fn measure(cli: &Cli, results: &mut Results) -> Result<()> {
    let names: Vec<_> = PEERS.iter().map(|peer| peer.name).chain(External::ALL.map(External::name)).collect();
    if let Some(unknown) = cli.only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("there is no peer `{unknown}`; the peers are {}", names.join(", "));
    }
    let wanted = |name: &str| cli.only.is_empty() || cli.only.iter().any(|only| only == name);
    let [first, second] = cli.pin.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?[..] else {
        bail!("--pin needs two cores, like 0,1");
    };
    let mut runner = Runner::new()?;
    let mut probe = Probe::new([first, second]);
    let machine = Machine::this();

    let mut measured: Vec<(&Peer, PathBuf, Measured)> = Vec::new();
    for peer in PEERS.iter().filter(|peer| wanted(peer.name)) {
        let mut fresh = Measured::new(&machine, cli.rounds, cli.time);
        match peer.program() {
            Ok(program) => measured.push((peer, program, fresh)),
            Err(why) => {
                fresh.absent = Some(why);
                results.peers.insert(peer.name.to_owned(), fresh);
            }
        }
    }
    for question in QUESTIONS {
        let rounds = if question.once { 1 } else { cli.rounds };
        for round in 1..=rounds {
            probe.take();
            // In turns, so that no peer has a quieter minute than the others.
            for (peer, program, fresh) in &mut measured {
                eprintln!("page: {}, round {round} of {rounds}: {}", question.name, peer.name);
                let line = question.command_line(program, &cli.pin, cli.time);
                let outcome = match runner.run(&line, Some(question.expected(cli.time))) {
                    Ok(object) => Ok(object),
                    Err(error) if error.is::<Interrupted>() => return Err(error),
                    Err(error) => Err(shortened(&error)),
                };
                fresh.add(question.name, outcome);
            }
        }
    }
    for (peer, _, fresh) in measured {
        results.peers.insert(peer.name.to_owned(), fresh);
    }
    for external in External::ALL.into_iter().filter(|external| wanted(external.name())) {
        eprintln!("page: {}", external.name());
        let mut fresh = Measured::new(&machine, cli.rounds, cli.time);
        match external.measure(&mut runner, &cli.python) {
            Ok(object) => fresh.add(external.name(), Ok(object)),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => fresh.absent = Some(shortened(&error)),
        }
        results.peers.insert(external.name().to_owned(), fresh);
    }
    if let Some(handoff) = probe.spread() {
        let stats::Spread { median, min, max, .. } = handoff;
        results.core_to_core_ns = Some([min, median, max]);
    }
    Ok(())
}

/// An error in one line, without the paths of this machine.
fn shortened(error: &anyhow::Error) -> String {
    let text = format!("{:#}", error.root_cause()).replace(env!("CARGO_MANIFEST_DIR"), "compare");
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().take(200).collect()
}

/// A path for the reader, who has a machine of his own.
fn shown(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
