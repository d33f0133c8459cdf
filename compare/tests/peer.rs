//! The `peer-iceoryx2` program, for real: every measurement for a moment, and nothing left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A temporary directory for one test, which iceoryx2's files go to as well. Removed when dropped.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        // Short: the names of sockets in it are limited.
        let place = std::env::temp_dir().join(format!("pt-{}-{name}", std::process::id()));
        fs::create_dir(&place).expect("the directory is new");
        Self(place)
    }

    fn start(&self, arguments: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_peer-iceoryx2"))
            .args(arguments.split(' '))
            .env("TMPDIR", &self.0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// Runs a measurement for a moment and checks that nothing is left of it.
    fn measure(&self, arguments: &str) -> Value {
        self.measure_for(arguments, "0.3")
    }

    fn measure_for(&self, arguments: &str, seconds: &str) -> Value {
        let child = self.start(&format!("{arguments} --seconds {seconds} --json"));
        let pid = child.id();
        let output = child.wait_with_output().expect("the program ends");
        assert!(output.status.success(), "{arguments}: {}", output.status);
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
    entries.map(|entry| entry.expect("the directory can be read").path()).collect()
}

fn shared_memory_of(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("/dev/shm/mpcmp-{pid}-");
    entries(Path::new("/dev/shm"))
        .into_iter()
        .filter(|path| path.as_os_str().as_encoded_bytes().starts_with(prefix.as_bytes()))
        .collect()
}

fn is_above_zero(result: &Value, key: &str) -> bool {
    result[key].as_f64().is_some_and(|value| value > 0.0)
}

/// Waits until `condition` holds, and fails after some seconds.
fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: not in time");
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("the program still runs");
}

#[test]
fn latency_is_measured_in_all_ways() {
    let place = Place::new("latency");
    for ways in ["--wait spin", "--wait spin --style upstream", "--wait block --size 4096"] {
        let result = place.measure(&format!("latency {ways}"));
        for key in ["one_way_p50_ns", "one_way_p99_ns", "one_way_mean_ns"] {
            assert!(is_above_zero(&result, key), "{ways}: {result}");
        }
    }
}

#[test]
fn throughput_is_measured_and_checked() {
    let place = Place::new("stream");
    for ways in ["--size 64 --depth 4", "--size 65536 --depth 4 --fill --touch", "--size 8 --depth 1 --touch"]
    {
        let result = place.measure(&format!("throughput {ways}"));
        assert!(
            is_above_zero(&result, "messages_per_s") && is_above_zero(&result, "bytes_per_s"),
            "{result}"
        );
    }
}

#[test]
fn taking_and_giving_back_is_measured() {
    assert!(is_above_zero(&Place::new("alloc").measure("alloc --size 64"), "ns_per_cycle"));
}

#[test]
fn a_stream_goes_to_several() {
    let result = Place::new("fanout").measure("fanout --consumers 3 --size 64 --depth 16");
    assert!(is_above_zero(&result, "messages_per_s"), "{result}");
}

#[test]
fn a_publisher_hangs_on_its_killed_subscriber_until_somebody_cleans_up() {
    let place = Place::new("stuck");
    let result = place.measure("stuck");
    assert_eq!(result["released"], false, "{result}");
    assert!(is_above_zero(&result, "sender_blocked_ms"), "{result}");
    // It ends as soon as the publisher is released; the long time is for a busy machine.
    let result = place.measure_for("stuck --cleaner", "30");
    assert_eq!(result["released"], true, "{result}");
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let place = Place::new("signal");
    let mut child = place.start("throughput --size 65536 --seconds 60");
    eventually("shared memory appears", || !shared_memory_of(child.id()).is_empty());
    signal(&child, Signal::TERM);
    let status = child.wait().expect("the program ends");
    assert_eq!(status.code(), Some(128 + 15));
    place.assert_clean(child.id());
}

#[test]
fn what_a_killed_run_leaves_is_removed_by_the_next() {
    let place = Place::new("killed");
    let mut child = place.start("throughput --size 65536 --seconds 60");
    eventually("shared memory appears", || !shared_memory_of(child.id()).is_empty());
    signal(&child, Signal::KILL);
    child.wait().expect("the program ends");
    assert!(!shared_memory_of(child.id()).is_empty(), "nobody could have cleaned up");
    place.measure("alloc");
    place.assert_clean(child.id());
}

#[test]
fn mistakes_on_the_command_line_are_refused() {
    let place = Place::new("mistakes");
    for mistake in ["latency --size 12", "throughput --depth 0", "alloc --seconds -1", "latency --pin 0"] {
        let output = place.start(mistake).wait_with_output().expect("the program ends");
        assert!(!output.status.success(), "`{mistake}` was accepted");
    }
}
