//! The `millpond` program: what was typed becomes one [`args::Command`], and each command is one file in `commands/`.

/// As the standard one, but that a standard error which cannot be written to (full, closed) is no reason to die of: what was to be
/// said is lost, the exit code is not.
macro_rules! eprintln {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

/// The same, without the end of a line.
macro_rules! eprint {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($words)*);
    }};
}

mod args;
mod clock;
mod commands;
mod output;
mod peer_process;
mod rates;
mod signals;
mod table;
mod units;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use args::{Cli, Command, UsageError};
use commands::{
    align, bench, block, blocks, call, check, clean, completions, connect, disconnect, get, graph, init,
    inspect, logs, ps, publish, remove, resample, run, set, stop, subscribe, top, torture, worker,
};

/// The arguments are wrong; the same code that clap uses.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    // Where files may not grow any more (`ulimit -f`; a pond's memory is one), that is an error with a name, not the end of the process.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default());
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Init(args) => init::run(args),
        Command::Block(args) => block::run(args),
        Command::Blocks(args) => blocks::run(args),
        Command::Check(args) => check::run(args),
        Command::Worker(args) => worker::run(args),
        Command::Ps(args) => ps::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Logs(args) => logs::run(args),
        Command::Top(args) => top::run(args),
        Command::Graph(args) => graph::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Get(args) => get::run(args),
        Command::Set(args) => set::run(args),
        Command::Call(args) => call::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Subscribe(args) => subscribe::run(args),
        Command::Connect(args) => connect::run(args),
        Command::Disconnect(args) => disconnect::run(args),
        Command::Remove(args) => remove::run(args),
        Command::Stop(args) => stop::run(args),
        Command::Clean(args) => clean::run(args),
        Command::Align(args) => align::run(args),
        Command::Resample(args) => resample::run(args),
        Command::Bench(args) => bench::run(args),
        Command::BenchPeer(args) => bench::run_peer(args),
        Command::Torture(args) => torture::run(args),
        Command::TorturePeer(args) => torture::run_peer(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("millpond: {}", with_causes(&error));
        if is_usage(&error) { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
    })
}

/// The error and what it came of, each once: some errors say their cause themselves.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whatever a command wanted to do with it: a name that cannot be one has been typed.
fn is_usage(error: &anyhow::Error) -> bool {
    use millpond_shm::Error::InvalidName;
    matches!(error.downcast_ref(), Some(InvalidName { .. }))
        || matches!(error.downcast_ref(), Some(millpond::Error::Pond(InvalidName { .. })))
        || error.is::<UsageError>()
}
