//! A pond that runs, changed from outside: parameters, calls, connections, blocks that come and go, and its end.

mod millpond;

use std::time::{Duration, Instant};

use millpond::{Done, Millpond, Running};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PIPELINE: &str = r#"
name = "mill"
connect = ["source -> gain", "gain -> sink"]

[[pool]]
block_bytes = 4096
count = 256

[blocks.source]
type = "null-source"
rate_hz = 200.0
items = 16

[blocks.gain]
type = "gain"
k = 2.0

[blocks.sink]
type = "null-sink"
"#;

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn start(millpond: &Millpond) -> Running {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let file = std::env::temp_dir().join(format!("millpond-control-{}-{number}.toml", std::process::id()));
    std::fs::write(&file, PIPELINE).unwrap();
    let running = millpond.start(&format!("run {} --quiet", file.display()));
    wait_until("the pipeline runs", || taken(millpond, "sink") > 0);
    std::fs::remove_file(&file).unwrap();
    running
}

fn snapshot(millpond: &Millpond) -> Value {
    let done = millpond.run("inspect mill --json");
    serde_json::from_str::<Value>(&done.stdout).unwrap_or_default()
}

/// Buffers that went through all connections to the block.
fn taken(millpond: &Millpond, block: &str) -> u64 {
    let all = snapshot(millpond);
    let connections = all["pond"]["connections"].as_array().into_iter().flatten();
    let to = format!("{block}.in");
    connections.filter(|c| c["to"] == to.as_str()).filter_map(|c| c["taken"].as_u64()).sum()
}

fn pid_of(millpond: &Millpond, block: &str) -> Option<u64> {
    let all = snapshot(millpond);
    let blocks = all["pond"]["blocks"].as_array().cloned().unwrap_or_default();
    blocks.iter().find(|known| known["name"] == block)?["pid"].as_u64()
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn ok(done: Done) -> String {
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    done.stdout
}

fn fails(done: Done, code: i32, parts: &[&str]) {
    assert_eq!(done.code, Some(code), "{}{}", done.stdout, done.stderr);
    for part in parts {
        assert!(done.stderr.contains(part), "no `{part}` in: {}", done.stderr);
    }
}

#[test]
fn parameters_are_set_and_survive_the_block() {
    let millpond = Millpond::new();
    let _running = start(&millpond);
    assert_eq!(ok(millpond.run("get mill gain k")), "2\n");
    assert_eq!(ok(millpond.run("set mill gain k 3.5")), "gain.k = 3.5\n");
    assert_eq!(ok(millpond.run("get mill gain k")), "3.5\n");
    let table = ok(millpond.run("get mill gain"));
    assert!(table.contains("a number from -1000000000 to 1000000000"), "{table}");
    let all: Value = serde_json::from_str(&ok(millpond.run("get mill gain --json"))).unwrap();
    assert_eq!(all[0]["value"], "3.5");
    fails(
        millpond.run("set mill gain k 1e10"),
        1,
        &["parameter `k`: expected a number from -1000000000 to 1000000000, found 10000000000"],
    );
    fails(millpond.run("set mill gain kk 1"), 1, &["no parameter `kk`, did you mean `k`?"]);
    fails(millpond.run("set mill source items 8"), 1, &["cannot be changed while it runs"]);
    fails(
        millpond.run("set mill gian k 1"),
        3,
        &["nobody in pond `mill` answers", "did you mean `gain/set`?"],
    );
    fails(millpond.run("get nowhere gain"), 1, &["there is no pond `nowhere`"]);

    let pid = pid_of(&millpond, "gain").expect("it runs");
    signal(pid as u32, Signal::KILL);
    wait_until("the block is back", || pid_of(&millpond, "gain").is_some_and(|now| now != pid));
    wait_until("it answers", || millpond.run("get mill gain k").code == Some(0));
    assert_eq!(ok(millpond.run("get mill gain k")), "3.5\n");
    assert!(ok(millpond.run("stop mill")).contains("stopped mill (in order)"));
    millpond.assert_nothing_left();
}

#[test]
fn calls_and_messages_go_to_and_fro() {
    let millpond = Millpond::new();
    let _running = start(&millpond);
    fails(millpond.run("call mill gain/reset"), 1, &["block `gain` has no call `reset`"]);
    fails(millpond.run("call mill gain//reset"), 2, &["the topic `gain//reset` cannot be used"]);
    let answer: Value = serde_json::from_str(&ok(millpond.run("call mill gain/get \"k\""))).unwrap();
    assert_eq!(answer["name"], "k");
    assert_eq!(ok(millpond.run("publish mill lights/red true")), "delivered to 0 subscribers\n");
    let listener = millpond.start("subscribe mill lights/* --count 1 --json");
    wait_until("it listens", || {
        ok(millpond.run("publish mill lights/red true")) == "delivered to 1 subscriber\n"
    });
    let heard: Value = serde_json::from_str(&listener.wait().stdout).unwrap();
    assert_eq!((&heard["topic"], &heard["value"]), (&"lights/red".into(), &true.into()));
    let inspected = ok(millpond.run("inspect mill"));
    assert!(inspected.contains("message bus") && inspected.contains("answers gain/**"), "{inspected}");
    ok(millpond.run("stop mill --now"));
    millpond.assert_nothing_left();
}

#[test]
fn a_block_comes_and_goes_while_the_pipeline_runs() {
    let millpond = Millpond::new();
    let _running = start(&millpond);
    fails(millpond.run("connect mill gain.out late.in"), 1, &["no input port `late.in`", "sink.in"]);
    let _late = millpond.start("block null-sink late --pond mill");
    wait_until("the block is there", || pid_of(&millpond, "late").is_some());
    assert_eq!(
        ok(millpond.run("connect mill gain.out late.in --depth 8 --policy drop-oldest")),
        "connected gain.out -> late.in\n"
    );
    fails(millpond.run("connect mill gain.out late.in"), 1, &["already has the connection"]);
    wait_until("it gets data", || taken(&millpond, "late") > 20);
    let before = taken(&millpond, "sink");
    ok(millpond.run("disconnect mill gain.out late.in"));
    fails(millpond.run("disconnect mill gain.out late.in"), 1, &["has no connection"]);
    wait_until("the others go on", || taken(&millpond, "sink") > before + 20);
    ok(millpond.run("connect mill gain.out late.in"));
    wait_until("it gets data again", || taken(&millpond, "late") > 20);
    assert_eq!(ok(millpond.run("remove mill late")), "removed late\n");
    assert_eq!(pid_of(&millpond, "late"), None);
    fails(millpond.run("remove mill late"), 1, &["no block `late`; there are: source, gain, sink"]);
    let before = taken(&millpond, "sink");
    wait_until("the others go on", || taken(&millpond, "sink") > before + 20);
    let inspected = millpond.run("inspect mill");
    assert_eq!(inspected.code, Some(0), "{}", inspected.stdout);
    let stopped = ok(millpond.run("stop mill --json"));
    assert_eq!(
        serde_json::from_str::<Value>(&stopped).unwrap(),
        serde_json::json!({ "pond": "mill", "stopped": "in order", "killed": [] })
    );
    millpond.assert_nothing_left();
}

#[test]
fn stop_works_without_a_supervisor_and_with_processes_that_stand_still() {
    let millpond = Millpond::new();
    let running = start(&millpond);
    let late = millpond.start("block null-sink late --pond mill");
    wait_until("the block is there", || pid_of(&millpond, "late").is_some());
    signal(late.pid(), Signal::STOP);
    signal(running.pid(), Signal::KILL);
    let said = ok(millpond.run("stop mill --timeout 100ms"));
    assert!(said.contains("killed"), "{said}");
    millpond.assert_nothing_left();
    fails(millpond.run("stop mill"), 1, &["there is no pond `mill`"]);
}
