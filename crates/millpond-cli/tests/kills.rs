//! SIGKILL of blocks that stand between a pipeline and the world, while data flows: afterwards it goes on as docs/blocks.md says, and
//! nothing comes twice or out of order.

mod pipeline;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pipeline::{Directory, End, Pipeline, kill, wait_until};
use rustix::process::Signal;

/// Kills of each block.
const KILLS: usize = 3;

/// Numbers that count up, 8 in a buffer, at a pace at which they do not run out.
const PACED: &str = r#"
[blocks.numbers]
type = "file-source"
path = "in.u32"
dtype = "u32"
frames = 8
rate_hz = 100000
[blocks.pace]
type = "throttle"
"#;

fn with_numbers(pipeline: &str) -> Pipeline {
    let directory = Directory::new();
    let numbers: Vec<u8> = (0..12_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.path("in.u32"), numbers).expect("a file");
    start(directory, &format!("{pipeline}{PACED}"))
}

fn start(directory: Directory, pipeline: &str) -> Pipeline {
    let file = directory.write("pipeline.toml", &format!("name = \"kills\"\n{pipeline}"));
    Pipeline::start_in(directory, &file, &[])
}

/// Kills a block's process again and again, each time after more has arrived.
#[track_caller]
fn kill_while_it_flows(run: &mut Pipeline, block: &str, arrived: impl Fn(&Pipeline) -> u64) {
    let flows = |run: &Pipeline| {
        let before = arrived(run);
        wait_until(&format!("it flows, `{block}` included"), || arrived(run) > before + 4000);
    };
    flows(run);
    for _ in 0..KILLS {
        let pid = run.pid_of(block);
        kill(pid, Signal::KILL);
        wait_until(&format!("`{block}` has a new process"), || run.pid_of(block) != pid);
        flows(run);
    }
}

#[track_caller]
fn end(run: Pipeline) -> End {
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert!(format!("{end}").contains("killed by signal 9"), "{end}");
    end
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

/// In order, each at most once, and in whole buffers.
#[track_caller]
fn assert_whole_buffers(words: &[u32]) {
    assert!(words.len().is_multiple_of(8), "{} words", words.len());
    assert_in_order(words);
    for buffer in words.chunks(8) {
        assert!(buffer[0].is_multiple_of(8) && buffer[7] == buffer[0] + 7, "a broken buffer: {buffer:?}");
    }
}

#[track_caller]
fn assert_in_order(words: &[u32]) {
    assert!(words.len() > 1000, "{} words", words.len());
    let place = words.windows(2).position(|pair| pair[0] >= pair[1]);
    assert!(place.is_none(), "doubled or out of order: {:?}", place.map(|at| &words[at..at + 2]));
}

#[test]
fn a_csv_sink_goes_on_behind_its_last_whole_row() {
    let mut run = with_numbers(
        "connect = [\"numbers -> pace -> table\"]\nblocks.table = { type = \"csv-sink\", path = \"out.csv\" }\n",
    );
    kill_while_it_flows(&mut run, "table", |run| run.size("out.csv"));
    let rows = end(run).rows("out.csv");
    assert!(rows.rows.iter().all(|row| row.len() == rows.header.len()), "a row that is not whole");
    let name = rows.header.last().expect("a column");
    let numbers: Vec<u32> = rows.column(name).into_iter().map(|number| number as u32).collect();
    assert_eq!(numbers.len(), rows.rows.len(), "a row without its number");
    assert_in_order(&numbers);
}

/// Of what a sink has taken, nothing but what was in its hands at a kill may be missing; and that is counted.
#[track_caller]
fn assert_only_lost_in_hand(end: &End, arrived: u64) {
    let taken = end.count_of("pace.out -> file.in", 1);
    let lost: u64 = end
        .stdout
        .lines()
        .filter_map(|line| line.split_once(" (in hand of a killed receiver)")?.0.split_whitespace().last())
        .map(|count| count.parse::<u64>().expect("a count"))
        .sum();
    // What was in hand may have been written before the kill.
    assert!(arrived <= taken && taken <= arrived + lost, "{arrived} of {taken}, {lost} lost: {end}");
    assert!(lost <= KILLS as u64, "{end}");
}

#[test]
fn a_wav_sink_goes_on_behind_its_last_whole_frame() {
    let directory = Directory::new();
    let numbers: Vec<u8> = (0..12_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.path("in.u32"), numbers).expect("a file");
    let sink = "connect = [\"numbers -> pace -> file\"]\nblocks.file = { type = \"wav-sink\", path = \"out.wav\" }\n";
    let mut run = start(directory, &format!("{sink}{}", PACED.replace("\"u32\"", "\"i32\"")));
    kill_while_it_flows(&mut run, "file", |run| run.size("out.wav"));
    let end = end(run);
    let mut reader = hound::WavReader::open(end.path("out.wav")).expect("a WAV file");
    let samples: Vec<u32> = reader.samples::<i32>().map(|sample| sample.expect("a sample") as u32).collect();
    assert_in_order(&samples);
    assert_eq!(
        end.bytes("out.wav").len() - samples.len() * 4,
        68,
        "the header, and nothing behind the samples"
    );
    let mut whole: Vec<u32> = samples.iter().map(|sample| sample / 8).collect();
    whole.dedup();
    assert_only_lost_in_hand(&end, whole.len() as u64);
}

#[test]
fn a_csv_source_goes_on_with_the_next_row() {
    let directory = Directory::new();
    let rows: String = (0..2_000_000).map(|number| format!("{number}\n")).collect();
    std::fs::write(directory.path("in.csv"), format!("number\n{rows}")).expect("a file");
    let mut run = start(
        directory,
        r#"
connect = [{ from = "rows.out", to = "file.in", depth = 4 }]
blocks.rows = { type = "csv-source", path = "in.csv" }
blocks.file = { type = "file-sink", path = "out.f64" }
"#,
    );
    kill_while_it_flows(&mut run, "rows", |run| run.size("out.f64"));
    let bytes = end(run).bytes("out.f64");
    let numbers = bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes));
    for (expected, number) in numbers.enumerate() {
        assert!(number == expected as f64, "row {expected} is {number}");
    }
}

#[test]
fn a_program_in_the_middle_is_started_again() {
    let mut run = with_numbers(
        r#"
connect = ["numbers -> pace -> program -> file"]
blocks.program = { type = "exec", command = "cat", dtype = "u32", frames = 8 }
blocks.file = { type = "file-sink", path = "out.u32" }
"#,
    );
    kill_while_it_flows(&mut run, "program", |run| run.size("out.u32"));
    assert_in_order(&words(&end(run).bytes("out.u32")));
}

#[test]
fn a_program_that_takes_is_started_again() {
    let mut run = with_numbers(
        r#"
connect = ["numbers -> pace -> program"]
blocks.program = { type = "exec-sink", command = "cat >> out.u32" }
"#,
    );
    kill_while_it_flows(&mut run, "program", |run| run.size("out.u32"));
    // The old program may still write what it had in its pipe when the new one has begun.
    let mut words = words(&end(run).bytes("out.u32"));
    words.sort_unstable();
    assert_in_order(&words);
}

#[test]
fn a_program_is_killed_with_its_block() {
    const SOURCE: &str = r#"connect = ["program -> nothing"]
blocks.nothing = { type = "null-sink" }
blocks.program = { type = "exec-source", dtype = "u8", "#;
    const MIDDLE: &str = r#"connect = ["numbers -> program -> nothing"]
blocks.numbers = { type = "null-source" }
blocks.nothing = { type = "null-sink" }
blocks.program = { type = "exec", dtype = "u8", "#;
    const SINK: &str = r#"connect = ["numbers -> program"]
blocks.numbers = { type = "null-source" }
blocks.program = { type = "exec-sink", "#;
    for pipeline in [SOURCE, MIDDLE, SINK] {
        let command = "sleep 1000 & echo $$ $! >> pids; wait; wait";
        let mut run = start(Directory::new(), &format!("{pipeline}command = \"{command}\" }}\n"));
        let pids = |run: &Pipeline, starts: usize| -> Vec<i32> {
            wait_until("the program has told its pids", || run.read("pids").lines().count() == starts);
            run.read("pids").split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
        };
        let are_dead = |pids: &[i32]| !pids.iter().any(|&pid| pipeline::is_alive(pid));
        let first = pids(&run, 1);
        kill(run.pid_of("program"), Signal::KILL);
        wait_until("the program has ended with its block", || are_dead(&first));
        // Everybody at once.
        let both = pids(&run, 2);
        wait_until("it is the new process", || run.stdout().matches("program: process ").count() == 2);
        kill(run.pid_of("program"), Signal::KILL);
        run.signal(Signal::KILL);
        run.wait_for_death();
        wait_until("the program has ended with all others", || are_dead(&both));
    }
}

#[test]
fn a_program_that_gives_begins_again() {
    let directory = Directory::new();
    let mut run = start(
        directory,
        r#"
connect = ["program -> pace -> file"]
blocks.program = { type = "exec-source", command = "seq -w 0 9999999", channels = 8, frames = 16, rate_hz = 20000 }
blocks.pace = { type = "throttle" }
blocks.file = { type = "file-sink", path = "out" }
"#,
    );
    kill_while_it_flows(&mut run, "program", |run| run.size("out"));
    let text = String::from_utf8(end(run).bytes("out")).expect("text");
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().expect("a number")).collect();
    let begins = numbers.iter().filter(|number| **number == 0).count();
    assert_eq!(begins, 1 + KILLS);
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == 0), "a line is missing");
}

/// A thread that goes on until it is told to stop.
struct Peer {
    stop: Arc<AtomicBool>,
    /// Words that have arrived at it, or that it has sent.
    count: Arc<AtomicU32>,
    thread: JoinHandle<Vec<u8>>,
}

impl Peer {
    fn new(work: impl FnOnce(&AtomicBool, &AtomicU32) -> Vec<u8> + Send + 'static) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stops, counts) = (Arc::clone(&stop), Arc::clone(&count));
        Self { stop, count, thread: std::thread::spawn(move || work(&stops, &counts)) }
    }

    fn stop(self) -> Vec<u8> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the peer")
    }
}

/// The next buffer's worth of numbers; slowly, so that it is not full of what nobody has taken yet.
fn next_numbers(count: &AtomicU32) -> Vec<u8> {
    let first = count.fetch_add(8, Ordering::Relaxed);
    std::thread::sleep(Duration::from_micros(100));
    (first..first + 8).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn a_tcp_sink_calls_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let peer = Peer::new(move |stop, count| {
        let mut all = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let Ok((mut caller, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            caller.set_nonblocking(false).expect("a connection");
            let (mut received, mut part) = (Vec::new(), [0; 4096]);
            while let Ok(bytes @ 1..) = caller.read(&mut part) {
                received.extend_from_slice(&part[..bytes]);
                count.fetch_add(bytes as u32, Ordering::Relaxed);
            }
            // A number that was cut in two by the kill is none.
            all.extend_from_slice(&received[..received.len() / 4 * 4]);
        }
        all
    });
    let mut run = with_numbers(&format!(
        "connect = [\"numbers -> pace -> sender\"]\nblocks.sender = {{ type = \"tcp-sink\", connect = \"{address}\" }}\n"
    ));
    kill_while_it_flows(&mut run, "sender", |_| peer.count.load(Ordering::Relaxed).into());
    end(run);
    assert_in_order(&words(&peer.stop()));
}

#[test]
fn a_tcp_source_calls_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let peer = Peer::new(move |stop, count| {
        while !stop.load(Ordering::Relaxed) {
            let Ok((mut caller, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            caller.set_nonblocking(false).expect("a connection");
            while !stop.load(Ordering::Relaxed) && caller.write_all(&next_numbers(count)).is_ok() {}
        }
        Vec::new()
    });
    let mut run = start(
        Directory::new(),
        &format!(
            "connect = [\"receiver -> file\"]\nblocks.receiver = {{ type = \"tcp-source\", connect = \"{address}\", dtype = \
             \"u32\" }}\nblocks.file = {{ type = \"file-sink\", path = \"out.u32\" }}\n"
        ),
    );
    kill_while_it_flows(&mut run, "receiver", |run| run.size("out.u32"));
    // The other side closes the connection: the stream ends by itself.
    peer.stop();
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert_in_order(&words(&end.bytes("out.u32")));
}

#[test]
fn a_udp_source_receives_again() {
    let address = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let peer = Peer::new(move |stop, count| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        while !stop.load(Ordering::Relaxed) {
            // While nobody listens it is refused.
            let _ = socket.send_to(&next_numbers(count), address);
        }
        Vec::new()
    });
    let mut run = start(
        Directory::new(),
        &format!(
            "connect = [\"receiver -> file\"]\nblocks.receiver = {{ type = \"udp-source\", listen = \"{address}\", dtype = \
             \"u32\" }}\nblocks.file = {{ type = \"file-sink\", path = \"out.u32\" }}\n"
        ),
    );
    kill_while_it_flows(&mut run, "receiver", |run| run.size("out.u32"));
    let end = end(run);
    peer.stop();
    assert_whole_buffers(&words(&end.bytes("out.u32")));
}

#[test]
fn a_udp_sink_sends_again() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(10))).expect("a socket");
    let address = socket.local_addr().expect("an address");
    let peer = Peer::new(move |stop, count| {
        let (mut all, mut datagram) = (Vec::new(), [0; 2048]);
        while !stop.load(Ordering::Relaxed) {
            if let Ok(bytes) = socket.recv(&mut datagram) {
                all.extend_from_slice(&datagram[..bytes]);
                count.fetch_add(bytes as u32, Ordering::Relaxed);
            }
        }
        all
    });
    let mut run = with_numbers(&format!(
        "connect = [\"numbers -> pace -> sender\"]\nblocks.sender = {{ type = \"udp-sink\", address = \"{address}\" }}\n"
    ));
    kill_while_it_flows(&mut run, "sender", |_| peer.count.load(Ordering::Relaxed).into());
    end(run);
    assert_whole_buffers(&words(&peer.stop()));
}

#[test]
fn a_router_goes_on_in_turn() {
    let mut run = with_numbers(
        r#"
connect = ["numbers -> pace -> routes", "routes.a -> left", "routes.b -> right"]
blocks.routes = { type = "router", outputs = ["a", "b"] }
blocks.left = { type = "file-sink", path = "left.u32" }
blocks.right = { type = "file-sink", path = "right.u32" }
"#,
    );
    kill_while_it_flows(&mut run, "routes", |run| run.size("left.u32").min(run.size("right.u32")));
    let end = end(run);
    let [left, right] = ["left.u32", "right.u32"].map(|file| words(&end.bytes(file)));
    assert_whole_buffers(&left);
    assert_whole_buffers(&right);
    let mut both = [left.clone(), right.clone()].concat();
    both.sort_unstable();
    assert_whole_buffers(&both);
    assert!(left.len().abs_diff(right.len()) <= 8 * (1 + KILLS), "{} and {}", left.len(), right.len());
}

/// Where the second source's numbers begin.
const HIGH: u32 = 1 << 31;

#[test]
fn a_selector_keeps_what_was_selected_while_it_ran() {
    let directory = Directory::new();
    let high: Vec<u8> = (HIGH..HIGH + 6_000_000).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.path("high.u32"), high).expect("a file");
    let low: Vec<u8> = (0..6_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.path("in.u32"), low).expect("a file");
    let mut run = start(
        directory,
        &format!(
            r#"
connect = ["numbers -> pace -> switch.low", "others -> other-pace -> switch.high", "switch -> file"]
blocks.others = {{ type = "file-source", path = "high.u32", dtype = "u32", frames = 8, rate_hz = 100000 }}
blocks.other-pace = {{ type = "throttle" }}
blocks.switch = {{ type = "selector", inputs = ["low", "high"] }}
blocks.file = {{ type = "file-sink", path = "out.u32" }}
{PACED}"#
        ),
    );
    wait_until("the first input passes", || run.size("out.u32") > 4000);
    let select = |name| {
        let set = run.another(&["set", "kills", "switch", "select", name]);
        assert_eq!(set.code, Some(0), "{set}");
        let size = run.size("out.u32");
        wait_until("something passes", || run.size("out.u32") > size + 4000);
    };
    let refused = run.another(&["set", "kills", "switch", "select", "neither"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    let told = "expected the name of an input (low, high), found `neither`";
    assert!(refused.stderr.contains(told), "{refused}");
    select("high");
    let is_high = |run: &Pipeline| {
        let bytes = std::fs::read(run.directory().path("out.u32")).unwrap_or_default();
        words(&bytes).last().is_some_and(|word| *word >= HIGH)
    };
    wait_until("the other input passes", || is_high(&run));
    kill_while_it_flows(&mut run, "switch", |run| run.size("out.u32"));
    let end = end(run);
    let words = words(&end.bytes("out.u32"));
    // Once over to the other one, and never back.
    assert_whole_buffers(&words);
    assert!(words[0] < HIGH && words.last().is_some_and(|word| *word >= HIGH));
}

#[test]
fn standard_input_and_output_go_on() {
    let directory = Directory::new();
    let file = directory.write(
        "pipeline.toml",
        r#"
name = "pipe"
connect = ["input -> output"]
blocks.input = { type = "stdin-source", dtype = "u32", frames = 8 }
blocks.output = { type = "stdout-sink" }
"#,
    );
    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
        command.env("MILLPOND_RUNTIME_DIR", directory.path("ponds"));
        command
    };
    let child = command()
        .args(["run", &file, "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("millpond");
    // Killed if this test fails.
    let mut run = pipeline::Running(child);
    let mut stdin = run.0.stdin.take().expect("stdin");
    let writer = Peer::new(move |stop, count| {
        while !stop.load(Ordering::Relaxed) && stdin.write_all(&next_numbers(count)).is_ok() {}
        Vec::new()
    });
    let mut stdout = run.0.stdout.take().expect("stdout");
    let reader = Peer::new(move |_, count| {
        let (mut all, mut part) = (Vec::new(), [0; 4096]);
        while let Ok(bytes @ 1..) = stdout.read(&mut part) {
            all.extend_from_slice(&part[..bytes]);
            count.fetch_add(bytes as u32, Ordering::Relaxed);
        }
        all
    });
    let pid_of = |block: &str| {
        let output = command().args(["inspect", "pipe", "--json"]).output().expect("millpond");
        let pond: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let blocks = pond["pond"]["blocks"].as_array().cloned().unwrap_or_default();
        blocks.iter().find(|known| known["name"] == block).and_then(|known| known["pid"].as_i64())
    };
    let flows = || {
        let before = reader.count.load(Ordering::Relaxed);
        wait_until("it flows", || reader.count.load(Ordering::Relaxed) > before + 4000);
    };
    flows();
    for block in ["input", "output"].repeat(KILLS) {
        let mut pid = None;
        wait_until("it has a process", || {
            pid = pid_of(block);
            pid.is_some()
        });
        kill(pid.map_or(0, |pid| pid as i32), Signal::KILL);
        wait_until("it has another one", || pid_of(block).is_some_and(|new| Some(new) != pid));
        flows();
    }
    writer.stop();
    assert_eq!(run.0.wait().expect("an end").code(), Some(0));
    assert_whole_buffers(&words(&reader.stop()));
}
