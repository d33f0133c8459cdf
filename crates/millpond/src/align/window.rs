//! Statistics over spans of time.

use std::collections::VecDeque;

use super::inputs::{INFINITE_NS, Inputs, PortSet, Reason};
use super::statistics::Accumulate;
use super::{Policy, Step};

/// Windows `[start, start + size)` with `start = origin + i * slide` for every integer `i`; a set is one window, with what was
/// accumulated from each port and from all together. Windows overlap if `slide < size`, and leave gaps if `slide > size`.
///
/// A window is complete when the smallest bound of all ports has reached its end. For `lateness_ns` of time after that, late items
/// are still added, and the window comes again as a *late pane*. Items are accumulated in the order (stamp, port).
///
/// An aggregate is no join, so no port is required here: one that times out or has ended contributes nothing.
pub struct Window<A> {
    size_ns: i64,
    slide_ns: i64,
    origin_ns: i64,
    lateness_ns: u64,
    emit_empty: bool,
    empty: A,
    /// Windows that are not complete, ascending, only those that have items.
    open: VecDeque<Span<A>>,
    /// Windows that came already but may come again.
    fired: VecDeque<Span<A>>,
    /// Some of those have to come again.
    has_late_news: bool,
    /// The window that has just come.
    current: Option<Span<A>>,
    /// Number of the window after the one that came last.
    next_index: Option<i64>,
    spare: Vec<Span<A>>,
    /// Windows that end up to here are not kept for late items any more.
    given_up_ns: i64,
    frontier_ns: i64,
}

struct Span<A> {
    index: i64,
    /// It came before.
    is_late: bool,
    /// It has items that were not in it when it came.
    has_news: bool,
    /// One for each port, then one for all.
    accumulated: Vec<A>,
}

impl<A> Window<A> {
    /// Windows of `size_ns` that start every `slide_ns`, one of them at `origin_ns`. `empty` is what accumulates, empty.
    ///
    /// # Panics
    /// If size or slide is not positive.
    pub fn new(size_ns: i64, slide_ns: i64, origin_ns: i64, empty: A) -> Self {
        assert!(size_ns > 0 && slide_ns > 0, "size and slide of a window must be positive");
        Self {
            size_ns,
            slide_ns,
            origin_ns,
            lateness_ns: 0,
            emit_empty: false,
            empty,
            open: VecDeque::new(),
            fired: VecDeque::new(),
            has_late_news: false,
            current: None,
            next_index: None,
            spare: Vec::new(),
            given_up_ns: i64::MIN,
            frontier_ns: i64::MIN,
        }
    }

    /// How long after a window's end late items are still added to it.
    #[must_use]
    pub fn lateness_ns(self, lateness_ns: u64) -> Self {
        Self { lateness_ns, ..self }
    }

    /// Changes the lateness of an aligner that has begun; see [`Aligner::change_policy`](super::Aligner::change_policy). A window
    /// that was given up already does not come again.
    pub fn set_lateness_ns(&mut self, lateness_ns: u64) {
        self.lateness_ns = lateness_ns;
    }

    /// Windows without an item between two with items come as well.
    #[must_use]
    pub fn emitting_empty(self) -> Self {
        Self { emit_empty: true, ..self }
    }

    fn start_ns(&self, index: i64) -> i64 {
        let start = i128::from(self.origin_ns) + i128::from(index) * i128::from(self.slide_ns);
        start.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }

    fn end_ns(&self, index: i64) -> i64 {
        self.start_ns(index).saturating_add(self.size_ns)
    }

    /// Numbers of the first and the last window with `stamp_ns` in it; the first is greater than the last if there is none.
    #[inline]
    fn indices(&self, stamp_ns: i64) -> (i64, i64) {
        match stamp_ns.checked_sub(self.origin_ns) {
            Some(since) => (
                since.saturating_sub(self.size_ns).div_euclid(self.slide_ns) + 1,
                since.div_euclid(self.slide_ns),
            ),
            None => {
                let since = i128::from(stamp_ns) - i128::from(self.origin_ns);
                let slide = i128::from(self.slide_ns);
                let saturating = |index: i128| index.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
                (
                    saturating((since - i128::from(self.size_ns)).div_euclid(slide) + 1),
                    saturating(since.div_euclid(slide)),
                )
            }
        }
    }
}

/// All ports that are waited for promise that nothing before this will come.
fn watermark_ns<T>(inputs: &Inputs<T>) -> i64 {
    let waited_for = inputs.ports.iter().filter(|port| !port.inactive).map(|port| port.bound_ns).min();
    waited_for.unwrap_or_else(|| inputs.ports.iter().map(|port| port.bound_ns).max().unwrap_or(INFINITE_NS))
}

impl<A: Clone> Window<A> {
    fn new_span(&mut self, index: i64, ports: usize) -> Span<A> {
        let mut span = self.spare.pop().unwrap_or_else(|| Span {
            index,
            is_late: false,
            has_news: false,
            accumulated: vec![self.empty.clone(); ports + 1],
        });
        (span.index, span.is_late, span.has_news) = (index, false, false);
        span
    }

    /// The open window with this number, made if need be. Mostly one of the last.
    fn open_at(&mut self, index: i64, ports: usize) -> &mut Span<A> {
        let newer = self.open.iter().rev().take_while(|span| span.index > index).count();
        let place = self.open.len() - newer;
        if place > 0 && self.open[place - 1].index == index {
            return &mut self.open[place - 1];
        }
        let span = self.new_span(index, ports);
        self.open.insert(place, span);
        &mut self.open[place]
    }

    fn fire(&mut self, span: Span<A>) -> Step {
        self.next_index = self.next_index.max(Some(span.index.saturating_add(1)));
        self.frontier_ns = self.frontier_ns.max(self.end_ns(span.index).saturating_sub(1));
        self.current = Some(span);
        Step::Set
    }

    /// An empty window that has to come before the one with the number `index`.
    fn empty_before(&mut self, index: i64, ports: usize) -> Option<Span<A>> {
        let next = self.next_index.filter(|next| self.emit_empty && *next < index)?;
        Some(self.new_span(next, ports))
    }
}

impl<A> Window<A> {
    fn recycle<T>(&mut self, mut span: Span<A>)
    where
        A: Accumulate<T>,
    {
        span.accumulated.iter_mut().for_each(A::clear);
        self.spare.push(span);
    }

    /// Keeps the window that came last for late items, and gives up those for which it is too late.
    fn put_away<T>(&mut self, watermark_ns: i64)
    where
        A: Accumulate<T>,
    {
        if let Some(mut span) = self.current.take() {
            (span.is_late, span.has_news) = (true, false);
            let place = self.fired.partition_point(|other| other.index < span.index);
            self.fired.insert(place, span);
        }
        self.given_up_ns = self.given_up_ns.max(watermark_ns.saturating_sub_unsigned(self.lateness_ns));
        while let Some(oldest) = self.fired.front()
            && self.end_ns(oldest.index).saturating_add_unsigned(self.lateness_ns) <= watermark_ns
            && !oldest.has_news
        {
            if let Some(span) = self.fired.pop_front() {
                self.recycle(span);
            }
        }
    }

    fn accumulate<T>(&mut self, inputs: &mut Inputs<T>, port: usize)
    where
        A: Accumulate<T>,
    {
        let Some(held) = inputs.pop_front(port) else { return };
        let (first, last) = self.indices(held.stamp_ns);
        if first > last {
            inputs.count_dropped(port, Reason::Unmatched);
        }
        let ports = inputs.len();
        for index in first..=last {
            let span = self.open_at(index, ports);
            span.accumulated[port].add(held.stamp_ns, port, &held.item);
            span.accumulated[ports].add(held.stamp_ns, port, &held.item);
        }
    }
}

impl<T, A: Accumulate<T>> Policy<T> for Window<A> {
    type Set<'a>
        = Pane<'a, A>
    where
        A: 'a,
        T: 'a;

    fn step(&mut self, inputs: &mut Inputs<T>) -> Step {
        let watermark_ns = watermark_ns(inputs);
        self.put_away(watermark_ns);
        if self.has_late_news {
            let place = self.fired.iter().position(|span| span.has_news);
            if let Some(span) = place.and_then(|place| self.fired.remove(place)) {
                return self.fire(span);
            }
            self.has_late_news = false;
        }
        loop {
            let mut head: Option<(i64, usize)> = None;
            for (index, port) in inputs.ports.iter().enumerate() {
                if let Some(head_ns) = port.head_ns()
                    && head.is_none_or(|(earliest_ns, _)| head_ns < earliest_ns)
                {
                    head = Some((head_ns, index));
                }
            }
            let end_ns = self.open.front().map(|span| self.end_ns(span.index));
            let is_settled = |ns: i64| ns < watermark_ns || watermark_ns == INFINITE_NS;
            // What comes next can only belong to later windows.
            if let Some(end_ns) = end_ns
                && end_ns <= watermark_ns
                && head.is_none_or(|(head_ns, _)| end_ns <= head_ns)
                && let Some(span) = self.open.pop_front()
            {
                if let Some(empty) = self.empty_before(span.index, inputs.len()) {
                    self.open.push_front(span);
                    return self.fire(empty);
                }
                return self.fire(span);
            }
            match head {
                Some((head_ns, port)) if is_settled(head_ns) => self.accumulate(inputs, port),
                _ if inputs.ports.iter().all(|port| port.ended) => return Step::Done,
                _ => {
                    let head_ns = head.map(|(head_ns, _)| head_ns);
                    let Some(next_ns) = end_ns.map(|end_ns| end_ns - 1).into_iter().chain(head_ns).min()
                    else {
                        return Step::Idle(inputs.all());
                    };
                    let mut blocking = PortSet::EMPTY;
                    for (index, port) in inputs.ports.iter().enumerate() {
                        if port.horizon_ns() <= next_ns {
                            blocking.insert(index);
                        }
                    }
                    return Step::Waiting(blocking);
                }
            }
        }
    }

    fn set<'a>(&'a mut self, inputs: &'a Inputs<T>) -> Pane<'a, A> {
        let span = self.current.as_ref();
        let index = span.map_or(0, |span| span.index);
        Pane {
            start_ns: self.start_ns(index),
            end_ns: self.end_ns(index),
            accumulated: span.map_or(&[], |span| &span.accumulated),
            is_late: span.is_some_and(|span| span.is_late),
            degraded: !inputs.inactive.is_empty(),
        }
    }

    fn frontier_ns(&self) -> i64 {
        self.frontier_ns
    }

    fn come_to_ns(&self, inputs: &Inputs<T>) -> i64 {
        let settled_ns = inputs.come_to_ns(self.frontier_ns).saturating_sub_unsigned(self.lateness_ns);
        if settled_ns == i64::MIN || settled_ns == INFINITE_NS {
            return settled_ns;
        }
        let (first, _) = self.indices(settled_ns);
        // Empty windows come with the next that is not.
        let first_empty = self.next_index.filter(|_| self.emit_empty);
        self.start_ns(first_empty.map_or(first, |index| index.min(first)))
    }

    fn take_late(&mut self, inputs: &Inputs<T>, port: usize, stamp_ns: i64, item: T) -> Option<T> {
        let watermark_ns = watermark_ns(inputs);
        let (first, last) = self.indices(stamp_ns);
        let ports = inputs.len();
        let mut taken = false;
        for index in first..=last {
            let end_ns = self.end_ns(index);
            let is_over = end_ns.saturating_add_unsigned(self.lateness_ns) <= watermark_ns;
            if self.lateness_ns == 0 || is_over || end_ns <= self.given_up_ns {
                continue;
            }
            taken = true;
            // A window may be complete without having come yet.
            let is_open = end_ns > watermark_ns || self.open.iter().any(|span| span.index == index);
            let span = if is_open {
                self.open_at(index, ports)
            } else {
                let place = self.fired.partition_point(|span| span.index < index);
                if self.fired.get(place).is_none_or(|span| span.index != index) {
                    let span = self.new_span(index, ports);
                    self.fired.insert(place, span);
                }
                self.has_late_news = true;
                let span = &mut self.fired[place];
                (span.is_late, span.has_news) = (true, true);
                span
            };
            span.accumulated[port].add(stamp_ns, port, &item);
            span.accumulated[ports].add(stamp_ns, port, &item);
        }
        (!taken).then_some(item)
    }

    fn reset(&mut self) {
        self.open.clear();
        self.fired.clear();
        (self.current, self.next_index) = (None, None);
        (self.given_up_ns, self.frontier_ns) = (i64::MIN, i64::MIN);
    }
}

/// One window.
#[derive(Debug)]
pub struct Pane<'a, A> {
    start_ns: i64,
    end_ns: i64,
    accumulated: &'a [A],
    is_late: bool,
    degraded: bool,
}

impl<'a, A> Pane<'a, A> {
    /// Where the window begins.
    pub fn start_ns(&self) -> i64 {
        self.start_ns
    }

    /// The first moment that no longer belongs to the window.
    pub fn end_ns(&self) -> i64 {
        self.end_ns
    }

    /// What was accumulated from one port.
    pub fn port(&self, port: usize) -> Option<&'a A> {
        let (_, ports) = self.accumulated.split_last()?;
        ports.get(port)
    }

    /// What was accumulated from all ports.
    pub fn all(&self) -> Option<&'a A> {
        self.accumulated.last()
    }

    /// The window came before, with fewer items.
    pub fn is_late(&self) -> bool {
        self.is_late
    }

    /// It was made while some port was not waited for any more.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }
}
