//! `millpond run` with real processes: the examples, kills, signals, failures. Every wait is for a condition.

mod pipeline;

use pipeline::{Pipeline, Rows, example, wait_until};
use rustix::process::Signal;

const TELEMETRY_BLOCKS: [&str; 5] = ["cpu", "memory", "network", "table", "csv"];

/// Checks that a CSV file is a whole telemetry table: header, all columns, times that rise.
#[track_caller]
fn check_telemetry(rows: &Rows) {
    assert_eq!(rows.header[0], "time");
    assert_eq!(rows.header.len(), 11, "{:?}", rows.header);
    assert_eq!(rows.header[1], "cpu.busy_percent");
    assert!(rows.rows.iter().all(|row| row.len() == rows.header.len()));
    let times: Vec<f64> = rows.column("time");
    assert!(times.is_sorted_by(|earlier, later| earlier < later), "each row has a later time");
    for column in ["cpu.busy_percent", "cpu.idle_percent"] {
        assert!(rows.column(column).iter().all(|percent| (0.0..=100.0).contains(percent)));
    }
    assert!(rows.column("memory.total_mib").windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn telemetry_runs_for_its_time_and_ends_by_itself() {
    let mut run = Pipeline::start(&example("telemetry.toml"), &["--duration", "2s"]);
    let pids = TELEMETRY_BLOCKS.map(|block| run.pid_of(block));
    assert!(
        pids.iter().all(|pid| pids.iter().filter(|other| *other == pid).count() == 1),
        "each its own process"
    );
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert!(end.stdout.contains("telemetry ended in order, its time was over (2."), "{end}");
    assert!(end.stdout.contains("cpu.out -> table.cpu"), "{end}");
    assert!(end.stdout.contains(" rows to telemetry.csv"), "{end}");
    assert_eq!(end.stderr, "");
    let rows = end.rows("telemetry.csv");
    check_telemetry(&rows);
    // 50 Hz for 2 s; fewer if the machine is very busy.
    assert!((50..130).contains(&rows.rows.len()), "{} rows", rows.rows.len());
    assert!(rows.column("memory.free_mib").len() > rows.rows.len() / 2, "values of the others are joined");
    let fields = rows.rows.iter().map(|row| row[0].parse::<f64>().expect("a time"));
    assert!(fields.clone().all(|time| ((time * 50.0).round() / 50.0 - time).abs() < 1e-6), "on the grid");
}

#[test]
fn quiet_says_nothing() {
    let end = Pipeline::start(&example("telemetry.toml"), &["--duration", "100ms", "--quiet"]).wait();
    assert_eq!((end.code, end.stdout.as_str(), end.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn any_block_of_the_running_telemetry_may_be_killed() {
    let mut run = Pipeline::start(&example("telemetry.toml"), &["--duration", "1h"]);
    let rows = |run: &Pipeline| run.read("telemetry.csv").lines().count();
    wait_until("rows are written", || rows(&run) > 20);
    for (kills, block) in TELEMETRY_BLOCKS.iter().enumerate() {
        let victim = run.pid_of(block);
        pipeline::kill(victim, Signal::KILL);
        wait_until("the block has a new process", || run.pid_of(block) != victim);
        let told = format!("{block}: process {victim} was killed by signal 9 (SIGKILL): starting it again\n");
        wait_until("the death is reported", || run.stderr().contains(&told));
        let before = rows(&run);
        wait_until("the stream goes on", || rows(&run) > before + 50);
        assert_eq!(run.stderr().lines().count(), kills + 1, "nobody else has died: {}", run.stderr());
    }
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    let rows = end.rows("telemetry.csv");
    check_telemetry(&rows);
    // Behind the last value of a stream nothing is extrapolated, so not in the very last rows.
    let last = &rows.rows[rows.rows.len() - 50..];
    assert!(last.iter().any(|row| row.iter().all(|field| !field.is_empty())), "all are joined again");
}

#[test]
fn the_first_signal_ends_in_order() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let run = Pipeline::start(&example("telemetry.toml"), &["--duration", "1h"]);
        wait_until("rows are written", || run.read("telemetry.csv").lines().count() > 5);
        run.signal(signal);
        let end = run.wait();
        assert_eq!(end.code, Some(0), "{end}");
        assert_eq!(end.stderr, "stopping in order; once more to stop at once\n");
        assert!(end.stdout.contains("ended in order after a signal"), "{end}");
        let rows = end.rows("telemetry.csv").rows.len();
        assert!(
            end.stdout.contains(&format!("csv: wrote {rows} rows to telemetry.csv")),
            "all rows are written: {end}"
        );
        for connection in ["cpu.out -> table.cpu", "memory.out -> table.memory", "table.out -> csv.in"] {
            let counts = [0, 1].map(|column| end.count_of(connection, column));
            assert_eq!(counts[0], counts[1], "everything was drained: {end}");
        }
        assert_eq!(end.count_of("table.out -> csv.in", 1), rows as u64, "{end}");
    }
}

#[test]
fn the_second_signal_stops_at_once() {
    let mut run = Pipeline::start(&example("telemetry.toml"), &["--duration", "1h"]);
    wait_until("rows are written", || run.read("telemetry.csv").lines().count() > 5);
    // A stopped sink drains nothing, and does not even leave when it is asked to.
    pipeline::kill(run.pid_of("csv"), Signal::STOP);
    run.signal(Signal::INT);
    wait_until("it is stopping", || run.stderr().contains("stopping in order"));
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(130), "{end}");
    assert!(end.stdout.contains("stopped at once"), "{end}");
}

#[test]
fn blocks_end_with_their_supervisor() {
    let mut run = Pipeline::start(&example("telemetry.toml"), &["--duration", "1h"]);
    wait_until("rows are written", || run.read("telemetry.csv").lines().count() > 5);
    let pids = TELEMETRY_BLOCKS.map(|block| run.pid_of(block));
    run.signal(Signal::KILL);
    wait_until("all blocks have ended", || !pids.iter().any(|pid| pipeline::is_alive(*pid)));
    let end = run.wait();
    check_telemetry(&end.rows("telemetry.csv"));
}

#[test]
fn wav_files_pass_bit_by_bit() {
    let formats = [(8, false), (16, false), (24, false), (32, false), (32, true)];
    for (format, frames, channels) in
        formats.iter().zip([0, 1, 4097, 4096, 100_003]).flat_map(|(format, frames)| {
            // Every format in one size of its own and the smallest ones; channels vary along.
            [(*format, frames, 1), (*format, 0, 2), (*format, 1, 1), (*format, 4999, 3)]
        })
    {
        let directory = pipeline::Directory::new();
        pipeline::write_wav(&directory.path("in.wav"), format, channels, frames);
        let file = directory.write("copy.toml", WAV_COPY);
        let end = Pipeline::start_in(directory, &file, &["--quiet"]).wait();
        assert_eq!(end.code, Some(0), "{format:?} {frames} {channels}: {end}");
        assert!(
            end.bytes("in.wav") == end.bytes("out.wav"),
            "{format:?}, {frames} frames of {channels} channels differ"
        );
    }
}

#[test]
fn a_killed_wav_source_goes_on_where_it_was() {
    let directory = pipeline::Directory::new();
    pipeline::write_wav(&directory.path("in.wav"), (16, false), 2, 3_000_000);
    // Small buffers and a short queue: the source is busy for as long as the sink stands still.
    let text = WAV_COPY.replace("type = \"wav-source\"", "type = \"wav-source\"\nframes = 100");
    let file = directory.write("copy.toml", &text);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    // Not while it attaches: whoever stops it there keeps the registry, and with it recovery, waiting.
    wait_until("the sink writes", || run.size("out.wav") > 10_000);
    for _ in 0..3 {
        let (source, sink) = (run.pid_of("source"), run.pid_of("sink"));
        pipeline::kill(sink, Signal::STOP);
        wait_until("the source waits or is done", || pipeline::is_idle(source));
        if !pipeline::is_alive(source) {
            pipeline::kill(sink, Signal::CONT);
            break;
        }
        pipeline::kill(source, Signal::KILL);
        wait_until("it has a new process", || run.pid_of("source") != source);
        pipeline::kill(sink, Signal::CONT);
    }
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert!(end.stderr.contains("killed by signal 9"), "{end}");
    assert!(end.bytes("in.wav") == end.bytes("out.wav"), "not one sample is missing or doubled");
}

#[test]
fn a_block_that_cannot_start_fails_the_run() {
    let directory = pipeline::Directory::new();
    let file = directory.write("copy.toml", WAV_COPY);
    let end = Pipeline::start_in(directory, &file, &[]).wait();
    assert_eq!(end.code, Some(1), "{end}");
    let failed = "failed: read in.wav: No such file or directory (os error 2); it is looked for in ";
    let lines: Vec<&str> = end.stderr.lines().collect();
    assert!(
        lines[0].starts_with("source: process ")
            && lines[0].contains(failed)
            && lines[0].ends_with(": not started again"),
        "{end}"
    );
    assert!(lines[1].starts_with(&format!("millpond: block `source` {failed}")) && lines.len() == 2, "{end}");
}

#[test]
fn a_cut_off_wav_file_fails_the_run() {
    let directory = pipeline::Directory::new();
    pipeline::write_wav(&directory.path("in.wav"), (16, false), 1, 10_000);
    let whole = std::fs::read(directory.path("in.wav")).unwrap();
    std::fs::write(directory.path("in.wav"), &whole[..whole.len() - 100]).unwrap();
    let file = directory.write("copy.toml", WAV_COPY);
    let end = Pipeline::start_in(directory, &file, &[]).wait();
    assert_eq!(end.code, Some(1), "{end}");
    let failed = "millpond: block `source` failed: in.wav is cut off: expected 10000 frames, as its header says, found 9950: copy it \
                  anew, or read what is there with `file-source`";
    assert!(end.stderr.ends_with(&format!("{failed}\n")), "{end}");
    // The restart went on behind what had been sent: the sink has it once, and all that is there.
    assert_eq!(hound::WavReader::open(end.path("out.wav")).unwrap().duration(), 9950);
}

#[test]
fn a_block_that_is_never_restarted_fails_the_run() {
    let directory = pipeline::Directory::new();
    let file =
        directory.write("zeros.toml", &ZEROS.replace("rate_hz = 100", "rate_hz = 100\nrestart = \"never\""));
    let mut run = Pipeline::start_in(directory, &file, &[]);
    let zeros = run.pid_of("zeros");
    pipeline::kill(zeros, Signal::KILL);
    let end = run.wait();
    assert_eq!(end.code, Some(1), "{end}");
    assert!(end.stderr.ends_with("millpond: block `zeros` killed by signal 9 (SIGKILL)\n"), "{end}");
}

#[test]
fn drops_are_counted_with_their_reason() {
    let directory = pipeline::Directory::new();
    let text = ZEROS
        .replace(
            "\"zeros -> nothing\"",
            "{ from = \"zeros\", to = \"nothing\", depth = 4, policy = \"drop-oldest\" }",
        )
        .replace("rate_hz = 100", "rate_hz = 1000\ncount = 5000");
    let file = directory.write("zeros.toml", &text);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    let (zeros, nothing) = (run.pid_of("zeros"), run.pid_of("nothing"));
    run.has_moved("nothing");
    pipeline::kill(nothing, Signal::STOP);
    wait_until("the source is done, whatever the sink does", || !pipeline::is_alive(zeros));
    pipeline::kill(nothing, Signal::CONT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    let row = end.stdout.lines().find(|line| line.contains("zeros.out -> nothing.in")).expect("a row");
    let (sent, taken) =
        (end.count_of("zeros.out -> nothing.in", 0), end.count_of("zeros.out -> nothing.in", 1));
    assert_eq!(sent, 5000, "{row}");
    assert!(taken < sent, "{row}");
    assert!(row.ends_with(&format!("{} (oldest, queue full)", sent - taken)), "{row}");
}

#[test]
fn progress_is_shown_in_plain_lines() {
    let directory = pipeline::Directory::new();
    let file = directory.write("zeros.toml", ZEROS);
    let run = Pipeline::start_in(directory, &file, &["--duration", "1h"]);
    wait_until("two lines are shown", || {
        run.stdout().lines().filter(|line| line.contains(" s:  zeros ")).count() >= 2
    });
    run.signal(Signal::INT);
    let end = run.wait();
    assert!(!end.stdout.contains('\x1b'), "no escape sequences in a pipe: {end}");
    let latency = end.stdout.lines().find(|line| line.trim_start().starts_with("nothing ")).expect("a row");
    assert!(latency.contains(" ms") || latency.contains(" µs"), "{latency}");
}

#[test]
fn the_log_has_what_happened_to_each_block() {
    let directory = pipeline::Directory::new();
    let file = directory.write("zeros.toml", ZEROS);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("nothing");
    let first = run.pid_of("nothing");
    pipeline::kill(first, Signal::KILL);
    wait_until("it has a new process", || run.pid_of("nothing") != first);
    let all = run.another(&["logs", "zeros"]);
    assert_eq!(all.code, Some(0), "{all}");
    assert!(all.stdout.contains("zeros: started as process "), "{all}");
    let about = run.another(&["logs", "zeros", "nothing", "--level", "error", "--json"]);
    let line: serde_json::Value = serde_json::from_str(about.stdout.trim()).expect("one line");
    assert_eq!(line["text"], format!("process {first} killed by signal 9 (SIGKILL): started again at once"));
    assert_eq!((&line["block"], &line["level"]), (&"nothing".into(), &"error".into()));
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    let gone = Pipeline::start("none", &[]).another(&["logs", "zeros"]);
    assert_eq!(gone.code, Some(1), "{gone}");
}

#[test]
fn a_wrong_file_is_refused() {
    let directory = pipeline::Directory::new();
    let file = directory.write("wrong.toml", "[blocks.a]\ntype = \"gian\"\n");
    let end = Pipeline::start_in(directory, &file, &[]).wait();
    assert_eq!(end.code, Some(2), "{end}");
    assert!(end.stderr.starts_with("error: there is no block type `gian`\n --> "), "{end}");
    assert!(end.stderr.ends_with("  = help: did you mean `gain`?\n"), "{end}");
    assert_eq!(end.stdout, "");
    let end = Pipeline::start("/nope.toml", &[]).wait();
    assert_eq!((end.code, end.stdout.as_str()), (Some(2), ""));
    assert_eq!(
        end.stderr,
        "millpond: cannot read the pipeline file /nope.toml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn a_pipeline_in_one_line() {
    let line = "signal freq=440 count=10 ! gain k=0.5 ! wav-sink path='a tone.wav'";
    let end = Pipeline::start(line, &[]).wait();
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end}");
    let mut reader = hound::WavReader::open(end.path("a tone.wav")).unwrap();
    let samples: Vec<f32> = reader.samples().map(Result::unwrap).collect();
    assert_eq!(samples.len(), 10 * 4096);
    for (i, sample) in samples.iter().enumerate() {
        let expected = 0.5 * (std::f64::consts::TAU * 440.0 * i as f64 / 48_000.0).sin();
        assert!((f64::from(*sample) - expected).abs() < 1e-6, "sample {i}: {sample}, not {expected}");
    }
    let end = Pipeline::start("signal frq_hz=440 ! null-sink", &["--fused"]).wait();
    let expected = "\
error: `signal` has no parameter `frq_hz`
 --> line:1:8
  |
1 | signal frq_hz=440 ! null-sink
  |        ^^^^^^
  = help: did you mean `freq_hz`?
";
    assert_eq!((end.code, end.stderr.as_str()), (Some(2), expected), "{end}");
    // A file is a file, whatever it is called.
    let directory = pipeline::Directory::new();
    let file = directory.write("a ! b.toml", &ZEROS.replace("items = 16", "items = 16\ncount = 3"));
    let end = Pipeline::start_in(directory, &file, &["--quiet"]).wait();
    assert_eq!(end.code, Some(0), "{end}");
}

#[test]
fn one_pond_of_a_name_at_a_time() {
    let directory = pipeline::Directory::new();
    let file = directory.write("zeros.toml", ZEROS);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    run.pid_of("zeros");
    let second = run.another(&["run", &file]);
    assert_eq!(second.code, Some(1), "{second}");
    assert!(
        second.stderr.starts_with("millpond: cannot run the pipeline: the pond `zeros` exists already"),
        "{second}"
    );
    run.signal(Signal::INT);
    assert_eq!(run.wait().code, Some(0));
}

#[test]
fn a_block_can_be_run_by_hand() {
    let directory = pipeline::Directory::new();
    let file = directory.write("zeros.toml", ZEROS);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    run.pid_of("zeros");
    let refused = |arguments: &[&str], code: i32, text: &str| {
        let end = run.another(arguments);
        assert_eq!(end.code, Some(code), "{end}");
        assert!(end.stderr.starts_with(text), "{end}");
    };
    refused(
        &["block", "gian", "a", "--pond", "zeros"],
        2,
        "millpond: there is no block type `gian`, did you mean `gain`?; known: ",
    );
    refused(
        &["block", "gain", "a", "--pond", "zeros", "--param", "kk=1"],
        2,
        "millpond: `gain` has no parameter `kk`, did you mean `k`?",
    );
    refused(
        &["block", "gain", "a", "--pond", "zeros", "--param", "k"],
        2,
        "error: invalid value 'k' for '--param <NAME=VALUE>'",
    );
    refused(
        &["block", "wav-sink", "a", "--pond", "zeros"],
        2,
        "millpond: `wav-sink` needs the parameter `path`",
    );
    refused(&["block", "gain", "a", "--pond", "nope"], 1, "millpond: there is no pond `nope`");
    refused(
        &["block", "null-source", "zeros", "--pond", "zeros"],
        1,
        "millpond: block `zeros` failed: the port `zeros.out` is in use by process ",
    );
    for command in
        [&["init", "bad name!"][..], &["stop", "bad name!"], &["block", "gain", "a", "--pond", "bad name!"]]
    {
        refused(command, 2, "millpond: the pond name `bad name!` cannot be used: ` ` is not allowed");
    }
    let end = run.another(&["block", "null-source", "more", "--pond", "zeros", "--param", "count=3"]);
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""));
    run.signal(Signal::INT);
    assert_eq!(run.wait().code, Some(0));
}

const WAV_COPY: &str = r#"
name = "wav-copy"
connect = ["source -> gain -> sink"]
[blocks.source]
type = "wav-source"
path = "in.wav"
[blocks.gain]
type = "gain"
k = 1
[blocks.sink]
type = "wav-sink"
path = "out.wav"
"#;

const ZEROS: &str = r#"
name = "zeros"
connect = ["zeros -> nothing"]
[blocks.zeros]
type = "null-source"
rate_hz = 100
items = 16
[blocks.nothing]
type = "null-sink"
"#;

#[test]
fn a_queue_can_be_limited_in_time() {
    let directory = pipeline::Directory::new();
    // 10 ms each: six of them are 50 ms apart.
    let text = r#"
name = "timed"
connect = [
    { from = "tone", to = "stopped", depth = 64, max_time = "50ms", policy = "drop-oldest" },
    { from = "tone", to = "paced", depth = 64, max_time = "50ms" },
]
[blocks]
tone = { type = "signal", rate_hz = 48000, frames = 480 }
paced = { type = "null-sink" }
stopped = { type = "null-sink" }
"#;
    let file = directory.write("timed.toml", text);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("stopped");
    let (paced, stopped) = (run.pid_of("paced"), run.pid_of("stopped"));
    let queued = |to: &str| {
        let pond: serde_json::Value =
            serde_json::from_str(&run.another(&["inspect", "timed", "--json"]).stdout).unwrap_or_default();
        let connections = pond["pond"]["connections"].as_array().cloned().unwrap_or_default();
        connections.iter().find(|c| c["to"] == to).and_then(|c| c["queued"].as_u64())
    };
    pipeline::kill(stopped, Signal::STOP);
    wait_until("the oldest are dropped", || queued("stopped.in") == Some(6));
    pipeline::kill(paced, Signal::STOP);
    wait_until("the source waits", || queued("paced.in") == Some(6));
    for pid in [paced, stopped] {
        pipeline::kill(pid, Signal::CONT);
    }
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    let [sent, taken] = [0, 1].map(|column| end.count_of("tone.out -> paced.in", column));
    assert!(sent > 6 && sent == taken, "{end}");
    assert!(end.stdout.contains(" (oldest, queue full)"), "{end}");
}

#[test]
fn programs_read_how_a_pipeline_a_check_and_a_stop_went() {
    let directory = pipeline::Directory::new();
    let file = directory.write(
        "tone.toml",
        "connect = [\"tone -> file\"]\nblocks.tone = { type = \"signal\", count = 3 }\nblocks.file = { type = \"wav-sink\", path = \
         \"tone.wav\" }\n",
    );
    let end = Pipeline::start_in(directory, &file, &["--json"]).wait();
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end}");
    let told: serde_json::Value = serde_json::from_str(&end.stdout).expect("JSON");
    assert_eq!((&told["name"], &told["outcome"]), (&"tone".into(), &"done".into()), "{end}");
    assert_eq!((&told["connections"][0]["sent"], &told["connections"][0]["taken"]), (&3.into(), &3.into()));
    assert_eq!(told["blocks"][1]["notes"][0], "wrote 12288 frames to tone.wav");
    assert!(told["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{end}");

    let directory = pipeline::Directory::new();
    let wrong = directory
        .write("wrong.toml", "connect = [\"tone -> out\"]\n[blocks.tone]\ntype = \"signal\"\nhz = 1\n");
    let nothing = directory.write("nothing.toml", "connect = []\n");
    let run = Pipeline::start_in(directory, &nothing, &[]);
    let check = run.another(&["check", &wrong, "--json"]);
    run.wait();
    assert_eq!(check.code, Some(2), "{check}");
    let told: serde_json::Value = serde_json::from_str(&check.stdout).expect("JSON");
    let places: Vec<_> =
        told["mistakes"].as_array().into_iter().flatten().map(|of| of["line"].as_u64()).collect();
    assert!(places.contains(&Some(4)), "{check}");
}
