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

    /// How much better the better one is, at least 1, and whether the rounds of both leave no doubt of it.
    fn lead(&self, better: &Spread, worse: &Spread) -> (f64, bool) {
        match self.figure.unit.is_better_small() {
            true => (worse.median / better.median, better.max < worse.min),
            false => (better.median / worse.median, better.min > worse.max),
        }
    }

    /// One sentence on where we stand.
    pub fn sentence(&self, title: &str) -> Option<String> {
        let ours = self.order.iter().position(|(_, ours, _)| *ours)?;
        let (.., our_spread) = self.order.get(ours)?;
        let value = with_unit(our_spread.median, self.figure.unit);
        if ours == 0 {
            let (second, _, spread) = self.order.get(1)?;
            let (lead, sure) = self.lead(our_spread, spread);
            let doubt = if sure { "" } else { ", though their rounds overlap" };
            return Some(format!(
                "{title}: Millpond is first with {value}, {} times as good as the next, {second}{doubt}.",
                digits(lead)
            ));
        }
        let better: Vec<_> = self.order[..ours]
            .iter()
            .map(|(name, _, spread)| {
                let (lead, sure) = self.lead(spread, our_spread);
                let doubt = if sure { "" } else { "; their rounds overlap" };
                format!(
                    "{name} ({}, {} times as good{doubt})",
                    with_unit(spread.median, self.figure.unit),
                    digits(lead)
                )
            })
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
