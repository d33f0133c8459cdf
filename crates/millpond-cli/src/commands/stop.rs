//! `millpond stop`: ends everything in a pond, in order if possible.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use millpond::parse_duration;
use millpond_shm::{Monitor, Pond, Role};
use rustix::process::Signal;
use serde_json::json;

use super::ending::{end_in_order, member};
use super::processes::Victim;
use crate::output;

/// How long processes may take to leave once they were told to stop at once.
const LEAVE_TIME: Duration = Duration::from_secs(3);
/// How long the kernel may take to end what was killed.
const KILL_TIME: Duration = Duration::from_secs(10);

/// Options of `millpond stop`.
#[derive(clap::Args)]
#[command(after_help = "\
Everything ends in order: sources first, the others when all has reached them. The
supervisor or runtime server sees to that; without one (it was killed, or there never
was one) this command does. What has not ended after the timeout is told to stop
at once, and killed if it does not.

Examples:
  millpond stop studio
  millpond stop studio --timeout 1min
  millpond stop studio --now

Exit codes:
  0  nothing of the pond is left
  1  no such pond, or something could not be ended
  2  the arguments are wrong")]
pub struct Args {
    /// The pond
    #[arg(value_name = "NAME")]
    pond: String,
    /// How long the blocks may take to work off what is queued
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    timeout: Duration,
    /// Do not wait for anything to be worked off
    #[arg(long, conflicts_with = "timeout")]
    now: bool,
    /// Print one JSON object: how it ended, and which processes had to be killed
    #[arg(long)]
    json: bool,
}

/// Stops.
///
/// # Errors
/// If there is no such pond.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Only looking: a stopped process that holds the pond's lock cannot keep this from working.
    let monitor = Monitor::open(&args.pond)?;
    let supervisors = || {
        let processes = monitor.snapshot().processes;
        let pids = processes.iter().filter(|p| p.role == Role::Server).map(|p| p.pid);
        pids.filter_map(|pid| member(&monitor, pid)).collect::<Vec<_>>()
    };
    if !args.now {
        let asked = supervisors();
        asked.iter().for_each(|process| process.signal(Signal::TERM));
        let ended = match asked.is_empty() {
            true => end_in_order(&monitor, Some(Instant::now() + args.timeout), || false)?,
            false => all_end(&monitor, args.timeout)?,
        };
        if ended {
            return stopped(&args, "in order", &[]);
        }
    }
    if let Ok(pond) = Pond::attach(&args.pond, Role::Tool) {
        pond.request_stop();
    }
    // Two requests mean "at once"; of one kind they could merge into one.
    for process in members(&monitor) {
        process.signal(Signal::TERM);
        process.signal(Signal::INT);
    }
    if all_end(&monitor, LEAVE_TIME)? {
        return stopped(&args, "at once", &[]);
    }
    let left = members(&monitor);
    left.iter().for_each(|process| process.signal(Signal::KILL));
    let pids: Vec<u32> = left.iter().map(|process| process.pid).collect();
    if all_end(&monitor, KILL_TIME)? {
        return stopped(&args, "killed", &pids);
    }
    eprintln!("millpond: could not end process {}", listed(&pids));
    Ok(ExitCode::FAILURE)
}

fn stopped(args: &Args, how: &str, killed: &[u32]) -> anyhow::Result<ExitCode> {
    // What killed processes left to be found by.
    millpond_shm::clean()?;
    let pond = &args.pond;
    if args.json {
        output::print_json(&json!({ "pond": pond, "stopped": how, "killed": killed }))?;
    } else {
        let whom = if killed.is_empty() { String::new() } else { format!(": {}", listed(killed)) };
        output::print(&format!("stopped {pond} ({how}{whom})\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn listed(pids: &[u32]) -> String {
    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// Everybody in the pond but this process.
fn members(monitor: &Monitor) -> Vec<Victim> {
    let me = std::process::id();
    let processes = monitor.snapshot().processes;
    processes.iter().filter(|p| p.pid != me).filter_map(|p| member(monitor, p.pid)).collect()
}

/// Waits until nobody is left; somebody may join meanwhile.
fn all_end(monitor: &Monitor, timeout: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = members(monitor);
        if left.is_empty() {
            return Ok(true);
        }
        for process in left {
            if !process.ends_before(deadline)? {
                return Ok(false);
            }
        }
    }
}
