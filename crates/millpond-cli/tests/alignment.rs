//! Time alignment across real processes: whatever the kernel's scheduler does, and whoever is killed, a row is what its stamps say.

mod pipeline;

use std::time::Duration;

use pipeline::{Directory, End, Pipeline, Rows, kill, wait_until};
use rustix::process::Signal;

/// A table of three sources, and about how many rows it has.
#[derive(Clone, Copy)]
struct Table {
    policy: &'static str,
    rows: usize,
}

const LINEAR: Table =
    Table { policy: "type = \"sync-merge\"\npolicy = \"linear\"\nrate_hz = 90", rows: 1800 };

const TABLES: [Table; 5] = [
    LINEAR,
    Table { policy: "type = \"sync-merge\"\npolicy = \"exact\"\ntolerance_ms = [40, 40, 30]", rows: 140 },
    Table {
        policy: "type = \"sync-merge\"\npolicy = \"nearest\"\nmax_distance_ms = [0, 12, 50]",
        rows: 4000,
    },
    Table { policy: "type = \"sync-merge\"\npolicy = \"approximate\"", rows: 140 },
    Table {
        policy: "type = \"window-aggregate\"\nsize_ms = 150\nslide_ms = 20\nstatistics = [\"count\", \"sum\", \"last\"]",
        rows: 1000,
    },
];

const SLOWLY: &str =
    r#"{ from = "table", to = "slow", depth = 4 }, { from = "slow", to = "csv", depth = 4 }"#;

/// Three sources of different rates. The pace keeps the whole from being over before anything has happened to it; queues are short, so
/// that no source is done long before.
fn three_sources(table: Table, paced: bool) -> String {
    let policy = table.policy;
    let (pace, slow) = match paced {
        true => (SLOWLY, format!("slow = {{ type = \"throttle\", rate_hz = {} }}", table.rows * 4 / 3)),
        false => ("\"table -> csv\"", String::new()),
    };
    format!(
        r#"
name = "aligned"
connect = [
    {{ from = "imu", to = "table.imu", depth = 4 }},
    {{ from = "camera", to = "table.camera", depth = 4 }},
    {{ from = "position", to = "table.position", depth = 4 }},
    {pace}
]
[[pool]]
block_bytes = 4096
count = 1024
[blocks]
imu = {{ type = "signal", waveform = "noise", seed = 1, rate_hz = 200, frames = 1, channels = 2, dtype = "f64", count = 4000 }}
camera = {{ type = "signal", waveform = "noise", seed = 2, rate_hz = 30, frames = 1, dtype = "f64", count = 600 }}
position = {{ type = "signal", waveform = "noise", seed = 3, rate_hz = 7, frames = 1, dtype = "f64", count = 140 }}
{slow}
csv = {{ type = "csv-sink", path = "rows.csv" }}
[blocks.table]
inputs = ["imu", "camera", "position"]
depth = [64, 16, 4]
{policy}
"#
    )
}

fn start(text: &str, options: &[&str]) -> Pipeline {
    let directory = Directory::new();
    let file = directory.write("pipeline.toml", text);
    Pipeline::start_in(directory, &file, options)
}

/// Numbers that are the same in every run with the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn ended(run: Pipeline) -> End {
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    end
}

#[test]
fn rows_are_the_same_whatever_the_scheduler_does_and_whichever_source_is_killed() {
    for table in TABLES {
        rows_are_the_same(table);
    }
}

fn rows_are_the_same(table: Table) {
    let undisturbed = ended(start(&three_sources(table, false), &["--fused"])).bytes("rows.csv");
    let rows = undisturbed.iter().filter(|byte| **byte == b'\n').count();
    assert!(rows.abs_diff(table.rows) < table.rows / 10 + 1, "{rows} rows of {}", table.policy);
    let mut run = start(&three_sources(table, true), &[]);
    wait_until("rows are written", || run.size("rows.csv") > 0);
    let mut random = Random(0x5eed);
    let mut kills = 0;
    while run.size("rows.csv") < undisturbed.len() as u64 / 2 {
        let victims = ["imu", "camera", "position", "table"];
        let victim = victims[random.below(4) as usize];
        let pid = run.pid_of(victim);
        // The table's own death loses what it holds, which is another test's matter.
        if victim != "table" && random.below(4) == 0 && kills < 12 {
            kill(pid, Signal::KILL);
            kills += 1;
            wait_until("it is started again", || run.pid_of(victim) != pid);
        } else {
            kill(pid, Signal::STOP);
            std::thread::sleep(Duration::from_millis(random.below(30)));
            kill(pid, Signal::CONT);
        }
    }
    assert!(kills > 0);
    let end = ended(run);
    assert!(end.bytes("rows.csv") == undisturbed, "the same bytes after {kills} kills, of {}", table.policy);
}

#[test]
fn a_killed_table_repeats_no_row_and_mixes_no_moments() {
    let undisturbed = ended(start(&three_sources(LINEAR, false), &["--fused"])).rows("rows.csv");
    let mut run = start(&three_sources(LINEAR, true), &[]);
    for rows in [50, 300, 550, 800] {
        wait_until("rows are written", || run.read("rows.csv").lines().count() > rows);
        let victim = run.pid_of("table");
        kill(victim, Signal::KILL);
        wait_until("it is started again", || run.pid_of("table") != victim);
    }
    let rows = ended(run).rows("rows.csv");
    let mut expected = undisturbed.rows.iter();
    let mut missing = 0;
    for row in &rows.rows {
        // Found behind the one before, so times rise and no row comes twice.
        let whole = expected.find(|whole| whole[0] == row[0]).expect("a row of that time, not found before");
        for (field, whole) in row.iter().zip(whole) {
            assert!(field.is_empty() || field == whole, "{row:?} instead of {whole:?}");
            missing += usize::from(field.is_empty() && !whole.is_empty());
        }
    }
    // What the table held when it was killed is lost, but not more: 84 buffers and those of one row at a time.
    assert!(missing < 4 * 300, "{missing} values are missing");
    assert!(rows.rows.len() > undisturbed.rows.len() - 4 * 100, "{} rows", rows.rows.len());
}

#[test]
fn a_killed_table_that_redelivers_loses_no_row() {
    let exact = Table { policy: "type = \"sync-merge\"\npolicy = \"exact\"\ntolerance_ms = 2", rows: 120 };
    for table in [LINEAR, exact, TABLES[2]] {
        // Slower, as the file grows in large steps. Moments in common, for `exact`; queues that hold what the table holds, and for one input less.
        let text = |paced| {
            three_sources(table, paced)
                .replace(
                    &format!("rate_hz = {} }}", table.rows * 4 / 3),
                    &format!("rate_hz = {} }}", table.rows / 8),
                )
                .replace("rate_hz = 30,", "rate_hz = 50,")
                .replace("rate_hz = 7,", "rate_hz = 10,")
                .replace("to = \"table.imu\", depth = 4", "to = \"table.imu\", depth = 66")
                .replace("to = \"table.camera\", depth = 4", "to = \"table.camera\", depth = 18")
                .replace("to = \"table.position\", depth = 4", "to = \"table.position\", depth = 5")
                .replace("depth = [64, 16, 4]", "depth = [64, 16, 4]\nredeliver = true")
        };
        let undisturbed = ended(start(&text(false), &["--fused"])).bytes("rows.csv");
        let mut run = start(&text(true), &[]);
        let note = "`position` holds 3 buffers, not the 4 of `depth`";
        wait_until("it says that it holds less", || run.another(&["logs", "aligned"]).stdout.contains(note));
        let mut random = Random(0x5eed);
        let mut kills = 0;
        // More often, it would not be started again.
        while kills < 5 && run.size("rows.csv") < undisturbed.len() as u64 / 2 {
            let victim = run.pid_of("table");
            kill(victim, Signal::KILL);
            kills += 1;
            wait_until("it is started again", || run.pid_of("table") != victim);
            let size = run.size("rows.csv") + random.below(undisturbed.len() as u64 / 10);
            wait_until("rows are written", || run.size("rows.csv") > size);
        }
        assert!(kills > 1, "{kills} kills");
        let end = ended(run);
        assert!(end.bytes("rows.csv") == undisturbed, "the same after {kills} kills, of {}", table.policy);
    }
}

#[test]
fn a_killed_interpolation_that_redelivers_loses_no_row() {
    // Connections that say nothing are deep enough for what is held.
    let text = |paced: bool| {
        let (path, pace) = match paced {
            true => (SLOWLY, "slow = { type = \"throttle\", rate_hz = 500 }"),
            false => ("\"table -> csv\"", ""),
        };
        format!(
            r#"
name = "interpolated"
connect = ["imu -> table.in", "clock -> table.clock", {path}]
[blocks]
imu = {{ type = "signal", waveform = "noise", seed = 1, rate_hz = 200, frames = 1, channels = 2, dtype = "f64", count = 4000 }}
clock = {{ type = "signal", rate_hz = 90, frames = 1, count = 1800 }}
table = {{ type = "interpolate", onto = ["clock"], redeliver = true }}
{pace}
csv = {{ type = "csv-sink", path = "rows.csv" }}
"#
        )
    };
    let undisturbed = ended(start(&text(false), &["--fused"]));
    assert!(!undisturbed.stdout.contains("holds"), "{undisturbed}");
    let undisturbed = undisturbed.bytes("rows.csv");
    let mut run = start(&text(true), &[]);
    let mut kills = 0;
    while kills < 4 {
        let size = run.size("rows.csv");
        wait_until("rows are written", || run.size("rows.csv") > size);
        let victim = run.pid_of("table");
        kill(victim, Signal::KILL);
        kills += 1;
        wait_until("it is started again", || run.pid_of("table") != victim);
    }
    let end = ended(run);
    assert!(end.bytes("rows.csv") == undisturbed, "the same after {kills} kills");
}

/// A sensor and a clock that runs in real time and without which there are no rows.
fn clock_and_sensor(policy: &str) -> String {
    format!(
        r#"
name = "degraded"
connect = ["clock -> real-time -> table.clock", "sensor -> table.sensor", "table -> csv"]
[[pool]]
block_bytes = 4096
count = 1024
[blocks]
clock = {{ type = "signal", waveform = "saw", freq_hz = 0.0001, rate_hz = 100, frames = 1, dtype = "f64" }}
real-time = {{ type = "throttle" }}
sensor = {{ type = "signal", waveform = "saw", freq_hz = 0.0001, rate_hz = 100, frames = 1, dtype = "f64" }}
csv = {{ type = "csv-sink", path = "rows.csv" }}
[blocks.table]
type = "sync-merge"
inputs = ["clock", "sensor"]
optional = ["sensor"]
timeout_ms = 300.0
mark_degraded = true
{policy}
"#
    )
}

#[test]
fn a_filter_that_lets_nothing_through_keeps_nobody_waiting_though_it_is_killed() {
    // Of the events one in a million goes on, through three more blocks: without a timeout, rows would wait for the next one.
    let text = clock_and_sensor("policy = \"nearest\"\nmax_distance_ms = 1")
        .replace("sensor -> table.sensor", "sensor -> rare -> louder -> route; route.rest -> table.sensor")
        .replace("timeout_ms = 300.0\n", "")
        .replace(
            "[blocks]",
            "[blocks]\nrare = { type = \"keep-one-in-n\", n = 1000000, unit = \"buffers\" }\nlouder = { type = \"gain\", k = 1.0 }\n\
             route = { type = \"router\", outputs = [\"rest\", \"nowhere\"], select = \"rest\" }\nnull = { type = \"null-sink\" }",
        )
        .replace("; route.rest -> table.sensor", "\", \"route.rest -> table.sensor\", \"route.nowhere -> null");
    let mut run = start(&text, &["--duration", "1h"]);
    wait_until("rows are written", || lines(&run) > 50);
    for victim in ["rare", "louder", "route", "rare"] {
        let pid = run.pid_of(victim);
        kill(pid, Signal::KILL);
        wait_until("it is started again", || run.pid_of(victim) != pid);
        let rows = lines(&run);
        wait_until("rows come", || lines(&run) > rows + 50);
    }
    run.signal(Signal::INT);
    let end = ended(run).rows("rows.csv");
    assert!(end.column("degraded").iter().all(|mark| *mark == 0.0), "nobody was left out");
    // The first event, and at most one after each restart of the one that counts them.
    let known = end.column("sensor.0").len();
    assert!((1..=3).contains(&known), "{known} values of the sensor");
    let times = end.column("time");
    assert!(times.is_sorted_by(|earlier, later| later - earlier < 0.011), "no moment is missing");
}

/// Sets a parameter of the block `table`, from another process.
fn set(run: &Pipeline, param: &str, value: &str) -> End {
    run.another(&["set", "degraded", "table", param, value])
}

fn lines(run: &Pipeline) -> usize {
    run.read("rows.csv").lines().count()
}

#[test]
fn how_inputs_are_treated_can_be_changed_while_it_runs_and_survives_a_kill() {
    // Every seventh buffer of the sensor is of a moment of the clock.
    let text =
        clock_and_sensor("policy = \"exact\"").replace("optional = [\"sensor\"]\ntimeout_ms = 300.0\n", "");
    let text =
        text.replacen("rate_hz = 100", "rate_hz = RATE", 1).replacen("rate_hz = 100", "rate_hz = 70", 1);
    let mut run = start(&text.replace("RATE", "100"), &["--duration", "1h"]);
    let [clock, sensor] = [1, 2];
    let values =
        |line: &str, column: usize| line.split(',').nth(column).and_then(|text| text.parse::<f64>().ok());
    let later = |line: &str| Some(values(line, sensor)? - values(line, clock)?);
    let is_same = |line: &str| later(line).is_none_or(|later| later.abs() < 1e-9);
    wait_until("rows are written", || lines(&run) > 5);
    assert!(run.read("rows.csv").lines().all(is_same));
    for (param, value, expected) in [
        ("tolerance_ms", "4,4,4", "1 number or 2, one for each of `inputs`, found 3"),
        ("policy", "nearest", "cannot be changed while it runs"),
        ("depth", "9e13", "a number, or one for each of `inputs`, from 0"),
    ] {
        let refused = set(&run, param, value);
        assert!(refused.code == Some(1) && refused.stderr.contains(expected), "{refused}");
    }
    // The clock's buffers may be the earlier ones, the sensor's may not.
    assert_eq!(set(&run, "tolerance_ms", "9,0").code, Some(0));
    let inexact = |run: &Pipeline| run.read("rows.csv").lines().filter(|line| !is_same(line)).count();
    wait_until("rows of different moments come", || inexact(&run) > 5);
    let victim = run.pid_of("table");
    kill(victim, Signal::KILL);
    wait_until("it is started again", || run.pid_of("table") != victim);
    let known = inexact(&run);
    wait_until("rows come with what was set before the kill", || inexact(&run) > known + 5);
    assert!(run.read("rows.csv").lines().filter_map(later).all(|later| later > -1e-9));
    // Without a timeout, rows would have to wait for the sensor for ever.
    assert_eq!(set(&run, "timeout_ms", "9e12,100").code, Some(0));
    assert_eq!(set(&run, "emit_partial", "true").code, Some(0));
    kill(run.pid_of("sensor"), Signal::STOP);
    wait_until("rows come without the sensor", || last_mark(&run) == "1");
    assert_eq!(set(&run, "emit_partial", "false").code, Some(0));
    wait_until("no rows come without the sensor", || {
        let rows = lines(&run);
        std::thread::sleep(Duration::from_millis(300));
        lines(&run) == rows
    });
    kill(run.pid_of("sensor"), Signal::CONT);
    let known = inexact(&run);
    wait_until("rows are whole again", || inexact(&run) > known + 5 && last_mark(&run) == "0");
    run.signal(Signal::INT);
    ended(run);
}

#[test]
fn a_full_input_that_waits_for_an_empty_one_is_told_of() {
    let text = clock_and_sensor("policy = \"exact\"\ndepth = 4").replace("timeout_ms = 300.0\n", "");
    let mut run = start(&text, &["--duration", "1h"]);
    wait_until("rows are written", || lines(&run) > 10);
    kill(run.pid_of("sensor"), Signal::STOP);
    let expected = "`clock` is full and waits, as nothing has come on `sensor`";
    wait_until("the stall is told", || run.another(&["logs", "degraded"]).stdout.contains(expected));
    kill(run.pid_of("sensor"), Signal::CONT);
    let rows = lines(&run);
    wait_until("rows are written again", || lines(&run) > rows + 10);
    run.signal(Signal::INT);
    ended(run);
}

/// The mark in the last row: 1 if it is degraded.
fn last_mark(run: &Pipeline) -> String {
    let text = run.read("rows.csv");
    let line = text.rsplit_terminator("\r\n").next().unwrap_or_default();
    line.rsplit(',').next().unwrap_or_default().to_owned()
}

/// Field of a row as a number; `None` if it is missing.
fn field(rows: &Rows, row: usize, column: &str) -> Option<f64> {
    let index = rows.header.iter().position(|header| header == column).expect("a column");
    rows.rows[row][index].parse().ok()
}

#[test]
fn a_source_that_is_stopped_and_killed_is_left_out_and_comes_back() {
    // Values of the same moment only, so that it shows if moments are mixed.
    for policy in [
        "policy = \"exact\"",
        "policy = \"nearest\"\nmax_distance_ms = 0",
        "policy = \"linear\"",
        "policy = \"approximate\"\nmax_interval_ms = 0",
    ] {
        a_source_comes_back(policy);
    }
}

fn a_source_comes_back(policy: &str) {
    let mut run = start(&clock_and_sensor(policy), &["--duration", "1h"]);
    wait_until("whole rows are written", || run.read("rows.csv").lines().count() > 20);
    for _ in 0..2 {
        let victim = run.pid_of("sensor");
        kill(victim, Signal::STOP);
        wait_until("rows come without it", || last_mark(&run) == "1");
        kill(victim, Signal::KILL);
        wait_until("it is started again", || run.pid_of("sensor") != victim);
        let rows = run.read("rows.csv").lines().count();
        wait_until("rows are whole again", || {
            run.read("rows.csv").lines().count() > rows + 10 && last_mark(&run) == "0"
        });
    }
    run.signal(Signal::INT);
    let rows = ended(run).rows("rows.csv");
    let mut degraded = 0;
    for row in 0..rows.rows.len() {
        let time_s = field(&rows, row, "time").expect("a time");
        assert!((time_s - row as f64 / 100.0).abs() < 1e-6, "row {row} at {time_s}: each moment once");
        // Both count the same, so a value belongs to its moment if it is the clock's.
        let (clock, sensor) = (field(&rows, row, "clock.0").expect("a value"), field(&rows, row, "sensor.0"));
        assert!(sensor.is_none_or(|sensor| sensor == clock), "row {row}: {sensor:?} instead of {clock}");
        match field(&rows, row, "degraded") {
            Some(0.0) => assert!(sensor.is_some(), "row {row} is called whole"),
            mark => {
                assert_eq!(mark, Some(1.0));
                degraded += 1;
            }
        }
        if sensor.is_none() {
            assert_eq!(field(&rows, row, "degraded"), Some(1.0), "row {row} lacks a value");
        }
    }
    assert!(degraded >= 2 && degraded < rows.rows.len());
}

#[test]
fn a_table_that_is_killed_while_a_source_is_behind_does_not_go_back() {
    // A new process waits for the source again; the rows of the past that it could make with what comes late were sent.
    let mut run = start(&clock_and_sensor("policy = \"linear\"\nrate_hz = 100"), &["--duration", "1h"]);
    wait_until("whole rows are written", || run.read("rows.csv").lines().count() > 20);
    for _ in 0..2 {
        let [sensor, table] = ["sensor", "table"].map(|block| run.pid_of(block));
        kill(sensor, Signal::STOP);
        wait_until("rows come without it", || last_mark(&run) == "1");
        kill(sensor, Signal::KILL);
        kill(table, Signal::KILL);
        wait_until("both are started again", || {
            run.pid_of("sensor") != sensor && run.pid_of("table") != table
        });
        let rows = run.read("rows.csv").lines().count();
        wait_until("rows are whole again", || {
            run.read("rows.csv").lines().count() > rows + 10 && last_mark(&run) == "0"
        });
    }
    run.signal(Signal::INT);
    let times: Vec<f64> = ended(run).rows("rows.csv").column("time");
    assert!(times.is_sorted_by(|earlier, later| earlier < later), "each row has a later time");
}

#[test]
fn a_clock_that_nobody_answers_for_is_told_once() {
    let text = r#"
name = "unanswered"
connect = ["tone -> paced -> dated -> csv"]
[blocks]
tone = { type = "signal", rate_hz = 1000, frames = 1, count = 200 }
paced = { type = "throttle", rate_hz = 1000 }
dated = { type = "restamp", mode = "clock", ask = "scope/time", ask_every_ms = 1 }
csv = { type = "csv-sink", path = "rows.csv" }
"#;
    let end = ended(start(text, &[]));
    let told = "the clock `scope/time` does not answer, the estimate stays as it is: nobody in pond `unanswered` answers";
    assert_eq!(end.stdout.matches(told).count(), 1, "{end}");
    let rows = end.rows("rows.csv");
    let times: Vec<&str> = rows.rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(times.len(), 200);
    // Times of arrival: seconds since 1970, and of this century.
    assert!(times.is_sorted(), "{times:?}");
    assert!(times[0].parse::<f64>().expect("a time") > 1.6e9, "{times:?}");
}

#[test]
fn settings_that_do_not_fit_the_streams_are_told_once() {
    let run = |settings: &str| {
        let text = format!(
            r#"
name = "advised"
connect = ["fast -> table.fast", "slow -> table.slow", "table -> csv"]
[blocks]
fast = {{ type = "signal", rate_hz = 200, frames = 1, count = 1000 }}
slow = {{ type = "signal", rate_hz = 100, frames = 1, count = 500 }}
csv = {{ type = "csv-sink", path = "rows.csv" }}
[blocks.table]
type = "sync-merge"
inputs = ["fast", "slow"]
{settings}
"#
        );
        ended(start(&text, &[]))
    };
    let tolerance = "the tolerance of 3000000 ns is at least half the shortest period of 5000000 ns";
    let depth =
        "`fast`: a depth of 10 is less than the 80 that come during skew (0 ns), disorder and timeout";
    let end = run("tolerance_ms = 3\ndepth = [10, 64]\ntimeout_ms = [9e12, 400]");
    for told in [tolerance, depth] {
        assert_eq!(end.stdout.matches(told).count(), 1, "{told}\n{end}");
    }
    let end = run("tolerance_ms = 2\ndepth = [80, 64]\ntimeout_ms = [9e12, 400]");
    assert!(!end.stdout.contains("the tolerance of") && !end.stdout.contains("a depth of"), "{end}");
}
