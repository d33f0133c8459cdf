//! A supervised pipeline that is changed while it runs: blocks are removed, added and connected differently, and the rest does not
//! notice.

mod pipeline;

use pipeline::{Directory, End, Pipeline, is_alive, kill, wait_until};
use rustix::process::Signal;
use serde_json::Value;

/// Every buffer holds eight numbers that nobody else has.
const NUMBERS: &str = r#"
name = "numbers"
connect = [
    "numbers -> a -> b -> file",
    "numbers -> alone -> heard",
    "a -> shared -> heard",
    "b -> held -> stopped",
]
[[pool]]
block_bytes = 4096
count = 4096
[blocks]
numbers = { type = "file-source", path = "in.u32", dtype = "u32", frames = 8 }
a = { type = "copy", process = "both" }
b = { type = "copy" }
file = { type = "file-sink", path = "out.u32" }
alone = { type = "copy", restart = "never" }
shared = { type = "copy", process = "both" }
heard = { type = "null-sink" }
held = { type = "copy" }
stopped = { type = "null-sink" }
"#;

fn start(directory: Directory, text: &str) -> Pipeline {
    let file = directory.write("pipeline.toml", text);
    Pipeline::start_in(directory, &file, &[])
}

/// Runs another command on the pond, which has to work.
fn ok(run: &Pipeline, command: &str) -> String {
    let end = run.another(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(end.code, Some(0), "{command}: {end}");
    end.stdout
}

fn pond(run: &Pipeline, name: &str) -> Value {
    let end = run.another(&["inspect", name, "--json"]);
    serde_json::from_str::<Value>(&end.stdout).unwrap_or_default()["pond"].take()
}

fn has_block(pond: &Value, block: &str) -> bool {
    pond["blocks"].as_array().into_iter().flatten().any(|known| known["name"] == block)
}

/// Buffers that were taken from the connections that begin or end at this port.
fn taken(pond: &Value, port: &str) -> u64 {
    let connections = pond["connections"].as_array().into_iter().flatten();
    connections.filter(|c| c["from"] == port || c["to"] == port).filter_map(|c| c["taken"].as_u64()).sum()
}

fn flows(run: &Pipeline) {
    let size = run.size("out.u32");
    wait_until("the pipeline flows", || run.size("out.u32") > size + 10_000);
}

#[track_caller]
fn assert_complete(end: &End) {
    let bytes = end.bytes("out.u32");
    let mut words = bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    assert!(words.by_ref().zip(0..).all(|(word, number)| word == number), "numbers are missing");
    assert_eq!(bytes.len() as u64, 32 * end.count_of("numbers.out -> a.in", 0), "{end}");
}

#[test]
fn removed_blocks_cost_the_others_nothing() {
    let directory = Directory::new();
    let numbers: Vec<u8> = (0..40_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.path("in.u32"), numbers).unwrap();
    let mut run = start(directory, NUMBERS);
    run.has_moved("file");
    run.has_moved("stopped");
    flows(&run);

    // Alone in its process, which ends. `restart = "never"` would make that the pipeline's failure.
    let alone = run.pid_of("alone");
    assert_eq!(ok(&run, "remove numbers alone"), "removed alone\n");
    assert!(!is_alive(alone));
    flows(&run);

    // One of two blocks of a process: the other one goes on.
    let both = run.pid_of("shared");
    assert_eq!(both, run.pid_of("a"));
    assert_eq!(ok(&run, "remove numbers shared"), "removed shared\n");
    flows(&run);
    assert!(is_alive(both));

    // `held` cannot send what it has while its receiver is stopped. Killed on its way out, it is removed all the same.
    let (held, stopped) = (run.pid_of("held"), run.pid_of("stopped"));
    kill(stopped, Signal::STOP);
    wait_until("its queue is full", || {
        let pond = pond(&run, "numbers");
        let connections = pond["connections"].as_array().cloned().unwrap_or_default();
        connections.iter().any(|c| c["to"] == "stopped.in" && c["queued"] == c["depth"])
    });
    let late = run.another(&["remove", "numbers", "held", "--timeout", "5s"]);
    assert_eq!(late.code, Some(1), "{late}");
    assert!(late.stderr.contains("`stopped.in` has no room"), "{late}");
    flows(&run);
    kill(held, Signal::KILL);
    wait_until("it has a new process", || run.pid_of("held") != held);
    let again = run.pid_of("held");
    assert_eq!(ok(&run, "remove numbers held"), "removed held\n");
    wait_until("it is gone", || !is_alive(again));
    kill(stopped, Signal::CONT);
    flows(&run);

    // Those who received from them take what was queued, and their streams have not ended.
    let (heard, stopped) = (run.pid_of("heard"), run.pid_of("stopped"));
    wait_until("the queues are empty", || {
        let pond = pond(&run, "numbers");
        pond["connections"].as_array().is_some_and(|all| all.len() == 3)
    });
    assert!(is_alive(heard) && is_alive(stopped));
    ok(&run, "connect numbers b.out heard.in");
    wait_until("it is sent to again", || taken(&pond(&run, "numbers"), "heard.in") > 1000);
    let pond = pond(&run, "numbers");
    assert!(["alone", "shared", "held"].iter().all(|block| !has_block(&pond, block)), "{pond}");
    let account = run.another(&["inspect", "numbers"]);
    assert_eq!(account.code, Some(0), "every buffer is accounted for: {account}");

    // The worker is started again without the block that was removed.
    kill(both, Signal::KILL);
    wait_until("it has a new process", || run.pid_of("a") != both);
    assert_eq!(run.pid_of("shared"), both);
    flows(&run);
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert_eq!(end.stderr.matches("killed by signal 9").count(), 2, "no other death: {end}");
    assert!(!end.stdout.contains("alone.in"), "{end}");
}

#[test]
fn what_is_removed_under_load_leaves_no_gap_elsewhere() {
    let directory = Directory::new();
    let numbers: Vec<u8> = (0..40_000_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.path("in.u32"), numbers).unwrap();
    let mut run = start(directory, NUMBERS);
    run.has_moved("file");
    for block in ["shared", "held", "alone"] {
        assert_eq!(ok(&run, &format!("remove numbers {block}")), format!("removed {block}\n"));
    }
    // A sink, and one in its place.
    let heard = run.pid_of("heard");
    assert_eq!(ok(&run, "remove numbers heard"), "removed heard\n");
    assert!(!is_alive(heard));
    flows(&run);
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    let row = end.stdout.lines().find(|line| line.starts_with("  stopped ")).expect("a row");
    let taken = row.split_whitespace().nth(1).and_then(|count| count.parse::<u64>().ok());
    assert!(taken.is_some_and(|taken| taken > 0), "it had taken some: {end}");
    assert_complete(&end);
}

#[test]
fn a_finite_pipeline_that_was_changed_ends_by_itself() {
    let text = r#"
name = "changed"
connect = ["source -> few -> sink", "other -> late", "other -> gone -> waits"]
[blocks]
source = { type = "null-source", count = 2400, rate_hz = 200, items = 4 }
few = { type = "head", frames = 4000 }
sink = { type = "null-sink" }
other = { type = "null-source", count = 800, rate_hz = 100, items = 4 }
late = { type = "null-sink" }
gone = { type = "copy" }
waits = { type = "null-sink" }
"#;
    let mut run = start(Directory::new(), text);
    run.has_moved("sink");
    run.has_moved("waits");
    // `waits` has a sender no more, and its stream has not ended. It ends when nobody is left who could send to it.
    assert_eq!(ok(&run, "remove changed gone"), "removed gone\n");
    // When `few` has ended, the source still has a receiver.
    ok(&run, "connect changed source.out late.in --depth 64");
    // One more on the way, started by hand.
    let mut copy = run.start_another(&["block", "copy", "copy", "--pond", "changed"]);
    wait_until("it is there", || has_block(&pond(&run, "changed"), "copy"));
    ok(&run, "connect changed copy.out late.in");
    ok(&run, "connect changed source.out copy.in");
    ok(&run, "disconnect changed source.out late.in");
    let (few, late) = (run.pid_of("few"), run.pid_of("late"));
    wait_until("the first receiver has ended", || !is_alive(few));
    assert!(is_alive(late));
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    assert!(end.stdout.contains("changed ended by itself"), "{end}");
    assert_eq!(end.count_of("few.out -> sink.in", 1), 1000, "{end}");
    // Nothing that was sent on the connections that were made by hand is missing.
    let [sent, passed] = ["source.out -> copy.in", "copy.out -> late.in"].map(|c| end.count_of(c, 0));
    assert!(sent > 1000 && sent == passed, "{end}");
    assert_eq!(end.count_of("copy.out -> late.in", 1), passed, "{end}");
    assert!(copy.0.wait().unwrap().success());
}

#[test]
fn blocks_that_were_added_by_hand_end_with_the_pipeline() {
    let text = r#"
name = "guests"
connect = ["source -> sink"]
[blocks]
source = { type = "null-source", rate_hz = 200, items = 4 }
sink = { type = "null-sink" }
"#;
    for stop in [false, true] {
        let run = start(Directory::new(), text);
        run.has_moved("sink");
        let mut guests = ["null-source", "null-sink"].map(|kind| {
            let rate = if kind == "null-source" { &["--param", "rate_hz=100"][..] } else { &[] };
            let block = ["block", kind, kind, "--pond", "guests"];
            run.start_another(&[&block[..], rate].concat())
        });
        wait_until("they are there", || {
            let pond = pond(&run, "guests");
            has_block(&pond, "null-source") && has_block(&pond, "null-sink")
        });
        ok(&run, "connect guests null-source.out sink.in");
        ok(&run, "connect guests source.out null-sink.in");
        wait_until("data flows", || {
            let pond = pond(&run, "guests");
            taken(&pond, "null-sink.in") > 10 && taken(&pond, "null-source.out") > 10
        });
        if stop {
            assert_eq!(ok(&run, "stop guests"), "stopped guests (in order)\n");
        } else {
            run.signal(Signal::INT);
        }
        for guest in &mut guests {
            assert!(guest.0.wait().unwrap().success());
        }
        let end = run.wait();
        assert_eq!(end.code, Some(0), "{end}");
        let [sent, taken] = [0, 1].map(|column| end.count_of("null-source.out -> sink.in", column));
        assert!(sent >= 10 && sent == taken, "{end}");
    }
}

/// What somebody types while it runs counts from the next buffer on: where a router sends, and what a signal is.
#[test]
fn a_router_and_a_signal_follow_what_is_set() {
    let text = r#"
name = "live"
connect = ["tone -> real-time -> deal", "deal.a -> a", "deal.b -> b"]
[blocks]
tone = { type = "signal", freq_hz = 0, waveform = "square", amplitude = 1.0, frames = 48 }
real-time = { type = "throttle" }
deal = { type = "router", outputs = ["a", "b"], select = "a" }
a = { type = "file-sink", path = "a.f32" }
b = { type = "file-sink", path = "b.f32" }
"#;
    let mut run = start(Directory::new(), text);
    run.has_moved("a");
    assert_eq!(run.size("b.f32"), 0, "all go to `a`");
    assert_eq!(ok(&run, "set live deal select b"), "deal.select = b\n");
    wait_until("`b` gets them", || run.size("b.f32") > 10_000);
    // What was sent to `a` before that may still be on its way.
    wait_until("`a` has written all that it gets", || {
        let pond = pond(&run, "live");
        let connections = pond["connections"].as_array().into_iter().flatten();
        let mut counts = connections
            .filter(|c| c["to"] == "a.in")
            .filter_map(|c| c["taken"].as_u64().zip(c["queued"].as_u64()));
        counts.next().is_some_and(|(taken, queued)| queued == 0 && run.size("a.f32") == taken * 48 * 4)
    });
    let before = run.size("a.f32");
    let more = run.size("b.f32") + 20_000;
    wait_until("`b` gets more", || run.size("b.f32") > more);
    assert_eq!(run.size("a.f32"), before, "`a` gets no more");
    // A name that there is not changes nothing, and ends nothing.
    let refused = run.another(&["set", "live", "deal", "select", "c"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("expected the name of an output (a, b), found `c`"), "{refused}");
    let more = run.size("b.f32") + 20_000;
    wait_until("the stream goes on", || run.size("b.f32") > more);
    assert_eq!(run.size("a.f32"), before);
    let last = |run: &Pipeline| {
        let bytes = std::fs::read(run.directory().path("b.f32")).unwrap_or_default();
        bytes.as_chunks::<4>().0.last().map(|bytes| f32::from_le_bytes(*bytes))
    };
    assert_eq!(last(&run), Some(1.0));
    assert_eq!(ok(&run, "set live tone amplitude 0.25"), "tone.amplitude = 0.25\n");
    wait_until("the signal is lower", || last(&run) == Some(0.25));
    // What a restarted block goes on with.
    let killed = run.pid_of("deal");
    kill(killed, Signal::KILL);
    wait_until("the router has a new process", || run.pid_of("deal") != killed);
    let more = run.size("b.f32") + 20_000;
    wait_until("`b` is still the one", || run.size("b.f32") > more);
    assert_eq!(run.size("a.f32"), before);
    let refused = run.another(&["set", "live", "tone", "amplitude", "loud"]);
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("`amplitude`: expected a number"), "{refused}");
    run.signal(Signal::INT);
    let end = run.wait();
    assert_eq!(end.code, Some(0), "{end}");
    let bytes = end.bytes("b.f32");
    let mut samples: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    samples.dedup();
    assert_eq!(samples, [1.0, 0.25], "at one moment, and nothing between");
}

#[test]
fn programs_read_what_was_changed() {
    let text = "name = \"changed\"\nconnect = [\"zeros -> nothing\"]\n[blocks]\nzeros = { type = \"null-source\", rate_hz = 100 }\n\
                nothing = { type = \"null-sink\" }\nother = { type = \"null-sink\" }\n";
    let run = start(Directory::new(), &text.replace("-> nothing\"]", "-> nothing\", \"zeros -> other\"]"));
    run.has_moved("other");
    let told = |command: &str| serde_json::from_str::<Value>(&ok(&run, command)).expect("JSON");
    let ends = serde_json::json!({ "pond": "changed", "from": "zeros.out", "to": "other.in" });
    assert_eq!(told("disconnect changed zeros.out other.in --json"), ends);
    assert_eq!(told("connect changed zeros.out other.in --json"), ends);
    assert_eq!(
        told("remove changed other --json"),
        serde_json::json!({ "pond": "changed", "block": "other" })
    );
    run.signal(Signal::INT);
    assert_eq!(run.wait().code, Some(0));
}
