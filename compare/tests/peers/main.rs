//! Every peer's program that is built, for real: each measurement for a moment, and nothing left behind.
//!
//! `cargo test --workspace` does not build the programs of the other members; `cargo build --workspace` does. One that is not
//! there is left out, with a word.

mod iceoryx2;
mod place;

use std::path::{Path, PathBuf};

use place::{Place, eventually, is_above_zero};
use rustix::process::{Pid, Signal, kill_process};

const PEERS: [&str; 5] = ["millpond", "iceoryx2", "boost", "unix", "zenoh"];

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
        eventually("something appears in temporary or shared memory", || place.left(child.id()) > 0);
        kill_process(Pid::from_child(&child), Signal::KILL).expect("the program still runs");
        child.wait().expect("the program ends");
        let pid = child.id();
        place.measure(&program, "throughput --seconds 0.2");
        place.assert_clean(pid);
    }
}
