//! The page: `comparison.md` and its plots, made of the results alone.

use std::fmt::Write as _;

use millpond_compare::machine::Machine;
use millpond_compare::stats::Spread;
use serde_json::Value;

use crate::external::External;
use crate::numbers::{digits, with_unit};
use crate::plot;
use crate::questions::{
    Figure, GROUPS, KILL_MIDWAY, KILL_RECEIVER, KILL_RECEIVER_CLEANER, KILL_SENDER, OURS, PEERS, Peer, Unit,
    question,
};
use crate::results::{Answer, Results};
use crate::verdict::{Ranking, losses};

/// The name of each file below `docs`, and its text.
pub fn files(results: &Results) -> Vec<(String, String)> {
    let plots = GROUPS.iter().map(|group| (format!("images/{}.svg", group.name), plot::svg(group, results)));
    plots.chain([("comparison.md".to_owned(), markdown(results))]).collect()
}

const NOT_MEASURED: &str = "not measured";
/// Processes that wanted to run before the measurement began, from which on the machine was not idle.
const BUSY: f64 = 1.5;

fn markdown(results: &Results) -> String {
    let mut page = String::new();
    head(&mut page, results);
    for group in GROUPS {
        let _ = writeln!(page, "\n## {}\n\n{}\n", group.title, group.text);
        let _ = writeln!(page, "![{}](images/{}.svg)\n", group.title, group.name);
        figures(&mut page, results, group.questions);
        for name in group.questions {
            let Some(question) = question(name) else { continue };
            let Some(figure) = question.figures.first() else { continue };
            if let Some(sentence) = Ranking::of(results, name, *figure).sentence(question.title) {
                let _ = writeln!(page, "- {sentence}");
            }
        }
    }
    page.push_str(
        "\n## What a connection costs\n\nTwo processes join, open 64 connections for 16 messages of 64 B, and send one message \
         over each. Memory is the growth of both processes' proportional sets, without what the kernel keeps for sockets.\n\n",
    );
    figures(&mut page, results, &["connections"]);
    kills(&mut page, results);
    dora(&mut page, results);
    gnuradio(&mut page, results);
    page
}

fn head(page: &mut String, results: &Results) {
    page.push_str(
        "# Millpond beside others\n\nThis page is generated from [comparison.json](comparison.json), which one command measures \
         (about ten minutes on an idle machine with two cores; what it needs is in [compare/README.md](../compare/README.md)):\n\n\
         <!-- not run: builds and measures for minutes -->\n```sh\n(cd compare && cargo build --release --workspace && target/release/page)\n```\n\n\
         All peers take turns on the same cores, with the same payload and the same loops around them. Figures are the \
         median of the rounds; the black line in a plot goes from the least to the greatest. How each peer is set up, and why, \
         is in [compare/README.md](../compare/README.md). A figure that nobody measured is called that.\n\n",
    );
    let Some(ours) = results.peers.get(OURS).or(results.peers.values().next()) else {
        page.push_str("Nothing was measured yet.\n");
        return;
    };
    let Machine { cpu, cores, kernel, date, load } = &ours.machine;
    let _ = writeln!(
        page,
        "Measured {date} on {cpu}, {cores} cores, {kernel}; {} rounds of {} s each; load before the run {load}.",
        ours.rounds,
        digits(ours.seconds)
    );
    if load.parse::<f64>().is_ok_and(|load| load > BUSY) {
        page.push_str(
            "**Others used the machine meanwhile: only ratios between neighbours mean something, and little.**\n",
        );
    }
    if let Some([low, median, high]) = results.core_to_core_ns {
        let _ = writeln!(
            page,
            "A word took {} ns from one core to the other ({} to {} in the course of the run): where that changes much, the host \
             moved the virtual cores, and latencies with them.",
            digits(median),
            digits(low),
            digits(high)
        );
    }
    page.push_str("\n| peer | version | measured |\n|---|---|---|\n");
    let external = External::ALL.into_iter().map(|external| (external.name(), external.title()));
    for (name, title) in PEERS.iter().map(|peer| (peer.name, peer.title)).chain(external) {
        let (version, when) = match results.peers.get(name) {
            None => ("–".to_owned(), NOT_MEASURED.to_owned()),
            Some(measured) => match &measured.absent {
                Some(why) => ("–".to_owned(), format!("{NOT_MEASURED}: {why}")),
                None if measured.machine == ours.machine => {
                    (measured.version().unwrap_or("–").to_owned(), "in this run".to_owned())
                }
                None => {
                    let Machine { date, load, .. } = &measured.machine;
                    (measured.version().unwrap_or("–").to_owned(), format!("apart: {date}, load {load}"))
                }
            },
        };
        let _ = writeln!(page, "| {title} | {version} | {when} |");
    }
    let lost: Vec<String> =
        GROUPS.iter().flat_map(|group| group.questions).flat_map(|name| losses(results, name)).collect();
    page.push_str("\n## Where others are better\n\n");
    if lost.is_empty() {
        page.push_str("In none of the figures that were measured of messages on their way.\n");
    }
    for sentence in lost {
        let _ = writeln!(page, "- {sentence}");
    }
    for sentence in losses(results, "connections") {
        let _ = writeln!(page, "- {sentence}");
    }
}

/// A table: a row for each figure of these questions, a column for each peer.
fn figures(page: &mut String, results: &Results, questions: &[&str]) {
    let mut failures = Vec::new();
    heading(page, "");
    for name in questions {
        let Some(question) = question(name) else { continue };
        for figure in question.figures {
            let best = Ranking::of(results, name, *figure).best();
            let _ = write!(page, "| {}, {} |", question.title, figure.title);
            for peer in PEERS {
                let shown = cell(results, peer, name, *figure);
                let shown = if best == Some(peer.title) { format!("**{shown}**") } else { shown };
                let _ = write!(page, " {shown} |");
            }
            page.push('\n');
        }
        for peer in PEERS {
            if let Some(error) = results.answer(peer.name, name).and_then(|answer| answer.error.as_ref()) {
                failures.push(format!("{}, {}: {error}", peer.title, question.title));
            }
        }
    }
    page.push('\n');
    for failure in failures {
        let _ = writeln!(page, "- Failed: {failure}");
    }
}

fn heading(page: &mut String, first: &str) {
    let _ = write!(page, "| {first} |");
    for peer in PEERS {
        let _ = write!(page, " {} |", peer.title);
    }
    let _ = writeln!(page, "\n|---|{}", "---:|".repeat(PEERS.len()));
}

fn cell(results: &Results, peer: &Peer, name: &str, figure: Figure) -> String {
    match results.answer(peer.name, name) {
        Some(Answer { error: Some(_), .. }) => "failed".to_owned(),
        Some(answer) => answer
            .figure(figure.key)
            .map_or(NOT_MEASURED.to_owned(), |value| with_unit(value.median, figure.unit)),
        None => NOT_MEASURED.to_owned(),
    }
}

/// What was seen of one peer when processes were killed, as a cell of the table.
type Seen = fn(&Answer) -> String;

fn kills(page: &mut String, results: &Results) {
    page.push_str(
        "\n## When a process is killed\n\nBy SIGKILL. The receiver holds 8 messages and its sender, which may lose nothing, waits \
         for room; the sender holds a buffer and its receiver waits; the receiver of a stream of 64 KiB messages is killed 10 \
         times in its middle, and a new one takes its place. What was watched for 4 s without success is said to be so; a stream \
         counts as going on if the new receiver has a message within 3 s.\n\n",
    );
    heading(page, "");
    let rows: [(&str, &str, Seen); 6] = [
        ("receiver killed: its blocked sender goes on after", KILL_RECEIVER, released),
        ("the same, while a third process calls the library's clean-up", KILL_RECEIVER_CLEANER, released),
        ("what the dead receiver held can be used again after", KILL_RECEIVER, held),
        ("sender killed: its receiver is told after", KILL_SENDER, told),
        ("a new sender, process start included, gets through after", KILL_SENDER, new_sender),
        ("receiver killed midway: a new one, process start included, goes on", KILL_MIDWAY, midway),
    ];
    for (title, name, seen) in rows {
        let _ = write!(page, "| {title} |");
        for peer in PEERS {
            let shown = match results.answer(peer.name, name) {
                None => NOT_MEASURED.to_owned(),
                Some(answer) => match (&answer.error, answer.runs.is_empty()) {
                    (None, false) => seen(answer),
                    (Some(why), _) if why.contains("no call that cleans up") => "has no such call".to_owned(),
                    _ => format!("failed: {}", answer.error.as_deref().unwrap_or("no result")),
                },
            };
            let _ = write!(page, " {shown} |");
        }
        page.push('\n');
    }
    page.push_str(
        "\nHow soon all buffers are back where they belong, over many kills, is measured by `millpond bench recover`; see \
         [crash-safety.md](crash-safety.md).\n",
    );
}

fn ms(answer: &Answer, key: &str) -> Option<String> {
    answer.last(key)?.as_f64().map(|value| with_unit(value, Unit::Milliseconds))
}

fn is(answer: &Answer, key: &str) -> bool {
    answer.last(key).and_then(Value::as_bool).unwrap_or(false)
}

fn released(answer: &Answer) -> String {
    let time = ms(answer, "sender_blocked_ms").unwrap_or_default();
    if is(answer, "released") { time } else { format!("still blocked after {time}") }
}

fn held(answer: &Answer) -> String {
    if is(answer, "copies") {
        return "it held copies".to_owned();
    }
    match ms(answer, "held_free_ms") {
        Some(time) => time,
        None if !is(answer, "released") => "not as long as the sender is blocked".to_owned(),
        None if !is(answer, "held_counted") => "the library does not say".to_owned(),
        None => "not within 4 s: leaked".to_owned(),
    }
}

fn told(answer: &Answer) -> String {
    ms(answer, "receiver_told_ms").unwrap_or_else(|| "not told within 4 s".to_owned())
}

fn new_sender(answer: &Answer) -> String {
    match (ms(answer, "new_sender_ms"), answer.last("new_sender_error").and_then(Value::as_str)) {
        (Some(time), _) => time,
        (None, Some(why)) => format!("refused: {why}"),
        (None, None) => "not within 4 s".to_owned(),
    }
}

fn midway(answer: &Answer) -> String {
    let count = |key: &str| answer.last(key).and_then(Value::as_u64).unwrap_or(0);
    let times = match (ms(answer, "resumed_p50_ms"), ms(answer, "resumed_max_ms")) {
        (Some(median), Some(longest)) => format!(" (median {median}, longest {longest})"),
        _ => String::new(),
    };
    format!("{} of {} times{times}", count("resumed"), count("kills"))
}

fn dora(page: &mut String, results: &Results) {
    page.push_str(
        "\n## dora, from Python to Python\n\nA sender and a receiver in Python, two processes; latency from the moment a message was \
         filled until the receiver has it, with one message every 2 ms.\n\n",
    );
    let rows = results.answer("dora", "dora").and_then(|answer| answer.last("rows")?.as_array());
    let Some(rows) = rows else {
        let why = results.peers.get("dora").and_then(|measured| measured.absent.as_deref());
        let _ = writeln!(page, "Not measured{}.", why.map(|why| format!(": {why}")).unwrap_or_default());
        return;
    };
    page.push_str("| | payload | dora | Millpond |\n|---|---:|---:|---:|\n");
    for row in rows {
        let Some(first) = row.pointer("/runs/dora/0") else { continue };
        let is_latency = first["kind"] == "latency";
        let figures: &[(&str, &str, Unit, f64)] = match is_latency {
            true => &[("p50", "p50_us", Unit::Microseconds, 1.0), ("p99", "p99_us", Unit::Microseconds, 1.0)],
            false => &[
                ("messages", "messages_per_s", Unit::MessagesPerSecond, 1.0),
                ("payload", "gb_per_s", Unit::BytesPerSecond, 1e9),
            ],
        };
        for (title, key, unit, scale) in figures {
            let side = |name: &str| {
                let runs = row["runs"][name].as_array();
                let values = runs.into_iter().flatten().filter_map(|run| run[key].as_f64());
                Spread::of(values.collect())
                    .map_or(NOT_MEASURED.to_owned(), |all| with_unit(all.median * scale, *unit))
            };
            let kind = first["kind"].as_str().unwrap_or_default();
            let bytes = with_unit(first["bytes"].as_f64().unwrap_or(0.0), Unit::Bytes);
            let _ = writeln!(page, "| {kind}, {title} | {bytes} | {} | {} |", side("dora"), side("millpond"));
        }
    }
}

fn gnuradio(page: &mut String, results: &Results) {
    page.push_str(
        "\n## GNU Radio, chains of copy blocks\n\nFloat items a second through copy blocks: GNU Radio in one process, Millpond in \
         one, and Millpond with a process for each block. GNU Radio has no blocks in other processes, and no messages between \
         processes but by sockets.\n\n",
    );
    let rows = results.answer("gnuradio", "gnuradio").and_then(|answer| answer.last("rows")?.as_array());
    let Some(rows) = rows else {
        let why = results.peers.get("gnuradio").and_then(|measured| measured.absent.as_deref());
        let _ = writeln!(page, "Not measured{}.", why.map(|why| format!(": {why}")).unwrap_or_default());
        return;
    };
    page.push_str("| copy blocks | GNU Radio | Millpond, one process | Millpond, a process each |\n|---:|---:|---:|---:|\n");
    for row in rows {
        let items =
            |key: &str| with_unit(row["medians"][key].as_f64().unwrap_or(0.0), Unit::MessagesPerSecond);
        let _ = writeln!(
            page,
            "| {} | {} | {} | {} |",
            row["stages"],
            items("gnuradio"),
            items("fused"),
            items("processes")
        );
    }
}
