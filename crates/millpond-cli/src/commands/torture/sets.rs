//! The account of aligners: which sets must exist.

use std::collections::{BTreeMap, BTreeSet};

use super::account::{Account, Delivered};
use super::graph::{Process, Role};

impl Account<'_> {
    /// A number that an aligner received on every input is a set, except for what it held when it was killed; with redelivery
    /// always. No other set may exist, and each only once; with redelivery once more for each death.
    pub(super) fn close_aligners(&mut self, delivered: &[Delivered]) {
        let graph = self.graph();
        for aligner in &graph.processes {
            let Role::Aligner { redeliver, .. } = aligner.role else { continue };
            let into = self.connections(|from_or_to| aligner.inputs().contains(from_or_to.1));
            let must = self.must_exist(&into);
            let out = self.connections(|(from, _)| Some(from) == aligner.output().as_ref());
            let mut found: BTreeMap<u64, u64> = BTreeMap::new();
            for number in out.iter().flat_map(|&c| self.numbers(c)) {
                *found.entry(number).or_default() += 1;
            }
            let kills = into.iter().map(|&c| delivered[c].receiver_kills).max().unwrap_or(0);
            let held: u64 = into.iter().map(|&c| delivered[c].lost_in_hand).sum();
            let missing = must.iter().filter(|number| !found.contains_key(number)).count() as u64;
            let extra = found.keys().filter(|number| !must.contains(number)).count() as u64;
            let again: u64 = found.values().map(|times| times - 1).sum();
            let lost = missing.saturating_sub(if redeliver { 0 } else { held });
            let doubled = again.saturating_sub(if redeliver { kills } else { 0 });
            self.wrong_sets(aligner, (lost, must.len()), doubled, extra);
        }
    }

    /// Numbers that came by all of these connections.
    fn must_exist(&self, into: &[usize]) -> BTreeSet<u64> {
        let mut all = into.iter().map(|&c| self.numbers(c).collect::<BTreeSet<u64>>());
        let first = all.next().unwrap_or_default();
        all.fold(first, |common, numbers| &common & &numbers)
    }

    fn wrong_sets(&mut self, aligner: &Process, (lost, of): (u64, usize), doubled: u64, extra: u64) {
        self.wrongs.lost += lost;
        self.wrongs.doubled += doubled;
        self.wrongs.corrupted += extra;
        for (count, what) in [(lost, "missing"), (doubled, "doubled"), (extra, "without their members")] {
            if count > 0 {
                self.wrongs.find(format!("`{}`: {count} sets of {of} are {what}", aligner.name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Wrongs;
    use super::super::graph::Graph;
    use super::super::message::Record;
    use super::super::random::Random;
    use super::*;

    /// Enters numbers on the left, on the right, and of sets with the aligner's incarnation; the aligner was killed once and held
    /// so many on the left.
    fn judged(redeliver: bool, left: &[u64], right: &[u64], sets: &[(u32, u64)], held: u64) -> Wrongs {
        let fits = |g: &Graph| g.processes.iter().any(|p| p.name == "aligner" && p.redelivers() == redeliver);
        let graph = (0..).map(|seed| Graph::new(&mut Random::new(seed), false)).find(fits).unwrap();
        let place = |name: &str| graph.processes.iter().position(|p| p.name == name).unwrap();
        let source = |name: &str| graph.processes[place(name)].source().unwrap();
        let mut account = Account::new(&graph);
        let mut enter = |to: &str, from: &str, incarnation: u32, number: u64| {
            let message = Some((source(from), incarnation, number));
            account.enter(place(to), Record { message, redelivered: false });
        };
        left.iter().for_each(|&number| enter("aligner", "left-sensor", 0, number));
        right.iter().for_each(|&number| enter("aligner", "right-sensor", 0, number));
        sets.iter().for_each(|&(incarnation, number)| enter("set-sink", "aligner", incarnation, number));
        let mut delivered = vec![Delivered::default(); graph.connections.len()];
        for connection in account.connections(|(_, to)| to.starts_with("aligner.")) {
            delivered[connection].receiver_kills = 1;
        }
        delivered[account.connections(|(_, to)| to == "aligner.left")[0]].lost_in_hand = held;
        account.close_aligners(&delivered);
        account.wrongs
    }

    #[test]
    fn what_came_on_both_sides_is_a_set_and_nothing_else_is() {
        let (left, right) = ([5, 6, 8, 9], [5, 7, 8, 9]);
        for redeliver in [false, true] {
            let sound = [(0, 5), (0, 8), (1, 9)];
            assert_eq!(judged(redeliver, &left, &right, &sound, 0), Wrongs::default());
            assert_eq!(judged(redeliver, &left, &right, &sound[1..], 0).lost, 1);
            assert_eq!(judged(redeliver, &left, &right, &[(0, 5), (0, 6), (0, 8), (0, 9)], 0).corrupted, 1);
        }
    }

    #[test]
    fn what_a_victim_held_may_be_missing_or_with_redelivery_come_once_more() {
        let numbers = [5, 6, 7];
        assert_eq!(judged(false, &numbers, &numbers, &[(1, 7)], 2), Wrongs::default());
        assert_eq!(judged(false, &numbers, &numbers, &[], 2).lost, 1);
        assert_eq!(judged(true, &numbers, &numbers, &[(1, 7)], 2).lost, 2);
        let again = [(0, 5), (0, 6), (1, 6), (1, 7)];
        assert_eq!(judged(true, &numbers, &numbers, &again, 0), Wrongs::default());
        assert_eq!(judged(false, &numbers, &numbers, &again, 0).doubled, 1);
        let too_many = [(0, 5), (0, 6), (1, 5), (1, 6), (1, 7)];
        assert_eq!(judged(true, &numbers, &numbers, &too_many, 0).doubled, 1);
    }
}
