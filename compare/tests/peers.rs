//! Every peer's program that is built, for real: each measurement for a moment, and nothing left behind.
//!
//! `cargo test --workspace` does not build the programs of the other members; `cargo build --workspace` does. One that is not
//! there is left out, with a word.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PEERS: [&str; 5] = ["millpond", "iceoryx2", "boost", "unix", "zenoh"];
/// Names in shared memory begin so.
const FAMILIES: [&str; 2] = ["mpcmp", "mpbst"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A temporary directory for one test, which everything goes to that is not in shared memory. Removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        // Short: the names of sockets in it are limited.
        let place = std::env::temp_dir().join(format!("ps-{}-{name}", std::process::id()));
        // Only for this user: Millpond meets nowhere else.
        DirBuilder::new().mode(0o700).create(&place).expect("the directory is new");
        Self(place)
    }

    fn start(&self, program: &Path, arguments: &str) -> Child {
        Command::new(program)
            .args(arguments.split(' '))
            .env("TMPDIR", &self.0)
            .env("MILLPOND_RUNTIME_DIR", &self.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// Runs a measurement for a moment and checks that nothing is left of it.
    fn measure(&self, program: &Path, arguments: &str) -> Value {
        let child = self.start(program, &format!("{arguments} --json"));
        let pid = child.id();
        let output = child.wait_with_output().expect("the program ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments}: {} {said}", program.display(), output.status);
        self.assert_clean(pid);
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    }

    fn assert_clean(&self, pid: u32) {
        assert_eq!(entries(&self.0), Vec::<PathBuf>::new());
        assert_eq!(shared_memory_of(pid), Vec::<PathBuf>::new());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory exists");
    // A file of somebody else may go at any time.
    entries.flatten().map(|entry| entry.path()).collect()
}

fn shared_memory_of(pid: u32) -> Vec<PathBuf> {
    let is_of = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        FAMILIES.iter().any(|family| name.starts_with(&format!("{family}-{pid}-")))
    };
    entries(Path::new("/dev/shm")).into_iter().filter(is_of).collect()
}

/// The programs there are.
fn programs() -> Vec<(&'static str, PathBuf)> {
    let beside = Path::new(env!("CARGO_BIN_EXE_peer-unix"));
    let mut found = Vec::new();
    for name in PEERS {
        let program = beside.with_file_name(format!("peer-{name}"));
        if program.is_file() {
            found.push((name, program));
        } else {
            eprintln!("peer-{name} is not built and not tested");
        }
    }
    assert!(found.len() >= 2, "two peers are built with this test");
    found
}

fn is_above_zero(result: &Value, key: &str) -> bool {
    result[key].as_f64().is_some_and(|value| value > 0.0)
}

#[test]
fn every_peer_answers_every_question_and_cleans_up() {
    for (name, program) in programs() {
        let place = Place::new(name);
        for (arguments, key) in [
            ("latency --wait spin --seconds 0.2", "one_way_p50_ns"),
            ("latency --wait block --size 65536 --seconds 0.2", "one_way_p50_ns"),
            ("throughput --size 64 --fill --touch --depth 256 --seconds 0.2", "messages_per_s"),
            ("throughput --size 65536 --fill --touch --depth 4 --seconds 0.2", "bytes_per_s"),
            ("fanout --consumers 3 --size 64 --depth 16 --seconds 0.2", "messages_per_s"),
            ("chain --stages 2 --size 4096 --seconds 0.2", "messages_per_s"),
            ("connections --count 4 --seconds 5", "per_connection_us"),
        ] {
            let result = place.measure(&program, arguments);
            assert!(is_above_zero(&result, key), "{name} {arguments}: {result}");
            assert!(
                result["version"].as_str().is_some_and(|version| version != "unknown"),
                "{name}: {result}"
            );
        }
    }
}

#[test]
fn every_peer_is_watched_while_its_processes_are_killed() {
    for (name, program) in programs() {
        let place = Place::new(&format!("k-{name}"));
        let receiver = place.measure(&program, "kill --victim receiver --size 65536 --seconds 2");
        assert!(is_above_zero(&receiver, "sender_blocked_ms"), "{name}: {receiver}");
        let sender = place.measure(&program, "kill --victim sender --size 65536 --seconds 1");
        assert!(sender["watched_ms"].as_f64() == Some(1000.0), "{name}: {sender}");
        let midway = place.measure(&program, "kill --victim midway --kills 2 --size 65536 --seconds 1");
        assert_eq!(midway["kills"], 2, "{name}: {midway}");
    }
}

#[test]
fn millpond_frees_what_a_killed_process_held_and_tells_the_others() {
    let Some((_, program)) = programs().into_iter().find(|(name, _)| *name == "millpond") else { return };
    let place = Place::new("freed");
    let receiver = place.measure(&program, "kill --victim receiver --size 65536 --seconds 30");
    assert_eq!(receiver["released"], true, "{receiver}");
    assert!(receiver["held_free_ms"].is_number(), "{receiver}");
    let sender = place.measure(&program, "kill --victim sender --size 65536 --seconds 10");
    assert!(sender["receiver_told_ms"].is_number() && sender["new_sender_ms"].is_number(), "{sender}");
}

#[test]
fn what_a_killed_run_leaves_is_removed_by_the_next() {
    for (name, program) in programs() {
        let place = Place::new(&format!("l-{name}"));
        let mut child = place.start(&program, "throughput --size 65536 --seconds 60");
        let left = || entries(&place.0).len() + shared_memory_of(child.id()).len();
        let deadline = Instant::now() + PATIENCE;
        while left() == 0 {
            assert!(Instant::now() < deadline, "{name}: nothing appears in temporary or shared memory");
            thread::sleep(Duration::from_millis(20));
        }
        kill_process(Pid::from_child(&child), Signal::KILL).expect("the program still runs");
        child.wait().expect("the program ends");
        let pid = child.id();
        place.measure(&program, "throughput --seconds 0.2");
        place.assert_clean(pid);
    }
}
