//! One connection, as its sender sees it: whether there is room, and the steps of a push.

use super::refusal::SendReason;
use crate::attachment::Attachment;
use crate::buffer::timestamp_of;
use crate::control::{DIED, SHARED};
use crate::layout::MAX_CONSUMERS;
use crate::ports::{LaneEnd, OnReceiverDeath, Policy};
use crate::references::References;
use crate::sync::{Ordering, fence};
use crate::timestamp::Timestamp;
use crate::token::Reference;

pub(super) struct Lane {
    pub(super) end: LaneEnd,
    /// Next position to publish. Private: cells validate themselves.
    pub(super) next: u64,
    /// Last `head` seen; it only grows.
    pub(super) head: u64,
    pub(super) policy: Policy,
    pub(super) gives_up: bool,
    /// 0: no limit.
    pub(super) max_time_ns: i64,
    /// Of the buffer that is, or was last, to be sent and has not been.
    pub(super) offered: Timestamp,
}

impl Lane {
    pub(super) fn new(end: LaneEnd) -> Lane {
        let head = end.record.head.load(Ordering::Acquire);
        let next = end.lane.next_unpublished(head);
        let policy = match end.record.policy.load(Ordering::Relaxed) {
            1 => Policy::DropNewest,
            2 => Policy::DropOldest,
            _ => Policy::Block,
        };
        let gives_up = end.record.on_receiver_death.load(Ordering::Relaxed) == OnReceiverDeath::GiveUp as u32;
        let max_time_ns = i64::try_from(end.record.max_time_ns.load(Ordering::Relaxed)).unwrap_or(0);
        Lane { end, next, head, policy, gives_up, max_time_ns, offered: Timestamp::None }
    }

    #[inline(always)]
    pub(super) fn has_room(&mut self) -> bool {
        if self.next.wrapping_sub(self.head) < self.end.depth {
            return true;
        }
        self.head = self.end.record.head.load(Ordering::Acquire);
        self.next.wrapping_sub(self.head) < self.end.depth
    }

    /// Whether the policy lets a buffer be sent now. The port's name, or the problem, is filled in by the caller.
    #[inline]
    pub(super) fn admits(&mut self, pond: &'static Attachment) -> std::result::Result<(), SendReason> {
        if self.gives_up && self.policy == Policy::Block && self.lost_its_receiver() {
            return Err(SendReason::ReceiverDied { port: String::new() });
        }
        let has_room = self.has_room();
        if has_room && !self.reaches_too_far(pond) {
            return Ok(());
        }
        // No room, or a head that cannot be: behind what is queued, or beyond what was sent.
        if !has_room && self.next.wrapping_sub(self.head) > self.end.lane.cells.len() as u64 {
            return Err(SendReason::Broken { problem: String::new() });
        }
        if self.policy == Policy::Block { Err(SendReason::Full) } else { Ok(()) }
    }

    /// The buffer at hand is stamped too long after the oldest that waits. Read from the queue itself: there is nothing that a
    /// restarted sender would have to know.
    #[inline]
    fn reaches_too_far(&self, pond: &'static Attachment) -> bool {
        self.max_time_ns != 0 && self.waits_since(pond).is_some_and(|ns| ns > self.max_time_ns)
    }

    /// Nanoseconds from the timestamp of the oldest that waits to that of the buffer at hand.
    #[cold]
    fn waits_since(&self, pond: &'static Attachment) -> Option<i64> {
        let head = || self.end.record.head.load(Ordering::Acquire);
        let mut at = head();
        // A lap of tries is enough: each that fails has seen a buffer leave, and without this sender none comes.
        for _ in 0..=self.end.lane.cells.len() {
            let oldest =
                self.end.lane.published(at).and_then(|cell| pond.control.slot(cell.reference().slot));
            let stamp = oldest.map(timestamp_of);
            // Still the oldest afterwards: until then nobody could use the buffer for anything else.
            fence(Ordering::Acquire);
            match head() {
                still if still == at => return self.offered.checked_since_ns(stamp?),
                moved => at = moved,
            }
        }
        None
    }

    fn lost_its_receiver(&self) -> bool {
        self.gives_up && self.end.record.consumer_presence.load(Ordering::Acquire) & 0xff == DIED
    }

    /// Makes room as the policy says; `false`: the buffer is dropped for this connection, and counted.
    #[inline]
    pub(super) fn make_room(&mut self, pond: &'static Attachment) -> bool {
        // A blocking connection was asked when the buffer was admitted; asked again, with another head, it might say otherwise.
        if self.has_room() && (self.policy == Policy::Block || !self.reaches_too_far(pond)) {
            return true;
        }
        let record = self.end.record;
        let count = |counter: &crate::sync::AtomicU64| {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            crash_point!(DropCounted);
        };
        if self.policy == Policy::DropOldest {
            // Each round either drops one or finds that a consumer took one; a lap of neither means a stray write.
            for _ in 0..=self.end.lane.cells.len() {
                if self.end.lane.drop_oldest(&pond) {
                    count(&record.dropped_oldest);
                }
                if self.has_room() && !self.reaches_too_far(pond) {
                    return true;
                }
            }
        }
        count(&record.dropped_newest);
        false
    }

    #[inline(always)]
    pub(super) fn push(
        &mut self,
        pond: &'static Attachment,
        references: &References,
        reference: Reference,
        flags: u8,
    ) {
        self.enter(references, reference, flags);
        self.ring(pond);
    }

    /// The first two steps of a push: p3 is still to come.
    #[inline(always)]
    pub(super) fn enter(&mut self, references: &References, reference: Reference, flags: u8) {
        self.end.lane.put_token(references, reference.token, self.next); // p1
        self.end.lane.publish(self.next, reference, flags); // p2
        self.next = self.next.wrapping_add(1);
    }

    /// p3: wakes the consumers that sleep.
    #[inline(always)]
    pub(super) fn ring(&self, pond: &'static Attachment) {
        pond.light_fence();
        let waiters = &self.end.record.consumer_waiters;
        // Read afresh: a first competing consumer may have joined since.
        let shared = self.end.record.kind.load(Ordering::Relaxed) == SHARED;
        let count = if shared { MAX_CONSUMERS } else { 1 };
        for waiter in &waiters[..count] {
            let waiter = waiter.load(Ordering::Relaxed);
            if waiter != 0 {
                pond.ring_if_asleep(waiter);
            }
        }
        crash_point!(PushDone);
    }
}
