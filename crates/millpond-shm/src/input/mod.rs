//! The receiving end: takes buffers from the lanes of an input port's queue.

mod error;
mod lane;

pub use error::ReceiveError;
use lane::Lane;

use crate::attachment::{Belonging, Session};
use crate::buffer::Buffer;
use crate::following::{Following, NAP};
use crate::lane::Taken;
use crate::layout::PortRecord;
use crate::ports::{LaneEnd, StreamFormat};
use crate::registry::port_name;
use crate::registry_lock::STREAM_PATIENCE;
use crate::sync::Ordering;
use crate::timestamp::Timestamp;
use crate::token::REDELIVERED;
use crate::waiter::{Waiter, Woken};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Looks before a wait: as many as a wait makes between two looks at the clock.
const LOOKS: u32 = 64;

/// The receiving end of an input port. Competing consumers open one each.
pub struct Input {
    session: Arc<Session>,
    port: &'static PortRecord,
    port_index: u32,
    /// Which of the port's consumers this is.
    consumer: usize,
    following: Following,
    lanes: Vec<Lane>,
    /// The lane to look at first: they take turns.
    turn: usize,
    /// One connection, exclusive, without redelivery, sound: the case whose receiving is small enough to be inlined.
    simple: bool,
    redeliver: bool,
    /// Somebody asks for the streams' bounds: a new one is news.
    follows_bounds: bool,
    waiter: Waiter,
    /// How often a call that waits looks before it does so.
    looks: u32,
    /// Why the last call gave no buffer; see `take_simply` for why it is not simply returned.
    error: Option<ReceiveError>,
}

impl Input {
    /// The caller has taken place `consumer` of the port in the registry.
    pub(crate) fn new(
        session: &Arc<Session>,
        port_index: u32,
        port: &'static PortRecord,
        consumer: usize,
        redeliver: bool,
        waiter: Waiter,
    ) -> Input {
        Input {
            session: Arc::clone(session),
            port,
            port_index,
            consumer,
            following: Following::new(port),
            lanes: Vec::new(),
            turn: 0,
            simple: false,
            redeliver,
            follows_bounds: false,
            looks: if waiter.may_spin() { LOOKS } else { 0 },
            waiter,
            error: None,
        }
    }

    /// Takes the next buffer, waiting for it. Connections take turns; each keeps its order.
    ///
    /// # Errors
    /// [`ReceiveError::EndOfStream`], [`ReceiveError::SenderDied`], [`ReceiveError::Stopped`]; never `Empty` or `NotConnected`.
    ///
    /// # Crash safety
    /// Killed before this returns, the buffer stays queued (competing consumers: it may be lost). Killed afterwards, it is given
    /// back and counted as lost in hand, or delivered again if the port redelivers.
    #[inline(always)]
    pub fn receive(&mut self) -> Result<Buffer, ReceiveError> {
        match self.take_soon().or_else(|| self.take_waiting(None)) {
            Some(buffer) => Ok(buffer),
            None => Err(self.last_error()),
        }
    }

    /// As [`receive`](Self::receive), waiting at most `timeout`.
    ///
    /// # Errors
    /// As `receive`; [`ReceiveError::Timeout`] after that time.
    #[inline(always)]
    pub fn receive_timeout(&mut self, timeout: Duration) -> Result<Buffer, ReceiveError> {
        match self.take_soon().or_else(|| self.take_waiting(Some(timeout))) {
            Some(buffer) => Ok(buffer),
            None => Err(self.last_error()),
        }
    }

    /// As [`receive`](Self::receive), without waiting.
    ///
    /// # Errors
    /// As `receive`, and [`ReceiveError::Empty`] or [`ReceiveError::NotConnected`].
    #[inline(always)]
    pub fn try_receive(&mut self) -> Result<Buffer, ReceiveError> {
        match self.take_simply().or_else(|| self.take_any()) {
            Some(buffer) => Ok(buffer),
            None => Err(self.last_error()),
        }
    }

    /// What is there, or comes while a party that may spin would only have begun to: without the way through waiting and back, which is a
    /// tenth of what a hand-over takes between cores that are near.
    #[inline(always)]
    fn take_soon(&mut self) -> Option<Buffer> {
        for _ in 0..self.looks {
            if let Some(buffer) = self.take_simply() {
                return Some(buffer);
            }
            std::hint::spin_loop();
        }
        self.take_simply()
    }

    /// The usual case, kept apart so that its result stays in registers: one that is copied through memory right after it was
    /// written waits until the stores before it have left the store buffer, and one of those waits for the other core.
    #[inline(always)]
    fn take_simply(&mut self) -> Option<Buffer> {
        let pond = self.session.attachment();
        if !self.simple || pond.is_forked() || !self.following.is_current(self.port) {
            return None;
        }
        let lane = self.lanes.first_mut()?;
        let position = lane.next;
        // An empty or corrupt lane is looked at again by the slow path.
        let Taken::Entry { cell, .. } = lane.end.lane.claim_exclusive(&pond, pond.me, position) else {
            return None;
        };
        lane.next = position.wrapping_add(1);
        lane.prefetch_ahead(pond);
        lane.end.lane.advance(lane.next); // x3
        crash_point!(PopExclusiveDone);
        lane.ended = false;
        lane.tell_sender(pond);
        Buffer::taken(pond, cell.reference(), cell.flags() & REDELIVERED != 0, false)
    }

    #[cold]
    #[inline(never)]
    fn last_error(&mut self) -> ReceiveError {
        self.error.take().unwrap_or(ReceiveError::Empty)
    }

    #[inline(never)]
    fn take_any(&mut self) -> Option<Buffer> {
        self.look().map_err(|error| self.error = Some(error)).ok()
    }

    #[cold]
    #[inline(never)]
    fn take_waiting(&mut self, timeout: Option<Duration>) -> Option<Buffer> {
        self.receive_until(timeout).map_err(|error| self.error = Some(error)).ok()
    }

    fn receive_until(&mut self, timeout: Option<Duration>) -> Result<Buffer, ReceiveError> {
        let mut start = None;
        loop {
            match self.look() {
                Err(ReceiveError::Empty | ReceiveError::NotConnected) => {}
                other => return other,
            }
            let left = timeout.map(|t| t.saturating_sub(start.get_or_insert_with(Instant::now).elapsed()));
            if self.following.is_held_up() {
                // A look at the registry is due, which counts as news: sleeping is `nothing`'s business then.
                match left {
                    Some(Duration::ZERO) => return Err(ReceiveError::Timeout),
                    _ if self.session.stop_requested() => return Err(ReceiveError::Stopped),
                    _ => continue,
                }
            }
            let waiter = self.waiter.clone();
            match waiter.wait(left, || self.has_news()) {
                Woken::Ready => {}
                Woken::Timeout => return Err(ReceiveError::Timeout),
                Woken::Stopped if self.session.is_forked() => return Err(ReceiveError::Forked),
                Woken::Stopped => return Err(ReceiveError::Stopped),
            }
        }
    }

    /// One look at every connection.
    fn look(&mut self) -> Result<Buffer, ReceiveError> {
        self.refresh()?;
        let pond = self.session.attachment();
        for _ in 0..self.lanes.len() {
            if self.turn >= self.lanes.len() {
                self.turn = 0;
            }
            let lane = &mut self.lanes[self.turn];
            self.turn += 1;
            if lane.broken {
                continue;
            }
            match lane.take(pond) {
                Taken::Empty => {}
                Taken::Entry { cell, position } => return lane.hand_out(pond, cell, position),
                Taken::Corrupt { position } => {
                    self.simple = false;
                    return Err(self.lanes[self.turn - 1].poison(pond, position));
                }
            }
        }
        self.nothing()
    }

    /// Takes what is there now, at most `max` buffers, and appends it to `into`. Returns how many; zero: nothing waits.
    ///
    /// Costs one store of the lane's head for all.
    ///
    /// # Errors
    /// As [`try_receive`](Self::try_receive), but `Empty` and `NotConnected` are `Ok(0)`.
    pub fn receive_batch(&mut self, max: usize, into: &mut Vec<Buffer>) -> Result<usize, ReceiveError> {
        match self.refresh() {
            Err(ReceiveError::Empty) => return Ok(0),
            refreshed => refreshed?,
        }
        let pond = self.session.attachment();
        let before = into.len();
        for _ in 0..self.lanes.len() {
            if self.turn >= self.lanes.len() {
                self.turn = 0;
            }
            let lane = &mut self.lanes[self.turn];
            self.turn += 1;
            if !lane.broken {
                let taken = lane.take_batch(pond, max - (into.len() - before), into);
                self.simple &= !lane.broken;
                taken?;
            }
            if into.len() - before >= max {
                break;
            }
        }
        match into.len() - before {
            0 => match self.nothing() {
                Err(ReceiveError::Empty | ReceiveError::NotConnected) => Ok(0),
                Err(other) => Err(other),
                Ok(buffer) => {
                    into.push(buffer);
                    Ok(1)
                }
            },
            taken => Ok(taken),
        }
    }

    /// What the connected stream carries, once its sender has said so; of the first connection, if there are several.
    pub fn format(&mut self) -> Option<StreamFormat> {
        self.refresh().ok()?;
        let pond = self.session.attachment();
        let registry = pond.lock_registry_within(STREAM_PATIENCE).ok()??;
        self.lanes.iter().find_map(|l| registry.format(l.end.record.from_port.load(Ordering::Relaxed)))
    }

    /// Buffers that wait in all connections together.
    pub fn queued(&mut self) -> u64 {
        if self.refresh().is_err() {
            return 0;
        }
        let waiting = |l: &Lane| {
            let from = if l.end.shared { l.end.record.head.load(Ordering::Acquire) } else { l.next };
            l.end.lane.next_unpublished(from).wrapping_sub(from)
        };
        self.lanes.iter().map(waiting).sum()
    }

    /// The moment up to which the stream has come, if that is known and everything sent before has been received: what comes from now on
    /// is not earlier, apart from the stream's disorder. Of several connections the earliest counts; those that have ended do not.
    ///
    /// From the first call on, a new bound counts as [news](Input::has_news).
    pub fn bound(&mut self) -> Option<Timestamp> {
        self.follows_bounds = true;
        self.refresh().ok()?;
        let pond = self.session.attachment();
        // All of them, and first: what is not looked at stays news; and what was published before is received before it counts.
        for lane in &mut self.lanes {
            lane.seen_bound = lane.stored_bound(pond);
        }
        let mut earliest: Option<Timestamp> = None;
        for lane in self.lanes.iter().filter(|lane| !lane.broken && !lane.is_at_end()) {
            if lane.end.lane.published(lane.position()).is_some() {
                return None;
            }
            let bound = lane.seen_bound?;
            earliest = Some(match earliest {
                None => bound,
                Some(other) => {
                    if bound.partial_cmp(&other)?.is_lt() {
                        bound
                    } else {
                        other
                    }
                }
            });
        }
        earliest
    }

    /// How many buffers its smallest connection holds; `None` while there is none. If the port redelivers, those count that were
    /// taken and not dropped yet.
    pub fn depth(&mut self) -> Option<u32> {
        self.refresh().ok()?;
        self.lanes.iter().map(|lane| lane.end.record.depth.load(Ordering::Relaxed)).min()
    }

    /// Number of connections now.
    pub fn connections(&mut self) -> usize {
        let _ = self.refresh();
        self.lanes.len()
    }

    /// Whether [`try_receive`](Self::try_receive) would say anything but `Empty` or `NotConnected`: for a party that serves several
    /// ports, in [`Waiter::wait`](crate::Waiter::wait).
    pub fn has_news(&self) -> bool {
        self.session.is_forked()
            || !self.following.is_current(self.port)
            || self.lanes.iter().any(Lane::has_news)
            || self.follows_bounds && {
                let pond = self.session.attachment();
                let counts = |lane: &&Lane| !lane.broken && !lane.is_at_end();
                self.lanes.iter().filter(counts).any(|lane| lane.stored_bound(pond) != lane.seen_bound)
            }
    }

    /// No lane had an entry: tells what else there is to tell.
    #[cold]
    fn nothing(&mut self) -> Result<Buffer, ReceiveError> {
        let pond = self.session.attachment();
        if self.following.is_held_up() {
            std::thread::sleep(NAP); // `has_news` goes on saying so until the registry was looked at
        }
        if self.lanes.is_empty() {
            return Err(ReceiveError::NotConnected);
        }
        let mut drained_closing = false;
        for lane in &mut self.lanes {
            lane.look_for_end();
            // A broken lane's entries are never received, so its sender's death can never be told.
            if !lane.broken
                && let Some(told) = lane.unsaid_loss()
            {
                // The presence was read first: what was published before it changed must be received before the death is told.
                if lane.end.lane.published(lane.position()).is_some() {
                    return Err(ReceiveError::Empty); // there is something after all: the caller comes again
                }
                lane.told = told;
                let port = port_name(&pond.control, lane.end.record.from_port.load(Ordering::Relaxed));
                return Err(ReceiveError::SenderDied { port });
            }
            drained_closing |= lane.is_closed_and_drained();
        }
        if drained_closing {
            self.look_again()?;
            return Err(ReceiveError::Empty);
        }
        if pond.stop_requested() {
            return Err(ReceiveError::Stopped);
        }
        if self.lanes.iter().all(|l| l.ended) {
            Err(ReceiveError::EndOfStream)
        } else {
            Err(ReceiveError::Empty)
        }
    }

    #[inline]
    fn refresh(&mut self) -> Result<(), ReceiveError> {
        if self.session.is_forked() {
            return Err(ReceiveError::Forked);
        }
        if self.following.is_current(self.port) { Ok(()) } else { self.look_again() }
    }

    /// Follows changes of the port's connections.
    #[cold]
    fn look_again(&mut self) -> Result<(), ReceiveError> {
        let broken = |problem: String| ReceiveError::Broken { problem };
        let pond = self.session.attachment();
        let look = self.following.look(pond, self.port).map_err(|e| broken(e.to_string()))?;
        let Some(registry) = look else {
            self.forget_what_is_gone();
            if self.following.has_looked() {
                return Ok(());
            }
            std::thread::sleep(NAP); // as in `nothing`
            return Err(ReceiveError::Empty);
        };
        let me = u32::from(pond.me);
        let mut corrupt = None;
        for (index, record) in pond.control.live_lanes() {
            if record.to_port.load(Ordering::Relaxed) != self.port_index
                || record.consumers[self.consumer].load(Ordering::Relaxed) != me
            {
                continue;
            }
            let known = self.lanes.iter().position(|l| l.end.index == index);
            match known {
                Some(at) if self.lanes[at].is_closed_and_drained() => {
                    self.lanes.remove(at).forget_taken();
                    registry.leave_as_consumer(index, self.consumer);
                }
                Some(_) => {}
                None => match LaneEnd::open(pond, index) {
                    Some(end) => self.lanes.push(Lane::new(end, self.redeliver)),
                    None => corrupt = Some(index),
                },
            }
        }
        self.forget_what_is_gone();
        match corrupt {
            Some(index) => Err(broken(format!("connection {index} of pond `{}` is corrupt", pond.name))),
            None => Ok(()),
        }
    }

    /// Connections that others removed meanwhile are gone from the registry, or belong to somebody else by now.
    fn forget_what_is_gone(&mut self) {
        let me = u32::from(self.session.attachment().me);
        let port = self.port_index;
        let consumer = self.consumer;
        self.lanes.retain(|l| {
            let ours = l.end.record.to_port.load(Ordering::Relaxed) == port
                && l.end.record.consumers[consumer].load(Ordering::Relaxed) == me;
            if !ours {
                l.forget_taken();
            }
            ours
        });
        self.simple = matches!(&self.lanes[..], [l] if !l.end.shared && l.finisher.is_none() && !l.broken);
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if self.session.is_forked() {
            return;
        }
        for lane in &self.lanes {
            if let Some(finisher) = &lane.finisher {
                finisher.close(lane.next);
            }
        }
        self.session.let_go(Belonging::Input(self.port_index, self.consumer));
    }
}
