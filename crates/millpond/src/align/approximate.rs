//! Items that belong together although their stamps are never equal.

use super::inputs::{Held, Inputs, PortSet, Reason};
use super::members::{self, Members};
use super::{Policy, Step};

/// Sets of one item of each port that lie close together; each item is in one set at most, and sets never cross.
///
/// The adaptive algorithm of ROS's `message_filters` (`ApproximateTime`,
/// <http://wiki.ros.org/message_filters/ApproximateTime>), written anew from its description: when all ports have an item, the
/// latest of the earliest ones is the *pivot*; some set contains it, and the best of those is looked for by replacing, again and again,
/// the earliest member by its successor. A set that ends later must be smaller by more than the age penalty says. It comes as soon as
/// the rest cannot be better any more: a port that has nothing left is known to have nothing before its last item plus its
/// `lower_bounds_ns`, nor before its bound.
#[derive(Debug)]
pub struct Approximate<T> {
    age_penalty_permille: u32,
    max_interval_ns: Option<u64>,
    lower_bounds_ns: Vec<u64>,
    candidate: Option<Candidate>,
    /// Of each port: how many of the earliest items the search has passed. If there is a candidate, its members are the earliest.
    passed: Vec<usize>,
    /// The same while the search looks ahead.
    looked_past: Vec<usize>,
    /// Ports that lost an item, so that a better one may have been lost: none of them can be the pivot.
    has_lost: PortSet,
    members: Vec<Option<Held<T>>>,
    frontier_ns: i64,
}

/// The best set so far with the pivot.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    ports: PortSet,
    start_ns: i64,
    end_ns: i64,
    pivot: usize,
    pivot_ns: i64,
}

/// The extent of a set that is looked at.
#[derive(Clone, Copy)]
struct Extent {
    start_ns: i64,
    start_port: usize,
    end_ns: i64,
    end_port: usize,
}

impl<T> Approximate<T> {
    /// A set that ends `t` later than another must be smaller by more than `t * age_penalty_permille / 1000` at its beginning to be
    /// better. ROS has 100, which is 0.1.
    pub fn new(age_penalty_permille: u32) -> Self {
        Self {
            age_penalty_permille,
            max_interval_ns: None,
            lower_bounds_ns: Vec::new(),
            candidate: None,
            passed: Vec::new(),
            looked_past: Vec::new(),
            has_lost: PortSet::EMPTY,
            members: Vec::new(),
            frontier_ns: i64::MIN,
        }
    }

    /// Sets span at most this.
    #[must_use]
    pub fn max_interval_ns(self, max_interval_ns: u64) -> Self {
        Self { max_interval_ns: Some(max_interval_ns), ..self }
    }

    /// Of each port, the least distance of two items: known beforehand, it makes sets come earlier. If it is violated, sets may be
    /// less than the best.
    #[must_use]
    pub fn lower_bounds_ns(self, lower_bounds_ns: Vec<u64>) -> Self {
        Self { lower_bounds_ns, ..self }
    }

    /// Changes the age penalty and what a set spans at most (`None`: anything) of an aligner that has begun; see
    /// [`Aligner::change_policy`](super::Aligner::change_policy). The search for the present set starts anew with what is held.
    pub fn set_limits(&mut self, age_penalty_permille: u32, max_interval_ns: Option<u64>) {
        (self.age_penalty_permille, self.max_interval_ns) = (age_penalty_permille, max_interval_ns);
        self.start_search();
    }

    fn start_search(&mut self) {
        self.candidate = None;
        self.passed.fill(0);
    }

    /// `later` (by which a set ends later) with the age penalty is at least `smaller` (by which it begins later).
    #[inline]
    fn is_no_better(&self, later_ns: i128, smaller_ns: i128) -> bool {
        later_ns * i128::from(1000 + u64::from(self.age_penalty_permille)) >= smaller_ns * 1000
    }

    /// The extent of the set of the earliest items behind those `passed`. A port that has none counts as `missing` says.
    #[inline]
    fn extent(
        &self,
        inputs: &Inputs<T>,
        ports: PortSet,
        passed: &[usize],
        missing: impl Fn(usize) -> i64,
    ) -> Extent {
        let mut extent = Extent { start_ns: i64::MAX, start_port: 0, end_ns: i64::MIN, end_port: 0 };
        let mut is_first = true;
        for (index, port) in inputs.ports.iter().enumerate() {
            if !ports.contains(index) {
                continue;
            }
            let stamp_ns = port.settled_ns(passed[index]).unwrap_or_else(|| missing(index));
            // Of equal stamps, the start is the first port and the end the last.
            if is_first || stamp_ns < extent.start_ns {
                (extent.start_ns, extent.start_port) = (stamp_ns, index);
            }
            if is_first || stamp_ns >= extent.end_ns {
                (extent.end_ns, extent.end_port) = (stamp_ns, index);
            }
            is_first = false;
        }
        extent
    }

    /// Makes the set that is looked at the candidate. What was passed to get there will be in no set.
    fn make_candidate(&mut self, inputs: &mut Inputs<T>, ports: PortSet, extent: Extent) {
        for port in ports.iter() {
            for _ in 0..std::mem::take(&mut self.passed[port]) {
                inputs.drop_front(port, Reason::Unmatched);
            }
        }
        let pivot = self.candidate.map_or((extent.end_port, extent.end_ns), |old| (old.pivot, old.pivot_ns));
        self.candidate = Some(Candidate {
            ports,
            start_ns: extent.start_ns,
            end_ns: extent.end_ns,
            pivot: pivot.0,
            pivot_ns: pivot.1,
        });
    }

    /// Whether no set with the pivot that contains a later item can be better than the candidate.
    fn is_proven_best(&mut self, inputs: &Inputs<T>, ports: PortSet, candidate: Candidate) -> bool {
        let mut passed = std::mem::take(&mut self.looked_past);
        passed.clone_from(&self.passed);
        let earliest_ns = |port: usize, passed: usize| {
            let input = &inputs.ports[port];
            let last_ns = passed.checked_sub(1).and_then(|last| input.settled_ns(last));
            let lower_bound_ns = self.lower_bounds_ns.get(port).copied().unwrap_or(0);
            let after_last_ns = last_ns.map_or(i64::MIN, |last| last.saturating_add_unsigned(lower_bound_ns));
            // Like every other lower bound here, this one is a moment at which an item may just be.
            let bound_ns = input.horizon_ns().saturating_sub(1);
            after_last_ns.max(candidate.pivot_ns).max(bound_ns)
        };
        let proven = loop {
            let extent = self.extent(inputs, ports, &passed, |port| earliest_ns(port, passed[port]));
            let later_ns = i128::from(extent.end_ns) - i128::from(candidate.end_ns);
            if self.is_no_better(later_ns, i128::from(candidate.pivot_ns) - i128::from(candidate.start_ns)) {
                break true;
            }
            if !self.is_no_better(later_ns, i128::from(extent.start_ns) - i128::from(candidate.start_ns)) {
                break false;
            }
            // The set begins before the pivot, so its first item is a real one: one that is missing is not before the pivot.
            passed[extent.start_port] += 1;
        };
        self.looked_past = passed;
        proven
    }

    /// Takes the candidate out; what was passed after it takes part again. Returns whether it is wanted.
    fn publish(&mut self, inputs: &mut Inputs<T>, candidate: Candidate) -> bool {
        self.candidate = None;
        self.passed.fill(0);
        self.frontier_ns = self.frontier_ns.max(candidate.end_ns);
        let refused = !inputs.inactive.is_empty()
            && (0..inputs.len()).any(|port| !candidate.ports.contains(port) && inputs.refuses_without(port));
        for port in candidate.ports.iter() {
            if refused {
                inputs.drop_front(port, Reason::Timeout);
            } else {
                self.members[port] = inputs.pop_front(port);
            }
        }
        !refused
    }
}

impl<T> Policy<T> for Approximate<T> {
    type Set<'a>
        = Members<'a, T>
    where
        T: 'a;

    fn step(&mut self, inputs: &mut Inputs<T>) -> Step {
        members::clear(&mut self.members, inputs.len());
        self.passed.resize(inputs.len(), 0);
        loop {
            // The ports that take part, and those of them that have nothing more to look at.
            let (mut ports, mut empty, mut is_over) = (PortSet::EMPTY, PortSet::EMPTY, false);
            for (index, port) in inputs.ports.iter().enumerate() {
                let has_next = port.settled_ns(self.passed[index]).is_some();
                let is_in_candidate = self.candidate.is_some_and(|candidate| candidate.ports.contains(index));
                is_over |= port.is_drained() && !port.config.optional;
                if !has_next && !is_in_candidate && (port.ended || port.inactive) {
                    continue;
                }
                ports.insert(index);
                if !has_next {
                    empty.insert(index);
                }
            }
            if self.candidate.is_none() && is_over {
                inputs.drop_all();
                return Step::Done;
            }
            if !empty.is_empty() || ports.is_empty() {
                let Some(candidate) = self.candidate else {
                    return if empty == ports { Step::Idle(empty) } else { Step::Waiting(empty) };
                };
                if !self.is_proven_best(inputs, candidate.ports, candidate) {
                    return Step::Waiting(empty);
                }
                if self.publish(inputs, candidate) {
                    return Step::Set;
                }
                continue;
            }
            let extent = self.extent(inputs, ports, &self.passed, |_| i64::MAX);
            self.has_lost = PortSet::one(extent.end_port).intersection(self.has_lost);
            let candidate = match self.candidate {
                None => {
                    let is_too_long =
                        self.max_interval_ns.is_some_and(|max| extent.end_ns.abs_diff(extent.start_ns) > max);
                    if is_too_long || self.has_lost.contains(extent.end_port) {
                        inputs.drop_front(extent.start_port, Reason::Unmatched);
                        continue;
                    }
                    self.make_candidate(inputs, ports, extent);
                    self.candidate
                }
                Some(candidate) => {
                    let later_ns = i128::from(extent.end_ns) - i128::from(candidate.end_ns);
                    let smaller_ns = i128::from(extent.start_ns) - i128::from(candidate.start_ns);
                    if !self.is_no_better(later_ns, smaller_ns) {
                        self.make_candidate(inputs, ports, extent);
                    }
                    self.candidate
                }
            };
            let Some(candidate) = candidate else { continue };
            self.passed[extent.start_port] += 1;
            let later_ns = i128::from(extent.end_ns) - i128::from(candidate.end_ns);
            let span_ns = i128::from(candidate.pivot_ns) - i128::from(candidate.start_ns);
            // All sets with the pivot were looked at, or all others contain what lies between the pivot and this end.
            let is_best = extent.start_port == candidate.pivot || self.is_no_better(later_ns, span_ns);
            if is_best && self.publish(inputs, candidate) {
                return Step::Set;
            }
        }
    }

    fn set<'a>(&'a mut self, inputs: &'a Inputs<T>) -> Members<'a, T> {
        Members { members: &mut self.members, degraded: !inputs.inactive.is_empty() }
    }

    fn frontier_ns(&self) -> i64 {
        self.frontier_ns
    }

    /// The search starts anew, and the port that lost an item cannot be the pivot until all that it lost can no longer matter.
    fn give_up_oldest(&mut self, inputs: &mut Inputs<T>, port: usize) -> Option<T> {
        self.start_search();
        self.has_lost.insert(port);
        inputs.drop_front(port, Reason::Overflow)
    }

    fn reset(&mut self) {
        self.start_search();
        self.has_lost = PortSet::EMPTY;
        self.members.clear();
        self.frontier_ns = i64::MIN;
    }
}
