//! Connections of a supervised pipeline made and broken at random, under load, while its processes are killed now and then: no leak,
//! no stall, everything accounted for.
//!
//! The usual run is small. `MILLPOND_CHURN_SECONDS=60 MILLPOND_CHURN_PROCESSES=40 cargo test -p millpond-cli --test churn` goes on for
//! a minute, with 100 blocks in 40 processes.

mod pipeline;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use millpond::{BlockStatistics, Policy};
use millpond_shm::{ConnectionConfig, Error, Monitor, Pond, Role};
use pipeline::{Directory, Pipeline, kill, wait_until};
use rustix::process::Signal;

/// Changes between two kills.
const CHANGES_BETWEEN_KILLS: u32 = 100;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Which blocks there are. Data flows from lower numbers to higher ones: a loop of copies would fill up and stand still.
#[derive(Clone, Copy)]
struct Blocks {
    processes: u64,
    all: u64,
    /// So many sources come first, and as many sinks last.
    ends: u64,
}

impl Blocks {
    fn new() -> Self {
        let processes = setting("MILLPOND_CHURN_PROCESSES", 12);
        let all = processes * 5 / 2;
        Self { processes, all, ends: all / 5 }
    }

    fn first_sink(self) -> u64 {
        self.all - self.ends
    }

    /// One connection to each block but the first: a line through all copies, fed by all sources, heard by all sinks.
    fn line(self) -> Vec<(u64, u64)> {
        let copies = (self.ends + 1..self.first_sink()).map(|block| (block - 1, block));
        let sources = (0..self.ends).map(|source| (source, self.ends));
        let sinks = (self.first_sink()..self.all).map(|sink| (sink - self.ends, sink));
        copies.chain(sources).chain(sinks).collect()
    }

    fn file(self) -> String {
        let mut text = "name = \"churn\"\nconnect = [\n".to_owned();
        for (from, to) in self.line() {
            let _ = writeln!(text, "    \"b{from} -> b{to}\",");
        }
        text += "]\n[[pool]]\nblock_bytes = 4096\ncount = 4096\n[blocks]\n";
        for block in 0..self.all {
            let kind = match block {
                _ if block < self.ends => "null-source\", rate_hz = 200, items = 16",
                _ if block < self.first_sink() => "copy\"",
                _ => "null-sink\"",
            };
            let process = block % self.processes;
            let restart = "restart = { limit = 100000, within = \"60s\" }";
            let _ = writeln!(text, "b{block} = {{ type = \"{kind}, process = \"p{process}\", {restart} }}");
        }
        text
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn connections_of_a_supervised_pipeline_come_and_go_under_load() {
    let directory = Directory::new();
    let file = directory.write("churn.toml", &Blocks::new().file());
    let run = Pipeline::start_in(directory, &file, &[]);
    let seed = setting("MILLPOND_CHURN_SEED", std::process::id().into()).to_string();
    println!("MILLPOND_CHURN_SEED={seed}");
    // A process of its own sees the ponds of the run's directory.
    let driven = Command::new(std::env::current_exe().unwrap())
        .args(["drive", "--exact", "--ignored", "--nocapture"])
        .env("MILLPOND_RUNTIME_DIR", run.directory().path("ponds"))
        .env("MILLPOND_CHURN_SEED", seed)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&driven.stdout);
    assert!(driven.status.success(), "{said}{}{}", String::from_utf8_lossy(&driven.stderr), run.stderr());
    println!("{said}");
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    let deaths = said.lines().find_map(|line| line.strip_prefix("kills: ")).unwrap();
    let killed = end.stderr.matches("was killed by signal 9").count();
    assert_eq!(killed.to_string(), deaths, "only those died that were killed: {}", end.stderr);
}

#[test]
#[ignore = "run as a child process by the other test"]
fn drive() {
    let blocks = Blocks::new();
    let mut random = Random(setting("MILLPOND_CHURN_SEED", 1));
    wait_until("the pond is there", || Monitor::open("churn").is_ok());
    let monitor = Monitor::open("churn").unwrap();
    let moved = || -> Vec<(String, u64)> {
        let moved = |counters: &[u64]| {
            let statistics = BlockStatistics::from_counters(counters);
            statistics.taken + statistics.sent
        };
        let snapshot = monitor.snapshot();
        snapshot.blocks.iter().map(|block| (block.name.clone(), moved(&block.counters))).collect()
    };
    wait_until("data flows everywhere", || {
        let moved = moved();
        moved.len() as u64 == blocks.all && moved.iter().all(|(_, count)| *count > 0)
    });
    let pond = Pond::attach("churn", Role::Tool).unwrap();
    let names = |(from, to): (u64, u64)| (format!("b{from}.out"), format!("b{to}.in"));
    let disconnect = |pair| {
        let (from, to) = names(pair);
        pond.disconnect(&from, &to).unwrap();
    };
    let mut live: BTreeSet<(u64, u64)> = blocks.line().into_iter().collect();
    let most = live.len() * 2;
    let (mut made, mut broken, mut refused, mut kills) = (0u32, 0u32, 0u32, 0u32);
    let end = Instant::now() + Duration::from_secs(setting("MILLPOND_CHURN_SECONDS", 0));
    while made + broken < 1000 || Instant::now() < end {
        let from = random.below(blocks.first_sink());
        let first = (from + 1).max(blocks.ends);
        let pair = (from, first + random.below(blocks.all - first));
        if live.remove(&pair) {
            disconnect(pair);
            broken += 1;
        } else if live.len() < most {
            let policies = [Policy::Block, Policy::DropNewest, Policy::DropOldest];
            let policy = Some(policies[random.below(3) as usize]);
            let depth = Some(1 + random.below(16) as u32);
            let config = ConnectionConfig { depth, policy, ..ConnectionConfig::default() };
            let (from, to) = names(pair);
            match pond.connect(&from, &to, &config) {
                Ok(()) => {
                    live.insert(pair);
                    made += 1;
                }
                // As many as one output can have.
                Err(Error::InvalidConfig { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        } else {
            let some = live.iter().nth(random.below(live.len() as u64) as usize).copied().unwrap();
            live.remove(&some);
            disconnect(some);
            broken += 1;
        }
        if (made + broken) % CHANGES_BETWEEN_KILLS == 0 {
            let snapshot = monitor.snapshot();
            let running: Vec<u32> = snapshot.blocks.iter().filter_map(|block| block.pid).collect();
            let victim = running[random.below(running.len() as u64) as usize];
            kill(victim.cast_signed(), Signal::KILL);
            kills += 1;
            // It dies once, however often it is chosen.
            wait_until("its death is recovered", || {
                monitor.snapshot().processes.iter().all(|process| process.pid != victim)
            });
            let report = monitor.check();
            assert!(report.is_clean(), "{:?}", report.problems);
        }
        if random.below(8) == 0 {
            std::thread::sleep(Duration::from_millis(1)); // let some data flow
        }
    }
    println!("\n{made} made, {broken} broken, {refused} refused, {} at the end", live.len());
    println!("kills: {kills}");
    live.into_iter().for_each(disconnect);
    wait_until("every connection is gone", || monitor.snapshot().connections.is_empty());

    // Nobody stalls: connected as at the start, every block takes or sends again.
    let before = moved();
    for pair in blocks.line() {
        let (from, to) = names(pair);
        pond.connect(&from, &to, &ConnectionConfig { depth: Some(8), ..ConnectionConfig::default() })
            .unwrap();
    }
    wait_until("every block goes on", || moved().iter().zip(&before).all(|(now, then)| now.1 > then.1));
    let report = monitor.check();
    assert!(report.is_clean(), "{:?}", report.problems);
}
