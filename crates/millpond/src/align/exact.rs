//! Items whose stamps are equal within a tolerance.

use super::inputs::{Held, Inputs, PortConfig, PortSet, Reason};
use super::members::{self, Members};
use super::{Policy, Step};

/// A set has one item of each port, and none of them is earlier than the latest by more than `tolerance_ns`, or by its port's own
/// [`tolerance_ns`](super::PortConfig::tolerance_ns).
///
/// So each item fits from its stamp on for its tolerance. If the first items of all ports fit one another, they are a set; else the one
/// whose time ends first fits nothing and is dropped. That greedy rule yields the largest possible number of sets: stamps and ends
/// of a port rise together. An item need not wait for an empty port whose bound says that nothing will fit.
#[derive(Debug)]
pub struct Exact<T> {
    tolerance_ns: u64,
    members: Vec<Option<Held<T>>>,
    frontier_ns: i64,
}

impl<T> Exact<T> {
    /// Sets that span at most `tolerance_ns`, unless ports have their own; 0 means equal stamps.
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
            // The item that fits for the shortest time from now on: its end, its port, its stamp.
            let mut first: Option<(i64, usize, i64)> = None;
            // Every required port will have at least this in its next set.
            let mut required_ns = i64::MIN;
            let mut empty = PortSet::EMPTY;
            for (index, port) in inputs.ports.iter().enumerate() {
                let limit_ns = match port.head_ns() {
                    Some(head_ns) => {
                        let tolerance_ns = port.config.tolerance_ns.unwrap_or(self.tolerance_ns);
                        let end_ns = head_ns.saturating_add_unsigned(tolerance_ns);
                        if first.is_none_or(|(first_ns, ..)| end_ns < first_ns) {
                            first = Some((end_ns, index, head_ns));
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
            let Some((last_ns, first_port, first_ns)) = first else { return Step::Idle(empty) };
            if required_ns > last_ns {
                inputs.drop_front(first_port, Reason::Unmatched);
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
            self.frontier_ns = self.frontier_ns.max(first_ns);
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

    fn tolerance_ns(&self, port: &PortConfig) -> Option<u64> {
        Some(port.tolerance_ns.unwrap_or(self.tolerance_ns))
    }

    fn reset(&mut self) {
        self.members.clear();
        self.frontier_ns = i64::MIN;
    }
}
