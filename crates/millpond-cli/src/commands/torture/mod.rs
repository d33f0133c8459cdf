//! `millpond torture`: a random graph of real processes that are killed, stopped and disconnected at random, and an account, from
//! outside, of every buffer and every message.
//!
//! `graph` and `plan` follow from the seed; `roles`, `aligner`, `post` and `python` are what the processes do; `director` does the plan
//! to `actor`s; `account`, `sets` and `mail_account` judge what they wrote down. docs/torture.md says what is promised and how it is judged.

mod account;
mod actor;
mod aligner;
mod director;
mod graph;
mod mail_account;
mod message;
mod plan;
mod post;
mod python;
mod random;
mod report;
mod resources;
mod roles;
mod sets;
mod stream;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use self::director::Director;
use self::graph::Graph;
use self::random::Random;
pub use self::roles::{PeerArgs, run as run_peer};
use crate::output;

/// Options of `millpond torture`.
#[derive(clap::Args)]
#[command(after_help = "\
Sources, forwarders, sinks, competing consumers, an aligner, publishers and
responders of the message bus, a supervisor and a runtime server are killed by
SIGKILL at random instants, several at once now and then, and started again; some
are stopped and continued; a connection comes and goes. Three processes have no
part in it: they may neither fail nor stall. Afterwards every buffer and every
message is accounted for from outside. Where `python3 -c 'import millpond'` works,
one of the forwarders is written in Python.

The same seed gives the same graph and the same plan. Ctrl-C ends early, in order,
and judges what was done.

Examples:
  millpond torture
  millpond torture --seconds 3600 --kills-per-second 30
  millpond torture --seed 42 --json

Exit codes:
  0  nothing leaked, lost, doubled, reordered or corrupted; no process failed;
     nothing was left behind
  1  something was, or the run could not be made
  2  the arguments are wrong")]
pub struct Args {
    /// How long to torture
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// What graph, whom, when and how [default: random]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How many processes are killed in each second
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    kills_per_second: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Tortures and judges.
///
/// # Errors
/// If the run cannot be made.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let seed = args.seed.unwrap_or_else(|| Random::new(crate::clock::monotonic_ns()).next() >> 32);
    let mut random = Random::new(seed);
    let python = python::is_available();
    let graph = Graph::new(&mut random, python);
    let plan = plan::plan(&graph, args.seconds, args.kills_per_second, &mut random);

    // Only a flag: whoever looks does so again and again. A second signal ends this process at once, and the kernel the others.
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted))?;
        flag::register(signal, Arc::clone(&interrupted))?;
    }
    let processes = graph.processes.len();
    eprintln!("torture: {processes} processes for {} s, seed {seed}", args.seconds);
    if !python {
        eprintln!("torture: no block in Python: `python3 -c 'import millpond'` fails");
    }
    let director = Director::start(format!("torture-{}", std::process::id()), &graph)?;
    let report = director.run(
        &plan,
        args.seconds,
        || interrupted.load(Ordering::Relaxed),
        |report| eprintln!("{}", report.progress()),
    )?;
    if args.json {
        output::print_json(&report.to_json(seed, processes, python))?;
    } else {
        output::print(&report.to_text(seed, processes))?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
