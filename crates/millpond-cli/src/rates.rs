//! Rates over the last second, from numbers that only grow.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

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
    counts: HashMap<String, (u64, u64)>,
}

impl Rates {
    /// Adds what each block had taken and sent at this moment, and returns the rates of the blocks, in their order. A block that
    /// was not there before has none.
    pub fn add<'a>(
        &mut self,
        at: Duration,
        counts: impl IntoIterator<Item = (&'a str, u64, u64)>,
    ) -> Vec<Rate> {
        // The youngest that is old enough stays: rates then cover the whole window.
        while self.seen.get(1).is_some_and(|next| at.saturating_sub(next.at) >= WINDOW) {
            self.seen.pop_front();
        }
        let then = self.seen.front();
        let seconds = then.map_or(0.0, |then| at.saturating_sub(then.at).as_secs_f64());
        let mut now = HashMap::new();
        let mut rates = Vec::new();
        for (block, taken, sent) in counts {
            now.insert(block.to_owned(), (taken, sent));
            let before = then.and_then(|then| then.counts.get(block)).filter(|_| seconds > 0.0);
            rates.push(before.map_or_else(Rate::default, |before| Rate {
                taken: taken.saturating_sub(before.0) as f64 / seconds,
                sent: sent.saturating_sub(before.1) as f64 / seconds,
            }));
        }
        self.seen.push_back(Seen { at, counts: now });
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_cover_the_last_second() {
        let mut rates = Rates::default();
        assert_eq!(rates.add(Duration::ZERO, [("a", 0, 0)]), [Rate::default()]);
        for step in 1..=10u64 {
            rates.add(Duration::from_millis(200 * step), [("a", step * 10, 0)]);
        }
        // It stands still from here on: after a second the rate has gone down to nothing.
        for step in 11..=15u64 {
            rates.add(Duration::from_millis(200 * step), [("a", 100, 7)]);
        }
        let both = rates.add(Duration::from_millis(3200), [("new", 5, 5), ("a", 100, 17)]);
        assert_eq!(both, [Rate::default(), Rate { taken: 0.0, sent: 10.0 }]);
    }
}
