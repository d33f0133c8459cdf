//! For each item of a reference port the nearest of every other port.

use super::inputs::{Held, INFINITE_NS, Inputs, PortSet, Reason};
use super::members::{self, Members};
use super::{Policy, Step};

/// One set for each item of the reference port: with it, of every other port the item nearest in time, at most `max_distance_ns`
/// away (inclusive); of two equally near ones the earlier. A port with none so near is missing.
///
/// An item of another port can be in several sets, unless items are *consumed*: then it and all before it are gone once it was in one.
#[derive(Debug)]
pub struct Nearest<T> {
    reference: usize,
    max_distance_ns: Option<u64>,
    consume: bool,
    members: Vec<Option<Held<T>>>,
    /// Of each port: where in its queue the nearest is.
    chosen: Vec<Option<usize>>,
    frontier_ns: i64,
}

impl<T: Clone> Nearest<T> {
    /// Sets of each item of the port `reference` with the nearest others; `None`: however far away, unless a port has a
    /// [`tolerance_ns`](super::PortConfig::tolerance_ns) of its own.
    pub fn new(reference: usize, max_distance_ns: Option<u64>) -> Self {
        Self {
            reference,
            max_distance_ns,
            consume: false,
            members: Vec::new(),
            chosen: Vec::new(),
            frontier_ns: i64::MIN,
        }
    }

    /// Uses each item once at most.
    #[must_use]
    pub fn consuming(self) -> Self {
        Self { consume: true, ..self }
    }

    /// Finds the nearest to `moment_ns` on a port; returns whether that is final.
    #[inline]
    fn choose(&mut self, inputs: &mut Inputs<T>, port: usize, moment_ns: i64) -> bool {
        inputs.forget_before(port, moment_ns);
        let held = &inputs.ports[port].held;
        let distance_ns = |index: usize| held.get(index).map(|held| held.stamp_ns.abs_diff(moment_ns));
        let best = match (distance_ns(0), distance_ns(1)) {
            (Some(first), Some(second)) if second < first => Some((1, second)),
            (first, _) => first.map(|first| (0, first)),
        };
        let max_distance_ns = inputs.ports[port].config.tolerance_ns.or(self.max_distance_ns);
        let best = best.filter(|(_, distance_ns)| max_distance_ns.is_none_or(|max| *distance_ns <= max));
        self.chosen[port] = best.map(|(index, _)| index);
        let horizon_ns = inputs.ports[port].horizon_ns();
        match best {
            Some((_, distance_ns)) => horizon_ns >= moment_ns.saturating_add_unsigned(distance_ns),
            None => {
                horizon_ns == INFINITE_NS
                    || max_distance_ns.is_some_and(|max| horizon_ns > moment_ns.saturating_add_unsigned(max))
            }
        }
    }

    fn emit(&mut self, inputs: &mut Inputs<T>) {
        for port in 0..inputs.len() {
            let Some(index) = self.chosen[port] else { continue };
            if port == self.reference {
                self.members[port] = inputs.pop_front(port);
            } else if self.consume {
                for _ in 0..index {
                    inputs.drop_front(port, Reason::Unmatched);
                }
                let held = inputs.pop_front(port);
                if let Some(held) = &held {
                    // A second one with this stamp would be taken for a new one.
                    inputs.ports[port].raise_bound(held.stamp_ns.saturating_add(1));
                }
                self.members[port] = held;
            } else if let Some(held) = inputs.ports[port].held.get_mut(index) {
                held.used = true;
                self.members[port] = Some(held.clone());
            }
        }
    }
}

impl<T: Clone> Policy<T> for Nearest<T> {
    type Set<'a>
        = Members<'a, T>
    where
        T: 'a;

    fn step(&mut self, inputs: &mut Inputs<T>) -> Step {
        members::clear(&mut self.members, inputs.len());
        self.chosen.resize(inputs.len(), None);
        loop {
            let reference = &inputs.ports[self.reference];
            let Some(moment_ns) = reference.head_ns() else {
                if reference.ended {
                    inputs.drop_all();
                    return Step::Done;
                }
                return Step::Idle(forget_behind(inputs, self.reference));
            };
            let mut blocking = PortSet::EMPTY;
            for port in 0..inputs.len() {
                if port == self.reference {
                    self.chosen[port] = Some(0);
                } else if !self.choose(inputs, port, moment_ns) {
                    blocking.insert(port);
                }
            }
            if !blocking.is_empty() {
                return Step::Waiting(blocking);
            }
            self.frontier_ns = moment_ns;
            let refused = !inputs.inactive.is_empty()
                && (0..inputs.len()).any(|port| self.chosen[port].is_none() && inputs.refuses_without(port));
            if !refused {
                self.emit(inputs);
                return Step::Set;
            }
            inputs.drop_front(self.reference, Reason::Timeout);
        }
    }

    fn set<'a>(&'a mut self, inputs: &'a Inputs<T>) -> Members<'a, T> {
        Members { members: &mut self.members, degraded: !inputs.inactive.is_empty() }
    }

    fn frontier_ns(&self) -> i64 {
        self.frontier_ns
    }

    fn come_to_ns(&self, inputs: &Inputs<T>) -> i64 {
        inputs.come_to_on_ns(self.reference, self.frontier_ns)
    }

    fn reset(&mut self) {
        self.members.clear();
        self.frontier_ns = i64::MIN;
    }
}

/// While the reference port has nothing: drops what no later item of it can use, and says whose movement matters.
pub(super) fn forget_behind<T>(inputs: &mut Inputs<T>, reference: usize) -> PortSet {
    let bound_ns = inputs.ports[reference].bound_ns;
    let mut behind = PortSet::one(reference);
    for port in (0..inputs.len()).filter(|port| *port != reference) {
        inputs.forget_before(port, bound_ns);
        if inputs.ports[port].bound_ns <= bound_ns {
            behind.insert(port);
        }
    }
    behind
}
