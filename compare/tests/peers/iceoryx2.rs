//! The `peer-iceoryx2` program, for real: what only it is asked, and nothing left behind.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::place::{Place, eventually, is_above_zero, shared_memory_of};

const PEER: &str = env!("CARGO_BIN_EXE_peer-iceoryx2");

#[test]
fn latency_is_measured_in_all_ways() {
    let place = Place::new("latency");
    for ways in ["--wait spin", "--wait spin --style upstream", "--wait block --size 4096"] {
        let result = place.measure(Path::new(PEER), &format!("latency {ways} --seconds 0.3"));
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
        let result = place.measure(Path::new(PEER), &format!("throughput {ways} --seconds 0.3"));
        assert!(
            is_above_zero(&result, "messages_per_s") && is_above_zero(&result, "bytes_per_s"),
            "{result}"
        );
    }
}

#[test]
fn taking_and_giving_back_is_measured() {
    assert!(is_above_zero(
        &Place::new("alloc").measure(Path::new(PEER), "alloc --size 64 --seconds 0.3"),
        "ns_per_cycle"
    ));
}

#[test]
fn a_stream_goes_to_several() {
    let result = Place::new("fanout")
        .measure(Path::new(PEER), "fanout --consumers 3 --size 64 --depth 16 --seconds 0.3");
    assert!(is_above_zero(&result, "messages_per_s"), "{result}");
}

#[test]
fn a_publisher_hangs_on_its_killed_subscriber_until_somebody_cleans_up() {
    let place = Place::new("stuck");
    let result = place.measure(Path::new(PEER), "stuck --seconds 0.3");
    assert_eq!(result["released"], false, "{result}");
    assert!(is_above_zero(&result, "sender_blocked_ms"), "{result}");
    // It ends as soon as the publisher is released; the long time is for a busy machine.
    let result = place.measure(Path::new(PEER), "stuck --cleaner --seconds 30");
    assert_eq!(result["released"], true, "{result}");
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let place = Place::new("signal");
    let mut child = place.start(Path::new(PEER), "throughput --size 65536 --seconds 60");
    eventually("shared memory appears", || !shared_memory_of(child.id()).is_empty());
    kill_process(Pid::from_child(&child), Signal::TERM).expect("the program still runs");
    let status = child.wait().expect("the program ends");
    assert_eq!(status.code(), Some(128 + 15));
    place.assert_clean(child.id());
}

#[test]
fn mistakes_on_the_command_line_are_refused() {
    let place = Place::new("mistakes");
    for mistake in ["latency --size 12", "throughput --depth 0", "alloc --seconds -1", "latency --pin 0"] {
        let output = place.start(Path::new(PEER), mistake).wait_with_output().expect("the program ends");
        assert!(!output.status.success(), "`{mistake}` was accepted");
    }
}
