//! What a block publishes about itself, in counters in shared memory that outlive its process.

use std::time::{Duration, Instant};

use millpond_shm::{BlockCounters, Buffer, Timestamp};

use crate::latency::Latencies;

/// How far a block has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stage {
    /// No process has taken the block yet.
    #[default]
    Declared,
    /// Its process waits for the formats of its inputs.
    Starting,
    /// It works.
    Running,
    /// It is done: its streams have ended.
    Done,
    /// It could not go on.
    Failed,
}

/// Place of each number among the block's counters.
#[derive(Clone, Copy)]
enum Counter {
    Stage,
    Starts,
    Taken,
    Sent,
    LatencyP50,
    LatencyP99,
    LatencyMax,
    Visits,
    /// Stamps of the last two buffers that a block has sent or was about to send, see [`Statistics::leave_stamp`].
    EvenStamp,
    OddStamp,
    Failures,
    /// 1: a process of the block has started to work.
    Worked,
}

/// The numbers of one block, as anybody reads them from outside.
#[derive(Clone, Debug, Default)]
pub struct BlockStatistics {
    /// How far it has come.
    pub stage: Stage,
    /// How often a process started to run it.
    pub starts: u64,
    /// How often it has failed or panicked; each was a reason to start it again, or to give it up.
    pub failures: u64,
    /// Buffers taken from its inputs, by all its processes so far.
    pub taken: u64,
    /// Buffers sent on its outputs, by all its processes so far.
    pub sent: u64,
    /// How often the scheduler has entered and left the block; odd while the block works.
    pub visits: u64,
    /// Time from a buffer's timestamp to its being taken, if the timestamps are absolute; by its latest process.
    pub latency: Option<LatencySummary>,
}

/// Latencies in brief.
#[derive(Clone, Copy, Debug)]
pub struct LatencySummary {
    /// Half of the buffers were faster.
    pub p50: Duration,
    /// 99 of 100 buffers were faster.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

impl BlockStatistics {
    /// Reads a block's counters, as a snapshot of the pond shows them.
    pub fn from_counters(counters: &[u64]) -> Self {
        let value = |counter: Counter| counters.get(counter as usize).copied().unwrap_or(0);
        let stages = [Stage::Declared, Stage::Starting, Stage::Running, Stage::Done, Stage::Failed];
        let latency = |counter| Duration::from_nanos(value(counter));
        Self {
            stage: stages.get(value(Counter::Stage) as usize).copied().unwrap_or_default(),
            starts: value(Counter::Starts),
            failures: value(Counter::Failures),
            taken: value(Counter::Taken),
            sent: value(Counter::Sent),
            visits: value(Counter::Visits),
            latency: (value(Counter::LatencyMax) > 0).then(|| LatencySummary {
                p50: latency(Counter::LatencyP50),
                p99: latency(Counter::LatencyP99),
                max: latency(Counter::LatencyMax),
            }),
        }
    }
}

fn stamp_place(sequence: u64) -> Counter {
    if sequence.is_multiple_of(2) { Counter::EvenStamp } else { Counter::OddStamp }
}

/// How often quantiles are computed, which costs a microsecond.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);

/// The owner's side: counts, and publishes what it has counted.
pub(crate) struct Statistics {
    counters: BlockCounters,
    starts: u64,
    worked_before: bool,
    taken: u64,
    sent: u64,
    visits: u64,
    latencies: Latencies,
    published: Instant,
}

impl Statistics {
    /// Goes on where an earlier process of the block has stopped.
    pub(crate) fn new(counters: BlockCounters) -> Self {
        let last = |counter: Counter| counters.get(counter as usize);
        let (starts, taken, sent) = (last(Counter::Starts) + 1, last(Counter::Taken), last(Counter::Sent));
        let worked_before = last(Counter::Worked) != 0;
        // Even: whatever its predecessor was killed in, this process is in no visit. And another number than that.
        let visits = last(Counter::Visits).wrapping_add(1) & !1;
        counters.set(Counter::Starts as usize, starts);
        counters.set(Counter::Visits as usize, visits);
        Self {
            counters,
            starts,
            worked_before,
            taken,
            sent,
            visits,
            latencies: Latencies::new(),
            published: Instant::now(),
        }
    }

    pub(crate) fn starts(&self) -> u64 {
        self.starts
    }

    pub(crate) fn worked_before(&self) -> bool {
        self.worked_before
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The block could not go on.
    pub(crate) fn count_failure(&mut self) {
        self.set(Counter::Failures, self.counters.get(Counter::Failures as usize) + 1);
        self.set_stage(Stage::Failed);
    }

    pub(crate) fn set_stage(&mut self, stage: Stage) {
        self.publish_latencies();
        if stage == Stage::Running {
            self.set(Counter::Worked, 1);
        }
        self.set(Counter::Stage, stage as u64);
    }

    /// The block is about to work: from outside it shows if it does not come back.
    #[inline]
    pub(crate) fn begin_visit(&mut self) {
        self.visits = self.visits.wrapping_add(1);
        self.set(Counter::Visits, self.visits);
    }

    /// The block has come back.
    #[inline]
    pub(crate) fn end_visit(&mut self) {
        self.visits = self.visits.wrapping_add(1);
        self.set(Counter::Visits, self.visits);
    }

    #[inline]
    pub(crate) fn count_taken(&mut self, buffer: &Buffer) {
        self.taken += 1;
        self.set(Counter::Taken, self.taken);
        if let Timestamp::Absolute(stamp_ns) = buffer.timestamp()
            && let Timestamp::Absolute(now_ns) = Timestamp::now()
        {
            // A stamp from the future (another clock, or a stamp of what is to come) counts as no latency.
            self.latencies.add(u64::try_from(now_ns - stamp_ns).unwrap_or(0));
        }
    }

    #[inline]
    pub(crate) fn count_sent(&mut self) {
        self.sent += 1;
        self.set(Counter::Sent, self.sent);
    }

    /// Leaves a successor the stamp of buffer `sequence`, which is about to be sent. Written before the buffer is published, in the
    /// place of the last but one, so whichever of the two the queues count as the last, its stamp is here.
    #[inline]
    pub(crate) fn leave_stamp(&self, sequence: u64, stamp_ns: i64) {
        self.set(stamp_place(sequence), stamp_ns as u64);
    }

    /// The stamp that was left for buffer `sequence`, one of the last two.
    pub(crate) fn left_stamp_ns(&self, sequence: u64) -> i64 {
        self.counters.get(stamp_place(sequence) as usize) as i64
    }

    /// Publishes what changes slowly; cheap when called often.
    pub(crate) fn refresh(&mut self) {
        if !self.latencies.is_empty() && self.published.elapsed() >= PUBLISH_EVERY {
            self.publish_latencies();
        }
    }

    fn publish_latencies(&mut self) {
        if self.latencies.is_empty() {
            return;
        }
        let max = self.latencies.max().max(Duration::from_nanos(1));
        for (counter, latency) in [
            (Counter::LatencyP50, self.latencies.quantile(500)),
            (Counter::LatencyP99, self.latencies.quantile(990)),
            (Counter::LatencyMax, max),
        ] {
            self.set(counter, latency.as_nanos() as u64);
        }
        self.published = Instant::now();
    }

    #[inline]
    fn set(&self, counter: Counter, value: u64) {
        self.counters.set(counter as usize, value);
    }
}
