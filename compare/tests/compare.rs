//! The `compare` program, with two small shell scripts in the place of the two sides.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A directory with the two scripts; removed when dropped.
struct Scripts {
    directory: PathBuf,
}

impl Scripts {
    /// Scripts that note who was called, in the file `calls`, and then do `ours` and `theirs`.
    fn new(name: &str, ours: &str, theirs: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("compare-test-{}-{name}", std::process::id()));
        fs::create_dir(&directory).expect("the directory is new");
        let scripts = Self { directory };
        scripts.write("millpond", ours);
        scripts.write("peer", theirs);
        scripts
    }

    fn write(&self, name: &str, body: &str) {
        let path = self.path(name);
        let calls = self.path("calls");
        fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\" >> {}\n{body}\n", calls.display()))
            .expect("the script can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the script can be made to run");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn compare(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_compare"))
            .arg("--millpond")
            .arg(self.path("millpond"))
            .arg("--peer")
            .arg(self.path("peer"))
            .args(arguments)
            .output()
            .expect("the program starts")
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).expect("there were calls");
        calls.lines().map(str::to_owned).collect()
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A result with every key any row asks for. The keys given later win.
fn everything(more: &str) -> String {
    format!(
        "echo '{{\"one_way_p50_ns\":100,\"one_way_p99_ns\":200,\"floor_p50_ns\":100,\"floor_p99_ns\":200,\
         \"messages_per_s\":1000,\"bytes_per_s\":1000,\"ns_per_cycle\":10,\"bytes_copied\":0,\
         \"per_hop_p50_ns\":25,\"one_hop_p50_ns\":25,\"per_hop_busy_ns\":9,\"one_hop_busy_ns\":9,\
         \"recovery_p99_ms\":5,\"release_p99_ms\":5,\"sender_blocked_ms\":2000{more}}}'"
    )
}

#[test]
fn the_sides_take_turns_with_the_arguments_of_the_row() {
    let scripts = Scripts::new("turns", &everything(""), &everything(""));
    let output = scripts.compare(&["--only", "latency-64k", "--rounds", "2"]);
    assert_eq!(
        scripts.calls(),
        [
            "peer latency --size 65536 --wait spin --pin 0,1 --seconds 2 --json",
            "millpond bench latency --size 65536 --wait spin --pin 0,1 --seconds 2 --json",
            "peer latency --size 65536 --wait spin --pin 0,1 --seconds 2 --json",
            "millpond bench latency --size 65536 --wait spin --pin 0,1 --seconds 2 --json",
        ]
    );
    assert_eq!(output.status.code(), Some(3), "a ratio of 1 is above the 0.4 asked for");
}

#[test]
fn everything_as_asked_is_a_success() {
    let ours = ",\"one_way_p50_ns\":40,\"messages_per_s\":5000,\"ns_per_cycle\":1";
    // The sleeping latency is held against its own run's floor, and the slots against our own runs.
    let ours = format!("{ours},\"floor_p50_ns\":40");
    let scripts = Scripts::new("met", &everything(&ours), &everything(""));
    let output = scripts.compare(&["--rounds", "1", "--seconds", "0.5"]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{table}\n{}", text(&output.stderr));
    for row in
        ["latency-64 ", "latency-64k", "stream-64 ", "stream-64k", "stream-1m", "take", "slots", "sleep"]
    {
        assert!(table.lines().any(|line| line.contains(row) && line.ends_with("| yes |")), "{row}: {table}");
    }
    let timed = |call: &String| call.contains("--seconds 0.5 --json");
    assert!(scripts.calls().iter().all(|call| call.contains("bench recover") != timed(call)));
}

#[test]
fn medians_and_their_ratio_are_in_the_json() {
    // Each call says one more than the last.
    let count = "n=$(grep -c \"^$(basename $0)\" $(dirname $0)/calls)\n";
    let ours = format!("{count}echo \"{{\\\"ns_per_cycle\\\":$n}}\"");
    let theirs = format!("{count}echo \"{{\\\"ns_per_cycle\\\":$((n * 10))}}\"");
    let scripts = Scripts::new("json", &ours, &theirs);
    let output = scripts.compare(&["--only", "take", "--rounds", "3", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let figure = &report["rows"][0]["figures"][0];
    assert_eq!(figure["ours"]["median"], 2.0);
    assert_eq!(figure["reference"]["median"], 20.0);
    assert_eq!(figure["reference"]["max"], 30.0);
    assert_eq!(figure["ratio"], 0.1);
    assert_eq!(figure["asked"]["at_most"], 0.35);
    assert_eq!(figure["met"], true);
}

#[test]
fn a_side_that_fails_spoils_its_row_only() {
    let ours = format!("case \"$*\" in *chain*) echo 'no | chain' >&2; exit 1;; esac\n{}", everything(""));
    let scripts = Scripts::new("fails", &ours, &everything(""));
    let output = scripts.compare(&["--only", "chain", "--only", "sleep", "--rounds", "1"]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{table}");
    assert!(table.contains("| sleep |") && table.contains("| yes |"), "{table}");
    assert!(table.contains("no \\| chain"), "{table}");
}

#[test]
fn what_is_no_result_is_named() {
    let scripts = Scripts::new("nonsense", "echo '{\"other\":1}'", "echo hello");
    let output = scripts.compare(&["--only", "take", "--only", "chain", "--rounds", "1"]);
    let table = text(&output.stdout);
    assert!(table.contains("it printed no JSON object but: hello"), "{table}");
    assert!(table.contains("the result has no number `messages_per_s`"), "{table}");
}

#[test]
fn mistakes_on_the_command_line_are_explained() {
    let scripts = Scripts::new("mistakes", &everything(""), &everything(""));
    let output = scripts.compare(&["--only", "latency"]);
    assert!(text(&output.stderr).contains("there is no row `latency`; the rows are latency-64,"));
    let output = scripts.compare(&["--pin", "0"]);
    assert!(text(&output.stderr).contains("--pin needs two cores"));

    fs::remove_file(scripts.path("millpond")).expect("it was there");
    let output = scripts.compare(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cargo build --release -p millpond-cli"));
}

#[test]
fn a_signal_stops_the_running_side_too() {
    // `exec`, so that the process asked to stop is the one that sleeps.
    let scripts = Scripts::new("signal", &everything(""), "echo $$ > \"$(dirname $0)/pid\"\nexec sleep 60");
    let mut compare = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args(["--only", "take", "--millpond"])
        .arg(scripts.path("millpond"))
        .arg("--peer")
        .arg(scripts.path("peer"))
        .spawn()
        .expect("the program starts");
    let pid = await_pid(&scripts.path("pid"));
    terminate(&compare);
    let status = compare.wait().expect("the program ends");
    assert_eq!(status.code(), Some(128 + 15));
    assert!(!Path::new("/proc").join(pid).exists(), "the peer still runs");
}

fn await_pid(file: &Path) -> String {
    for _ in 0..500 {
        match fs::read_to_string(file) {
            Ok(pid) if pid.ends_with('\n') => return pid.trim().to_owned(),
            _ => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    }
    panic!("the peer did not start");
}

fn terminate(child: &std::process::Child) {
    use rustix::process::{Pid, Signal, kill_process};
    kill_process(Pid::from_child(child), Signal::TERM).expect("the program still runs");
}
