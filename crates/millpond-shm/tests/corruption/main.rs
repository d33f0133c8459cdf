//! Shared memory that somebody scribbled over: whatever it holds, nothing panics, hangs, or leaves the pond's memory.

mod harness;
#[path = "../support/mod.rs"]
mod support;

use millpond_shm::{
    ConnectionConfig, Input, InputConfig, Monitor, Output, OutputConfig, Pond, PondConfig, PoolConfig,
    ReceiveError, Role, SendReason,
};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};
use support::segment::Segment;
use support::{Child, Parent, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    match scenario.as_str() {
        "scribble" => scribble(&parent),
        "work" => work(&parent),
        other => panic!("no scenario {other}"),
    }
}

/// Random numbers that are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}

/// Small random scripts.
#[test]
fn random_scripts_do_no_harm() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..60 {
        let bytes: Vec<u8> = (0..400).map(|_| (random.next() >> 32) as u8).collect();
        harness::run(&bytes);
    }
}

/// Every script that the fuzzer kept, those that once found something among them.
#[test]
fn the_corpus_does_no_harm() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/segment");
    let mut ran = 0;
    for script in std::fs::read_dir(&corpus).expect("the corpus").flatten() {
        println!("{}", script.path().display());
        harness::run(&std::fs::read(script.path()).expect("a script"));
        ran += 1;
    }
    assert!(ran > 0, "no script in {}", corpus.display());
}

/// Takes part, and writes random bytes over whatever it may write, until it is killed.
fn scribble(parent: &Parent) {
    let _pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let segment = Segment::of(std::process::id());
    let tables = [
        "Header",
        "Process",
        "WaiterSlot",
        "BlockRecord",
        "PortRecord",
        "PoolRecord",
        "LaneRecord",
        "SlotRecord",
    ];
    let length = segment.file.metadata().unwrap().len();
    let lock = segment.header("registry_lock");
    let mut random = Random(parent.number("seed"));
    parent.say("ready");
    parent.listen();
    loop {
        // Mostly where something is, else anywhere.
        let at = match random.below(16) {
            0 => random.below(length),
            1 => layout_end(&segment) + random.below(4096),
            n => {
                let table = tables[n as usize % tables.len()];
                let entry = if table == "Header" { 0 } else { random.below(12) };
                segment.entry(table, entry, first_field(table)) + random.below(768)
            }
        };
        let bytes = random.next().to_le_bytes();
        let length = 1 + random.below(8);
        // The lock stays: a scribbled owner is a wait of 10 s, and tests/processes.rs has it.
        if at + length <= lock || at >= lock + 4 {
            let _ = segment.file.write_all_at(&bytes[..length as usize], at);
        }
        if random.below(64) == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn first_field(table: &str) -> &'static str {
    match table {
        "Header" => "magic",
        "WaiterSlot" => "bell",
        "PortRecord" => "direction",
        "LaneRecord" => "head",
        "SlotRecord" => "clones",
        _ => "state",
    }
}

/// Where the rings begin.
fn layout_end(segment: &Segment) -> u64 {
    segment.entry("SlotRecord", 64, "clones")
}

/// Sends, receives and allocates, whatever comes of it, until it is told to stop; then says how often what was refused.
fn work(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let name = parent.get("block");
    let open_output = || pond.output(&format!("{name}.out"), &OutputConfig::default());
    let open_input = || pond.input(&format!("{name}.in"), &InputConfig::default());
    let mut out: Option<Output> = Some(open_output().unwrap());
    let mut input: Option<Input> = Some(open_input().unwrap());
    parent.say("ready");
    parent.listen();
    let (mut rounds, mut sent, mut received, mut broken) = (0u64, 0u64, 0u64, 0u64);
    let start = Instant::now();
    let short = Duration::from_millis(2);
    while start.elapsed() < Duration::from_millis(parent.number("milliseconds")) {
        rounds += 1;
        if let Some(out) = &mut out {
            match out.allocate_timeout(40, short) {
                Ok(mut buffer) => {
                    buffer.as_bytes_mut().fill(rounds as u8);
                    match out.send_timeout(buffer, short) {
                        Ok(()) => sent += 1,
                        Err(error) => broken += u64::from(matches!(error.reason, SendReason::Broken { .. })),
                    }
                }
                Err(_) => std::thread::sleep(short),
            }
        }
        if let Some(input) = &mut input {
            match input.receive_timeout(short) {
                Ok(buffer) => {
                    received += 1;
                    std::hint::black_box(buffer.as_bytes().iter().map(|b| u64::from(*b)).sum::<u64>());
                }
                Err(ReceiveError::Broken { .. }) => broken += 1,
                Err(_) => {}
            }
        }
        if rounds.is_multiple_of(50) {
            // As a restarted block would: let go, and take the port again.
            drop((out.take(), input.take()));
            let _ = pond.recover_dead();
            (out, input) = (open_output().ok(), open_input().ok());
            broken += u64::from(out.is_none()) + u64::from(input.is_none());
        }
    }
    parent.say(&format!("{sent} {received} {broken}"));
    drop((out, input));
    drop(pond);
    parent.say("left");
}

#[test]
fn a_process_that_scribbles_over_everything_harms_nobody() {
    let name = unique_name("scribble");
    let config = PondConfig { pools: vec![PoolConfig::new(64, 32)], table_slots: 64 };
    let pond = Pond::create(&name, &config, Role::Worker).unwrap();
    for (from, to) in [("a.out", "b.in"), ("b.out", "a.in"), ("a.out", "c.in"), ("c.out", "b.in")] {
        pond.connect(from, to, &ConnectionConfig { depth: Some(4), ..ConnectionConfig::default() }).unwrap();
    }
    let monitor = Monitor::open(&name).unwrap();
    let mut workers: Vec<Child> = ["a", "b", "c"]
        .map(|block| {
            let parameters = [("pond", name.as_str()), ("block", block), ("milliseconds", "2500")];
            let mut worker = Child::spawn("work", &parameters);
            worker.expect("ready");
            worker
        })
        .into();
    let mut vandal = Child::spawn("scribble", &[("pond", &name), ("seed", "77")]);
    vandal.expect("ready");
    for worker in &mut workers {
        worker.tell("go");
    }
    std::thread::sleep(Duration::from_millis(300)); // some work first that is not disturbed
    vandal.tell("go");
    let mut looks = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2000) {
        let snapshot = monitor.snapshot();
        let report = monitor.check();
        std::hint::black_box((snapshot, report));
        looks += 1;
    }
    vandal.kill();
    let mut totals = [0u64; 3];
    for worker in &mut workers {
        let line = worker.line();
        println!("{line}");
        for (total, number) in totals.iter_mut().zip(line.split(' ')) {
            *total += number.parse::<u64>().unwrap();
        }
        worker.expect("left");
        assert!(worker.wait().success(), "a worker came to harm");
    }
    let [sent, received, broken] = totals;
    assert!(sent > 0 && received > 0, "nothing flowed before: {totals:?}");
    assert!(broken > 0, "nobody noticed anything: {totals:?}");
    assert!(looks > 0, "the monitor hung");
}
