//! A pond made by `millpond init`, its blocks started and connected by hand, killed, and ended in order.

mod millpond;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use millpond::{Done, Millpond, Running};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pond(millpond: &Millpond) -> Value {
    let done = millpond.run("inspect studio --json");
    serde_json::from_str::<Value>(&done.stdout).unwrap_or_default()["pond"].take()
}

fn pid_of(millpond: &Millpond, block: &str) -> Option<u32> {
    let pond = pond(millpond);
    let known = pond["blocks"].as_array()?.iter().find(|known| known["name"] == block)?["pid"].as_u64();
    known.and_then(|pid| pid.try_into().ok())
}

/// A number of the connection to this port.
fn of_connection(millpond: &Millpond, to: &str, what: &str) -> u64 {
    let pond = pond(millpond);
    let connections = pond["connections"].as_array().into_iter().flatten();
    connections.filter(|c| c["to"] == to).find_map(|c| c[what].as_u64()).unwrap_or(0)
}

fn ok(done: Done) -> String {
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    done.stdout
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Whether a process that is stopped has been sent SIGTERM.
fn has_pending_term(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap_or_default();
    u64::from_str_radix(pending.trim(), 16).is_ok_and(|mask| mask & 1 << (Signal::TERM.as_raw() - 1) != 0)
}

fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it has not ended");
    let mut stats =
        threads.flatten().map(|t| std::fs::read_to_string(t.path().join("stat")).unwrap_or_default());
    stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T')))
}

/// The server and a block, once they are there.
fn init(millpond: &Millpond, options: &str) -> Running {
    let server = millpond.start(&format!("init studio {options}"));
    wait_until("the pond is there", || pond(millpond)["name"] == "studio");
    server
}

fn block(millpond: &Millpond, arguments: &str) -> Running {
    let running = millpond.start(&format!("block {arguments} --pond studio"));
    let name = arguments.split(' ').nth(1).unwrap();
    wait_until("the block is there", || pid_of(millpond, name).is_some());
    running
}

/// A file that is removed at the end, whatever the end is.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("millpond-by-hand-{}-{name}", std::process::id())))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn three_sources_a_merger_a_gain_and_a_sink() {
    let millpond = Millpond::new();
    let table = Scratch::new("table.csv");
    let server = init(&millpond, "--pool 4KiBx1024");
    let pools = pond(&millpond)["pools"].clone();
    assert_eq!(
        (&pools[0]["block_bytes"], &pools[0]["blocks"], &pools[1]),
        (&4096.into(), &1024.into(), &Value::Null)
    );
    let blocks = [
        "proc-cpu cpu --param rate_hz=200".to_owned(),
        "proc-memory memory --param rate_hz=50".to_owned(),
        "proc-network network --param rate_hz=50".to_owned(),
        "async-merge table --param inputs=cpu,memory,network".to_owned(),
        "gain scaled --param k=0.001".to_owned(),
        format!("csv-sink file --param path={}", table.0.display()),
    ];
    let running: Vec<Running> = blocks.iter().map(|arguments| block(&millpond, arguments)).collect();
    for ends in [
        "cpu.out table.cpu",
        "memory.out table.memory",
        "network.out table.network",
        "table.out scaled.in",
        "scaled.out file.in --depth 64",
    ] {
        assert!(ok(millpond.run(&format!("connect studio {ends}"))).starts_with("connected "));
    }
    wait_until("rows reach the file", || of_connection(&millpond, "file.in", "taken") > 20);
    let top = ok(millpond.run("top studio"));
    for name in ["cpu", "memory", "network", "table", "scaled", "file", "table.out -> scaled.in"] {
        assert!(top.contains(name), "no `{name}` in\n{top}");
    }
    // Killed, it takes nothing with it but what it had in hand; started again by hand it goes on with its queue.
    signal(running[4].pid(), Signal::KILL);
    wait_until("its death is recovered", || pid_of(&millpond, "scaled").is_none());
    let told = || millpond.run("logs studio scaled").stdout.contains("has died");
    wait_until("the server has seen it", told);
    wait_until("rows wait for it", || of_connection(&millpond, "scaled.in", "queued") > 5);
    let _again = block(&millpond, "gain scaled --param k=0.001");
    let before = of_connection(&millpond, "file.in", "taken");
    wait_until("rows reach the file again", || of_connection(&millpond, "file.in", "taken") > before + 20);
    assert_eq!(ok(millpond.run("stop studio")), "stopped studio (in order)\n");
    let said = ok(server.wait());
    assert!(said.contains("scaled: process ") && said.ends_with("studio ended in order\n"), "{said}");
    assert!(said.contains(" has died; what it held was given back\n"), "{said}");
    for (place, running) in running.into_iter().enumerate().filter(|(place, _)| *place != 4) {
        assert_eq!(running.wait().code, Some(0), "{}", blocks[place]);
    }
    millpond.assert_nothing_left();
    // Every row that was on its way has arrived: the file ends with a whole line, and each has all columns.
    let text = std::fs::read_to_string(&table.0).unwrap();
    let mut lines = text.split_terminator("\r\n");
    let columns = lines.next().unwrap().split(',').count();
    assert!(text.ends_with("\r\n") && lines.all(|line| line.split(',').count() == columns), "{text}");
}

#[test]
fn nothing_that_was_sent_is_lost_when_a_pond_is_ended_in_order() {
    let millpond = Millpond::new();
    let numbers = Scratch::new("numbers.f32");
    let server = init(&millpond, "--pool 64KiBx64");
    let sink = block(&millpond, &format!("file-sink file --param path={}", numbers.0.display()));
    let gain = block(&millpond, "gain scaled --param k=1");
    ok(millpond.run("connect studio scaled.out file.in"));
    ok(millpond.run("connect studio source.out scaled.in --ahead --depth 16"));
    let source = block(&millpond, "signal source --param waveform=noise --param frames=1000");
    wait_until("data flows", || of_connection(&millpond, "file.in", "taken") > 100);
    let taken = of_connection(&millpond, "file.in", "taken");
    // As Ctrl-C in the server's shell does.
    let end = server.interrupt();
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    assert_eq!(end.stderr, "millpond: ending in order; once more to stop at once\n");
    for running in [source, gain, sink] {
        assert_eq!(running.wait().code, Some(0));
    }
    millpond.assert_nothing_left();
    // The noise is the same each time: nothing is missing in the middle or cut off, and nothing that had been taken is missing at the
    // end.
    let bytes = std::fs::read(&numbers.0).unwrap();
    let count = bytes.len() as u64 / 4000;
    assert!(bytes.len().is_multiple_of(4000) && count >= taken, "{} bytes, {taken} buffers", bytes.len());
    let (file, expected) = (Scratch::new("expected.toml"), Scratch::new("expected.f32"));
    let text = format!(
        "connect = [\"source -> file\"]\nblocks.source = {{ type = \"signal\", waveform = \"noise\", frames = 1000, count = {count} \
         }}\nblocks.file = {{ type = \"file-sink\", path = {:?} }}\n",
        expected.0
    );
    std::fs::write(&file.0, text).unwrap();
    ok(millpond.run(&format!("run {} --quiet", file.0.display())));
    assert!(bytes == std::fs::read(&expected.0).unwrap(), "other noise in {count} buffers");
}

#[test]
fn a_second_signal_stops_everybody_at_once() {
    let millpond = Millpond::new();
    let server = init(&millpond, "");
    let again = millpond.run("init studio");
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.starts_with("millpond: the pond `studio` exists already"), "{}", again.stderr);
    let sink = block(&millpond, "null-sink sink");
    // It cannot end in order while it is stopped.
    signal(sink.pid(), Signal::STOP);
    // Until each of its threads has stopped, it could still take another signal.
    wait_until("the sink is stopped", || is_stopped(sink.pid()));
    signal(server.pid(), Signal::INT);
    // It has had the first signal when it has passed it on.
    wait_until("the sink is asked to end", || has_pending_term(sink.pid()));
    let end = server.interrupt();
    assert_eq!(end.code, Some(130), "{}", end.stderr);
    signal(sink.pid(), Signal::CONT);
    sink.wait();
    millpond.assert_nothing_left();
}

#[test]
fn a_server_that_was_killed_has_a_successor() {
    let millpond = Millpond::new();
    let server = init(&millpond, "--pool 4KiBx64");
    let _source = block(&millpond, "null-source source --param rate_hz=200");
    let sink = block(&millpond, "null-sink sink");
    ok(millpond.run("connect studio source.out sink.in"));
    signal(server.pid(), Signal::KILL);
    server.wait();
    let successor = millpond.start("init studio --pool 8KiBx8");
    let serves = |pid: u32| {
        let pond = pond(&millpond);
        let mut processes = pond["processes"].as_array().into_iter().flatten();
        processes.any(|process| process["pid"] == pid && process["role"] == "server")
    };
    wait_until("the pond is served again", || serves(successor.pid()));
    // It does what a server does: what a killed block held is given back, and the end is in order.
    let taken = of_connection(&millpond, "sink.in", "taken");
    wait_until("data flows on", || of_connection(&millpond, "sink.in", "taken") > taken);
    signal(sink.pid(), Signal::KILL);
    wait_until("the block is recovered", || pid_of(&millpond, "sink").is_none());
    let again = millpond.run("init studio");
    assert!(again.stderr.starts_with("millpond: the pond `studio` exists already"), "{}", again.stderr);
    let _sink = block(&millpond, "null-sink sink");
    let end = successor.interrupt();
    assert_eq!(end.code, Some(0), "{}{}", end.stdout, end.stderr);
    assert!(end.stdout.contains(", in place of its server that has died\n"), "{}", end.stdout);
    assert!(end.stderr.contains("goes on with the pools that it has"), "{}", end.stderr);
    millpond.assert_nothing_left();
}

/// What is in a file from another day is not what it has written.
#[test]
fn a_sink_that_was_killed_before_it_began_makes_its_file_anew() {
    let millpond = Millpond::new();
    let file = Scratch::new("anew.f32");
    std::fs::write(&file.0, "of another day").unwrap();
    let server = init(&millpond, "--pool 4KiBx64");
    ok(millpond.run("connect studio source.out file.in --ahead"));
    let sink = format!("file-sink file --param path={}", file.0.display());
    let first = block(&millpond, &sink);
    signal(first.pid(), Signal::KILL);
    wait_until("its death is recovered", || pid_of(&millpond, "file").is_none());
    let _second = block(&millpond, &sink);
    ok(millpond.run("block null-source source --pond studio --param count=3 --param items=4"));
    wait_until("three buffers are written", || std::fs::read(&file.0).is_ok_and(|bytes| bytes == [0; 48]));
    assert_eq!(server.interrupt().code, Some(0));
    millpond.assert_nothing_left();
}

#[test]
fn a_wrong_pool_is_refused() {
    let millpond = Millpond::new();
    for pool in ["4KiB", "0x3", "4parsecsx3"] {
        let done = millpond.run(&format!("init studio --pool {pool}"));
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains("expected bytes"), "{}", done.stderr);
    }
}
