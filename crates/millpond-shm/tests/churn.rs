//! Connections made and broken at random, under load, while processes are killed now and then: no leak, no stall, everything
//! accounted for.
//!
//! The usual run is small. `MILLPOND_CHURN_SECONDS=60 MILLPOND_CHURN_PROCESSES=40 cargo test -p millpond-shm --test churn` goes on for
//! a minute, with 100 blocks in 40 processes.

mod support;

use millpond_shm::{
    ConnectionConfig, Error, Input, InputConfig, Monitor, Output, OutputConfig, Policy, Pond, PondConfig,
    PoolConfig, Role, Wait,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::{Child, Parent, eventually, unique_name};

/// Connections at a time, at most.
const CONNECTIONS: usize = 200;
/// Changes between two kills.
const CHANGES_BETWEEN_KILLS: u32 = 100;

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    if let Some((_, parent)) = Parent::scenario() {
        stream(&parent);
    }
}

struct Block {
    output: Output,
    input: Input,
    counters: millpond_shm::BlockCounters,
}

/// Sends on every output and takes from every input, until the parent closes the pipe.
fn stream(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Worker).expect("attach");
    let party = pond.waiter(Wait::Block).expect("a waiter");
    let open = |block: u64| {
        let (waiter, wait) = (Some(party.clone()), Wait::Block);
        let output = OutputConfig { waiter: waiter.clone(), wait, ..OutputConfig::default() };
        let input = InputConfig { waiter, wait, ..InputConfig::default() };
        Block {
            output: pond.output(&format!("b{block}.out"), &output).expect("an output"),
            input: pond.input(&format!("b{block}.in"), &input).expect("an input"),
            counters: pond.block_counters(&format!("b{block}")).expect("counters"),
        }
    };
    let mut blocks: Vec<Block> = (parent.number("first")..parent.number("end")).map(open).collect();
    parent.say("ready");
    let ending = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !parent.listen().is_empty() {}
            ending.store(true, Ordering::Relaxed);
        });
        while !ending.load(Ordering::Relaxed) {
            for block in &mut blocks {
                // Full queues and an exhausted pool are what load looks like here.
                if let Ok(buffer) = block.output.allocate(64) {
                    let _ = block.output.try_send(buffer.freeze());
                }
                for _ in 0..16 {
                    if block.input.try_receive().is_err() {
                        break;
                    }
                    block.counters.set(0, block.counters.get(0) + 1);
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn connections_come_and_go_under_load() {
    let processes = setting("MILLPOND_CHURN_PROCESSES", 12);
    let blocks = processes * 5 / 2;
    let seed = setting("MILLPOND_CHURN_SEED", std::process::id().into());
    println!("MILLPOND_CHURN_SEED={seed}");
    let name = unique_name("churn");
    let config = PondConfig { pools: vec![PoolConfig::new(64, 4096)], table_slots: 4096 };
    let pond = Pond::create(&name, &config, Role::Server).unwrap();
    let monitor = Monitor::open(&name).unwrap();
    let start = |place: u64| {
        let (first, end) = (place * blocks / processes, (place + 1) * blocks / processes);
        let mut child = Child::spawn(
            "stream",
            &[("pond", &name), ("first", &first.to_string()), ("end", &end.to_string())],
        );
        child.expect("ready");
        child
    };
    let mut children: Vec<Child> = (0..processes).map(start).collect();
    let mut random = Random(seed);
    let mut live: BTreeSet<(u64, u64)> = BTreeSet::new();
    let (mut made, mut broken, mut refused, mut kills) = (0u32, 0u32, 0u32, 0u32);
    let end = Instant::now() + Duration::from_secs(setting("MILLPOND_CHURN_SECONDS", 0));
    while made + broken < 1000 || Instant::now() < end {
        let pair = (random.below(blocks), random.below(blocks));
        let (from, to) = (format!("b{}.out", pair.0), format!("b{}.in", pair.1));
        if live.remove(&pair) {
            pond.disconnect(&from, &to).unwrap();
            broken += 1;
        } else if live.len() < CONNECTIONS {
            let policies = [Policy::Block, Policy::DropNewest, Policy::DropOldest];
            let policy = Some(policies[random.below(3) as usize]);
            let depth = Some(1 + random.below(16) as u32);
            match pond.connect(&from, &to, &ConnectionConfig { depth, policy, ..ConnectionConfig::default() })
            {
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
            pond.disconnect(&format!("b{}.out", some.0), &format!("b{}.in", some.1)).unwrap();
            broken += 1;
        }
        if (made + broken) % CHANGES_BETWEEN_KILLS == 0 {
            let place = random.below(processes);
            children[place as usize].kill();
            children[place as usize] = start(place);
            kills += 1;
            let report = monitor.check();
            assert!(report.is_clean(), "{:?}", report.problems);
        }
        if random.below(8) == 0 {
            std::thread::sleep(Duration::from_millis(1)); // let some data flow
        }
    }
    println!("{made} made, {broken} broken, {refused} refused, {kills} kills, {} at the end", live.len());
    for (from, to) in std::mem::take(&mut live) {
        pond.disconnect(&format!("b{from}.out"), &format!("b{to}.in")).unwrap();
    }
    eventually("every connection is gone", || monitor.snapshot().connections.is_empty());

    // Nobody stalls: in one great ring, everybody still receives.
    let received = || -> Vec<(String, u64)> {
        monitor.snapshot().blocks.iter().map(|block| (block.name.clone(), block.counters[0])).collect()
    };
    let before = received();
    assert_eq!(before.len() as u64, blocks);
    assert!(before.iter().map(|(_, count)| count).sum::<u64>() > 1000, "hardly any data flowed");
    for block in 0..blocks {
        let to = format!("b{}.in", (block + 1) % blocks);
        pond.connect(&format!("b{block}.out"), &to, &ConnectionConfig::default()).unwrap();
    }
    eventually("every block receives", || received().iter().zip(&before).all(|(now, then)| now.1 > then.1));
    for block in 0..blocks {
        pond.disconnect(&format!("b{block}.out"), &format!("b{}.in", (block + 1) % blocks)).unwrap();
    }
    eventually("every connection is gone", || monitor.snapshot().connections.is_empty());

    // No leak: everybody leaves, and every buffer is free.
    for child in &mut children {
        child.tell("");
    }
    for child in &mut children {
        assert!(child.wait().success());
    }
    eventually("everybody has left", || monitor.snapshot().processes.len() == 1);
    let report = monitor.check();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!((report.free, report.queued, report.unsettled), (report.slots, 0, 0), "{report:?}");
}
