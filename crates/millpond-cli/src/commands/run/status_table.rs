//! The status of a flowgraph as tables: while it runs, and at its end.

use std::time::Duration;

use millpond::supervisor::{BlockStatus, ConnectionStatus, Status};
use millpond::{BlockStatistics, Stage};

use crate::rates::Rate;
use crate::table::{Column, Table};
use crate::units;

/// One row for each block: what it does now.
pub fn progress(status: &Status, rates: &[Rate]) -> Table {
    let mut table = Table::new(&[
        Column::Left("BLOCK"),
        Column::Left("STATE"),
        Column::Right("IN"),
        Column::Right("RATE"),
        Column::Right("OUT"),
        Column::Right("RATE"),
        Column::Right("QUEUED"),
        Column::Right("P50"),
        Column::Right("P99"),
    ]);
    for (block, rate) in status.blocks.iter().zip(rates) {
        let ports = Ports::of(status, block);
        let [p50, p99] = latencies(&block.statistics);
        let [taken, taken_rate] = traffic(ports.receives, block.statistics.taken, rate.taken);
        let [sent, sent_rate] = traffic(ports.sends, block.statistics.sent, rate.sent);
        let queued = if ports.receives { ports.queued.to_string() } else { String::new() };
        let state = state(&block.statistics);
        table.row([block.name.clone(), state, taken, taken_rate, sent, sent_rate, queued, p50, p99]);
    }
    table
}

/// One line: what the blocks do now.
pub fn progress_line(status: &Status, rates: &[Rate]) -> String {
    let mut line = format!("{:.1} s:", status.elapsed.as_secs_f64());
    for (block, rate) in status.blocks.iter().zip(rates) {
        let ports = Ports::of(status, block);
        let (count, rate) = if ports.sends {
            (block.statistics.sent, rate.sent)
        } else {
            (block.statistics.taken, rate.taken)
        };
        line += &format!("  {} {count} ({})", block.name, units::per_second(rate));
    }
    let queued: u64 = status.connections.iter().map(|connection| connection.queued).sum();
    line + &format!("  queued {queued}")
}

/// The blocks at the end, with their average rates.
pub fn block_summary(status: &Status) -> Table {
    let mut table = Table::new(&[
        Column::Left("BLOCK"),
        Column::Right("IN"),
        Column::Right("RATE"),
        Column::Right("OUT"),
        Column::Right("RATE"),
        Column::Right("LATENCY P50"),
        Column::Right("P99"),
        Column::Right("RESTARTS"),
        Column::Right("FAILURES"),
    ]);
    let average = |count: u64| count as f64 / status.elapsed.as_secs_f64();
    for block in &status.blocks {
        let ports = Ports::of(status, block);
        let [p50, p99] = latencies(&block.statistics);
        let (taken, sent) = (block.statistics.taken, block.statistics.sent);
        let [taken, taken_rate] = traffic(ports.receives, taken, average(taken));
        let [sent, sent_rate] = traffic(ports.sends, sent, average(sent));
        let restarts = restarts(&block.statistics).to_string();
        let failures = block.statistics.failures.to_string();
        table.row([block.name.clone(), taken, taken_rate, sent, sent_rate, p50, p99, restarts, failures]);
    }
    table
}

/// The connections at the end, with what was lost on them and why.
pub fn connection_summary(status: &Status) -> Table {
    let mut table = Table::new(&[
        Column::Left("CONNECTION"),
        Column::Right("SENT"),
        Column::Right("TAKEN"),
        Column::Left("DROPPED"),
    ]);
    for connection in &status.connections {
        table.row([
            format!("{} -> {}", connection.from, connection.to),
            connection.sent.to_string(),
            connection.taken.to_string(),
            drops(connection),
        ]);
    }
    table
}

/// What ends at a block.
struct Ports {
    receives: bool,
    sends: bool,
    queued: u64,
}

impl Ports {
    fn of(status: &Status, block: &BlockStatus) -> Self {
        let ends_here =
            |port: &str| port.strip_prefix(block.name.as_str()).is_some_and(|rest| rest.starts_with('.'));
        // Its connections may have been undone since.
        let (receives, sends) = (block.statistics.taken > 0, block.statistics.sent > 0);
        let mut ports = Self { receives, sends, queued: 0 };
        for connection in &status.connections {
            ports.sends |= ends_here(&connection.from);
            if ends_here(&connection.to) {
                ports.receives = true;
                ports.queued += connection.queued;
            }
        }
        ports
    }
}

/// A number of buffers and a rate; nothing for a block that has no such ports.
fn traffic(has_ports: bool, buffers: u64, rate: f64) -> [String; 2] {
    if has_ports { [buffers.to_string(), units::per_second(rate)] } else { Default::default() }
}

fn drops(connection: &ConnectionStatus) -> String {
    let reasons = [
        (connection.dropped_newest, "newest, queue full"),
        (connection.dropped_oldest, "oldest, queue full"),
        (connection.lost_in_hand, "in hand of a killed receiver"),
        (connection.left_behind + connection.queued, "left when the receiver ended"),
    ];
    let lost: Vec<String> = reasons
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, reason)| format!("{count} ({reason})"))
        .collect();
    if lost.is_empty() { "0".to_owned() } else { lost.join(", ") }
}

fn state(statistics: &BlockStatistics) -> String {
    match (statistics.stage, restarts(statistics)) {
        (Stage::Declared, _) => "declared".to_owned(),
        (Stage::Starting, _) => "starting".to_owned(),
        (Stage::Running, 0) => "running".to_owned(),
        (Stage::Running, restarts) => format!("restart {restarts}"),
        (Stage::Done, _) => "done".to_owned(),
        (Stage::Failed, _) => "failed".to_owned(),
    }
}

fn restarts(statistics: &BlockStatistics) -> u64 {
    statistics.starts.saturating_sub(1)
}

fn latencies(statistics: &BlockStatistics) -> [String; 2] {
    let shown = |latency: Duration| units::nanoseconds(latency.as_nanos() as f64);
    statistics.latency.map_or_else(Default::default, |latency| [latency.p50, latency.p99].map(shown))
}
