//! What a redelivering port has handed out: an entry stays queued until the last handle of its buffer is gone, so that a killed
//! receiver's buffers come again.

use crate::attachment::Attachment;
use crate::layout::LaneRecord;
use crate::ports::LaneEnd;
use crate::sync::Ordering;
use crate::token::Reference;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The last handle of a redeliverable buffer is gone.
#[cold]
pub(crate) fn finish(pond: &'static Attachment, reference: Reference) {
    let finisher = pond.unfinished.lock().unwrap_or_else(PoisonError::into_inner).remove(&reference);
    if let Some(finisher) = finisher {
        finisher.finish(pond, reference);
    }
}

/// Finishes redeliverable entries of one lane in their order, whatever the order in which their buffers are dropped.
pub(crate) struct Finisher {
    record: &'static LaneRecord,
    taken: Mutex<TakenAhead>,
}

#[derive(Default)]
struct TakenAhead {
    /// In the lane's order; `true`: its buffer is gone, but one before it is not.
    entries: VecDeque<(Reference, bool)>,
    /// The port is closed: what is still held is held like any other buffer.
    closed: bool,
}

impl Finisher {
    pub(crate) fn new(end: &LaneEnd) -> Finisher {
        Finisher { record: end.record, taken: Mutex::default() }
    }

    pub(crate) fn taken(self: &Arc<Self>, pond: &Attachment, reference: Reference) {
        pond.unfinished.lock().unwrap_or_else(PoisonError::into_inner).insert(reference, Arc::clone(self));
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).entries.push_back((reference, false));
    }

    /// The port closes while buffers are still held: head moves past them, so that the next consumer begins behind them.
    pub(crate) fn close(&self, next: u64) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.closed = true;
        self.record.head.store(next, Ordering::Release);
        crash_point!(CloseHeadMoved);
    }

    /// The connection is gone while buffers are still held: they are held like any other buffer.
    pub(crate) fn let_go(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// The last handle of a taken entry is gone. Entries finish in order: a gap would look like a finished one to recovery.
    fn finish(&self, pond: &'static Attachment, reference: Reference) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = taken.entries.iter_mut().find(|(r, done)| *r == reference && !done) {
            entry.1 = true;
        }
        if taken.closed {
            while let Some(at) = taken.entries.iter().position(|(_, done)| *done) {
                if let Some((reference, _)) = taken.entries.remove(at)
                    && let Some(slot) = pond.control.slot(reference.slot)
                {
                    slot.references.release(reference.token);
                }
            }
            return;
        }
        let mut moved = false;
        while let Some((reference, true)) = taken.entries.front().copied() {
            taken.entries.pop_front();
            let head = self.record.head.load(Ordering::Relaxed);
            if let Some(slot) = pond.control.slot(reference.slot) {
                slot.references.release(reference.token); // k1
            }
            crash_point!(FinishFreed);
            self.record.head.store(head.wrapping_add(1), Ordering::Release); // k2
            crash_point!(FinishDone);
            moved = true;
        }
        // Before the lock is given back: the port, which waits for it when it closes, keeps the process attached. Once the last
        // token is released, nothing else does.
        if moved {
            pond.light_fence();
            pond.ring_if_asleep(self.record.producer_waiter.load(Ordering::Relaxed));
        }
    }
}
