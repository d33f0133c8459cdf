//! What `millpond top` shows: rows from one look at a pond and what was seen before.

use std::collections::HashMap;
use std::time::Instant;

use millpond::{BlockStatistics, Policy, Stage};
use millpond_shm::{BlockInfo, ConnectionInfo, Monitor, Snapshot};
use serde::Serialize;

use crate::rates::Rates;

/// Everything at one moment.
#[derive(Serialize)]
pub struct Rows {
    /// The pond's name.
    pub pond: String,
    /// Whether any of its processes is alive; if not, this is its last state.
    pub alive: bool,
    /// Its living processes.
    pub processes: usize,
    /// Processes recovered so far.
    pub recoveries: u32,
    /// Buffers in use, and all buffers.
    pub buffers_used: u64,
    /// All buffers.
    pub buffers: u64,
    /// Blocks, each followed by its queues.
    pub rows: Vec<Row>,
}

/// A block, or a queue that it takes from.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// The block's name; of a queue, the output port it comes from and the input port.
    pub name: String,
    /// A queue of the block above.
    pub is_queue: bool,
    /// `running`, `open` and the like.
    pub state: String,
    /// Process that runs the block.
    pub pid: Option<u32>,
    /// What it waits for, as its queues say.
    pub waiting: &'static str,
    /// Percent of a core that its process uses.
    pub cpu_percent: Option<f64>,
    /// Buffers taken a second.
    pub taken_per_s: f64,
    /// Buffers sent a second.
    pub sent_per_s: f64,
    /// Buffers that wait.
    pub queued: u64,
    /// Buffers that may wait.
    pub depth: u64,
    /// Buffers lost, for whatever reason.
    pub dropped: u64,
    /// Nanoseconds from a buffer's stamp to its being taken: half were faster.
    pub latency_p50_ns: Option<u64>,
    /// 99 of 100 were faster.
    pub latency_p99_ns: Option<u64>,
    /// Starts of the block beyond the first.
    pub restarts: u64,
}

/// Looks at a pond again and again.
pub struct Sampler {
    monitor: Monitor,
    start: Instant,
    block_rates: Rates,
    queue_rates: Rates,
    cpu: HashMap<u32, (Instant, u64)>,
}

impl Sampler {
    /// Nothing has been looked at yet.
    pub fn new(monitor: Monitor) -> Self {
        Self {
            monitor,
            start: Instant::now(),
            block_rates: Rates::default(),
            queue_rates: Rates::default(),
            cpu: HashMap::new(),
        }
    }

    /// Looks now. Rates are those of the last second.
    pub fn look(&mut self) -> Rows {
        let pond = self.monitor.snapshot();
        let at = self.start.elapsed();
        let cpu = self.cpu_percent(&pond);
        let statistics: Vec<BlockStatistics> =
            pond.blocks.iter().map(|block| BlockStatistics::from_counters(&block.counters)).collect();
        let counts = pond.blocks.iter().zip(&statistics);
        let rates = self.block_rates.add(at, counts.map(|(b, s)| (b.name.as_str(), s.taken, s.sent)));
        let names: Vec<String> = pond.connections.iter().map(|c| format!("{} -> {}", c.from, c.to)).collect();
        let counts = names.iter().zip(&pond.connections);
        let queue_rates = self.queue_rates.add(at, counts.map(|(n, c)| (n.as_str(), c.taken, c.published)));
        let mut rows = Vec::new();
        for ((block, statistics), rate) in pond.blocks.iter().zip(&statistics).zip(rates) {
            let queues = pond.connections.iter().zip(&names).zip(&queue_rates);
            let queues: Vec<Row> = queues
                .filter(|((connection, _), _)| is_port_of(block, &connection.to))
                .map(|((connection, name), rate)| Row {
                    taken_per_s: rate.taken,
                    sent_per_s: rate.sent,
                    ..queue_row(connection, name)
                })
                .collect();
            rows.push(Row {
                cpu_percent: block.pid.and_then(|pid| cpu.get(&pid).copied()),
                taken_per_s: rate.taken,
                sent_per_s: rate.sent,
                queued: queues.iter().map(|queue| queue.queued).sum(),
                depth: queues.iter().map(|queue| queue.depth).sum(),
                dropped: queues.iter().map(|queue| queue.dropped).sum(),
                ..block_row(&pond, block, statistics)
            });
            rows.extend(queues);
        }
        Rows {
            alive: pond.processes.iter().any(|process| process.state != "dead"),
            processes: pond.processes.iter().filter(|process| process.state != "dead").count(),
            recoveries: pond.recoveries,
            buffers_used: pond.pools.iter().map(|pool| u64::from(pool.used)).sum(),
            buffers: pond.pools.iter().map(|pool| u64::from(pool.blocks)).sum(),
            pond: pond.name,
            rows,
        }
    }

    /// What each process has used of a core since the last look.
    fn cpu_percent(&mut self, pond: &Snapshot) -> HashMap<u32, f64> {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let now = Instant::now();
        let mut percent = HashMap::new();
        let mut seen = HashMap::new();
        for process in &pond.processes {
            let Some(ticks) = cpu_ticks(process.pid) else { continue };
            if let Some((then, before)) = self.cpu.get(&process.pid) {
                let seconds = now.duration_since(*then).as_secs_f64().max(1e-3);
                let used = ticks.saturating_sub(*before) as f64 / ticks_per_second;
                percent.insert(process.pid, 100.0 * used / seconds);
            }
            seen.insert(process.pid, (now, ticks));
        }
        self.cpu = seen;
        percent
    }
}

/// User and system time of a process (fields 14 and 15 of `/proc/PID/stat`), in clock ticks.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn is_port_of(block: &BlockInfo, port: &str) -> bool {
    port.rsplit_once('.').is_some_and(|(of, _)| of == block.name)
}

fn block_row(pond: &Snapshot, block: &BlockInfo, statistics: &BlockStatistics) -> Row {
    let process = pond.processes.iter().find(|process| Some(process.pid) == block.pid);
    let state = match (statistics.stage, process.map(|process| process.state)) {
        (Stage::Done, _) => "done",
        (Stage::Failed, _) => "failed",
        (_, Some(why @ ("stalled" | "stopped" | "traced" | "dead"))) => why,
        (Stage::Declared, _) => "declared",
        (_, None) => "no process",
        (Stage::Starting, _) => "starting",
        (Stage::Running, _) => "running",
    };
    let mut inputs = pond.connections.iter().filter(|c| is_port_of(block, &c.to)).peekable();
    let mut outputs = pond.connections.iter().filter(|c| is_port_of(block, &c.from));
    let is_full = |c: &ConnectionInfo| c.policy == Policy::Block && c.queued >= u64::from(c.depth);
    let waiting = if state != "running" {
        ""
    } else if outputs.any(is_full) {
        "output"
    } else if inputs.peek().is_some() && inputs.all(|c| c.queued == 0) {
        "input"
    } else {
        ""
    };
    Row {
        name: block.name.clone(),
        state: state.to_owned(),
        pid: block.pid,
        waiting,
        latency_p50_ns: statistics.latency.map(|latency| latency.p50.as_nanos() as u64),
        latency_p99_ns: statistics.latency.map(|latency| latency.p99.as_nanos() as u64),
        restarts: statistics.starts.saturating_sub(1),
        ..Row::default()
    }
}

fn queue_row(connection: &ConnectionInfo, name: &str) -> Row {
    let died = match (connection.sender_died, connection.receiver_died) {
        (true, _) => Some("sender died"),
        (_, true) => Some("receiver died"),
        _ => None,
    };
    Row {
        name: name.to_owned(),
        is_queue: true,
        state: died.unwrap_or(connection.state).to_owned(),
        queued: connection.queued,
        depth: u64::from(connection.depth),
        dropped: connection.dropped_newest + connection.dropped_oldest + connection.lost_in_hand,
        ..Row::default()
    }
}
