//! What may be typed: the commands of the program and its exit codes.

use clap::{Parser, Subcommand};

use crate::commands::{
    align, bench, block, blocks, call, check, clean, completions, connect, disconnect, get, graph, init,
    inspect, logs, ps, publish, remove, resample, run, set, stop, subscribe, top, torture, worker,
};

/// Streaming pipelines whose every block may be its own process
#[derive(Parser)]
#[command(name = "millpond", version, after_help = AFTER_HELP, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, one file each in `commands/`.
#[derive(Subcommand)]
pub enum Command {
    /// Run a pipeline file, each block in its own process
    Run(run::Args),
    /// Make a pond and stay as its runtime server
    Init(init::Args),
    /// Run one block in this process, against a pond that exists
    Block(block::Args),
    /// List the types of block, or show the ports and parameters of one
    Blocks(blocks::Args),
    /// Say everything that is wrong with a pipeline file
    Check(check::Args),
    /// Run several blocks in this process; started by `run`
    #[command(hide = true)]
    Worker(worker::Args),
    /// List the ponds of this user with their processes and connections
    Ps(ps::Args),
    /// Show everything about one pond and account for every buffer
    Inspect(inspect::Args),
    /// Show what the blocks of a pond have to say
    Logs(logs::Args),
    /// Watch how every block and queue of a pond is doing
    Top(top::Args),
    /// Draw a pipeline file or a running pond
    Graph(graph::Args),
    /// Show the parameters of a block that runs
    Get(get::Args),
    /// Change a parameter of a block that runs
    Set(set::Args),
    /// Ask a block, or whoever answers a topic
    Call(call::Args),
    /// Publish a message on a pond's message bus
    Publish(publish::Args),
    /// Show what is published on a pond's message bus
    Subscribe(subscribe::Args),
    /// Connect two ports of a pond that runs
    Connect(connect::Args),
    /// Remove a connection of a pond that runs
    Disconnect(disconnect::Args),
    /// Take a block out of a pond that runs
    Remove(remove::Args),
    /// End everything in a pond
    Stop(stop::Args),
    /// Remove what dead ponds left behind
    Clean(clean::Args),
    /// Align recorded events of several streams by their timestamps
    Align(align::Args),
    /// Change the rate of a WAV file
    Resample(resample::Args),
    /// Measure this machine: latency, throughput, recovery
    Bench(bench::Args),
    /// Kill processes at random and account for every buffer
    Torture(torture::Args),
    /// Print a script that completes arguments in a shell
    Completions(completions::Args),
    /// One of the processes a benchmark consists of; started by `bench`
    #[command(hide = true)]
    BenchPeer(bench::PeerArgs),
    /// One of the processes that are tortured; started by `torture`
    #[command(hide = true)]
    TorturePeer(torture::PeerArgs),
}

/// The command was understood but its arguments do not fit together; reported with exit code 2 like any other misuse.
#[derive(Debug)]
pub struct UsageError(pub String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

const AFTER_HELP: &str = "\
Examples:
  millpond run examples/telemetry.toml     run a pipeline, one process a block
  millpond blocks fir                      what a type of block takes and sends
  millpond ps                              who runs, what is queued where
  millpond inspect telemetry --json        every buffer accounted for
  millpond bench latency --pin 0,1         one-way latency between two cores
  millpond torture --seconds 60            kill 20 processes a second; is anything lost?

Exit codes:
  0  ok
  1  failed
  2  the arguments are wrong";
