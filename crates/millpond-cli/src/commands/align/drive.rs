//! Feeding events to the engine, and what there is to tell about that.

use std::io::Write;
use std::time::{Duration, Instant};

use millpond::align::{Aligner, Config, Policy, Poll, Reason};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Input;
use super::events::Event;

/// Collects sets, and writes them as lines of CSV.
pub trait Collect<T, P: Policy<T>> {
    /// The names of the columns.
    fn header(&self, streams: usize) -> String;

    /// Collects a set that came after the input row `emit_row`.
    fn collect(&mut self, emit_row: u64, set: P::Set<'_>);

    /// Writes what was collected.
    fn write(&mut self, out: &mut dyn Write) -> std::io::Result<()>;
}

/// What is to be aligned, and where it goes.
pub struct Drive<'a> {
    pub config: Config,
    pub input: Input,
    pub out: &'a mut dyn Write,
}

/// What happened.
#[derive(Serialize)]
pub struct Report {
    events: u64,
    sets: u64,
    dropped: Vec<Value>,
    late: u64,
    degraded: u64,
    peak_depth: usize,
    /// Of the engine alone: neither reading nor writing.
    events_per_s: f64,
    pub warnings: Vec<String>,
}

impl Drive<'_> {
    /// Runs all events through the policy. `item` makes what the engine holds of an event's row and value.
    pub fn run<T, P: Policy<T>>(
        self,
        policy: P,
        item: impl Fn(u64, f64) -> T,
        mut collector: impl Collect<T, P>,
    ) -> anyhow::Result<Report> {
        let Drive { config, mut input, out } = self;
        let streams = config.ports.len();
        writeln!(out, "{}", collector.header(streams))?;
        let has_clock = config.ports.iter().any(|port| port.timeout_ns.is_some());
        let mut aligner = Aligner::new(policy, config);
        let mut skew = Skew::new(streams);
        let (mut chunk, mut row, mut engine_time) = (Vec::new(), 0, Duration::ZERO);
        while input.next(&mut chunk)? {
            for events in chunk.chunks(super::CHUNK_EVENTS) {
                let start = Instant::now();
                for Event { stamp_ns, arrival_ns, value, stream } in events {
                    if has_clock {
                        expire(&mut aligner, *arrival_ns, row, &mut collector);
                    }
                    // What is not held has been counted.
                    let _ = aligner.push(*stream, *stamp_ns, item(row, *value));
                    while let Poll::Set(set) = aligner.poll() {
                        collector.collect(row, set);
                    }
                    row += 1;
                }
                engine_time += start.elapsed();
                skew.note(events);
                collector.write(out)?;
            }
        }
        let start = Instant::now();
        (0..streams).for_each(|port| aligner.end(port));
        while let Poll::Set(set) = aligner.poll() {
            collector.collect(row.saturating_sub(1), set);
        }
        engine_time += start.elapsed();
        collector.write(out)?;
        let warnings = aligner.warnings(skew.most_ns);
        let warnings =
            warnings.iter().map(|warning| warning.text(|stream| format!("stream {stream}"))).collect();
        Ok(report(&aligner, streams, row, engine_time, warnings))
    }
}

/// Lets pass the time until an event arrives.
fn expire<T, P: Policy<T>>(
    aligner: &mut Aligner<T, P>,
    arrival_ns: i64,
    row: u64,
    collector: &mut impl Collect<T, P>,
) {
    while let Some(deadline_ns) = aligner.deadline_ns().filter(|deadline_ns| *deadline_ns <= arrival_ns) {
        aligner.set_clock(deadline_ns);
        while let Poll::Set(set) = aligner.poll() {
            collector.collect(row.saturating_sub(1), set);
        }
    }
    aligner.set_clock(arrival_ns);
}

fn report<T, P: Policy<T>>(
    aligner: &Aligner<T, P>,
    streams: usize,
    events: u64,
    engine_time: Duration,
    warnings: Vec<String>,
) -> Report {
    let dropped = |stream: usize| {
        let counts = Reason::ALL
            .map(|reason| (reason.name().to_owned(), aligner.counters(stream).dropped(reason).into()));
        Value::Object(Map::from_iter([("stream".to_owned(), stream.into())].into_iter().chain(counts)))
    };
    let counters = || (0..streams).map(|stream| aligner.counters(stream));
    Report {
        events,
        sets: aligner.sets(),
        dropped: (0..streams).map(dropped).collect(),
        late: counters().map(|counters| counters.late).sum(),
        degraded: aligner.degraded(),
        peak_depth: counters().map(|counters| counters.peak_depth).max().unwrap_or(0),
        events_per_s: (events as f64 / engine_time.as_secs_f64()).round(),
        warnings,
    }
}

/// How far streams were behind the newest.
struct Skew {
    newest_ns: Vec<Option<i64>>,
    most_ns: u64,
}

impl Skew {
    fn new(streams: usize) -> Self {
        Self { newest_ns: vec![None; streams], most_ns: 0 }
    }

    fn note(&mut self, events: &[Event]) {
        for event in events {
            let newest = &mut self.newest_ns[event.stream];
            *newest = (*newest).max(Some(event.stamp_ns));
            if let (Some(newest), Some(oldest)) =
                (self.newest_ns.iter().flatten().max(), self.newest_ns.iter().flatten().min())
            {
                self.most_ns = self.most_ns.max(newest.abs_diff(*oldest));
            }
        }
    }
}
