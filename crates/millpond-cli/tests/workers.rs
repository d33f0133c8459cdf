//! Several blocks in one process: what the pipeline file says is what runs, dies and is started again.

mod pipeline;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pipeline::{Directory, Pipeline, is_alive, wait_until};
use rustix::process::Signal;

const TWO_PROCESSES: &str = r#"
name = "two"
connect = ["zeros -> first -> second -> nothing"]
[process.front]
threads = 2
cpus = [0]
nice = 15
[blocks]
zeros = { type = "null-source", rate_hz = 200, items = 16, process = "front" }
first = { type = "copy", process = "front" }
second = { type = "copy", process = "back" }
nothing = { type = "null-sink", process = "back" }
"#;

fn start(text: &str, options: &[&str]) -> Pipeline {
    let directory = Directory::new();
    let file = directory.write("pipeline.toml", text);
    Pipeline::start_in(directory, &file, options)
}

fn field(pid: i32, name: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is running");
    status.lines().find_map(|line| line.strip_prefix(name)).expect("a field").trim().to_owned()
}

#[test]
fn blocks_share_the_process_that_the_file_names() {
    let mut run = start(TWO_PROCESSES, &["--duration", "1h"]);
    let [zeros, first, second, nothing] =
        ["zeros", "first", "second", "nothing"].map(|block| run.pid_of(block));
    assert!(zeros == first && second == nothing && first != second);
    wait_until("it is placed", || field(zeros, "Cpus_allowed_list:") == "0");
    let nice = || {
        let stat = std::fs::read_to_string(format!("/proc/{zeros}/stat")).expect("it is running");
        let fields = stat.rsplit_once(") ").expect("fields").1.to_owned();
        fields.split(' ').nth(16).expect("a niceness").to_owned()
    };
    wait_until("it is as nice as it should be", || nice() == "15");
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    for connection in ["zeros.out -> first.in", "first.out -> second.in", "second.out -> nothing.in"] {
        assert_eq!(end.count_of(connection, 0), end.count_of(connection, 1), "all was drained: {end}");
    }
}

#[test]
fn a_killed_worker_is_started_again_as_a_whole() {
    let mut run = start(TWO_PROCESSES, &["--duration", "1h"]);
    for (process, blocks) in [("front", ["zeros", "first"]), ("back", ["second", "nothing"])] {
        let victim = run.pid_of(blocks[0]);
        pipeline::kill(victim, Signal::KILL);
        let told = format!(
            "{process} ({}): process {victim} was killed by signal 9 (SIGKILL): starting it again\n",
            blocks.join(", ")
        );
        wait_until("the death is told", || run.stderr().contains(&told));
        for block in blocks {
            wait_until("the block has a new process", || run.pid_of(block) != victim);
        }
        assert_eq!(run.pid_of(blocks[0]), run.pid_of(blocks[1]));
    }
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert_eq!(
        end.count_of("second.out -> nothing.in", 0),
        end.count_of("second.out -> nothing.in", 1),
        "{end}"
    );
}

#[test]
fn everything_fused_passes_a_file_bit_by_bit() {
    for threads in ["1", "3"] {
        let directory = Directory::new();
        pipeline::write_wav(&directory.path("in.wav"), (16, false), 2, 300_000);
        let file = directory.write("copy.toml", WAV_COPY);
        let mut run = Pipeline::start_in(directory, &file, &["--fused", "--threads", threads]);
        let pids = ["source", "copy", "gain", "sink"].map(|block| run.pid_of(block));
        assert!(pids.iter().all(|pid| *pid == pids[0]), "one process");
        let end = run.wait();
        assert_eq!(end.code, Some(0), "{end}");
        assert!(end.stdout.contains("copy ended by itself"), "{end}");
        assert!(
            end.stdout.contains("\nsink: wrote 300000 frames to out.wav"),
            "a note names its block: {end}"
        );
        assert!(end.bytes("in.wav") == end.bytes("out.wav"), "the files differ");
    }
}

/// The supervisor speaks to a worker through its standard input, so whoever reads that is left out.
#[test]
fn a_block_that_reads_the_standard_input_is_alone_when_the_others_are_fused() {
    let mut run = start(
        "connect = ['input -> copy -> file']\n[blocks]\ninput = { type = 'stdin-source' }\ncopy = { type = 'copy' }\nfile = { type = 'file-sink', path = 'out' }\n",
        &["--fused"],
    );
    let pids = ["input", "copy", "file"].map(|block| run.pid_of(block));
    assert!(pids[0] != pids[1] && pids[1] == pids[2], "{pids:?}");
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
}

#[test]
fn a_failed_block_of_a_worker_is_named() {
    let directory = Directory::new();
    let file = directory.write("copy.toml", WAV_COPY);
    let end = Pipeline::start_in(directory, &file, &["--fused"]).wait();
    assert_eq!(end.code, Some(1), "{end}");
    let home = end.path("").display().to_string();
    let failed = format!(
        "failed: block `source`: read in.wav: No such file or directory (os error 2); it is looked for in {}",
        home.trim_end_matches('/')
    );
    assert!(end.stderr.starts_with("fused (source, copy, gain, sink): process "), "{end}");
    assert!(end.stderr.contains(&format!("{failed}: not started again\n")), "{end}");
    assert!(end.stderr.ends_with(&format!("millpond: process `fused` {failed}\n")), "{end}");
}

/// A block that ends long before the others: those that only it listens to must end, and the rest goes on.
#[test]
fn a_worker_outlives_the_first_of_its_blocks() {
    let text = r#"
name = "early"
connect = ["short -> a", "long -> b"]
[blocks]
short = { type = "null-source", count = 3, items = 4, process = "all" }
a = { type = "null-sink", process = "all" }
long = { type = "null-source", rate_hz = 50, items = 4, process = "all" }
b = { type = "null-sink" }
"#;
    let mut run = start(text, &["--duration", "1h"]);
    let (all, b) = (run.pid_of("long"), run.pid_of("b"));
    wait_until("the short stream has arrived", || run.stdout().contains("  a 3 ("));
    run.has_moved("b");
    assert!(is_alive(all) && is_alive(b));
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!((end.code, end.count_of("short.out -> a.in", 1)), (Some(0), 3), "{end}");
}

/// How often the threads of a process have gone to sleep.
#[derive(Debug)]
struct WakeUps {
    /// The one that watches the other processes.
    watcher: u64,
    /// Each of the others.
    blocks: BTreeMap<String, u64>,
}

fn wake_ups(pid: i32) -> WakeUps {
    let mut wake_ups = WakeUps { watcher: 0, blocks: BTreeMap::new() };
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).expect("it is running").flatten() {
        let read = |file| std::fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let status = read("status");
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = count.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        match read("comm").trim() {
            "millpond-watch" => wake_ups.watcher += count,
            _ => {
                wake_ups.blocks.insert(thread.file_name().to_string_lossy().into_owned(), count);
            }
        }
    }
    wake_ups
}

#[test]
fn idle_blocks_in_several_processes_cost_nothing() {
    use std::fmt::Write as _;
    let mut text = "name = \"idle\"\nconnect = [\n".to_owned();
    for chain in 0..4 {
        let _ = writeln!(text, "\"s{chain} -> a{chain} -> b{chain} -> c{chain} -> n{chain}\",");
    }
    text += "]\n[process.p0]\nthreads = 2\n[process.p1]\nthreads = 2\n[blocks]\n";
    for chain in 0..4 {
        let process = chain / 2;
        let _ = writeln!(
            text,
            "s{chain} = {{ type = \"null-source\", rate_hz = 0.001, items = 16, process = \"p{process}\" }}"
        );
        for copy in ["a", "b", "c"] {
            let _ = writeln!(text, "{copy}{chain} = {{ type = \"copy\", process = \"p{process}\" }}");
        }
        // The sinks have their own processes: six of them in all.
        let _ = writeln!(text, "n{chain}.type = \"null-sink\"");
    }
    let mut run = start(&text, &["--duration", "1h"]);
    let pids = ["s0", "s2", "n0", "n1", "n2", "n3"].map(|block| run.pid_of(block));
    wait_until("all blocks run", || run.another(&["ps"]).stdout.matches("open").count() >= 16);
    // On a busy machine some thread is still starting when all connections are there.
    wait_until("all have started", || {
        let then = pids.map(wake_ups);
        std::thread::sleep(Duration::from_secs(1));
        pids.map(wake_ups).iter().zip(&then).all(|(now, then)| now.blocks == then.blocks)
    });
    let before = pids.map(wake_ups);
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(10));
    let after = pids.map(wake_ups);
    // What a process does while its blocks have nothing to do: it says once a second that it is alive.
    let beats = start.elapsed().as_secs() + 1;
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.blocks, after.blocks, "a thread of an idle block was woken");
        assert!(after.watcher - before.watcher <= beats, "{before:?} {after:?} in {beats} s");
    }
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
}

#[test]
fn a_graph_that_has_queued_up_all_buffers_says_so() {
    let text = r#"
name = "starved"
connect = [{ from = "zeros", to = "copy", depth = 8 }, { from = "copy", to = "nothing", depth = 8 }]
[[pool]]
block_bytes = 4096
count = 4
[process.only]
threads = 1
[blocks]
zeros = { type = "null-source", items = 16 }
copy = { type = "copy", process = "only" }
nothing = { type = "null-sink" }
"#;
    // All four buffers wait for the copy, which needs a fifth. The file could be known to be like that, and is.
    let mut run = start(text, &[]);
    wait_until("it is told", || {
        run.stderr().contains("\ncopy: block `copy` has waited 3 s for a free buffer; ")
    });
    let told = run.stderr();
    assert!(told.contains("a pool has no more (4 of 4096 bytes)"), "{told}");
    let line = told.lines().find(|line| line.starts_with("copy: ")).unwrap_or_default();
    assert!(line.contains("4 blocks of 4096 bytes: ") && line.contains("copy.in"), "{told}");
    assert!(line.ends_with("make a `depth` smaller or a [[pool]] larger"), "{told}");
    assert_eq!(told.matches("copy: block `copy` has waited").count(), 1, "once");
    let copy = run.pid_of("copy");
    assert!(is_alive(copy));
    run.signal(Signal::INT);
    wait_until("it ends in order", || run.stderr().contains("stopping in order"));
    run.signal(Signal::INT);
    assert_eq!(run.wait().code, Some(130));
}

const WAV_COPY: &str = r#"
name = "copy"
connect = ["source -> copy -> gain -> sink"]
[blocks.source]
type = "wav-source"
path = "in.wav"
frames = 500
[blocks.copy]
type = "copy"
[blocks.gain]
type = "gain"
k = 1
[blocks.sink]
type = "wav-sink"
path = "out.wav"
"#;
