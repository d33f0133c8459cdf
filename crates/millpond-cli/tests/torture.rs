//! The torture itself, for a few seconds: it finds nothing, says what it promises, and leaves nothing behind.

mod millpond;

use millpond::Millpond;
use serde_json::Value;

#[test]
fn five_seconds_of_torture_lose_nothing() {
    let millpond = Millpond::new();
    let done = millpond.run("torture --seconds 5 --seed 1 --json");
    assert_eq!(done.code, Some(0), "{}\n{}", done.stdout, done.stderr);
    millpond.assert_nothing_left();
    let json: Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    for key in ["leaked", "lost", "doubled", "reordered", "corrupted"] {
        assert_eq!(json[key], 0, "{key} in {json}");
    }
    for key in ["kills", "recoveries", "messages", "bus_messages", "bus_calls"] {
        assert!(json[key].as_u64().is_some_and(|count| count >= 50), "{key} in {json}");
    }
    for key in ["recovery_p50_ms", "recovery_p99_ms", "recovery_max_ms", "longest_stall_ms"] {
        assert!(json[key].as_f64().is_some_and(|ms| ms > 0.0), "{key} in {json}");
    }
    assert!(json["lost_in_hand"].as_u64().is_some(), "{json}");
}

#[test]
fn ctrl_c_ends_the_torture_in_order() {
    let millpond = Millpond::new();
    let torture = millpond.start("torture --seconds 600 --seed 2 --json");
    millpond.wait_for_pond();
    let done = torture.interrupt();
    assert_eq!(done.code, Some(0), "{}\n{}", done.stdout, done.stderr);
    let json: Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    assert_eq!(json["interrupted"], true);
    millpond.assert_nothing_left();
}

#[test]
fn no_process_outlives_the_torture() {
    let millpond = Millpond::new();
    let torture = millpond.start("torture --seconds 600 --seed 3");
    millpond.wait_for_pond();
    torture.kill();
    millpond.assert_no_process_left();
}
