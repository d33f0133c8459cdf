//! `ps`, `inspect` and `clean`, looking at a pond that streams.

mod millpond;

use millpond::Millpond;
use serde_json::Value;

#[test]
fn without_ponds_there_is_nothing_to_list_or_remove() {
    let millpond = Millpond::new();
    let done = millpond.run("ps");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "no ponds\n"), "{}", done.stderr);
    let done = millpond.run("ps --json");
    assert_eq!(serde_json::from_str::<Value>(&done.stdout).unwrap(), serde_json::json!({ "ponds": [] }));
    let done = millpond.run("clean");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "nothing to remove\n"), "{}", done.stderr);
}

#[test]
fn ps_shows_processes_and_connections() {
    let millpond = Millpond::new();
    let running = millpond.start("bench throughput --seconds 60");
    let pond = millpond.wait_for_pond();
    let done = millpond.run("ps");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let pid = running.pid().to_string();
    for expected in [&pond.name, &pid, "SLOT", "STATE", "live", "source.out", "sink.in", "QUEUED"] {
        assert!(done.stdout.contains(expected), "no {expected} in\n{}", done.stdout);
    }

    let done = millpond.run("ps --json");
    let ponds: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(ponds["ponds"][0]["name"], pond.name);
    assert_eq!(ponds["ponds"][0]["connections"][0]["to"], "sink.in");
    running.interrupt();
    millpond.assert_nothing_left();
}

#[test]
fn inspect_accounts_for_every_buffer_while_they_move() {
    let millpond = Millpond::new();
    let running = millpond.start("bench throughput --seconds 60");
    let pond = millpond.wait_for_pond();
    for _ in 0..20 {
        let done = millpond.run(&format!("inspect {}", pond.name));
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        for expected in ["processes", "pools", "connections", "accounting", "no problems"] {
            assert!(done.stdout.contains(expected), "no {expected} in\n{}", done.stdout);
        }
    }
    let done = millpond.run(&format!("inspect {} --json", pond.name));
    let everything: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(everything["pond"]["name"], pond.name);
    assert_eq!(everything["check"]["problems"], serde_json::json!([]));
    running.interrupt();
}

#[test]
fn a_pond_that_is_not_there_is_an_error_that_helps() {
    let millpond = Millpond::new();
    let done = millpond.run("inspect nowhere");
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("there is no pond `nowhere`"), "{}", done.stderr);
    assert!(done.stderr.contains("millpond ps"), "{}", done.stderr);
}

#[test]
fn clean_says_what_it_removes_and_spares_the_living() {
    let millpond = Millpond::new();
    let running = millpond.start("bench latency --wait block --seconds 60");
    let pond = millpond.wait_for_pond();
    let done = millpond.run("clean");
    assert_eq!((done.code, done.stdout.as_str()), (Some(0), "nothing to remove\n"), "{}", done.stderr);

    running.kill();
    pond.wait_for_end();
    let done = millpond.run("clean --json");
    assert_eq!(
        serde_json::from_str::<Value>(&done.stdout).unwrap(),
        serde_json::json!({ "removed": [pond.name] })
    );
    millpond.assert_nothing_left();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let millpond = Millpond::new();
    let mut running = millpond.start("ps");
    running.close_stdout();
    let done = running.wait();
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
}

#[test]
fn help_names_examples_and_exit_codes() {
    let millpond = Millpond::new();
    let done = millpond.run("--help");
    assert_eq!(done.code, Some(0));
    for expected in ["Examples:", "Exit codes:", "run", "block", "ps", "inspect", "clean", "bench"] {
        assert!(done.stdout.contains(expected), "no {expected} in\n{}", done.stdout);
    }
    assert!(!done.stdout.contains("bench-peer"));
    for command in ["ps", "inspect", "clean", "bench", "bench latency", "bench recover"] {
        let done = millpond.run(&format!("{command} --help"));
        assert!(done.stdout.contains("Examples:"), "no examples in {command} --help");
    }
}
