//! What the ports of an aligner hold: ordered by stamp, without duplicates, with the bound of each port.

use std::collections::VecDeque;
use std::fmt;

/// The bound of a port from which nothing will come.
pub(super) const INFINITE_NS: i64 = i64::MAX;

/// How one port takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// By how much an item may be earlier than the newest one before it.
    pub disorder_ns: u64,
    /// Items held at most.
    pub depth: usize,
    /// How long this port may keep the others waiting; `None`: for ever.
    pub timeout_ns: Option<u64>,
    /// Sets are made without this port when it has nothing that fits.
    pub optional: bool,
    /// How far this port's items may be off, in the place of what the policy says for all: `Exact`: by how much an item may be earlier
    /// than the latest of its set; `Nearest`: the distance from the reference; `Linear`: the gap between two items. Nothing for others.
    pub tolerance_ns: Option<u64>,
}

impl Default for PortConfig {
    /// In order, 256 items, no timeout, required, the tolerance of the policy.
    fn default() -> Self {
        Self { disorder_ns: 0, depth: 256, timeout_ns: None, optional: false, tolerance_ns: None }
    }
}

/// Why an item did not become part of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It was below its port's bound when it came.
    Late,
    /// An item with the same stamp is held on the same port.
    Duplicate,
    /// Nothing on the other ports fits.
    Unmatched,
    /// Its port was full.
    Overflow,
    /// What it belongs to did not come in time.
    Timeout,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 5] =
        [Reason::Late, Reason::Duplicate, Reason::Unmatched, Reason::Overflow, Reason::Timeout];

    /// Its name, as in statistics: `late`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Late => "late",
            Reason::Duplicate => "duplicate",
            Reason::Unmatched => "unmatched",
            Reason::Overflow => "overflow",
            Reason::Timeout => "timeout",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What has happened on one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Items that came.
    pub received: u64,
    /// Items that were late, those included that a window still took.
    pub late: u64,
    /// The most items that were held at one time.
    pub peak_depth: usize,
    dropped: [u64; Reason::ALL.len()],
}

impl Counters {
    /// Items that did not become part of a set, for this reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped[reason as usize]
    }
}

/// A set of ports, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortSet(u64);

impl PortSet {
    /// Ports are numbered from 0 to 63.
    pub const MAX_PORTS: usize = 64;

    /// No port.
    pub const EMPTY: PortSet = PortSet(0);

    pub(super) fn all(ports: usize) -> PortSet {
        PortSet(u64::MAX >> (PortSet::MAX_PORTS - ports))
    }

    pub(super) fn one(port: usize) -> PortSet {
        PortSet(1 << port)
    }

    pub(super) fn insert(&mut self, port: usize) {
        self.0 |= 1 << port;
    }

    pub(super) fn remove(&mut self, port: usize) {
        self.0 &= !(1 << port);
    }

    /// Whether a port is one of them.
    #[inline]
    pub fn contains(self, port: usize) -> bool {
        self.0 >> port & 1 != 0
    }

    /// There is none.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(super) fn intersection(self, other: PortSet) -> PortSet {
        PortSet(self.0 & other.0)
    }

    /// Their numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..PortSet::MAX_PORTS).filter(move |port| self.contains(*port))
    }
}

/// One item with its stamp.
#[derive(Clone, Debug)]
pub(super) struct Held<T> {
    pub(super) stamp_ns: i64,
    /// It has been part of a set, and stays for the next.
    pub(super) used: bool,
    pub(super) item: T,
}

pub(super) struct Port<T> {
    pub(super) config: PortConfig,
    /// Ascending by stamp.
    pub(super) held: VecDeque<Held<T>>,
    /// Nothing earlier than this will be taken any more. Never goes back.
    pub(super) bound_ns: i64,
    /// First and newest stamp that ever came.
    pub(super) span_ns: Option<(i64, i64)>,
    /// Items that came within that span.
    pub(super) in_span: u64,
    pub(super) ended: bool,
    /// It kept the others waiting for too long, and is not waited for.
    pub(super) inactive: bool,
    pub(super) counters: Counters,
}

impl<T> Port<T> {
    /// Stamp of the earliest item, if that is settled.
    #[inline]
    pub(super) fn head_ns(&self) -> Option<i64> {
        self.settled_ns(0)
    }

    /// Stamp of the item at `index`, if there is one and it is settled.
    #[inline]
    pub(super) fn settled_ns(&self, index: usize) -> Option<i64> {
        let stamp_ns = self.held.get(index)?.stamp_ns;
        (stamp_ns < self.bound_ns || self.bound_ns == INFINITE_NS).then_some(stamp_ns)
    }

    /// The bound that the others have to reckon with: a port that is not waited for has none.
    #[inline]
    pub(super) fn horizon_ns(&self) -> i64 {
        if self.inactive { INFINITE_NS } else { self.bound_ns }
    }

    /// Nothing is held and nothing will come.
    #[inline]
    pub(super) fn is_drained(&self) -> bool {
        self.ended && self.held.is_empty()
    }

    pub(super) fn raise_bound(&mut self, bound_ns: i64) {
        self.bound_ns = self.bound_ns.max(bound_ns);
    }

    /// Moves the bound to where the newest item says, less the disorder.
    #[inline]
    pub(super) fn follow_newest(&mut self) {
        if let Some((_, newest_ns)) = self.span_ns {
            self.raise_bound(newest_ns.saturating_add(1).saturating_sub_unsigned(self.config.disorder_ns));
        }
    }

    fn count_dropped(&mut self, reason: Reason) {
        self.counters.dropped[reason as usize] += 1;
    }
}

/// The ports of an aligner and what they hold.
pub struct Inputs<T> {
    pub(super) ports: Vec<Port<T>>,
    /// The ports that are not waited for.
    pub(super) inactive: PortSet,
    /// Sets that lack a required port because of a timeout are made all the same.
    pub(super) emit_partial: bool,
}

/// What became of an item in [`Inputs::insert`].
pub(super) enum Inserted<T> {
    Held,
    Late(T),
    Duplicate(T),
    Full(T),
}

impl<T> Inputs<T> {
    pub(super) fn new(configs: Vec<PortConfig>, emit_partial: bool) -> Self {
        let port = |config| Port {
            config,
            held: VecDeque::new(),
            bound_ns: i64::MIN,
            span_ns: None,
            in_span: 0,
            ended: false,
            inactive: false,
            counters: Counters::default(),
        };
        Self { ports: configs.into_iter().map(port).collect(), inactive: PortSet::EMPTY, emit_partial }
    }

    pub(super) fn len(&self) -> usize {
        self.ports.len()
    }

    pub(super) fn all(&self) -> PortSet {
        PortSet::all(self.len())
    }

    /// Takes an item in at its place, and moves the port's bound.
    #[inline]
    pub(super) fn insert(&mut self, port: usize, stamp_ns: i64, item: T) -> Inserted<T> {
        let port = &mut self.ports[port];
        let is_newest = port.held.back().is_none_or(|newest| newest.stamp_ns < stamp_ns);
        let index =
            if is_newest { port.held.len() } else { port.held.partition_point(|h| h.stamp_ns < stamp_ns) };
        if !is_newest && port.held[index].stamp_ns == stamp_ns {
            return Inserted::Duplicate(item);
        }
        if stamp_ns < port.bound_ns {
            return Inserted::Late(item);
        }
        if port.held.len() >= port.config.depth {
            return Inserted::Full(item);
        }
        let held = Held { stamp_ns, used: false, item };
        if is_newest {
            port.held.push_back(held)
        } else {
            port.held.insert(index, held)
        }
        port.counters.peak_depth = port.counters.peak_depth.max(port.held.len());
        let (first_ns, newest_ns) = port.span_ns.unwrap_or((stamp_ns, stamp_ns));
        port.span_ns = Some((first_ns.min(stamp_ns), newest_ns.max(stamp_ns)));
        port.in_span += 1;
        port.follow_newest();
        Inserted::Held
    }

    /// No item of a port that may yet be in a set, held or to come, is earlier than this, if all up to `frontier_ns` is decided.
    pub(super) fn come_to_on_ns(&self, port: usize, frontier_ns: i64) -> i64 {
        let port = &self.ports[port];
        // One that was given up takes part again only with what is later.
        let rejoins_ns = if port.inactive { frontier_ns.saturating_add(1) } else { i64::MIN };
        let to_come_ns = port.bound_ns.max(rejoins_ns);
        port.held.front().map_or(to_come_ns, |front| front.stamp_ns.min(to_come_ns))
    }

    /// The same of all ports.
    pub(super) fn come_to_ns(&self, frontier_ns: i64) -> i64 {
        (0..self.len()).map(|port| self.come_to_on_ns(port, frontier_ns)).min().unwrap_or(INFINITE_NS)
    }

    /// Counts an item that is not part of a set.
    pub(super) fn count_dropped(&mut self, port: usize, reason: Reason) {
        self.ports[port].count_dropped(reason);
    }

    /// Takes the earliest item out; it becomes part of a set.
    #[inline]
    pub(super) fn pop_front(&mut self, port: usize) -> Option<Held<T>> {
        self.ports[port].held.pop_front()
    }

    /// Takes the earliest item out. Unless it has been part of a set, it is counted as dropped.
    #[inline]
    pub(super) fn drop_front(&mut self, port: usize, reason: Reason) -> Option<T> {
        let port = &mut self.ports[port];
        let held = port.held.pop_front()?;
        if !held.used {
            port.count_dropped(reason);
        }
        Some(held.item)
    }

    /// Drops items that are not the last one up to `moment_ns`: whatever is asked for from now on is not earlier than that.
    #[inline]
    pub(super) fn forget_before(&mut self, port: usize, moment_ns: i64) {
        while self.ports[port].held.get(1).is_some_and(|second| second.stamp_ns <= moment_ns) {
            self.drop_front(port, Reason::Unmatched);
        }
    }

    /// Drops everything that is held.
    pub(super) fn drop_all(&mut self) {
        for port in 0..self.len() {
            while self.drop_front(port, Reason::Unmatched).is_some() {}
        }
    }

    /// A required port has been given up waiting for, and sets without it are not wanted.
    pub(super) fn refuses_without(&self, port: usize) -> bool {
        let port = &self.ports[port];
        port.inactive && !port.config.optional && !self.emit_partial
    }

    /// Starts anew: as if nothing had ever come, but with the counters as they are.
    pub(super) fn reset(&mut self) {
        self.drop_all();
        self.inactive = PortSet::EMPTY;
        for port in &mut self.ports {
            (port.bound_ns, port.span_ns, port.in_span) = (i64::MIN, None, 0);
            (port.ended, port.inactive) = (false, false);
        }
    }
}
