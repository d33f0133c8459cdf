//! What is compared: one row per question, with the commands that answer it and what is asked.

use std::time::Duration;

/// One row of the comparison.
#[derive(Debug, Clone)]
pub struct Row {
    /// The name for `--only`.
    pub name: &'static str,
    /// What is measured, in words.
    pub what: &'static str,
    /// How long each run measures.
    pub time: Duration,
    /// The arguments for `millpond`.
    pub ours: Vec<String>,
    /// What our figures are held against.
    pub reference: Reference,
    /// The figures taken from the results.
    pub figures: Vec<Figure>,
}

/// What our figures are held against.
#[derive(Debug, Clone)]
pub enum Reference {
    /// A run of `peer-iceoryx2` with these arguments.
    Peer(Vec<String>),
    /// Another run of `millpond`, with these arguments.
    Ours(Vec<String>),
    /// Other figures of the same run, or nothing.
    SameRun,
}

/// A figure taken from the results of a row.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// What it is, in words.
    pub what: &'static str,
    /// Its key in our result.
    pub key: &'static str,
    /// Its key in the reference's result; `None` when it stands alone.
    pub reference_key: Option<&'static str>,
    /// Its unit.
    pub unit: Unit,
    /// What is asked of ours divided by the reference; `None` when it is only shown.
    pub ask: Option<Ask>,
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    Milliseconds,
    Messages,
    BytesPerSecond,
    Bytes,
}

/// What is asked of a ratio, or of our figure itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ask {
    AtMost(f64),
    AtLeast(f64),
    /// Of our figure itself, in its unit.
    AmountAtMost(f64),
}

impl Ask {
    /// Whether `value`, the ratio or the amount, is what was asked.
    pub fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) | Self::AmountAtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::AmountAtMost(limit) => write!(f, "itself ≤ {limit}"),
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
}

const P50: Figure = Figure {
    what: "p50, one way",
    key: "one_way_p50_ns",
    reference_key: Some("one_way_p50_ns"),
    unit: Unit::Nanoseconds,
    ask: None,
};
const P99: Figure =
    Figure { what: "p99, one way", key: "one_way_p99_ns", reference_key: Some("one_way_p99_ns"), ..P50 };
const MESSAGES: Figure = Figure {
    what: "messages per second",
    key: "messages_per_s",
    reference_key: Some("messages_per_s"),
    unit: Unit::Messages,
    ask: None,
};
const BYTES: Figure = Figure {
    what: "bytes per second",
    key: "bytes_per_s",
    reference_key: Some("bytes_per_s"),
    unit: Unit::BytesPerSecond,
    ask: None,
};
const CYCLE: Figure = Figure {
    what: "one take and give-back",
    key: "ns_per_cycle",
    reference_key: Some("ns_per_cycle"),
    unit: Unit::Nanoseconds,
    ask: None,
};

const RECOVERY: Figure = Figure {
    what: "p99, all given back",
    key: "recovery_p99_ms",
    reference_key: None,
    unit: Unit::Milliseconds,
    ask: None,
};
const RELEASE: Figure = Figure {
    what: "p99, blocked sender released",
    key: "release_p99_ms",
    reference_key: Some("sender_blocked_ms"),
    ..RECOVERY
};

impl Row {
    /// How long our side measures; `None`: it counts kills instead.
    pub fn our_time(&self) -> Option<Duration> {
        (!self.ours.iter().any(|argument| argument == "--kills")).then_some(self.time)
    }
}

impl Figure {
    const fn asking(self, ask: Ask) -> Self {
        Self { ask: Some(ask), ..self }
    }

    const fn against(self, reference_key: &'static str) -> Self {
        Self { reference_key: Some(reference_key), ..self }
    }

    const fn alone(self) -> Self {
        Self { reference_key: None, ..self }
    }
}

/// All rows, with both processes of a pair on the cores `pin`, such as `0,1`. `time` replaces the
/// time each run measures.
pub fn all(pin: &str, time: Option<Duration>) -> Vec<Row> {
    let mut rows = against_the_peer(pin);
    rows.extend(against_ourselves(pin));
    if let Some(time) = time {
        for row in &mut rows {
            row.time = time;
        }
    }
    rows
}

/// The rows measured on both sides, with the same arguments wherever both have them.
fn against_the_peer(pin: &str) -> Vec<Row> {
    let both = |name, what, arguments: &str, figures| {
        let arguments = format!("{arguments} --pin {pin}");
        Row {
            name,
            what,
            time: Duration::from_secs(2),
            ours: words(&format!("bench {arguments}")),
            reference: Reference::Peer(words(&arguments)),
            figures,
        }
    };
    vec![
        both(
            "latency-64",
            "latency, 64 B, busy waiting",
            "latency --size 64 --wait spin",
            vec![P50.asking(Ask::AtMost(0.4)), P99],
        ),
        both(
            "latency-64k",
            "latency, 64 KiB untouched, busy waiting",
            "latency --size 65536 --wait spin",
            vec![P50.asking(Ask::AtMost(0.4)), P99],
        ),
        Row {
            reference: Reference::Peer(words(&format!(
                "latency --size 64 --wait spin --style upstream --pin {pin}"
            ))),
            ..both(
                "latency-64-upstream",
                "the same, against the settings of iceoryx2's own benchmark",
                "latency --size 64 --wait spin",
                vec![P50, P99],
            )
        },
        both(
            "latency-64-block",
            "latency, 64 B, sleeping until woken",
            "latency --size 64 --wait block",
            vec![P50, P99],
        ),
        both(
            "stream-64",
            "stream, 64 B untouched, depth 256",
            "throughput --size 64 --depth 256",
            vec![MESSAGES.asking(Ask::AtLeast(4.0))],
        ),
        both(
            "stream-64k",
            "stream, 64 KiB filled and read, depth 16",
            "throughput --size 65536 --fill --touch --depth 16",
            vec![BYTES.asking(Ask::AtLeast(1.0))],
        ),
        both(
            "stream-1m",
            "stream, 1 MiB filled and read, depth 8",
            "throughput --size 1048576 --fill --touch --depth 8",
            vec![BYTES.asking(Ask::AtLeast(0.97))],
        ),
        Row {
            name: "take",
            what: "take a buffer and give it back, 64 B",
            time: Duration::from_secs(1),
            ours: words("bench alloc --size 64 --slots 4096"),
            reference: Reference::Peer(words("alloc --size 64")),
            figures: vec![CYCLE.asking(Ask::AtMost(0.35))],
        },
        fan_out("fanout-1", "one sends, 1 receives all, 64 B", 1),
        fan_out("fanout-4", "one sends, 4 receive all, 64 B", 4),
        fan_out("fanout-8", "one sends, 8 receive all, 64 B", 8),
        recover("recover", "SIGKILL of a peer that holds 64 buffers", "", 20.0),
        recover("recover-server", "the same, with a runtime server", "--server", 5.0),
    ]
}

fn fan_out(name: &'static str, what: &'static str, consumers: u32) -> Row {
    let arguments = format!("fanout --consumers {consumers} --size 64 --depth 256");
    Row {
        name,
        what,
        time: Duration::from_secs(1),
        ours: words(&format!("bench {arguments}")),
        reference: Reference::Peer(words(&arguments)),
        figures: vec![MESSAGES],
    }
}

fn recover(name: &'static str, what: &'static str, server: &str, limit_ms: f64) -> Row {
    let cleaner = if server.is_empty() { "" } else { "--cleaner" };
    Row {
        name,
        what,
        time: Duration::from_secs(2),
        ours: words(&format!("bench recover --kills 100 --hold 64 {server}")),
        reference: Reference::Peer(words(&format!("stuck {cleaner}"))),
        figures: vec![
            RECOVERY.asking(Ask::AmountAtMost(limit_ms)),
            RELEASE.asking(Ask::AmountAtMost(limit_ms)),
        ],
    }
}

/// The rows that need no peer.
fn against_ourselves(pin: &str) -> Vec<Row> {
    vec![
        Row {
            name: "slots",
            what: "take and give back: of 1048576 slots, against of 4096",
            time: Duration::from_secs(1),
            ours: words("bench alloc --size 64 --slots 1048576"),
            reference: Reference::Ours(words("bench alloc --size 64 --slots 4096")),
            figures: vec![CYCLE.asking(Ask::AtMost(1.2))],
        },
        Row {
            name: "sleep",
            what: "latency, 64 B, sleeping: against a bare futex in the same run",
            time: Duration::from_secs(2),
            ours: words(&format!("bench latency --size 64 --wait block --pin {pin}")),
            reference: Reference::SameRun,
            figures: vec![
                P50.against("floor_p50_ns").asking(Ask::AtMost(1.15)),
                P99.against("floor_p99_ns").asking(Ask::AtMost(1.5)),
            ],
        },
        Row {
            name: "chain",
            what: "a chain of 5 processes",
            time: Duration::from_secs(2),
            ours: words("bench chain --stages 5"),
            reference: Reference::SameRun,
            figures: vec![
                MESSAGES.alone(),
                Figure { what: "bytes copied", key: "bytes_copied", unit: Unit::Bytes, ..MESSAGES }.alone(),
                Figure { what: "p50, through the whole chain", ..P50 }.alone(),
                Figure {
                    what: "p50 per hop, against one hand-over that waits alike",
                    key: "per_hop_p50_ns",
                    ..P50
                }
                .against("one_hop_p50_ns")
                .asking(Ask::AtMost(1.0)),
                Figure { what: "machine time per hop, likewise, queues full", key: "per_hop_busy_ns", ..P50 }
                    .against("one_hop_busy_ns")
                    .asking(Ask::AtMost(1.0)),
            ],
        },
    ]
}

fn words(arguments: &str) -> Vec<String> {
    arguments.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = all("0,1", None).iter().map(|row| row.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn the_limit_itself_is_good_enough() {
        assert!(Ask::AtMost(0.4).is_met_by(0.4) && !Ask::AtMost(0.4).is_met_by(0.41));
        assert!(Ask::AtLeast(4.0).is_met_by(4.0) && !Ask::AtLeast(4.0).is_met_by(3.99));
        assert!(!Ask::AtMost(0.4).is_met_by(f64::NAN) && !Ask::AtLeast(4.0).is_met_by(f64::NAN));
    }

    #[test]
    fn both_sides_get_the_same_arguments() {
        for row in all("2,3", None) {
            if row.name.starts_with("stream") {
                let Reference::Peer(theirs) = row.reference else { panic!("{} has no peer", row.name) };
                assert_eq!(row.ours[1..], theirs);
            }
        }
    }
}
