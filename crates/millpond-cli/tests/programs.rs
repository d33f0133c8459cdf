//! Programs with block types of their own in pipeline files, and what `millpond check` says about files.

mod pipeline;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pipeline::{Directory, Pipeline, wait_until};
use rustix::process::Signal;
use serde_json::Value;

/// The example of the crate `millpond`, built if need be.
fn own_blocks() -> &'static str {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let profile = Path::new(env!("CARGO_BIN_EXE_millpond")).parent().expect("a directory");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--offline", "-p", "millpond", "--example", "own_blocks"]);
        cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .arg("--target-dir")
            .arg(profile.parent().expect("a directory"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo").success());
        profile.join("examples/own_blocks")
    });
    path.to_str().expect("text")
}

fn millpond(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_millpond")).args(arguments).output().expect("millpond");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn check(text: &str) -> (Option<i32>, String, String) {
    let directory = Directory::new();
    millpond(&["check", &directory.write("checked.toml", text)])
}

fn with_halve(sink: &str) -> String {
    format!(
        r#"
name = "halved"
connect = ["noise -> half -> sink"]
[blocks]
noise = {{ type = "signal", waveform = "noise", count = 50 }}
half = {{ type = "halve", program = "{}" }}
sink = {sink}
"#,
        own_blocks()
    )
}

#[test]
fn a_block_of_an_own_program_is_checked_like_others() {
    let right = with_halve(r#"{ type = "null-sink" }"#);
    let (code, stdout, stderr) = check(&right);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.ends_with("checked.toml: 3 blocks, 2 connections, 3 processes\n"), "{stdout}");
    let (code, _, stderr) = check(&right.replace("\"halve\"", "\"halv\""));
    assert_eq!(code, Some(2));
    let unknown = format!("error: there is no block type `halv` in `{}`\n", own_blocks());
    assert!(stderr.starts_with(&unknown) && stderr.contains("= help: did you mean `halve`?"), "{stderr}");
    let (_, _, stderr) = check(&right.replace("\"halve\"", "\"halve\", k = 3"));
    assert!(stderr.starts_with("error: `halve` has no parameter `k`\n"), "{stderr}");
    // It takes samples; text is none.
    let (_, _, stderr) =
        check(&right.replace("connect = [\"noise", "connect = [\"cpu -> half.inn\", \"noise"));
    assert!(stderr.contains("there is no block `cpu`"), "{stderr}");
    let (_, _, stderr) = check(&right.replace(own_blocks(), "/nowhere/own_blocks"));
    assert!(
        stderr.starts_with("error: cannot use the program `/nowhere/own_blocks`: No such file"),
        "{stderr}"
    );
}

#[test]
fn what_a_program_says_of_its_own_failure_is_told() {
    let directory = Directory::new();
    let (file, script) = ("failing.toml", directory.write("failing.sh", ""));
    let pipeline = format!("[blocks.a]\ntype = 'any'\nprogram = 'sh {script}'\n");
    let check = |program: &str| {
        directory.write("failing.sh", program);
        let (code, _, stderr) = millpond(&["check", &directory.write(file, &pipeline)]);
        assert_eq!(code, Some(2));
        stderr
    };
    let stderr = check("seq 20 >&2\necho '  Oops: it is broken' >&2\nexit 3\n");
    let first = format!("error: cannot use the program `sh {script}`: Oops: it is broken\n");
    let help =
        format!("  = help: `sh {script} blocks --json` failed (exit status: 3) and said\n          14\n");
    assert!(stderr.starts_with(&first) && stderr.contains(&help), "{stderr}");
    assert!(stderr.ends_with("\n          20\n            Oops: it is broken\n"), "{stderr}");
    let stderr = check("echo \"ModuleNotFoundError: No module named 'millpond'\" >&2; exit 1");
    assert!(stderr.contains("= help: activate the virtual environment in which `millpond`"), "{stderr}");
    // Silence has another remedy.
    let stderr = check("exit 1");
    assert!(stderr.contains("blocks --json` failed (exit status: 1)\n"), "{stderr}");
    assert!(stderr.contains("= help: a program with block types answers `sh "), "{stderr}");
    // What it says besides an answer that is none is not what is wrong.
    let stderr = check("echo 'a warning' >&2; echo '{\"blocks\": 1}'");
    assert!(stderr.contains("blocks --json` printed no list of block types: invalid type"), "{stderr}");
    assert!(!stderr.contains("a warning"), "{stderr}");
}

#[test]
fn a_block_of_an_own_program_works_and_is_started_again() {
    let directory = Directory::new();
    let file = directory.write("own.toml", &with_halve(r#"{ type = "file-sink", path = "half.f32" }"#));
    let end = Pipeline::start_in(directory, &file, &["--quiet"]).wait();
    assert_eq!(end.code, Some(0), "{end}");
    let own = end.bytes("half.f32");
    let line = "signal waveform=noise count=50 ! gain k=0.5 ! file-sink path=half.f32";
    let end = Pipeline::start(line, &["--quiet"]).wait();
    assert!(own == end.bytes("half.f32") && own.len() == 50 * 4096 * 4, "{} bytes: {end}", own.len());

    let directory = Directory::new();
    let text = with_halve(r#"{ type = "null-sink" }"#).replace(
        r#"{ type = "signal", waveform = "noise", count = 50 }"#,
        r#"{ type = "null-source", rate_hz = 200, items = 16 }"#,
    );
    let file = directory.write("own.toml", &text);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("sink");
    let victim = run.pid_of("half");
    pipeline::kill(victim, Signal::KILL);
    wait_until("it has a new process", || run.pid_of("half") != victim);
    assert!(run.stderr().contains(&format!("half: process {victim} was killed by signal 9 (SIGKILL)")));
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert_eq!(end.count_of("half.out -> sink.in", 0), end.count_of("half.out -> sink.in", 1), "{end}");
}

#[test]
fn the_source_and_the_mean_of_the_page_work() {
    let source = include_str!("../../millpond/examples/own_blocks.rs");
    let page = include_str!("../../../docs/programs.md");
    let shown =
        page.split("```rust\n").nth(2).and_then(|rest| rest.split("```").next()).expect("a second fence");
    assert!(source.contains(shown.trim()), "docs/programs.md shows what examples/own_blocks.rs has");
    let directory = Directory::new();
    let text = format!(
        "duration = '0.2s'\nconnect = ['ramp -> mean -> table']\n[blocks]\nramp = {{ type = 'ramp', program = '{0}' }}\n\
         mean = {{ type = 'mean', program = '{0}' }}\ntable = {{ type = 'csv-sink', path = 'means.csv' }}\n",
        own_blocks()
    );
    let file = directory.write("means.toml", &text);
    let end = Pipeline::start_in(directory, &file, &["--quiet"]).wait();
    assert_eq!(end.code, Some(0), "{end}");
    let table = String::from_utf8(end.bytes("means.csv")).expect("text");
    let means: Vec<&str> = table.lines().skip(1).filter_map(|row| row.split(',').nth(1)).collect();
    assert!(means.starts_with(&["239.5", "719.5", "1199.5"]), "{table}");
}

#[test]
fn a_process_is_of_one_program() {
    let text = with_halve(r#"{ type = "null-sink", process = "all" }"#)
        .replace("type = \"halve\"", "type = \"halve\", process = \"all\"");
    let (code, _, stderr) = check(&text);
    assert_eq!(code, Some(2));
    let refusal = "error: `half` and `sink` are of different programs and cannot share the process `all`\n";
    assert!(stderr.starts_with(refusal), "{stderr}");
}

#[test]
fn every_program_says_alike_what_it_has() {
    let own = Command::new(own_blocks()).args(["blocks", "--json"]).output().expect("own_blocks").stdout;
    let own: Value = serde_json::from_slice(&own).expect("JSON");
    let (code, builtin, _) = millpond(&["blocks", "--json"]);
    let builtin: Value = serde_json::from_str(&builtin).expect("JSON");
    assert_eq!((code, &own["worker"], &builtin["worker"]), (Some(0), &true.into(), &true.into()));
    let (_, gain, _) = millpond(&["blocks", "gain", "--json"]);
    let gain: Value = serde_json::from_str(&gain).expect("JSON");
    assert_eq!(gain["type"], "gain");
    let blocks = builtin["blocks"].as_array().expect("a list");
    assert!(blocks.contains(&gain), "one type is shown as in the list");
    let keys = |of: &Value| of.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let halve = &own["blocks"][0];
    assert!(keys(halve).iter().all(|key| keys(&gain).contains(key)), "{halve}");
    assert_eq!(keys(&halve["inputs"][0]), keys(&gain["inputs"][0]));
    // `millpond` itself can be named as a program.
    let text = format!(
        "connect = ['a -> b']\n[blocks]\na = {{ type = 'null-source' }}\nb = {{ type = 'null-sink', program = '{}' }}",
        env!("CARGO_BIN_EXE_millpond")
    );
    let (code, _, stderr) = check(&text);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn all_mistakes_are_told_at_once() {
    let (code, stdout, stderr) = check(
        "connect = ['a -> c', 'b -> b']\n[blocks]\na = { type = 'null-source', rate_hz = -1 }\nb = { type = 'gian' }\nc = { type = 'gain' }\nd = { type = 'wav-sink' }",
    );
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    for part in ["rate_hz", "no block type `gian`", "block `d` needs the parameter `path`"] {
        assert!(stderr.contains(part), "no {part} in:\n{stderr}");
    }
    assert!(stderr.matches("error: ").count() >= 3, "{stderr}");
    let (code, _, stderr) = millpond(&["check", "/nope.toml"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        stderr,
        "millpond: cannot read the pipeline file /nope.toml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn queues_that_can_take_a_whole_pool_are_warned_about() {
    let text = "connect = [{ from = 'a', to = 'b', depth = 40 }, { from = 'a', to = 'c', depth = 30 }]\n\
                [[pool]]\nblock_bytes = 4096\ncount = COUNT\n\
                [blocks]\na = { type = 'null-source' }\nb = { type = 'null-sink' }\nc = { type = 'null-sink' }";
    let (code, _, stderr) = check(&text.replace("COUNT", "40"));
    let warning = "warning: all connections together can queue 40 buffers, but a pool has no more (40 of 4096 bytes): \
                   blocks that need one may wait for ever; make a `depth` smaller or the [[pool]] larger\n";
    assert_eq!((code, stderr.as_str()), (Some(0), warning));
    let (code, _, stderr) = check(&text.replace("COUNT", "41"));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}
