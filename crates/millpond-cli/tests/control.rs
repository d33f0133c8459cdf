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

    let mut unread = millpond.start("subscribe mill lights/*");
    unread.close_stdout();
    let publish = || ok(millpond.run("publish mill lights/red true"));
    wait_until("it listens", || publish() == "delivered to 1 subscriber\n");
    wait_until("it ends with its reader", || publish() == "delivered to 0 subscribers\n");
    let done = unread.wait();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));

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

/// The connection from this port to that one.
fn connection(millpond: &Millpond, from: &str, to: &str) -> Value {
    let all = snapshot(millpond);
    let mut connections = all["pond"]["connections"].as_array().into_iter().flatten();
    connections.find(|c| c["from"] == from && c["to"] == to).cloned().unwrap_or_default()
}

#[test]
fn blocks_are_connected_by_name_and_as_their_ports_state() {
    let millpond = Millpond::new();
    let _running = start(&millpond);
    let _blocks = [
        "signal tone --param rate_hz=100 --param frames=1",
        "throttle paced",
        "sync-merge table --param inputs=a,b --param late=late-a,late-b --param redeliver=true --param depth=32,16",
    ]
    .map(|block| millpond.start(&format!("block {block} --pond mill")));
    // The ports of `table` are those that its parameters name.
    let connected = |ends: &str| millpond.run(&format!("connect mill {ends}")).code == Some(0);
    wait_until("the inputs are there", || connected("paced table.a"));
    fails(
        millpond.run("connect mill paced table"),
        1,
        &["block `table` of pond `mill` has 2 inputs, and one is needed: table.a, table.b"],
    );
    // More parameters than one message holds.
    let all = ok(millpond.run("get mill table"));
    assert!(all.contains("buffers held at most, 2 or more") && all.contains("late-a,late-b"), "{all}");
    fails(
        millpond.run("connect mill tabel sink"),
        1,
        &["no output port `tabel`; there are: gain.out, paced.out"],
    );
    fails(millpond.run("connect mill paced late --ahead"), 2, &["expected `block.port`"]);
    assert_eq!(ok(millpond.run("connect mill paced table.b --depth 20")), "connected paced.out -> table.b\n");
    assert_eq!(ok(millpond.run("connect mill tone paced")), "connected tone.out -> paced.in\n");
    // With redelivery, what is held is queued as well.
    assert_eq!(connection(&millpond, "paced.out", "table.a")["depth"], 34);
    assert_eq!(connection(&millpond, "paced.out", "table.b")["depth"], 20);
    // Outputs are there once it is known what they carry.
    wait_until("the outputs are there", || connected("table.late-a sink"));
    assert_eq!(connection(&millpond, "table.late-a", "sink.in")["policy"], "drop-newest");
    ok(millpond.run("connect mill table.late-b sink --policy block"));
    assert_eq!(connection(&millpond, "table.late-b", "sink.in")["policy"], "block");
    assert_eq!(connection(&millpond, "gain.out", "sink.in")["policy"], "block");

    fails(
        millpond.run("disconnect mill table sink"),
        1,
        &[
            "which connection of pond `mill` is meant? There are: table.late-a -> sink.in, table.late-b -> sink.in",
        ],
    );
    assert_eq!(
        ok(millpond.run("disconnect mill table.late-a sink")),
        "disconnected table.late-a -> sink.in\n"
    );
    wait_until("it is gone", || connection(&millpond, "table.late-a", "sink.in").is_null());
    fails(
        millpond.run("disconnect mill sink gain"),
        1,
        &["no connection sink -> gain; there are: source.out -> gain.in"],
    );
    ok(millpond.run("stop mill --now"));
    millpond.assert_nothing_left();
}

/// Whether a program that was started here, and that nobody has waited for yet, has ended.
fn has_ended(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
}

#[test]
fn what_a_block_that_just_starts_states_is_waited_for() {
    let millpond = Millpond::new();
    let _running = start(&millpond);
    let start_block =
        || millpond.start("block interpolate steady --pond mill --param rate_hz=10 --param redeliver=true");
    let kill = |block: Running| {
        block.kill();
        wait_until("its death is recovered", || pid_of(&millpond, "steady").is_none());
    };
    let first = start_block();
    wait_until("the block is there", || pid_of(&millpond, "steady").is_some());
    kill(first);
    // It is not asked about a port that states nothing.
    assert_eq!(ok(millpond.run("connect mill steady sink")), "connected steady.out -> sink.in\n");
    let takes_part = |pid: u32| {
        let all = snapshot(&millpond);
        let mut processes = all["pond"]["processes"].as_array().into_iter().flatten();
        processes.any(|process| process["pid"] == pid)
    };
    // On a busy machine the block may start more slowly than it is waited for.
    wait_until("a connection is made while the block starts", || {
        let connect = millpond.start("connect mill gain steady");
        wait_until("it asks", || takes_part(connect.pid()) || has_ended(connect.pid()));
        let block = start_block();
        let connected = connect.wait().code == Some(0);
        kill(block);
        connected
    });
    assert_eq!(connection(&millpond, "gain.out", "steady.in")["depth"], 66);
    ok(millpond.run("stop mill --now"));
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
