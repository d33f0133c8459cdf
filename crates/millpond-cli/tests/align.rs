//! `millpond align` as a user runs it: files in, files out, statistics, mistakes.

mod millpond;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use millpond::Millpond;
use serde_json::Value;

/// A directory of its own, removed when dropped.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("millpond-align-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const EVENTS: &str = "stream,stamp_ns,value,arrival_ns,seq
0,10,1,10,0
1,11,5,12,0
0,20,2,20,1
1,24,6,24,1
0,30,3,30,2
1,31,7,31,2
";

#[test]
fn every_policy_writes_its_columns() {
    let (millpond, files) = (Millpond::new(), Files::new("policies"));
    let events = files.write("events.csv", EVENTS);
    let sets = "emit_row,t0,row0,t1,row1\n1,10,0,11,1\n3,20,2,24,3\n5,30,4,31,5\n";
    let windows = "start_ns,end_ns,stream,count,mean,min,max,sum,last\n\
                   0,20,0,1,1.0,1.0,1.0,1.0,1.0\n0,20,1,1,5.0,5.0,5.0,5.0,5.0\n0,20,all,2,3.0,1.0,5.0,6.0,5.0\n\
                   20,40,0,2,2.5,2.0,3.0,5.0,3.0\n20,40,1,2,6.5,6.0,7.0,13.0,7.0\n20,40,all,4,4.5,2.0,7.0,18.0,7.0\n";
    for (options, expected) in [
        ("exact --tolerance 4", sets),
        ("nearest", sets),
        ("exact --tolerance 3", "emit_row,t0,row0,t1,row1\n1,10,0,11,1\n5,30,4,31,5\n"),
        ("nearest --max-distance 3", "emit_row,t0,row0,t1,row1\n1,10,0,11,1\n3,20,2,,\n5,30,4,31,5\n"),
        ("linear", "stamp_ns,v0,v1\n10,1.0,\n20,2.0,5.6923076923076925\n30,3.0,6.857142857142857\n"),
        ("linear --max-gap 10", "stamp_ns,v0,v1\n10,1.0,\n20,2.0,\n30,3.0,6.857142857142857\n"),
        ("linear --grid-rate 100000000/2 --origin -5", "stamp_ns,v0,v1\n15,1.5,5.3076923076923075\n"),
        ("window --size 20", windows),
        ("approximate", "emit_row,t0,row0,t1,row1\n2,10,0,11,1\n4,20,2,24,3\n5,30,4,31,5\n"),
    ] {
        let done = millpond.run(&format!("align --policy {options} {events}"));
        assert_eq!((done.code, done.stdout.as_str()), (Some(0), expected), "{options}: {}", done.stderr);
    }
}

#[test]
fn knowing_the_number_of_streams_changes_nothing() {
    let (millpond, files) = (Millpond::new(), Files::new("streams"));
    let mut text = "stream,stamp_ns,value,arrival_ns,seq\n".to_owned();
    for index in 0..100_000 {
        let _ =
            writeln!(text, "{},{},{},{index},{}", index % 3, index * 7 + index % 5, index % 17, index / 3);
    }
    let events = files.write("events.csv", &text);
    let (all, by_chunks) = (files.path("all.csv"), files.path("chunks.csv"));
    for policy in ["approximate", "linear --grid-rate 44100000"] {
        let done = millpond.run(&format!("align --policy {policy} --output {all} {events}"));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let done = millpond.run(&format!("align --policy {policy} --streams 3 -o {by_chunks} {events}"));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let all = fs::read_to_string(&all).unwrap();
        assert!(all.lines().count() > 10_000);
        assert!(all == fs::read_to_string(&by_chunks).unwrap());
    }
}

#[test]
fn statistics_account_for_every_event() {
    let (millpond, files) = (Millpond::new(), Files::new("statistics"));
    let events = files.write("events.csv", &(EVENTS.to_owned() + "0,25,1,40,3\n0,30,1,41,4\n0,50,1,42,5\n"));
    let done = millpond.run(&format!("align --policy exact --tolerance 3 --stats json {events}"));
    let stats: Value = serde_json::from_str(&done.stderr).unwrap();
    let count = |stream: usize, reason: &str| stats["dropped"][stream][reason].as_u64().unwrap();
    assert_eq!(stats["events"], 9);
    assert_eq!(stats["sets"], 2);
    assert_eq!((stats["late"].as_u64(), stats["degraded"].as_u64()), (Some(2), Some(0)));
    // 20 and 24 do not fit, 25 and the second 30 are late, 50 has no partner.
    assert_eq!((count(0, "unmatched"), count(0, "late"), count(1, "unmatched")), (2, 2, 1));
    assert_eq!(stats["peak_depth"], 1);
    assert!(stats["events_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(stats["warnings"].as_array().unwrap().len(), 0);
    let done = millpond.run(&format!("align --policy exact --tolerance 30 --depth 2 {events}"));
    assert!(
        done.stderr.contains("the tolerance of 30 ns is at least half the shortest period"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_stream_that_dies_is_waited_for_until_its_timeout() {
    let (millpond, files) = (Millpond::new(), Files::new("timeout"));
    let mut text = "stream,stamp_ns,value,arrival_ns,seq\n".to_owned();
    for index in 0..20 {
        let time = index * 100;
        let _ = writeln!(text, "0,{time},0,{time},{index}");
        if !(5..10).contains(&index) {
            let _ = writeln!(text, "1,{time},0,{time},{index}");
        }
    }
    let events = files.write("events.csv", &text);
    let options = "--policy exact --stats json --timeout 250";
    let done = millpond.run(&format!("align {options} --optional 1 {events}"));
    let stats: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!((stats["sets"].as_u64(), stats["degraded"].as_u64()), (Some(20), Some(6)), "{stats}");
    let partial = done.stdout.lines().filter(|line| line.ends_with(",,")).collect::<Vec<_>>();
    // Stamped 500 in row 10, given up at 750, which is after row 12, stamped 700.
    assert_eq!(partial[0], "12,500,10,,");
    // What comes at 1000 is a little later than the set, but shows that the next is worth waiting for.
    assert_eq!((partial.len(), partial[5]), (6, "15,1000,15,,"));
    assert_eq!(stats["dropped"][1]["late"], 1);
    let done = millpond.run(&format!("align {options} {events}"));
    let stats: Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!(
        (stats["sets"].as_u64(), stats["dropped"][0]["timeout"].as_u64()),
        (Some(14), Some(6)),
        "{stats}"
    );
}

#[test]
fn mistakes_are_explained() {
    let (millpond, files) = (Millpond::new(), Files::new("mistakes"));
    let events = files.write("events.csv", EVENTS);
    let bad = files.write("bad.csv", &(EVENTS.to_owned() + "1,forty,7,40,3\n"));
    for (arguments, code, problem) in [
        (
            format!("--policy exact {bad}"),
            1,
            "bad.csv, line 8: `stamp_ns`: expected whole nanoseconds, found `forty`",
        ),
        (format!("--policy exact {}", files.path("none.csv")), 1, "cannot read"),
        (format!("--policy window {events}"), 2, "--policy window needs a --size"),
        (
            format!("--policy nearest --reference 2 {events}"),
            2,
            "--reference 2: there are only streams 0 to 1",
        ),
        (format!("--policy exact --optional 0,1 {events}"), 2, "at least one stream must be required"),
        (format!("--policy linear --grid-rate 0 {events}"), 2, "expected a rate in Hz"),
        (format!("--policy exact --depth 1 {events}"), 2, "expected 2 or more"),
    ] {
        let done = millpond.run(&format!("align {arguments}"));
        assert_eq!(done.code, Some(code), "{arguments}: {}", done.stderr);
        assert!(done.stderr.contains(problem), "{arguments}: {}", done.stderr);
    }
}

#[test]
fn the_input_is_not_written_over() {
    let (millpond, files) = (Millpond::new(), Files::new("same"));
    let events = files.write("events.csv", EVENTS);
    let other_name = files.path("other.csv");
    fs::hard_link(&events, &other_name).unwrap();
    let problem =
        |output: &str| format!("millpond: OUTPUT is INPUT: {output} would be overwritten while it is read\n");
    for output in [&events, &other_name] {
        for arguments in [
            format!("--streams 2 -o {output} {events}"),
            format!("-o {output} {events}"),
            format!("--streams 2 -o {output} < {events}"),
            format!("--streams 2 -o {output} - < {events}"),
        ] {
            let done = millpond.shell(&format!("millpond align --policy exact {arguments}"));
            assert_eq!((done.code, done.stderr), (Some(2), problem(output)), "{arguments}");
            assert_eq!(fs::read_to_string(&events).unwrap(), EVENTS);
        }
    }
    // What is no file can be both.
    let done = millpond.shell("millpond align --policy exact --streams 2 -o /dev/null - < /dev/null");
    assert!(!done.stderr.contains("OUTPUT"), "{}", done.stderr);
}
