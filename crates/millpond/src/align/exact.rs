//! Items whose stamps are equal within a tolerance.

use super::inputs::{Held, Inputs, PortSet, Reason};
use super::members::{self, Members};
use super::{Policy, Step};

/// A set has one item of each port, and its latest stamp is at most `tolerance_ns` after its earliest.
///
/// If the earliest items of all ports fit, they are a set; else the earliest of them fits nothing and is dropped. That greedy rule
/// yields the largest possible number of sets. An item need not wait for an empty port whose bound says that nothing will fit.
#[derive(Debug)]
pub struct Exact<T> {
    tolerance_ns: u64,
    members: Vec<Option<Held<T>>>,
    frontier_ns: i64,
}

impl<T> Exact<T> {
    /// Sets that span at most `tolerance_ns`; 0 means equal stamps.
    pub fn new(tolerance_ns: u64) -> Self {
        Self { tolerance_ns, members: Vec::new(), frontier_ns: i64::MIN }
    }
}

impl<T> Policy<T> for Exact<T> {
    type Set<'a>
        = Members<'a, T>
    where
        T: 'a;

    fn step(&mut self, inputs: &mut Inputs<T>) -> Step {
        members::clear(&mut self.members, inputs.len());
        loop {
            let mut earliest: Option<(i64, usize)> = None;
            // Every required port will have at least this in its next set.
            let mut required_ns = i64::MIN;
            let mut empty = PortSet::EMPTY;
            for (index, port) in inputs.ports.iter().enumerate() {
                let limit_ns = match port.head_ns() {
                    Some(head_ns) => {
                        if earliest.is_none_or(|(earliest_ns, _)| head_ns < earliest_ns) {
                            earliest = Some((head_ns, index));
                        }
                        head_ns
                    }
                    None if port.ended && !port.config.optional => {
                        inputs.drop_all();
                        return Step::Done;
                    }
                    None if port.ended || port.inactive => continue,
                    None => {
                        empty.insert(index);
                        port.bound_ns
                    }
                };
                if !port.config.optional {
                    required_ns = required_ns.max(limit_ns);
                }
            }
            let Some((earliest_ns, earliest_port)) = earliest else { return Step::Idle(empty) };
            let last_ns = earliest_ns.saturating_add_unsigned(self.tolerance_ns);
            if required_ns > last_ns {
                inputs.drop_front(earliest_port, Reason::Unmatched);
                continue;
            }
            let mut blocking = PortSet::EMPTY;
            for index in empty.iter() {
                if inputs.ports[index].bound_ns <= last_ns {
                    blocking.insert(index);
                }
            }
            if !blocking.is_empty() {
                return Step::Waiting(blocking);
            }
            self.frontier_ns = self.frontier_ns.max(earliest_ns);
            let fits = |inputs: &Inputs<T>, port: usize| {
                inputs.ports[port].head_ns().is_some_and(|head_ns| head_ns <= last_ns)
            };
            let refused = !inputs.inactive.is_empty()
                && (0..inputs.len()).any(|port| inputs.refuses_without(port) && !fits(inputs, port));
            for port in 0..inputs.len() {
                if fits(inputs, port) {
                    if refused {
                        inputs.drop_front(port, Reason::Timeout);
                    } else if let Some(held) = inputs.pop_front(port) {
                        self.frontier_ns = self.frontier_ns.max(held.stamp_ns);
                        self.members[port] = Some(held);
                    }
                }
            }
            if !refused {
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

    fn reset(&mut self) {
        self.members.clear();
        self.frontier_ns = i64::MIN;
    }
}
