//! `millpond graph` and `millpond completions`: what is drawn and printed, and what is refused.

mod pipeline;

use pipeline::{Directory, Pipeline, example};

#[test]
fn files_and_ponds_are_drawn() {
    let run = Pipeline::start(&example("telemetry.toml"), &["--duration", "1h"]);
    run.has_moved("csv");
    let of_file = run.another(&["graph", &example("telemetry.toml")]);
    let of_pond = run.another(&["graph", "telemetry"]);
    for drawn in [&of_file, &of_pond] {
        assert_eq!(drawn.code, Some(0), "{drawn}");
        assert!(drawn.stdout.starts_with("<svg ") && drawn.stdout.ends_with("</svg>\n"), "{drawn}");
        for name in ["cpu", "memory", "network", "table", "csv", "csv-sink"] {
            assert!(drawn.stdout.contains(&format!(">{name}</text>")), "{name} in {drawn}");
        }
    }
    assert!(!of_file.stdout.contains("/s</text>"), "nothing flows in a file: {of_file}");
    assert_eq!(of_pond.stdout.matches(" /s").count(), 4, "a rate on each arrow: {of_pond}");
    let dot = run.another(&["graph", "telemetry", "--dot"]);
    assert!(dot.stdout.contains("\"cpu\" -> \"table\""), "{dot}");
    run.signal(rustix::process::Signal::INT);
    assert_eq!(run.wait().code, Some(0));
}

#[test]
fn what_cannot_be_drawn_is_named() {
    let directory = Directory::new();
    let wrong = directory.write("wrong.toml", "[blocks.a]\ntype = \"gian\"\n");
    let end = Pipeline::start_in(directory, &wrong, &[]);
    let neither = end.another(&["graph", "no-such-thing"]);
    assert_eq!(neither.code, Some(1), "{neither}");
    assert!(neither.stderr.contains("`no-such-thing` is neither a file nor a running pond"), "{neither}");
    let refused = end.another(&["graph", &wrong]);
    assert_eq!(refused.code, Some(2), "{refused}");
    assert!(refused.stderr.contains("`gain`"), "the nearest name: {refused}");
    let unwritable = end.another(&["graph", &example("telemetry.toml"), "-o", "no/such/place.svg"]);
    assert_eq!(unwritable.code, Some(1), "{unwritable}");
    assert!(unwritable.stderr.contains("write no/such/place.svg"), "{unwritable}");
    for shell in ["bash", "zsh", "fish"] {
        let script = end.another(&["completions", shell]);
        assert!(script.stdout.contains("telemetry") || script.stdout.contains("inspect"), "{script}");
    }
    assert_eq!(end.wait().code, Some(2));
}
