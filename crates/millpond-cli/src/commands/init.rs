//! `millpond init`: makes a pond and stays as its runtime server.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use anyhow::Context as _;
use millpond::{BlockStatistics, Stage};
use millpond_shm::{Error, Level, Monitor, Pond, PondConfig, PoolConfig, Role, Snapshot};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::ending::end_in_order;
use crate::output;
use crate::units::parse_bytes;

/// How often it looks who has come and gone. What the dead held is given back at once, by a thread of the pond's own.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Stopped at once by a second signal: 128 + SIGINT, as shells have it.
const EXIT_STOPPED: u8 = 130;

/// Options of `millpond init`.
#[derive(clap::Args)]
#[command(after_help = "\
The pond is empty: start blocks with `millpond block`, connect them with `millpond
connect`. What a process held that dies is given back at once. On Ctrl-C, or
`millpond stop NAME`, sources are asked to end first, and the others when everything
has reached them; a second Ctrl-C stops everybody at once.

If the server of a pond was killed, `millpond init NAME` takes its place: what is in
the pond goes on meanwhile.

Examples:
  millpond init studio
  millpond init studio --pool 4KiBx1024 --pool 1MiBx64

Exit codes:
  0    the pond has ended in order
  1    it could not be made: there is one of that name that is served, or no memory
  2    the arguments are wrong
  130  stopped at once by a second Ctrl-C")]
pub struct Args {
    /// Name of the pond
    name: String,
    /// Bytes and number of buffers, such as 64KiBx512; may be given several times. Without it: 4 KiB x 1024, 64 KiB x 512, 1 MiB x 128
    #[arg(long = "pool", value_name = "SIZExCOUNT", value_parser = parse_pool)]
    pools: Vec<PoolConfig>,
}

/// Makes the pond and serves it until it is stopped.
///
/// # Errors
/// If the pond cannot be made.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")?;
    let asked_for_pools = !args.pools.is_empty();
    let config = match args.pools {
        pools if pools.is_empty() => PondConfig::default(),
        pools => PondConfig { pools, ..PondConfig::default() },
    };
    let (pond, is_new) = match Pond::create(&args.name, &config, Role::Server) {
        Err(error @ Error::PondExists { .. }) if is_served(&args.name) => return Err(error.into()),
        Err(Error::PondExists { .. }) => (Pond::attach(&args.name, Role::Server)?, false),
        created => (created?, true),
    };
    if asked_for_pools && !is_new {
        eprintln!(
            "millpond: the pond {} goes on with the pools that it has: `--pool` is not heeded",
            args.name
        );
    }
    let monitor = Monitor::open(&args.name)?;
    let (sender, requests) = mpsc::channel();
    // The thread sleeps until the process ends.
    std::thread::spawn(move || signals.forever().try_for_each(|signal| sender.send(signal)));
    let whose = if is_new { "" } else { ", in place of its server that has died" };
    output::print(&format!("pond {}: process {}{whose}\n", args.name, std::process::id()))?;
    let mut visitors = Visitors::default();
    loop {
        match requests.recv_timeout(LOOK_EVERY) {
            Ok(_) => break,
            Err(RecvTimeoutError::Timeout) if pond.stop_requested() => return Ok(ExitCode::SUCCESS),
            Err(RecvTimeoutError::Timeout) => visitors.look(&pond, &monitor.snapshot())?,
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    eprintln!("millpond: ending in order; once more to stop at once");
    let all_ended = end_in_order(&monitor, None, || requests.try_recv().is_ok() || pond.stop_requested())?;
    visitors.look(&pond, &monitor.snapshot())?;
    if all_ended {
        output::print(&format!("{} ended in order\n", args.name))?;
        return Ok(ExitCode::SUCCESS);
    }
    pond.request_stop();
    output::print(&format!("{} stopped at once\n", args.name))?;
    Ok(ExitCode::from(EXIT_STOPPED))
}

/// Whether somebody who lives looks after the pond: `millpond init` or `millpond run`.
fn is_served(pond: &str) -> bool {
    let processes = Monitor::open(pond).map(|monitor| monitor.snapshot().processes).unwrap_or_default();
    processes.iter().any(|process| process.role == Role::Server && process.state != "dead")
}

fn parse_pool(text: &str) -> Result<PoolConfig, String> {
    let expected = "expected bytes and a number of buffers, such as 64KiBx512";
    let (bytes, count) = text.rsplit_once('x').ok_or(expected)?;
    let count = count.trim().parse().ok().filter(|count| *count > 0).ok_or(expected)?;
    match parse_bytes(bytes.trim())? {
        0 => Err(expected.to_owned()),
        bytes => Ok(PoolConfig::new(bytes, count)),
    }
}

/// The blocks that run in the pond, as far as has been told.
#[derive(Default)]
struct Visitors {
    pids: BTreeMap<String, u32>,
    /// Processes that had been recovered when it looked last.
    recoveries: u32,
}

impl Visitors {
    /// Tells which blocks have come and gone, on standard output and in the pond's log.
    fn look(&mut self, pond: &Pond, now: &Snapshot) -> std::io::Result<()> {
        let known = std::mem::take(&mut self.pids);
        let recoveries = std::mem::replace(&mut self.recoveries, now.recoveries);
        for block in &now.blocks {
            let before = known.get(&block.name).copied();
            if let Some(pid) = before.filter(|_| block.pid != before) {
                let stage = BlockStatistics::from_counters(&block.counters).stage;
                let (level, how) = match stage {
                    Stage::Done => (Level::Info, "is done"),
                    Stage::Failed => (Level::Error, "has failed"),
                    // Its successor has a stage of its own already.
                    _ if now.recoveries == recoveries => (Level::Info, "has ended"),
                    _ => (Level::Error, "has died; what it held was given back"),
                };
                tell(pond, &block.name, level, &format!("process {pid} {how}"))?;
            }
            if let Some(pid) = block.pid {
                self.pids.insert(block.name.clone(), pid);
                if before != Some(pid) {
                    tell(pond, &block.name, Level::Info, &format!("process {pid}"))?;
                }
            }
        }
        Ok(())
    }
}

fn tell(pond: &Pond, block: &str, level: Level, text: &str) -> std::io::Result<()> {
    pond.log(block, level, text);
    output::print(&format!("{block}: {text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_read() {
        assert_eq!(parse_pool("64KiBx512"), Ok(PoolConfig::new(64 << 10, 512)));
        assert_eq!(parse_pool("4 KiB x 8"), Ok(PoolConfig::new(4096, 8)));
        for wrong in ["64KiB", "x3", "64KiBx", "64KiBx0", "0x5", "64KiBx-1", "12parsecsx3"] {
            assert!(parse_pool(wrong).expect_err(wrong).starts_with("expected bytes"), "{wrong}");
        }
    }
}
