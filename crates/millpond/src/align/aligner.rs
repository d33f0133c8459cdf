//! The engine around a policy: takes items in, keeps bounds and time, and asks the policy for sets.

use super::inputs::{Counters, Inputs, Inserted, PortConfig, PortSet, Reason};
use super::{Policy, Step};

/// What all ports have in common.
#[derive(Clone, Debug)]
pub struct Config {
    /// One for each port, 64 at most.
    pub ports: Vec<PortConfig>,
    /// What happens to an item that comes to a full port.
    pub overflow: Overflow,
    /// Sets that lack a required port because of a timeout are made all the same; otherwise they are dropped.
    pub emit_partial: bool,
}

impl Config {
    /// `count` ports that are all the same.
    pub fn of(count: usize, port: PortConfig) -> Self {
        Self { ports: vec![port; count], overflow: Overflow::Sync, emit_partial: false }
    }
}

/// What happens to an item that comes to a full port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It is given back: the sender has to wait. Nothing is ever dropped.
    Sync,
    /// The oldest item of the port is dropped for it. No sender ever waits.
    Async,
    /// Like `Sync` until the sender has waited for so long, then like `Async`.
    Hybrid {
        /// How long a sender waits at most.
        deadline_ns: u64,
    },
}

/// What became of an item in [`Aligner::push`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an item may have been given back"]
pub enum Pushed<T> {
    /// It is held.
    Held,
    /// The port is full: push it again when sets have been made.
    Full(T),
    /// It was dropped for this reason, which has been counted; here it is, for whoever wants to see it.
    Dropped(Reason, T),
    /// It is held, and the oldest item was dropped to make room.
    Replaced(T),
    /// It was late, and a window took it all the same.
    TakenLate,
}

impl<T> Pushed<T> {
    /// For tests and examples.
    ///
    /// # Panics
    /// If the item is not held.
    pub fn expect_held(self) {
        let what = match self {
            Pushed::Held => return,
            Pushed::Full(_) => "given back: the port is full".to_owned(),
            Pushed::Dropped(reason, _) => format!("dropped: {reason}"),
            Pushed::Replaced(_) => "held in the place of the oldest".to_owned(),
            Pushed::TakenLate => "taken late".to_owned(),
        };
        panic!("the item was {what}");
    }
}

/// What came of [`Aligner::poll`].
#[derive(Debug)]
pub enum Poll<S> {
    /// A set. There may be more.
    Set(S),
    /// Nothing can be decided before more comes.
    Waiting,
    /// No set will come any more: a port without which there are none has ended.
    Done,
}

/// Why nothing moves: a port is full while the policy waits for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The port that takes no more items.
    pub full: usize,
    /// The ports that have to move first.
    pub waits_for: PortSet,
}

/// Aligns the items of several ports by a policy. See the [module](crate::align).
pub struct Aligner<T, P> {
    pub(super) inputs: Inputs<T>,
    pub(super) policy: P,
    pub(super) overflow: Overflow,
    /// What [`Policy::step`] said last; movements of other ports change nothing.
    waits_for: PortSet,
    /// The policy has to be asked again.
    has_news: bool,
    is_done: bool,
    clock_ns: i64,
    /// Since when the ports waited for have kept a set from being made.
    waiting_since_ns: Option<i64>,
    /// Since when each port has been giving items back.
    full_since_ns: Vec<Option<i64>>,
    sets: u64,
    degraded: u64,
}

impl<T, P: Policy<T>> Aligner<T, P> {
    /// An aligner to which nothing has come.
    ///
    /// # Panics
    /// If there is no port, no required port, more than 64, or one that cannot hold two items.
    pub fn new(policy: P, config: Config) -> Self {
        let ports = &config.ports;
        check(ports);
        let waits_for = PortSet::all(ports.len());
        Self {
            full_since_ns: vec![None; ports.len()],
            inputs: Inputs::new(config.ports, config.emit_partial),
            policy,
            overflow: config.overflow,
            waits_for,
            has_news: true,
            is_done: false,
            clock_ns: i64::MIN,
            waiting_since_ns: None,
            sets: 0,
            degraded: 0,
        }
    }

    /// Changes how ports are treated, from the next decision on; what was decided stays decided. Waiting begins anew, so a timeout counts
    /// from now. A smaller depth drops nothing by itself: the port is full until it holds less, or until the overflow makes
    /// room. A smaller disorder moves the bound at once; a greater one cannot take it back, and holds for what is newer.
    /// A port that was given up waiting for comes back as ever.
    ///
    /// # Panics
    /// As [`new`](Aligner::new), and if the number of ports is another one.
    pub fn reconfigure(&mut self, config: Config) {
        check(&config.ports);
        assert_eq!(config.ports.len(), self.inputs.len(), "an aligner's number of ports stays");
        (self.overflow, self.inputs.emit_partial) = (config.overflow, config.emit_partial);
        for (port, config) in self.inputs.ports.iter_mut().zip(config.ports) {
            port.config = config;
            port.follow_newest();
        }
        self.has_news = true;
    }

    /// Changes the policy's own settings, from the next decision on.
    pub fn change_policy(&mut self, change: impl FnOnce(&mut P)) {
        change(&mut self.policy);
        self.has_news = true;
    }

    /// Takes an item in. [`poll`](Aligner::poll) then says what comes of it.
    ///
    /// # Panics
    /// If there is no such port.
    #[inline]
    pub fn push(&mut self, port: usize, stamp_ns: i64, item: T) -> Pushed<T> {
        let is_retry = self.full_since_ns[port].is_some();
        self.inputs.ports[port].counters.received += u64::from(!is_retry);
        if self.is_done {
            return self.drop(port, Reason::Unmatched, item);
        }
        if self.inputs.inactive.contains(port) {
            let behind_ns = i128::from(self.policy.frontier_ns()) - i128::from(stamp_ns);
            let timeout_ns = self.inputs.ports[port].config.timeout_ns.unwrap_or(0);
            // A stream that is behind by less than its timeout keeps up when it is waited for again; else it never could.
            if behind_ns < i128::from(timeout_ns) {
                self.rejoin(port);
            }
            if behind_ns >= 0 {
                return self.push_late(port, stamp_ns, item);
            }
        }
        match self.inputs.insert(port, stamp_ns, item) {
            Inserted::Held => {
                self.full_since_ns[port] = None;
                self.has_news |= self.waits_for.contains(port);
                Pushed::Held
            }
            Inserted::Duplicate(item) => self.drop(port, Reason::Duplicate, item),
            Inserted::Late(item) => self.push_late(port, stamp_ns, item),
            Inserted::Full(item) => self.push_to_full(port, stamp_ns, item),
        }
    }

    /// What comes too late for the sets to come may still correct one that came.
    fn push_late(&mut self, port: usize, stamp_ns: i64, item: T) -> Pushed<T> {
        self.inputs.ports[port].counters.late += 1;
        match self.policy.take_late(&self.inputs, port, stamp_ns, item) {
            None => {
                self.full_since_ns[port] = None;
                self.has_news = true;
                Pushed::TakenLate
            }
            Some(item) => self.drop(port, Reason::Late, item),
        }
    }

    fn push_to_full(&mut self, port: usize, stamp_ns: i64, item: T) -> Pushed<T> {
        let since_ns = *self.full_since_ns[port].get_or_insert(self.clock_ns);
        let must_wait = match self.overflow {
            Overflow::Sync => true,
            Overflow::Async => false,
            Overflow::Hybrid { deadline_ns } => self.clock_ns.abs_diff(since_ns) < deadline_ns,
        };
        if must_wait {
            // A queue full of items that may not be settled before more come would stay full for ever.
            let input = &mut self.inputs.ports[port];
            if input.head_ns().is_none()
                && let Some(front) = input.held.front()
            {
                let bound_ns = front.stamp_ns.saturating_add(1);
                input.raise_bound(bound_ns);
                self.has_news = true;
            }
            return Pushed::Full(item);
        }
        let mut oldest = self.policy.give_up_oldest(&mut self.inputs, port);
        // More than one only if the depth has become smaller.
        while self.inputs.ports[port].held.len() >= self.inputs.ports[port].config.depth {
            oldest = self.policy.give_up_oldest(&mut self.inputs, port);
        }
        self.has_news = true;
        match (self.inputs.insert(port, stamp_ns, item), oldest) {
            (Inserted::Held, Some(oldest)) => {
                self.full_since_ns[port] = None;
                Pushed::Replaced(oldest)
            }
            (Inserted::Held, None) => Pushed::Held,
            (Inserted::Late(item) | Inserted::Duplicate(item) | Inserted::Full(item), _) => {
                Pushed::Full(item)
            }
        }
    }

    fn drop(&mut self, port: usize, reason: Reason, item: T) -> Pushed<T> {
        self.full_since_ns[port] = None;
        self.inputs.count_dropped(port, reason);
        Pushed::Dropped(reason, item)
    }

    /// Waits for a port again. What has been decided without it stays decided.
    fn rejoin(&mut self, port: usize) {
        let frontier_ns = self.policy.frontier_ns();
        self.inputs.ports[port].inactive = false;
        self.inputs.ports[port].raise_bound(frontier_ns.saturating_add(1).min(i64::MAX - 1));
        self.inputs.inactive.remove(port);
        self.has_news = true;
    }

    /// A port promises that nothing earlier than `bound_ns` will come. A promise can't be taken back.
    pub fn advance(&mut self, port: usize, bound_ns: i64) {
        // What is known already is no sign of life: a timeout goes on.
        if bound_ns <= self.inputs.ports[port].bound_ns {
            return;
        }
        if self.inputs.inactive.contains(port) && bound_ns > self.policy.frontier_ns() {
            self.rejoin(port);
        }
        // Only the end of the stream is infinite.
        self.inputs.ports[port].raise_bound(bound_ns.min(i64::MAX - 1));
        self.has_news |= self.waits_for.contains(port);
    }

    /// Nothing will come on a port any more.
    pub fn end(&mut self, port: usize) {
        let input = &mut self.inputs.ports[port];
        input.raise_bound(i64::MAX);
        input.ended = true;
        self.inputs.ports[port].inactive = false;
        self.inputs.inactive.remove(port);
        self.has_news = true;
    }

    /// Makes the next set, if what has come suffices.
    #[inline]
    pub fn poll(&mut self) -> Poll<P::Set<'_>> {
        if !self.has_news {
            return if self.is_done { Poll::Done } else { Poll::Waiting };
        }
        match self.policy.step(&mut self.inputs) {
            Step::Set => {
                self.sets += 1;
                self.degraded += u64::from(!self.inputs.inactive.is_empty());
                Poll::Set(self.policy.set(&self.inputs))
            }
            step => {
                self.has_news = false;
                (self.waits_for, self.waiting_since_ns) = match step {
                    Step::Waiting(ports) => (ports, Some(self.clock_ns)),
                    Step::Idle(ports) => (ports, None),
                    Step::Set | Step::Done => (PortSet::EMPTY, None),
                };
                self.is_done = step == Step::Done;
                if self.is_done { Poll::Done } else { Poll::Waiting }
            }
        }
    }

    /// Says what time it is on the caller's clock, which never goes back. Ports that have kept the others waiting for longer than their
    /// timeout are given up waiting for; [`poll`](Aligner::poll) then says what comes of it.
    ///
    /// A timeout counts from the last movement of any port that is waited for: while several are, it is none's fault alone.
    pub fn set_clock(&mut self, now_ns: i64) {
        self.clock_ns = self.clock_ns.max(now_ns);
        let Some(since_ns) = self.waiting_since_ns.filter(|_| !self.has_news) else { return };
        for index in self.waits_for.iter() {
            let port = &mut self.inputs.ports[index];
            let deadline_ns = port.config.timeout_ns.map(|timeout| since_ns.saturating_add_unsigned(timeout));
            if deadline_ns.is_some_and(|deadline_ns| deadline_ns <= self.clock_ns) {
                // What was kept for possible predecessors is all there is.
                if let Some((_, newest_ns)) = port.span_ns {
                    port.raise_bound(newest_ns.saturating_add(1));
                }
                port.inactive = true;
                self.inputs.inactive.insert(index);
                self.has_news = true;
            }
        }
    }

    /// When [`set_clock`](Aligner::set_clock) will give up a port, or the overflow mode a full one's oldest item to the next
    /// [`push`](Aligner::push), unless something moves before.
    pub fn deadline_ns(&self) -> Option<i64> {
        let gives_up = self.waiting_since_ns.filter(|_| !self.has_news).and_then(|since_ns| {
            let timeouts = self.waits_for.iter().filter_map(|port| self.inputs.ports[port].config.timeout_ns);
            timeouts.min().map(|timeout_ns| since_ns.saturating_add_unsigned(timeout_ns))
        });
        let Overflow::Hybrid { deadline_ns } = self.overflow else { return gives_up };
        let full_since_ns = self.full_since_ns.iter().flatten().min();
        let makes_room = full_since_ns.map(|since_ns| since_ns.saturating_add_unsigned(deadline_ns));
        gives_up.into_iter().chain(makes_room).min()
    }

    /// Starts a new epoch, when a clock was set back or a log begins anew: what is held is dropped, and stamps may begin anywhere. To
    /// keep what is held, [`end`](Aligner::end) all ports and [`poll`](Aligner::poll) first.
    pub fn reset(&mut self) {
        self.inputs.reset();
        self.policy.reset();
        self.waits_for = self.inputs.all();
        (self.has_news, self.is_done, self.waiting_since_ns) = (true, false, None);
        self.full_since_ns.fill(None);
    }

    /// The full port that waits for others, if nothing can move before they do.
    pub fn stall(&self) -> Option<Stall> {
        let full = self.full_since_ns.iter().position(Option::is_some)?;
        (!self.has_news && !self.waits_for.contains(full))
            .then_some(Stall { full, waits_for: self.waits_for })
    }

    /// The ports that are not waited for, because they kept the others waiting too long.
    pub fn inactive(&self) -> PortSet {
        self.inputs.inactive
    }

    /// How many items a port holds.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn held(&self, port: usize) -> usize {
        self.inputs.ports[port].held.len()
    }

    /// How many more items a port can hold.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn room(&self, port: usize) -> usize {
        let port = &self.inputs.ports[port];
        port.config.depth.saturating_sub(port.held.len())
    }

    /// Nothing earlier than this is taken on a port any more; `i64::MIN` before anything has come, `i64::MAX` after its end.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn bound_ns(&self, port: usize) -> i64 {
        self.inputs.ports[port].bound_ns
    }

    /// How a port is treated.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn port_config(&self, port: usize) -> &PortConfig {
        &self.inputs.ports[port].config
    }

    /// What has happened on a port.
    ///
    /// # Panics
    /// If there is no such port.
    pub fn counters(&self, port: usize) -> &Counters {
        &self.inputs.ports[port].counters
    }

    /// How many sets were made.
    pub fn sets(&self) -> u64 {
        self.sets
    }

    /// How many of them without a port that was inactive.
    pub fn degraded(&self) -> u64 {
        self.degraded
    }

    /// The mean distance of two items on a port since its first or the last [reset](Aligner::reset), once two have come.
    pub fn period_ns(&self, port: usize) -> Option<f64> {
        let port = self.inputs.ports.get(port)?;
        let (first_ns, newest_ns) = port.span_ns?;
        (port.in_span > 1).then(|| newest_ns.abs_diff(first_ns) as f64 / (port.in_span - 1) as f64)
    }

    /// By how much the newest item of a port is behind that of another one; ports that have ended or that are not waited for are none.
    pub fn skew_ns(&self) -> u64 {
        let newest = || {
            let ports = self.inputs.ports.iter().filter(|port| !port.ended && !port.inactive);
            ports.filter_map(|port| port.span_ns).map(|(_, newest_ns)| newest_ns)
        };
        newest().max().zip(newest().min()).map_or(0, |(last_ns, first_ns)| last_ns.abs_diff(first_ns))
    }

    /// After [`Poll::Waiting`]: no set to come is of an earlier moment than this. That of `Nearest` and of `Linear` is the moment of its
    /// reference or of the grid, that of a window its start; those of `Exact` and `Approximate` have no earlier item.
    /// `i64::MIN` if nothing is known, `i64::MAX` if none will come.
    pub fn come_to_ns(&self) -> i64 {
        self.policy.come_to_ns(&self.inputs)
    }
}

fn check(ports: &[PortConfig]) {
    assert!((1..=PortSet::MAX_PORTS).contains(&ports.len()), "an aligner has 1 to 64 ports");
    assert!(ports.iter().any(|port| !port.optional), "at least one port must be required");
    assert!(ports.iter().all(|port| port.depth >= 2), "a port must be able to hold 2 items");
}
