//! What the numbers say, in words.

use millpond_compare::stats::Spread;

use crate::numbers::{digits, with_unit};
use crate::questions::{Figure, OURS, PEERS, question};
use crate::results::Results;

/// Who did how well at a figure.
pub struct Ranking {
    figure: Figure,
    /// The title and the values of each peer measured, the best first.
    order: Vec<(&'static str, bool, Spread)>,
}

impl Ranking {
    /// Of all that were measured.
    pub fn of(results: &Results, name: &str, figure: Figure) -> Self {
        let mut order: Vec<_> = PEERS
            .iter()
            .filter_map(|peer| {
                Some((peer.title, peer.name == OURS, results.figure(peer.name, name, figure.key)?))
            })
            .collect();
        order.sort_by(|(_, _, a), (_, _, b)| match figure.unit.is_better_small() {
            true => a.median.total_cmp(&b.median),
            false => b.median.total_cmp(&a.median),
        });
        Self { figure, order }
    }

    /// The title of the best, if there is anybody to be better than.
    pub fn best(&self) -> Option<&'static str> {
        (self.order.len() > 1).then(|| self.order.first().map(|(title, ..)| *title))?
    }

    /// How much better the better one is, in words that follow a value, and whether the rounds leave a doubt of it.
    fn lead(&self, better: &Spread, worse: &Spread) -> String {
        let (lead, sure) = match self.figure.unit.is_better_small() {
            true => (worse.median / better.median, better.max < worse.min),
            false => (better.median / worse.median, better.min > worse.max),
        };
        // Of nothing, nothing is so many times.
        let lead = if lead.is_finite() { format!(", {} times as good", digits(lead)) } else { String::new() };
        let doubt = if sure { "" } else { ", though the rounds overlap" };
        format!("{lead}{doubt}")
    }

    /// One sentence on where we stand.
    pub fn sentence(&self, title: &str) -> Option<String> {
        let ours = self.order.iter().position(|(_, ours, _)| *ours)?;
        let (.., our_spread) = self.order.get(ours)?;
        let shown = |spread: &Spread| with_unit(spread.median, self.figure.unit);
        let value = shown(our_spread);
        if ours == 0 {
            let (second, _, spread) = self.order.get(1)?;
            let lead = self.lead(our_spread, spread);
            return Some(format!(
                "{title}: Millpond is first with {value}{lead}; next is {second} with {}.",
                shown(spread)
            ));
        }
        let better: Vec<_> = self.order[..ours]
            .iter()
            .map(|(name, _, spread)| format!("{name} ({}{})", shown(spread), self.lead(spread, our_spread)))
            .collect();
        Some(format!("{title}: **better than Millpond** ({value}): {}.", better.join(", ")))
    }

    /// Whether somebody else did better than we.
    pub fn is_lost(&self) -> bool {
        self.order.first().is_some_and(|(_, ours, _)| !ours) && self.order.iter().any(|(_, ours, _)| *ours)
    }
}

/// The sentences of all figures of a question in which somebody else is better.
pub fn losses(results: &Results, name: &str) -> Vec<String> {
    let Some(question) = question(name) else { return Vec::new() };
    let lost = |figure: &Figure| {
        let ranking = Ranking::of(results, name, *figure);
        ranking.is_lost().then(|| ranking.sentence(&format!("{}, {}", question.title, figure.title)))?
    };
    question.figures.iter().filter_map(lost).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millpond_compare::machine::Machine;
    use serde_json::json;

    use super::*;
    use crate::results::Measured;

    /// Results in which each of these peers measured these values.
    fn results(values: &[(&str, &[f64])]) -> Results {
        let mut results = Results::default();
        for (name, rounds) in values {
            let mut measured = Measured::new(&Machine::this(), 1, Duration::from_secs(1));
            for value in *rounds {
                let run =
                    json!({ "messages_per_s": value, "one_way_p50_ns": value, "one_way_p99_ns": value });
                measured.add("latency-64", Ok(run.as_object().cloned().expect("an object")));
                measured.add("fanout-1", Ok(run.as_object().cloned().expect("an object")));
            }
            results.peers.insert((*name).to_owned(), measured);
        }
        results
    }

    fn first(results: &Results, name: &str) -> Ranking {
        Ranking::of(results, name, question(name).expect("there is one").figures[0])
    }

    #[test]
    fn less_is_better_for_times_and_more_for_rates() {
        let results = results(&[("millpond", &[100.0]), ("unix", &[400.0])]);
        let latency = first(&results, "latency-64");
        assert_eq!(latency.best(), Some("Millpond"));
        assert_eq!(
            latency.sentence("A").as_deref(),
            Some("A: Millpond is first with 100 ns, 4 times as good; next is Unix socket with 400 ns.")
        );
        let rate = first(&results, "fanout-1");
        assert!(rate.is_lost() && !latency.is_lost());
        assert_eq!(
            rate.sentence("B").as_deref(),
            Some("B: **better than Millpond** (100 /s): Unix socket (400 /s, 4 times as good).")
        );
        assert_eq!((losses(&results, "fanout-1").len(), losses(&results, "latency-64").len()), (1, 0));
    }

    #[test]
    fn a_lead_within_the_spread_of_the_rounds_is_called_doubtful() {
        let results = results(&[("millpond", &[100.0, 100.0, 130.0]), ("unix", &[120.0, 125.0, 130.0])]);
        let sentence = first(&results, "latency-64").sentence("A").expect("both were measured");
        assert!(sentence.contains("1.25 times as good, though the rounds overlap"), "{sentence}");
    }
}
