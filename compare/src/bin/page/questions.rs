//! Who is compared, and what is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A peer that is measured by a program of its own, with the same loops as every other.
#[derive(Debug)]
pub struct Peer {
    /// For `--only`, and in the results.
    pub name: &'static str,
    /// For the reader.
    pub title: &'static str,
    /// Its color in plots, from the palette of Okabe and Ito, which most color-blind people can tell apart.
    pub color: &'static str,
    /// How its program is built.
    pub build: &'static str,
}

/// All of them, in the order shown; ours first.
pub const PEERS: &[Peer] = &[
    Peer {
        name: "millpond",
        title: "Millpond",
        color: "#0072b2",
        build: "cargo build --release -p peer-millpond",
    },
    Peer { name: "iceoryx2", title: "iceoryx2", color: "#e69f00", build: "cargo build --release" },
    Peer {
        name: "boost",
        title: "Boost message_queue",
        color: "#009e73",
        build: "cargo build --release -p peer-boost",
    },
    Peer { name: "unix", title: "Unix socket", color: "#999999", build: "cargo build --release" },
    Peer {
        name: "zenoh",
        title: "zenoh (shared memory)",
        color: "#cc79a7",
        build: "cargo build --release -p peer-zenoh",
    },
];

/// The name of ours.
pub const OURS: &str = "millpond";

impl Peer {
    /// Its program, which is built beside this one; or why it is not there.
    pub fn program(&self) -> Result<PathBuf, String> {
        let program = std::env::current_exe()
            .map_err(|error| error.to_string())?
            .with_file_name(format!("peer-{}", self.name));
        if program.is_file() {
            return Ok(program);
        }
        Err(format!("`{}` is not built: `{}`", crate::shown(&program), self.build))
    }
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    MessagesPerSecond,
    BytesPerSecond,
    Bytes,
    Count,
}

/// A figure of a question.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its key in what the programs print.
    pub key: &'static str,
    /// For the reader.
    pub title: &'static str,
    pub unit: Unit,
}

/// Something that every peer is asked.
#[derive(Debug)]
pub struct Question {
    pub name: &'static str,
    /// For the reader.
    pub title: &'static str,
    /// The arguments of the programs. `PIN` stands for the option that pins both processes.
    pub arguments: &'static str,
    /// The first is the one that is plotted and spoken of.
    pub figures: &'static [Figure],
    /// Asked in one round only, since it counts deaths and not time.
    pub once: bool,
}

/// What a plot shows.
#[derive(Debug)]
pub struct Group {
    /// The name of the plot's file.
    pub name: &'static str,
    pub title: &'static str,
    /// What is measured, and how.
    pub text: &'static str,
    /// The names of its questions.
    pub questions: &'static [&'static str],
    /// Whether the values lie so far apart that only a logarithmic axis shows them.
    pub logarithmic: bool,
}

const P50: Figure = Figure { key: "one_way_p50_ns", title: "p50", unit: Unit::Nanoseconds };
const P99: Figure = Figure { key: "one_way_p99_ns", title: "p99", unit: Unit::Nanoseconds };
const MESSAGES: Figure = Figure { key: "messages_per_s", title: "messages", unit: Unit::MessagesPerSecond };
const BYTES: Figure = Figure { key: "bytes_per_s", title: "payload", unit: Unit::BytesPerSecond };

const fn timed(
    name: &'static str,
    title: &'static str,
    arguments: &'static str,
    figures: &'static [Figure],
) -> Question {
    Question { name, title, arguments, figures, once: false }
}

/// The questions about the death of a process, which a table of their own answers.
pub const KILL_RECEIVER: &str = "kill-receiver";
pub const KILL_RECEIVER_CLEANER: &str = "kill-receiver-cleaner";
pub const KILL_SENDER: &str = "kill-sender";
pub const KILL_MIDWAY: &str = "kill-midway";

/// How long a process is watched after another was killed.
const WATCHED_SECONDS: &str = "4";

/// Everything that is asked.
pub const QUESTIONS: &[Question] = &[
    timed("latency-64", "64 B, busy waiting", "latency --size 64 --wait spin PIN", &[P50, P99]),
    timed("latency-64k", "64 KiB, busy waiting", "latency --size 65536 --wait spin PIN", &[P50, P99]),
    timed("latency-sleeping", "64 B, asleep until woken", "latency --size 64 --wait block PIN", &[P50, P99]),
    timed("stream-64", "64 B", "throughput --size 64 --fill --touch --depth 256 PIN", &[MESSAGES]),
    timed("stream-64k", "64 KiB", "throughput --size 65536 --fill --touch --depth 16 PIN", &[BYTES]),
    timed("stream-1m", "1 MiB", "throughput --size 1048576 --fill --touch --depth 8 PIN", &[BYTES]),
    timed("fanout-1", "to 1 receiver", "fanout --consumers 1 --size 64 --depth 256", &[MESSAGES]),
    timed("fanout-4", "to 4 receivers", "fanout --consumers 4 --size 64 --depth 256", &[MESSAGES]),
    timed("fanout-8", "to 8 receivers", "fanout --consumers 8 --size 64 --depth 256", &[MESSAGES]),
    timed(
        "chain-64k",
        "5 processes, 64 KiB",
        "chain --stages 5 --size 65536",
        &[MESSAGES, Figure { key: "through_p50_ns", title: "p50 through all", unit: Unit::Nanoseconds }],
    ),
    timed(
        "connections",
        "a connection",
        "connections --count 64 --size 64",
        &[
            Figure {
                key: "per_connection_us",
                title: "time until the first message, each",
                unit: Unit::Microseconds,
            },
            Figure {
                key: "per_connection_descriptors",
                title: "file descriptors, each, both processes",
                unit: Unit::Count,
            },
            Figure { key: "per_connection_bytes", title: "memory, each, both processes", unit: Unit::Bytes },
            Figure { key: "join_ms", title: "joining, once a process", unit: Unit::Milliseconds },
            Figure { key: "join_descriptors", title: "file descriptors, once a process", unit: Unit::Count },
            Figure { key: "join_bytes", title: "memory, once a process", unit: Unit::Bytes },
        ],
    ),
    once(KILL_RECEIVER, "kill --victim receiver --size 65536"),
    once(KILL_RECEIVER_CLEANER, "stuck --cleaner"),
    once(KILL_SENDER, "kill --victim sender --size 65536"),
    once(KILL_MIDWAY, "kill --victim midway --kills 10 --size 65536"),
];

const fn once(name: &'static str, arguments: &'static str) -> Question {
    Question { name, title: name, arguments, figures: &[], once: true }
}

/// Everything that is plotted.
pub const GROUPS: &[Group] = &[
    Group {
        name: "comparison-latency",
        title: "Latency",
        text: "Two processes hand a message back and forth; half of a round trip. Of the payload 8 bytes are written and read. \
               Busy: each process has a core of its own and asks again and again. Asleep: the receiver sleeps in the kernel \
               until it is woken.",
        questions: &["latency-64", "latency-64k", "latency-sleeping"],
        logarithmic: true,
    },
    Group {
        name: "comparison-throughput",
        title: "Throughput",
        text: "One process streams to another without loss. The sender writes every byte, the receiver reads every byte and \
               checks the sum. 64 B messages are handed over 128 at a time where the library can do that.",
        questions: &["stream-64", "stream-64k", "stream-1m"],
        logarithmic: false,
    },
    Group {
        name: "comparison-fanout",
        title: "Fan-out",
        text: "One process sends 64 B messages, and every receiver, each a process, gets every one of them. Messages a second, \
               each counted once. With more processes than cores a peer that polls lets others run after each look.",
        questions: &["fanout-1", "fanout-4", "fanout-8"],
        logarithmic: false,
    },
    Group {
        name: "comparison-chain",
        title: "A chain of five processes",
        text: "64 KiB messages pass through five processes, each of which passes on what it receives; 16 are under way. Where a \
               library cannot pass a received buffer on, the process copies it.",
        questions: &["chain-64k"],
        logarithmic: false,
    },
];

/// The question of this name.
pub fn question(name: &str) -> Option<&'static Question> {
    QUESTIONS.iter().find(|question| question.name == name)
}

impl Question {
    /// The command line of a peer's program.
    pub fn command_line(&self, program: &Path, pin: &str, time: Duration) -> Vec<String> {
        let mut line = vec![program.display().to_string()];
        for word in self.arguments.split_whitespace() {
            match word {
                "PIN" => line.extend(["--pin".into(), pin.into()]),
                word => line.push(word.into()),
            }
        }
        let seconds = if self.once { WATCHED_SECONDS.into() } else { time.as_secs_f64().to_string() };
        line.extend(["--seconds".into(), seconds, "--json".into()]);
        line
    }

    /// How long a run may take, beside what every run may.
    pub fn expected(&self, time: Duration) -> Duration {
        if self.once { Duration::from_secs(60) } else { time }
    }
}

impl Unit {
    /// Whether a smaller value is the better one.
    pub fn is_better_small(self) -> bool {
        !matches!(self, Self::MessagesPerSecond | Self::BytesPerSecond)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plotted_is_asked() {
        for group in GROUPS {
            for name in group.questions {
                assert!(question(name).is_some_and(|question| !question.figures.is_empty()), "{name}");
            }
        }
    }

    #[test]
    fn the_pin_is_put_in_its_place() {
        let line = QUESTIONS[0].command_line(Path::new("p"), "2,3", Duration::from_millis(500));
        assert_eq!(line.join(" "), "p latency --size 64 --wait spin --pin 2,3 --seconds 0.5 --json");
    }
}
