//! The pond's log: lines of several processes in one order, what is overwritten is counted, killed writers leave no trace.

mod support;

use millpond_shm::{Level, Monitor, Pond, PondConfig, Role};
use support::{Child, Parent, eventually, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((name, parent)) = Parent::scenario() else { return };
    let pond = Pond::attach(&name, Role::Block).expect("the pond");
    parent.say("ready");
    for number in 0.. {
        pond.log("busy", Level::Debug, &format!("line {number} {}", "x".repeat(number % 400)));
    }
}

#[test]
fn lines_come_in_order_with_what_they_are_about() {
    let name = unique_name("log");
    let pond = Pond::create(&name, &PondConfig::default(), Role::Tool).unwrap();
    let monitor = Monitor::open(&name).unwrap();
    pond.log("camera", Level::Info, "opened\n\n  /dev/video0\n");
    let long = "é".repeat(300);
    pond.log("", Level::Error, &long);
    let log = monitor.log(0);
    let texts: Vec<&str> = log.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["opened", "  /dev/video0", &long[..448], &long[448..]]);
    assert_eq!((log.next, log.missed), (4, 0));
    let first = &log.lines[0];
    assert_eq!((first.block.as_str(), first.level, first.pid), ("camera", Level::Info, std::process::id()));
    assert!(log.lines.is_sorted_by_key(|line| line.unix_ns));
    assert!(monitor.log(4).lines.is_empty());
    for number in 0..1500 {
        pond.log("camera", Level::Debug, &number.to_string());
    }
    let log = monitor.log(4);
    assert_eq!((log.lines.len(), log.next, log.missed), (1024, 1504, 476));
    assert_eq!(log.lines[0].text, "476");
}

#[test]
fn killed_writers_leave_no_half_lines_and_no_stuck_places() {
    let name = unique_name("log");
    let pond = Pond::create(&name, &PondConfig::default(), Role::Server).unwrap();
    let monitor = Monitor::open(&name).unwrap();
    let mut next = 0;
    for _ in 0..20 {
        let mut writer = Child::spawn(&name, &[]);
        writer.expect("ready");
        eventually("it writes", || monitor.log(next).lines.len() > 10);
        writer.kill();
        eventually("it is recovered", || monitor.snapshot().processes.len() == 1);
        let log = monitor.log(0);
        for line in &log.lines {
            let number: usize =
                line.text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a whole line");
            assert_eq!(line.text.len(), format!("line {number} ").len() + number % 400, "{line:?}");
        }
        next = log.next;
    }
    // Every place can be written again.
    for number in 0..1024 {
        pond.log("", Level::Info, &number.to_string());
    }
    let log = monitor.log(next);
    assert_eq!((log.lines.len(), log.missed), (1024, 0));
}
