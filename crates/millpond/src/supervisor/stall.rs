//! Who lives but does not get on: processes that are stopped, and blocks that do not come back from a call.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use millpond_shm::Snapshot;

use super::status::block_statistics;

/// After this time a stall is told. Heartbeats come once a second.
const TOLD_AFTER: Duration = Duration::from_secs(3);

/// What a process is stuck with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stall {
    /// It does not run at all: stopped by a signal or a debugger, or starved of CPU time.
    Stopped,
    /// One call of this block does not come back.
    InWork {
        /// The block.
        block: String,
    },
}

impl std::fmt::Display for Stall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stall::Stopped => f.write_str("does not run (stopped?)"),
            Stall::InWork { block } => write!(f, "is stuck in one call of `{block}`"),
        }
    }
}

/// Remembers since when the blocks' counts of visits stand still, and what was told.
#[derive(Default)]
pub(super) struct StallWatch {
    seen: HashMap<String, (u64, Instant)>,
    told: HashMap<u32, Stall>,
}

impl StallWatch {
    /// Looks at a process. Returns how it is stuck and for how long, and whether that has not been told yet.
    pub(super) fn look<'a>(
        &mut self,
        snapshot: &Snapshot,
        pid: u32,
        blocks: impl Iterator<Item = &'a str>,
        now: Instant,
    ) -> Option<(Stall, Duration, bool)> {
        let process = snapshot.processes.iter().find(|process| process.pid == pid)?;
        let silent = Duration::from_millis(process.heartbeat_age_ms);
        let mut stuck = (silent >= TOLD_AFTER).then_some((Stall::Stopped, silent));
        for block in blocks {
            // Until its process runs it, its counts are those that the process before has left.
            if !snapshot.blocks.iter().any(|known| known.name == block && known.pid == Some(pid)) {
                continue;
            }
            let visits = block_statistics(snapshot, block).visits;
            let seen = self.seen.entry(block.to_owned()).or_insert((visits, now));
            if seen.0 != visits {
                *seen = (visits, now);
            }
            let stands = now.duration_since(seen.1);
            // Odd: between entering and leaving the block.
            if stuck.is_none() && visits % 2 == 1 && stands >= TOLD_AFTER {
                stuck = Some((Stall::InWork { block: block.to_owned() }, stands));
            }
        }
        let Some((stall, since)) = stuck else {
            self.told.remove(&pid);
            return None;
        };
        let is_news = self.told.insert(pid, stall.clone()).is_none();
        Some((stall, since, is_news))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Statistics;
    use millpond_shm::{Monitor, Pond, PondConfig, Role};

    #[test]
    fn a_block_that_does_not_come_back_is_told_once() {
        let name = format!("stall-{}", std::process::id());
        let pond = Pond::create(&name, &PondConfig::default(), Role::Tool).unwrap();
        let monitor = Monitor::open(&name).unwrap();
        let mut statistics = Statistics::new(pond.block_counters("slow").unwrap());
        let (mut watch, start) = (StallWatch::default(), Instant::now());
        let mut look = |seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            watch.look(&monitor.snapshot(), std::process::id(), ["slow"].into_iter(), now)
        };
        statistics.begin_visit();
        assert_eq!(look(0), None);
        assert_eq!(look(2), None);
        let stall = Stall::InWork { block: "slow".to_owned() };
        assert_eq!(look(4), Some((stall.clone(), Duration::from_secs(4), true)));
        assert_eq!(look(5), Some((stall.clone(), Duration::from_secs(5), false)));
        statistics.end_visit();
        assert_eq!(look(6), None, "it has come back");
        assert_eq!(look(60), None, "a block that waits is not stuck");
        statistics.begin_visit();
        assert_eq!(look(61), None);
        assert_eq!(look(65), Some((stall.clone(), Duration::from_secs(4), true)), "told again");
        let mut successor = Statistics::new(pond.block_counters("slow").unwrap());
        assert_eq!(look(66), None, "that was the process before");
        assert_eq!(look(90), None);
        successor.begin_visit();
        assert_eq!(look(91), None);
        assert_eq!(look(95), Some((stall, Duration::from_secs(4), true)));
    }
}
