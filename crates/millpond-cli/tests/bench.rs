//! Each benchmark, run for a moment: it prints what it promises, refuses what makes no sense, and leaves nothing behind.

mod millpond;

use millpond::Millpond;
use serde_json::Value;

fn figures(arguments: &str) -> Value {
    let millpond = Millpond::new();
    let done = millpond.run(arguments);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    millpond.assert_nothing_left();
    let json: Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    for key in ["machine", "pinned", "versions", "method"] {
        assert!(json.get(key).is_some(), "no {key} in {json}");
    }
    json
}

fn assert_positive(json: &Value, keys: &[&str]) {
    for key in keys {
        assert!(json[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {json}");
    }
}

#[test]
fn latency_with_each_way_of_waiting() {
    for wait in ["spin", "block", "adaptive"] {
        let json = figures(&format!("bench latency --wait {wait} --seconds 0.2 --json"));
        assert_positive(
            &json,
            &["one_way_p50_ns", "one_way_p99_ns", "one_way_mean_ns", "floor_p50_ns", "floor_p99_ns"],
        );
        assert_eq!(json["wait"], wait);
        assert_eq!(json["pinned"], Value::Null);
    }
}

#[test]
fn latency_pinned_to_one_core_sleeps_instead_of_spinning_against_itself() {
    let json = figures("bench latency --wait block --pin 0,0 --size 64K --seconds 0.2 --json");
    assert_positive(&json, &["one_way_p50_ns", "floor_p50_ns"]);
    assert_eq!(json["pinned"], serde_json::json!([0, 0]));
    assert_eq!(json["size_bytes"], 65_536);
}

#[test]
fn throughput_small_and_large() {
    for options in
        ["--size 64", "--size 64K --fill --touch --depth 8", "--size 1M --touch --depth 1", "--depth 1"]
    {
        let json = figures(&format!("bench throughput {options} --seconds 0.2 --json"));
        assert_positive(&json, &["messages_per_s", "bytes_per_s"]);
    }
}

#[test]
fn alloc_of_small_and_large_tables() {
    for slots in [1, 4096, 100_000] {
        assert_positive(
            &figures(&format!("bench alloc --slots {slots} --seconds 0.1 --json")),
            &["ns_per_cycle"],
        );
    }
}

#[test]
fn fanout_to_one_and_to_several() {
    for consumers in [1, 4] {
        let json = figures(&format!("bench fanout --consumers {consumers} --seconds 0.2 --json"));
        assert_positive(&json, &["messages_per_s"]);
    }
}

#[test]
fn align_two_and_three_streams() {
    for sources in [2, 3] {
        let json = figures(&format!("bench align --sources {sources} --seconds 0.3 --json"));
        assert_positive(&json, &["sets_per_s", "buffers_per_s"]);
    }
}

#[test]
fn chain_copies_nothing() {
    for stages in [1, 5] {
        let json = figures(&format!("bench chain --stages {stages} --seconds 0.3 --json"));
        assert_positive(&json, &["messages_per_s", "one_way_p50_ns", "per_hop_p50_ns", "one_hop_p50_ns"]);
        assert_eq!(json["bytes_copied"], 0);
    }
}

#[test]
fn recover_with_and_without_server() {
    for options in ["", "--server", "--hold 2"] {
        let json = figures(&format!("bench recover --kills 3 {options} --json"));
        assert_positive(&json, &["recovery_p50_ms", "recovery_p99_ms", "recovery_max_ms", "release_p99_ms"]);
        assert_eq!(json["kills"], 3);
    }
}

#[test]
fn people_get_units() {
    let millpond = Millpond::new();
    let done = millpond.run("bench alloc --seconds 0.05");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stdout.starts_with("alloc: seconds 0.05, size 64 B, slots 4096, not pinned\n"),
        "{}",
        done.stdout
    );
    let figure = done.stdout.lines().find(|line| line.starts_with("  per cycle  "));
    assert!(figure.is_some_and(|line| line.ends_with('s')), "{}", done.stdout);
}

#[test]
fn wrong_arguments_are_explained() {
    let millpond = Millpond::new();
    for (arguments, expected) in [
        ("bench", "Usage: millpond bench"),
        ("bench nonsense", "unrecognized subcommand 'nonsense'"),
        ("bench latency --size 4", "at least 8 bytes"),
        ("bench latency --size 4x", "expected bytes, such as 64, 4K or 1MiB"),
        ("bench latency --wait never", "[possible values: spin, block, adaptive]"),
        ("bench latency --pin 0", "expected two core numbers, such as 0,1"),
        ("bench latency --pin 0,99999", "core 99999 is not available"),
        ("bench throughput --pin 0,1000", "core 1000 is not available"),
        ("bench throughput --size 12 --fill", "a multiple of 8 bytes"),
        ("bench throughput --depth 0", "0 is not in 1..=524288"),
        ("bench throughput --seconds 0", "expected a number between 0.01 and 86400"),
        ("bench fanout --consumers 0", "0 is not in 1..="),
        ("bench recover --kills 0", "0 is not in 1.."),
    ] {
        let done = millpond.run(arguments);
        assert_eq!(done.code, Some(2), "{arguments}: {}", done.stderr);
        assert!(done.stderr.contains(expected), "{arguments}: {}", done.stderr);
    }
    millpond.assert_nothing_left();
}

#[test]
fn too_large_a_pool_is_refused_before_it_is_used() {
    let millpond = Millpond::new();
    let done = millpond.run("bench alloc --size 1G --slots 1048576");
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("no memory for"), "{}", done.stderr);
    millpond.assert_nothing_left();
}

#[test]
fn ctrl_c_ends_every_process() {
    for bench in [
        "latency",
        "latency --wait block",
        "throughput",
        "fanout",
        "chain",
        "align",
        "recover --kills 100000",
    ] {
        let millpond = Millpond::new();
        let options = if bench.starts_with("recover") { "" } else { "--seconds 60" };
        let running = millpond.start(&format!("bench {bench} {options}"));
        millpond.wait_for_pond();
        let done = running.interrupt();
        assert_eq!(done.code, Some(1), "{bench}: {}", done.stderr);
        millpond.assert_nothing_left();
    }
}

#[test]
fn the_others_die_with_a_killed_benchmark() {
    let millpond = Millpond::new();
    let running = millpond.start("bench throughput --seconds 60");
    let pond = millpond.wait_for_pond();
    running.kill();
    pond.wait_for_end();
    // The last process can no longer remove the name; the next command does.
    let done = millpond.run("ps");
    assert_eq!(done.stdout, "no ponds\n", "{}", done.stderr);
    millpond.assert_nothing_left();
}
