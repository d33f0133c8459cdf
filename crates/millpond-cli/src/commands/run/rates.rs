//! Rates over the last second, from numbers that only grow.

use std::collections::VecDeque;
use std::time::Duration;

use millpond::supervisor::Status;

/// How far back a rate looks.
const WINDOW: Duration = Duration::from_secs(1);

/// What a block does a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Buffers taken a second.
    pub taken: f64,
    /// Buffers sent a second.
    pub sent: f64,
}

/// Remembers the numbers of the last second.
#[derive(Default)]
pub struct Rates {
    seen: VecDeque<Seen>,
}

struct Seen {
    at: Duration,
    /// Taken and sent, by block.
    counts: Vec<(u64, u64)>,
}

impl Rates {
    /// Adds the numbers of this moment and returns the rates of the blocks, in their order.
    pub fn add(&mut self, status: &Status) -> Vec<Rate> {
        let counts =
            status.blocks.iter().map(|block| (block.statistics.taken, block.statistics.sent)).collect();
        self.add_counts(status.elapsed, counts)
    }

    fn add_counts(&mut self, at: Duration, counts: Vec<(u64, u64)>) -> Vec<Rate> {
        // The youngest that is old enough stays: rates then cover the whole window.
        while self.seen.get(1).is_some_and(|next| at - next.at >= WINDOW) {
            self.seen.pop_front();
        }
        let since =
            self.seen.front().map(|then| (at - then.at).as_secs_f64()).filter(|seconds| *seconds > 0.0);
        let rates = counts.iter().enumerate().map(|(block, now)| match (self.seen.front(), since) {
            (Some(then), Some(seconds)) => Rate {
                taken: (now.0 - then.counts[block].0) as f64 / seconds,
                sent: (now.1 - then.counts[block].1) as f64 / seconds,
            },
            _ => Rate::default(),
        });
        let rates = rates.collect();
        self.seen.push_back(Seen { at, counts });
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_cover_the_last_second() {
        let mut rates = Rates::default();
        assert_eq!(rates.add_counts(Duration::ZERO, vec![(0, 0)]), [Rate::default()]);
        for step in 1..=10u64 {
            rates.add_counts(Duration::from_millis(200 * step), vec![(step * 10, 0)]);
        }
        // It stands still from here on: after a second the rate has gone down to nothing.
        for step in 11..=15u64 {
            rates.add_counts(Duration::from_millis(200 * step), vec![(100, 7)]);
        }
        assert_eq!(
            rates.add_counts(Duration::from_millis(3200), vec![(100, 7)]),
            [Rate { taken: 0.0, sent: 0.0 }]
        );
    }
}
