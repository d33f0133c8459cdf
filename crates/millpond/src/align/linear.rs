//! The values of several ports at one moment, between their neighbours in time.

use millpond_shm::sample_to_ns;

use super::inputs::{Held, INFINITE_NS, Inputs, PortSet, Reason};
use super::nearest::forget_behind;
use super::{Policy, Step};

/// For each moment a row: of every port the item of exactly that moment, or the two around it to interpolate between.
///
/// The moments are the stamps of a reference port, or the points of a [`Grid`]. Nothing is extrapolated: before a port's first and
/// after its last item it is missing, and so it is between two items more than `max_gap_ns` apart.
#[derive(Debug)]
pub struct Linear<T> {
    moments: Moments<T>,
    max_gap_ns: Option<u64>,
    moment_ns: i64,
    found: Vec<Found>,
    frontier_ns: i64,
}

/// Moments at a constant rate: `origin_ns + floor((2 * i * rate_den * 10^9 + rate_num) / (2 * rate_num))` for every integer `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// One of the moments.
    pub origin_ns: i64,
    /// Numerator of the rate in Hz.
    pub rate_num: u32,
    /// Denominator of the rate in Hz.
    pub rate_den: u32,
}

impl Grid {
    /// Moment number `index`; `None` if it does not fit into an `i64`.
    pub fn moment_ns(self, index: i64) -> Option<i64> {
        sample_to_ns(index, self.rate_num, self.rate_den)?.checked_add(self.origin_ns)
    }

    /// Number of the first moment at `ns` or later.
    fn first_from(self, ns: i64) -> Option<i64> {
        let since = i128::from(ns) - i128::from(self.origin_ns);
        let (num, period) = (i128::from(self.rate_num), i128::from(self.rate_den) * 1_000_000_000);
        let before = i64::try_from((since * num).div_euclid(period)).ok()?;
        // Moments are rounded, so it is one of the two or three next to the exact quotient.
        (before.saturating_sub(1)..=before.saturating_add(1))
            .find(|index| self.moment_ns(*index).is_some_and(|moment| moment >= ns))
    }
}

#[derive(Debug)]
enum Moments<T> {
    Reference { port: usize, current: Option<Held<T>> },
    Grid { grid: Grid, next: Option<i64> },
}

#[derive(Clone, Copy, Debug)]
enum Found {
    Missing,
    /// The first item of the queue has the moment's stamp.
    Exact,
    /// The first and the second item of the queue are around the moment.
    Between,
    /// The port is the reference.
    Reference,
}

impl<T> Linear<T> {
    /// A row for each item of the port `reference`.
    ///
    /// `max_gap_ns`: the largest distance of two items between which a value exists; `None`: any. A port's own
    /// [`tolerance_ns`](super::PortConfig::tolerance_ns) goes before it.
    pub fn onto_reference(reference: usize, max_gap_ns: Option<u64>) -> Self {
        Self::new(Moments::Reference { port: reference, current: None }, max_gap_ns)
    }

    /// A row for each moment of a grid, from the first item of any port to the last.
    ///
    /// # Panics
    /// If the rate is 0.
    pub fn onto_grid(grid: Grid, max_gap_ns: Option<u64>) -> Self {
        assert!(grid.rate_num > 0 && grid.rate_den > 0, "the rate of a grid must be positive");
        Self::new(Moments::Grid { grid, next: None }, max_gap_ns)
    }

    fn new(moments: Moments<T>, max_gap_ns: Option<u64>) -> Self {
        Self { moments, max_gap_ns, moment_ns: i64::MIN, found: Vec::new(), frontier_ns: i64::MIN }
    }

    /// Looks for the neighbours of the moment on a port; returns whether they are final.
    #[inline]
    fn look(&mut self, inputs: &mut Inputs<T>, port: usize) -> bool {
        let moment_ns = self.moment_ns;
        inputs.forget_before(port, moment_ns);
        let stamp_ns = |index: usize| inputs.ports[port].held.get(index).map(|held| held.stamp_ns);
        let horizon_ns = inputs.ports[port].horizon_ns();
        let gap_end_ns = |before_ns: i64| match inputs.ports[port].config.tolerance_ns.or(self.max_gap_ns) {
            Some(gap) => before_ns.saturating_add_unsigned(gap),
            None => INFINITE_NS,
        };
        let is_over = horizon_ns == INFINITE_NS;
        let (found, is_final) = match (stamp_ns(0), stamp_ns(1)) {
            (Some(first), _) if first == moment_ns => (Found::Exact, true),
            // None before the moment.
            (first, _) if first.is_none_or(|first| first > moment_ns) => {
                (Found::Missing, is_over || horizon_ns > moment_ns)
            }
            (Some(before), Some(after)) if after <= gap_end_ns(before) => {
                (Found::Between, is_over || horizon_ns >= after)
            }
            (Some(before), _) => {
                (Found::Missing, is_over || horizon_ns > moment_ns && horizon_ns > gap_end_ns(before))
            }
            (None, _) => (Found::Missing, is_over),
        };
        self.found[port] = found;
        is_final
    }

    /// Moves to the next moment, if it has come.
    fn next_moment(&mut self, inputs: &mut Inputs<T>) -> Result<i64, Step> {
        match &mut self.moments {
            Moments::Reference { port, .. } => match inputs.ports[*port].head_ns() {
                Some(moment_ns) => Ok(moment_ns),
                None if inputs.ports[*port].ended => Err(Step::Done),
                None => Err(Step::Idle(forget_behind(inputs, *port))),
            },
            Moments::Grid { grid, next } => {
                if next.is_none() {
                    *next = Some(first_of_grid(*grid, inputs)?);
                }
                let moment_ns = next.and_then(|index| grid.moment_ns(index)).ok_or(Step::Done)?;
                let reaches = inputs.ports.iter().any(|port| {
                    port.span_ns.is_some_and(|(_, newest_ns)| newest_ns >= moment_ns)
                        || !port.ended && port.bound_ns > moment_ns
                });
                match reaches {
                    true => Ok(moment_ns),
                    false if inputs.ports.iter().all(|port| port.ended) => Err(Step::Done),
                    false => Err(Step::Idle(inputs.all())),
                }
            }
        }
    }

    fn finish_moment(&mut self, inputs: &mut Inputs<T>, refused: bool) {
        self.frontier_ns = self.moment_ns;
        match &mut self.moments {
            Moments::Reference { port, .. } if refused => {
                inputs.drop_front(*port, Reason::Timeout);
            }
            Moments::Reference { port, current } => *current = inputs.pop_front(*port),
            Moments::Grid { next, .. } => *next = next.and_then(|index| index.checked_add(1)),
        }
        if !refused {
            for (port, found) in inputs.ports.iter_mut().zip(&self.found) {
                let neighbours = match found {
                    Found::Missing | Found::Reference => 0,
                    Found::Exact => 1,
                    Found::Between => 2,
                };
                port.held.iter_mut().take(neighbours).for_each(|held| held.used = true);
            }
        }
    }
}

/// The first moment that is not before the first item of any port, once that is known.
fn first_of_grid<T>(grid: Grid, inputs: &Inputs<T>) -> Result<i64, Step> {
    let Some(first_ns) = inputs.ports.iter().filter_map(super::inputs::Port::head_ns).min() else {
        let nothing_will_come = inputs.ports.iter().all(|port| port.ended);
        return Err(if nothing_will_come { Step::Done } else { Step::Idle(inputs.all()) });
    };
    let mut blocking = PortSet::EMPTY;
    for (index, port) in inputs.ports.iter().enumerate() {
        if port.head_ns().is_none() && port.horizon_ns() <= first_ns {
            blocking.insert(index);
        }
    }
    if !blocking.is_empty() {
        return Err(Step::Waiting(blocking));
    }
    grid.first_from(first_ns).ok_or(Step::Done)
}

impl<T> Policy<T> for Linear<T> {
    type Set<'a>
        = Row<'a, T>
    where
        T: 'a;

    fn step(&mut self, inputs: &mut Inputs<T>) -> Step {
        self.found.resize(inputs.len(), Found::Missing);
        if let Moments::Reference { current, .. } = &mut self.moments {
            *current = None;
        }
        loop {
            self.moment_ns = match self.next_moment(inputs) {
                Ok(moment_ns) => moment_ns,
                Err(step) => {
                    if step == Step::Done {
                        inputs.drop_all();
                    }
                    return step;
                }
            };
            let reference = match self.moments {
                Moments::Reference { port, .. } => Some(port),
                Moments::Grid { .. } => None,
            };
            let mut blocking = PortSet::EMPTY;
            for port in 0..inputs.len() {
                if reference == Some(port) {
                    self.found[port] = Found::Reference;
                } else if !self.look(inputs, port) {
                    blocking.insert(port);
                }
            }
            if !blocking.is_empty() {
                return Step::Waiting(blocking);
            }
            let refused = !inputs.inactive.is_empty()
                && (0..inputs.len())
                    .any(|port| matches!(self.found[port], Found::Missing) && inputs.refuses_without(port));
            self.finish_moment(inputs, refused);
            if !refused {
                return Step::Set;
            }
        }
    }

    fn set<'a>(&'a mut self, inputs: &'a Inputs<T>) -> Row<'a, T> {
        Row { policy: self, inputs }
    }

    fn frontier_ns(&self) -> i64 {
        self.frontier_ns
    }

    fn come_to_ns(&self, inputs: &Inputs<T>) -> i64 {
        match &self.moments {
            Moments::Reference { port, .. } => inputs.come_to_on_ns(*port, self.frontier_ns),
            Moments::Grid { grid, next: Some(index) } => grid.moment_ns(*index).unwrap_or(INFINITE_NS),
            // The first moment is not before any item.
            Moments::Grid { next: None, .. } => inputs.come_to_ns(self.frontier_ns),
        }
    }

    fn reset(&mut self) {
        match &mut self.moments {
            Moments::Reference { current, .. } => *current = None,
            Moments::Grid { next, .. } => *next = None,
        }
        self.frontier_ns = i64::MIN;
    }
}

/// All ports at one moment.
pub struct Row<'a, T> {
    policy: &'a Linear<T>,
    inputs: &'a Inputs<T>,
}

/// What a port has at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Neighbours<'a, T> {
    /// Nothing to make a value of.
    Missing,
    /// An item of exactly this moment.
    Exact(&'a T),
    /// An item before and one after the moment.
    Between {
        /// The item before.
        before: &'a T,
        /// The item after.
        after: &'a T,
        /// From `before` to the moment.
        offset_ns: u64,
        /// From `before` to `after`.
        gap_ns: u64,
    },
}

impl<'a, T> Row<'a, T> {
    /// How many ports there are.
    #[allow(clippy::len_without_is_empty)] // There is at least one port.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// The moment.
    pub fn stamp_ns(&self) -> i64 {
        self.policy.moment_ns
    }

    /// What a port has at the moment.
    #[inline]
    pub fn neighbours(&self, port: usize) -> Neighbours<'a, T> {
        let held = &self.inputs.ports[port].held;
        match (self.policy.found[port], held.front(), held.get(1)) {
            (Found::Exact, Some(first), _) => Neighbours::Exact(&first.item),
            (Found::Between, Some(before), Some(after)) => Neighbours::Between {
                before: &before.item,
                after: &after.item,
                offset_ns: self.policy.moment_ns.abs_diff(before.stamp_ns),
                gap_ns: after.stamp_ns.abs_diff(before.stamp_ns),
            },
            (Found::Reference, ..) => match &self.policy.moments {
                Moments::Reference { current: Some(held), .. } => Neighbours::Exact(&held.item),
                _ => Neighbours::Missing,
            },
            _ => Neighbours::Missing,
        }
    }

    /// It was made while some port was not waited for any more.
    pub fn is_degraded(&self) -> bool {
        !self.inputs.inactive.is_empty()
    }
}

/// The value `offset_ns` after `before` on the straight line to `after`, which is `gap_ns` after `before`: the quotient of the two
/// integers is the only rounding before the products.
#[inline]
pub fn interpolate(before: f64, after: f64, offset_ns: u64, gap_ns: u64) -> f64 {
    let weight = offset_ns as f64 / gap_ns as f64;
    let difference = after - before;
    // Neighbours so far apart that their difference is no number.
    if difference.is_infinite() {
        return before * (1.0 - weight) + after * weight;
    }
    before + difference * weight
}
