//! The `millpond` program: what was typed becomes one [`args::Command`], and each command is one file in `commands/`.

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

use clap::Parser;

use args::{Cli, Command, UsageError};
use commands::{
    align, bench, block, blocks, call, check, clean, completions, connect, disconnect, get, graph, init,
    inspect, logs, ps, publish, remove, resample, run, set, stop, subscribe, top, torture, worker,
};

/// The arguments are wrong; the same code that clap uses.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
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
        eprintln!("millpond: {error:#}");
        if is_usage(&error) { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
    })
}

/// Whatever a command wanted to do with it: a name that cannot be one has been typed.
fn is_usage(error: &anyhow::Error) -> bool {
    use millpond_shm::Error::InvalidName;
    matches!(error.downcast_ref(), Some(InvalidName { .. }))
        || matches!(error.downcast_ref(), Some(millpond::Error::Pond(InvalidName { .. })))
        || error.is::<UsageError>()
}
