//! One connection, as its receiver sees it: the steps of a pop, and what else there is to tell.

use super::ReceiveError;
use crate::attachment::Attachment;
use crate::buffer::Buffer;
use crate::control::{ATTACHED, LANE_CLOSING, LEFT, NEVER};
use crate::lane::{End, Taken};
use crate::ports::{LaneEnd, stored_bound};
use crate::redelivery::Finisher;
use crate::registry::port_name;
use crate::sync::Ordering;
use crate::timestamp::Timestamp;
use crate::token::{Cell, REDELIVERED};
use std::sync::Arc;

/// Most entries that one batch takes.
const MAX_BATCH: usize = 64;

/// How many entries ahead a line is asked for: several hand-overs take as long as one transfer between cores.
const PREFETCH_AHEAD: u64 = 3;

pub(super) struct Lane {
    pub(super) end: LaneEnd,
    /// Exclusive lanes: the next position to take. `head` unless redeliverable entries were taken ahead.
    pub(super) next: u64,
    pub(super) finisher: Option<Arc<Finisher>>,
    /// The sender's presence word that was last told of.
    pub(super) told: u32,
    /// The sender's promise when it was last looked at.
    pub(super) seen_bound: Option<Timestamp>,
    pub(super) ended: bool,
    pub(super) broken: bool,
}

impl Lane {
    pub(super) fn new(end: LaneEnd, redeliver: bool) -> Lane {
        let next = end.record.head.load(Ordering::Acquire);
        let finisher = (redeliver && !end.shared).then(|| Arc::new(Finisher::new(&end)));
        Lane { end, next, finisher, told: 0, seen_bound: None, ended: false, broken: false }
    }

    /// The lane is somebody else's from now on: buffers taken from it that are still held must not move its head.
    pub(super) fn forget_taken(&self) {
        if let Some(finisher) = &self.finisher {
            finisher.let_go();
        }
    }

    /// The next position to take.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        if self.end.shared { self.end.record.head.load(Ordering::Acquire) } else { self.next }
    }

    #[inline]
    pub(super) fn take(&mut self, pond: &'static Attachment) -> Taken {
        if self.end.shared {
            return self.end.lane.pop_shared(&pond, pond.me);
        }
        let taken = self.end.lane.claim_exclusive(&pond, pond.me, self.next);
        if let Taken::Entry { cell, position } = taken {
            self.next = position.wrapping_add(1);
            self.prefetch_ahead(pond);
            match &self.finisher {
                None => {
                    self.end.lane.advance(self.next); // x3
                    crash_point!(PopExclusiveDone);
                }
                // With redelivery head stays: until it is finished the entry counts as queued.
                Some(finisher) => {
                    finisher.taken(pond, cell.reference());
                    crash_point!(TakenAhead);
                }
            }
        }
        taken
    }

    /// When entries wait behind the one just taken, asks for the line of one that will be taken soon.
    #[inline(always)]
    pub(super) fn prefetch_ahead(&self, pond: &'static Attachment) {
        // The next cell first: it is looked at anyway, whereas one further on may pull its line from under the sender.
        if self.end.lane.published(self.next).is_some()
            && let Some(cell) = self.end.lane.published(self.next.wrapping_add(PREFETCH_AHEAD))
            && let Some(record) = pond.control.slot(cell.reference().slot)
        {
            crate::prefetch::for_writing(record);
        }
    }

    #[inline]
    pub(super) fn hand_out(
        &mut self,
        pond: &'static Attachment,
        cell: Cell,
        position: u64,
    ) -> Result<Buffer, ReceiveError> {
        self.ended = false;
        if self.finisher.is_none() {
            self.tell_sender(pond);
        }
        self.buffer(pond, cell, position)
    }

    #[inline]
    fn buffer(
        &mut self,
        pond: &'static Attachment,
        cell: Cell,
        position: u64,
    ) -> Result<Buffer, ReceiveError> {
        let again = cell.flags() & REDELIVERED != 0
            || (self.finisher.is_some()
                && position < self.end.record.redelivered_until.load(Ordering::Acquire));
        match Buffer::taken(pond, cell.reference(), again, self.finisher.is_some()) {
            Some(buffer) => Ok(buffer),
            None => Err(self.poison(pond, position)),
        }
    }

    /// Exclusive lanes: takes up to `max` entries, then moves head once; head moves before anything is handed out.
    pub(super) fn take_batch(
        &mut self,
        pond: &'static Attachment,
        max: usize,
        into: &mut Vec<Buffer>,
    ) -> Result<(), ReceiveError> {
        if self.end.shared || self.finisher.is_some() {
            for _ in 0..max {
                match self.take(pond) {
                    Taken::Empty => break,
                    Taken::Entry { cell, position } => into.push(self.hand_out(pond, cell, position)?),
                    Taken::Corrupt { position } => return Err(self.poison(pond, position)),
                }
            }
            return Ok(());
        }
        let first = self.next;
        let mut trouble = None;
        // The lines of the entries lie in the sender's cache: ask for all of them, then take one after the other.
        for position in (0..max.min(MAX_BATCH) as u64).map(|n| first.wrapping_add(n)) {
            let Some(cell) = self.end.lane.published(position) else { break };
            if let Some(record) = pond.control.slot(cell.reference().slot) {
                crate::prefetch::for_writing(record);
            }
        }
        while self.next.wrapping_sub(first) < max.min(MAX_BATCH) as u64 {
            match self.end.lane.claim_exclusive(&pond, pond.me, self.next) {
                Taken::Empty => break,
                Taken::Entry { cell, position } => {
                    self.next = self.next.wrapping_add(1);
                    crash_point!(PopBatchBetween);
                    match Buffer::taken(pond, cell.reference(), cell.flags() & REDELIVERED != 0, false) {
                        Some(buffer) => into.push(buffer),
                        None => trouble = Some(position),
                    }
                }
                Taken::Corrupt { position } => {
                    trouble = Some(position);
                    break;
                }
            }
        }
        if self.next != first {
            self.ended = false;
            self.end.lane.advance(self.next); // x3 for all
            crash_point!(PopExclusiveDone);
            self.tell_sender(pond);
        }
        match trouble {
            Some(position) => Err(self.poison(pond, position)),
            None => Ok(()),
        }
    }

    /// There is room now: wakes the sender if it sleeps.
    #[inline(always)]
    pub(super) fn tell_sender(&self, pond: &'static Attachment) {
        pond.light_fence();
        let waiter = self.end.record.producer_waiter.load(Ordering::Relaxed);
        if waiter != 0 {
            pond.ring_if_asleep(waiter);
        }
    }

    pub(super) fn has_news(&self) -> bool {
        self.is_closed_and_drained()
            || !self.broken
                && (self.end.lane.published(self.position()).is_some()
                    || self.unsaid_loss().is_some()
                    || (!self.ended && self.is_at_end()))
    }

    pub(super) fn stored_bound(&self, pond: &'static Attachment) -> Option<Timestamp> {
        stored_bound(pond.control.port(self.end.record.from_port.load(Ordering::Relaxed))?)
    }

    pub(super) fn is_at_end(&self) -> bool {
        End(&self.end.record.end).is_at(self.position())
    }

    pub(super) fn look_for_end(&mut self) {
        self.ended = self.is_at_end();
    }

    /// The sender's presence, if it is gone without having ended the stream and that was not told yet.
    pub(super) fn unsaid_loss(&self) -> Option<u32> {
        let presence = self.end.record.producer_presence.load(Ordering::Acquire);
        // Whoever lets go of a removed connection has not died.
        let removed =
            presence & 0xff == LEFT && self.end.record.state.load(Ordering::Acquire) == LANE_CLOSING;
        let gone = !removed && !matches!(presence & 0xff, NEVER | ATTACHED);
        let lost = gone && presence != self.told && !self.is_at_end();
        // A new sender that attaches meanwhile reopens the stream: what was read is only true if the presence still stands.
        (lost && self.end.record.producer_presence.load(Ordering::Acquire) == presence).then_some(presence)
    }

    /// The connection was removed, its sender has let go, and nothing waits that could be taken.
    pub(super) fn is_closed_and_drained(&self) -> bool {
        let record = self.end.record;
        record.state.load(Ordering::Acquire) == LANE_CLOSING
            && record.producer.load(Ordering::Acquire) == 0
            && (self.broken || self.end.lane.published(self.position()).is_none())
    }

    #[cold]
    pub(super) fn poison(&mut self, pond: &Attachment, position: u64) -> ReceiveError {
        self.broken = true;
        let from = port_name(&pond.control, self.end.record.from_port.load(Ordering::Relaxed));
        ReceiveError::Broken {
            problem: format!(
                "pond `{}`: the connection from `{from}` is corrupt at position {position}: its cell names no buffer that is \
                 queued there; some process wrote where it must not. The connection is left alone; disconnect it",
                pond.name
            ),
        }
    }
}
