//! What is late comes on an output of its own, across real processes, and whoever does not take it holds up nothing.

mod pipeline;

use std::process::Command;

use pipeline::{Directory, Pipeline, kill, wait_until};
use rustix::process::Signal;

const ROWS: usize = 60;

/// Rows at 1, 2, 3 ... s; behind each but the first comes one from before the one before it.
fn disordered() -> String {
    let row = |i: usize| {
        let late = if i > 1 { format!("{}.5,{}\r\n", i - 2, 1000 + i) } else { String::new() };
        format!("{i},{i}\r\n{late}")
    };
    "time,value\r\n".to_owned() + &(1..=ROWS).map(row).collect::<String>()
}

fn in_order() -> String {
    "time,value\r\n".to_owned() + &(1..=ROWS).map(|i| format!("{i},{i}\r\n")).collect::<String>()
}

/// `table` joins `a`, parts of which are late, with `b`.
fn start(directory: Directory, table: &str, depth: usize) -> Pipeline {
    directory.write("a.csv", &disordered());
    let text = format!(
        r#"
name = "late"
connect = [
    "a -> table.{a}", "b -> table.b", "table.out -> rows",
    {{ from = "table.late-a", to = "late", depth = {depth} }},
]
[blocks]
a = {{ type = "csv-source", path = "a.csv" }}
b = {{ type = "csv-source", path = "b.csv" }}
table = {{ {table}, late = ["late-a", "late-b"] }}
rows = {{ type = "csv-sink", path = "rows.csv" }}
late = {{ type = "csv-sink", path = "late.csv" }}
"#,
        a = if table.contains("interpolate") { "in" } else { "a" }
    );
    let file = directory.write("late.toml", &text);
    Pipeline::start_in(directory, &file, &[])
}

#[test]
fn what_is_late_comes_unchanged_on_an_output_of_its_own() {
    for table in [
        r#"type = "sync-merge", inputs = ["a", "b"]"#,
        r#"type = "window-aggregate", inputs = ["a", "b"], size_ms = 1000"#,
        r#"type = "interpolate", onto = ["b"]"#,
    ] {
        let directory = Directory::new();
        directory.write("b.csv", &in_order());
        let end = start(directory, table, ROWS).wait();
        assert_eq!(end.code, Some(0), "{table}: {end}");
        let late = end.rows("late.csv");
        let times: Vec<f64> = late.column("time");
        assert_eq!(times, (2..=ROWS).map(|i| i as f64 - 1.5).collect::<Vec<_>>(), "{table}: {end}");
        assert_eq!(
            late.column("value"),
            (1002..=1000 + ROWS).map(|i| i as f64).collect::<Vec<_>>(),
            "{table}"
        );
        assert!(end.stdout.contains(&format!("{} late on", ROWS - 1)), "{table}: {end}");
    }
}

#[test]
fn whoever_does_not_take_what_is_late_holds_up_no_rows() {
    let directory = Directory::new();
    let b = directory.path("b.csv");
    assert!(Command::new("mkfifo").arg(&b).status().expect("mkfifo").success());
    let mut run = start(directory, r#"type = "sync-merge", inputs = ["a", "b"]"#, 2);
    let late = run.pid_of("late");
    kill(late, Signal::STOP);
    // Nothing flows before `b` can be opened.
    std::fs::write(&b, in_order()).expect("the other end");
    wait_until("all rows are there", || run.read("rows.csv").lines().count() == 1 + ROWS);
    kill(late, Signal::CONT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    let sent = end.rows("late.csv").rows.len();
    assert_eq!(sent, 2, "{end}");
    assert!(end.stdout.contains(&format!("{} (newest, queue full)", ROWS - 1 - sent)), "{end}");
}
