//! How `millpond run` looks after its blocks: restarts, stalls, going on without it; and that kills cost what was in hand and nothing
//! else.

mod pipeline;

use pipeline::{Directory, Pipeline, wait_until};
use rustix::process::Signal;

/// Six processes. Every buffer holds eight numbers that nobody else has.
const NUMBERS: &str = r#"
name = "numbers"
connect = ["numbers -> a -> b -> c -> d -> file"]
[[pool]]
block_bytes = 4096
count = 4096
[blocks]
numbers = { type = "file-source", path = "in.u32", dtype = "u32", frames = 8, restart = { limit = 1000, within = "60s" } }
a = { type = "copy", restart = { limit = 1000, within = "60s" } }
b = { type = "copy", restart = { limit = 1000, within = "60s" } }
c = { type = "copy", restart = { limit = 1000, within = "60s" } }
d = { type = "copy", restart = { limit = 1000, within = "60s" } }
file = { type = "file-sink", path = "out.u32", restart = { limit = 1000, within = "60s" } }
"#;

#[test]
fn kills_cost_what_was_in_hand_and_nothing_else() {
    const ROUNDS: usize = 20;
    let directory = Directory::new();
    let numbers: Vec<u8> = (0..30_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.path("in.u32"), numbers).unwrap();
    let file = directory.write("numbers.toml", NUMBERS);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    let mut kills = 0;
    for _ in 0..ROUNDS {
        for block in ["numbers", "a", "b", "c", "d", "file"] {
            let (pid, size) = (run.pid_of(block), run.size("out.u32"));
            wait_until("the pipeline flows", || run.size("out.u32") > size || !pipeline::is_alive(pid));
            assert!(
                pipeline::is_alive(pid),
                "the numbers have run out after {kills} kills: {}",
                run.stderr()
            );
            pipeline::kill(pid, Signal::KILL);
            kills += 1;
            wait_until(&format!("`{block}` has a new process"), || run.pid_of(block) != pid);
        }
    }
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert_eq!(end.stderr.matches("killed by signal 9").count(), kills, "{end}");
    let words: Vec<u32> = end
        .bytes("out.u32")
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect();
    // Whole buffers, each once, in order.
    let buffers: Vec<u32> = words.chunks(8).map(|buffer| buffer[0] / 8).collect();
    for (buffer, number) in words.chunks(8).zip(&buffers) {
        assert!(buffer.iter().copied().eq(number * 8..number * 8 + 8), "a broken buffer: {buffer:?}");
    }
    assert!(buffers.is_sorted_by(|earlier, later| earlier < later), "doubled or out of order");
    let sent = end.count_of("numbers.out -> a.in", 0);
    let missing = sent - buffers.len() as u64;
    let lost: u64 = end
        .stdout
        .lines()
        .filter_map(|line| line.split_once(" (in hand of a killed receiver)")?.0.split_whitespace().last())
        .map(|count| count.parse::<u64>().unwrap())
        .sum();
    // A victim may have passed on what it still had in its hand.
    assert!(missing <= lost, "{missing} of {sent} are missing, {lost} were in hand: {end}");
    assert!(lost <= kills as u64 * 64, "{lost} lost by {kills} kills: {end}");
}

/// A source counts what it has sent, not what a connection has carried: one that is younger, one that drops, or one that was made anew does not
/// set it back.
#[test]
fn a_killed_source_goes_on_where_it_was_whatever_its_connections_are() {
    let directory = Directory::new();
    let numbers: Vec<u8> = (0..60_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.path("in.u32"), numbers).unwrap();
    let text = r#"
name = "sources"
connect = ["numbers -> file", { from = "numbers", to = "meter", depth = 1, policy = "drop-newest" }]
[[pool]]
block_bytes = 4096
count = 1024
[blocks]
numbers = { type = "file-source", path = "in.u32", dtype = "u32", frames = 8 }
file = { type = "file-sink", path = "out.u32" }
meter = { type = "null-sink" }
"#;
    let file = directory.write("sources.toml", text);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    let flows = |run: &Pipeline| {
        let size = run.size("out.u32");
        wait_until("the numbers flow", || run.size("out.u32") > size + 100_000);
    };
    let kill = |run: &mut Pipeline| {
        let pid = run.pid_of("numbers");
        pipeline::kill(pid, Signal::KILL);
        wait_until("the source has a new process", || run.pid_of("numbers") != pid);
        flows(run);
    };
    let change = |run: &Pipeline, command: &str| {
        let end = run.another(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(end.code, Some(0), "{command}: {end}");
    };
    flows(&run);
    kill(&mut run);
    // Younger than the other two.
    let mut guest = run.start_another(&["block", "null-sink", "guest", "--pond", "sources"]);
    wait_until("it is connected", || {
        run.another(&["connect", "sources", "numbers", "guest"]).code == Some(0)
    });
    flows(&run);
    kill(&mut run);
    // Anew, and then the only one: what went to the others meanwhile is missing.
    change(&run, "disconnect sources numbers file");
    wait_until("it is connected again", || {
        run.another(&["connect", "sources", "numbers", "file"]).code == Some(0)
    });
    flows(&run);
    change(&run, "disconnect sources numbers guest");
    change(&run, "disconnect sources numbers meter");
    flows(&run);
    kill(&mut run);
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert!(guest.0.wait().unwrap().success());
    let bytes = end.bytes("out.u32");
    let words: Vec<u32> = bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let place = words.windows(2).position(|pair| pair[0] >= pair[1]);
    assert!(place.is_none(), "doubled: {:?}", place.map(|at| &words[at..at + 2]));
}

#[test]
fn a_block_that_is_always_restarted_goes_on_with_its_stream() {
    let directory = Directory::new();
    let text = r#"
name = "again"
connect = ["lines -> file"]
[blocks]
lines = { type = "exec-source", command = "printf abc", restart = { when = "always", limit = 3, within = "60s" } }
file = { type = "file-sink", path = "out" }
"#;
    let file = directory.write("again.toml", text);
    let end = Pipeline::start_in(directory, &file, &[]).wait();
    assert_eq!(end.code, Some(1), "given up after three restarts: {end}");
    assert_eq!(end.bytes("out"), b"abcabcabcabc", "{end}");
    assert_eq!(end.stderr.matches("ended by itself: starting it again").count(), 3, "{end}");
    assert!(end.stderr.ends_with("millpond: block `lines` ended by itself\n"), "{end}");
}

#[test]
fn a_stopped_block_is_told_and_killed_where_the_file_asks_for_it() {
    let directory = Directory::new();
    let text = r#"
name = "stalled"
connect = ["zeros -> copy -> nothing"]
[blocks]
zeros = { type = "null-source", rate_hz = 100 }
copy = { type = "copy", kill_stalled = "4s" }
nothing = { type = "null-sink" }
"#;
    let file = directory.write("stalled.toml", text);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("nothing");
    let (copy, nothing) = (run.pid_of("copy"), run.pid_of("nothing"));
    pipeline::kill(copy, Signal::STOP);
    wait_until("it was killed and has a new process", || run.pid_of("copy") != copy);
    pipeline::kill(nothing, Signal::STOP);
    wait_until("the other is told", || run.stderr().contains("nothing: process"));
    assert!(pipeline::is_alive(nothing), "it is left alone");
    pipeline::kill(nothing, Signal::CONT);
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    let told = format!("copy: process {copy} does not run (stopped?) for ");
    assert!(end.stderr.contains(&told) && end.stderr.contains("killed, as kill_stalled asks"), "{end}");
    assert!(end.stderr.contains("left alone; `kill_stalled` would end that"), "{end}");
}

#[test]
fn detached_blocks_go_on_without_their_supervisor_until_they_are_stopped() {
    let directory = Directory::new();
    let text = r#"
name = "detached"
detach = true
connect = ["zeros -> nothing"]
[blocks]
zeros = { type = "null-source", rate_hz = 100 }
nothing = { type = "null-sink" }
"#;
    let file = directory.write("detached.toml", text);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("nothing");
    let pids = ["zeros", "nothing"].map(|block| run.pid_of(block));
    run.signal(Signal::KILL);
    run.wait_for_death();
    let taken = || {
        let top = run.another(&["top", "detached", "--json", "--interval", "10ms"]);
        let pond: serde_json::Value = serde_json::from_str(&top.stdout).expect("the pond");
        pond["rows"][1]["taken_per_s"].as_f64().expect("a rate")
    };
    // Rates are over the time between two looks: a hundred a second is one in most of them.
    wait_until("data flows", || taken() > 0.0);
    assert!(pids.iter().all(|&pid| pipeline::is_alive(pid)));
    let stop = run.another(&["stop", "detached"]);
    assert_eq!(stop.code, Some(0), "{stop}");
    wait_until("all have ended", || !pids.iter().any(|&pid| pipeline::is_alive(pid)));
    let ps = run.another(&["ps"]);
    assert_eq!(ps.stdout, "no ponds\n", "{ps}");
}

#[test]
fn blocks_end_in_order_whenever_their_supervisor_is_killed() {
    for _ in 0..20 {
        let directory = Directory::new();
        // `all` gets everything that is ever sent, at once.
        let text = r#"
name = "orphans"
connect = [{ from = "tone.out", to = "pace.in", depth = 2 }, "pace -> loud -> file", "tone -> all"]
[blocks]
tone = { type = "signal", dtype = "f32", frames = 480 }
pace = { type = "throttle" }
loud = { type = "gain", k = 0.5 }
file = { type = "file-sink", path = "out.f32" }
all = { type = "file-sink", path = "all.f32" }
"#;
        let file = directory.write("orphans.toml", text);
        let mut run = Pipeline::start_in(directory, &file, &[]);
        let pids = ["tone", "pace", "loud", "file", "all"].map(|block| run.pid_of(block));
        wait_until("data flows", || run.size("out.f32") > 0);
        run.signal(Signal::KILL);
        run.wait_for_death();
        wait_until("all have ended", || !pids.iter().any(|&pid| pipeline::is_alive(pid)));
        assert_eq!(run.size("out.f32"), run.size("all.f32"), "all that was sent has arrived");
    }
}

#[test]
fn failures_that_a_restart_has_mended_are_in_the_summary() {
    let text = r#"
name = "mended"
connect = [{ from = "table", to = "steady", depth = 2 }, "steady -> file"]
[blocks]
table = { type = "csv-source", path = "table.csv" }
steady = { type = "interpolate", rate_hz = 1 }
file = { type = "csv-sink", path = "rows.csv" }
"#;
    let run = |options: &[&str]| {
        let directory = Directory::new();
        // The third row has no time, which `interpolate` cannot do without.
        directory.write("table.csv", "time,value\r\n1,1\r\n2,2\r\n,3\r\n4,4\r\n5,5\r\n6,6\r\n7,7\r\n");
        let file = directory.write("mended.toml", text);
        let end = Pipeline::start_in(directory, &file, options).wait();
        assert_eq!(end.code, Some(0), "{end}");
        end
    };
    let end = run(&["--json"]);
    let summary: serde_json::Value = serde_json::from_str(&end.stdout).unwrap();
    let blocks = summary["blocks"].as_array().unwrap();
    let counts: Vec<_> = blocks.iter().map(|block| (&block["restarts"], &block["failures"])).collect();
    assert_eq!(counts, [(&0.into(), &0.into()), (&1.into(), &1.into()), (&0.into(), &0.into())], "{end}");
    let end = run(&[]);
    let row = end.stdout.lines().find(|line| line.trim_start().starts_with("steady ")).expect("a row");
    assert!(end.stdout.contains("RESTARTS  FAILURES\n"), "{end}");
    assert_eq!(row.split_whitespace().rev().take(2).collect::<Vec<_>>(), ["1", "1"], "{end}");
}

#[test]
fn what_programs_say_on_their_standard_error_is_told_line_by_line() {
    let directory = Directory::new();
    let text = r#"
name = "talks"
connect = ["zeros -> talker"]
[blocks]
zeros = { type = "null-source", count = 1 }
talker = { type = "exec-sink", command = "printf '1 %%\\r2 %%\\r\\ndone reading\\nthe rest\\n' >&2; cat >/dev/null" }
"#;
    let file = directory.write("talks.toml", text);
    let end = Pipeline::start_in(directory, &file, &[]).wait();
    assert_eq!(end.code, Some(0), "{end}");
    let told: Vec<&str> = end.stderr.lines().filter_map(|line| line.strip_prefix("talker: ")).collect();
    assert_eq!(told, ["1 %", "2 %", "done reading", "the rest"], "{end}");
}

/// A descriptor that nobody can write to any more is readable all the time.
#[test]
fn a_program_that_closes_its_standard_error_keeps_nobody_busy() {
    let directory = Directory::new();
    let program = directory.path("program.sh");
    std::fs::write(&program, format!("exec {} \"$@\" 2>/dev/null\n", env!("CARGO_BIN_EXE_millpond")))
        .unwrap();
    let text = format!(
        "name = \"silent\"\nconnect = [\"zeros -> nothing\"]\n[blocks]\nzeros = {{ type = \"null-source\", rate_hz = 100, program = \"sh {}\" \
         }}\nnothing = {{ type = \"null-sink\" }}\n",
        program.display()
    );
    let file = directory.write("silent.toml", &text);
    let run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("nothing");
    // Of two seconds it would take nearly all, unless others take them from it.
    let before = run.cpu_ticks();
    let lines = run.stdout().lines().count();
    wait_until("two more lines of progress", || run.stdout().lines().count() >= lines + 2);
    let ticks = run.cpu_ticks() - before;
    assert!(ticks < 50, "{ticks} hundredths of a second of processor time in about two seconds");
    run.signal(Signal::INT);
    assert_eq!(run.wait().code, Some(0));
}

/// While a program is built anew, there is none for a moment.
#[test]
fn a_program_that_is_not_there_for_a_moment_ends_nothing() {
    let directory = Directory::new();
    let program = directory.path("program");
    // Written by another process: were it this one, a child that another test starts meanwhile could keep it from being run.
    let write = || {
        let script = format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_millpond"));
        let write = "printf '%s' \"$1\" > \"$0\".new && chmod 755 \"$0\".new && mv \"$0\".new \"$0\"";
        let mut shell = std::process::Command::new("sh");
        assert!(shell.args(["-c", write]).arg(&program).arg(script).status().unwrap().success());
    };
    write();
    let text = format!(
        "name = \"moment\"\nconnect = [\"zeros -> nothing\"]\n[blocks]\nzeros = {{ type = \"null-source\", rate_hz = 100, program = \"{}\", \
         restart = {{ limit = 1000, within = \"60s\" }} }}\nnothing = {{ type = \"null-sink\" }}\n",
        program.display()
    );
    let file = directory.write("moment.toml", &text);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("nothing");
    let zeros = run.pid_of("zeros");
    std::fs::remove_file(&program).unwrap();
    pipeline::kill(zeros, Signal::KILL);
    wait_until("it could not be started", || {
        run.stderr().contains("zeros: could not be started again: No such file or directory")
    });
    write();
    wait_until("it has a new process", || run.pid_of("zeros") != zeros);
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
}
