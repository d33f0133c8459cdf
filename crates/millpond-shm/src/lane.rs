//! One lane: a bounded ring that hands references from one producing process to its consumer or consumers.
//!
//! Never here: waiting, allocation, a lock, a loop that depends on another process. An **exclusive** lane (one consuming
//! process, the producer removes nothing) needs no atomic read-modify-write at all; a **shared** one (competing consumers, or
//! a producer that drops the oldest) two compare-and-swaps a message. Steps p1, p2, x1.. q3, o1.. are those of
//! docs/crash-safety.md; the order of the stores is what makes each of them repairable after SIGKILL.

use crate::references::References;
use crate::sync::{AtomicU64, Ordering};
use crate::token::{Cell, ProcessSlot, Reference, Token};

/// Finds the reference words of a slot. `None`: no such slot, so the word that named it is corrupt.
pub(crate) trait Slots {
    fn references(&self, reference: Reference) -> Option<&References>;
}

/// The words of one lane.
#[derive(Clone, Copy)]
pub(crate) struct Lane<'a> {
    pub(crate) id: u16,
    /// Position of the oldest entry that is not known to be claimed. Written by consumers.
    pub(crate) head: &'a AtomicU64,
    /// The ring; its length is a power of two.
    pub(crate) cells: &'a [AtomicU64],
}

/// The word that ends a lane's stream: final position + 1, or 0 while it is open.
#[derive(Clone, Copy)]
pub(crate) struct End<'a>(pub(crate) &'a AtomicU64);

impl End<'_> {
    /// The stream ends before `position`; everything before it is published.
    pub(crate) fn set(self, position: u64) {
        self.0.store(position.wrapping_add(1), Ordering::Release);
    }

    /// Whether it ends there: a consumer that is about to take `position` has taken everything.
    pub(crate) fn is_at(self, position: u64) -> bool {
        let end = self.0.load(Ordering::Acquire);
        end != 0 && end == position.wrapping_add(1)
    }
}

/// What a look at the head of a lane gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Empty,
    Entry {
        cell: Cell,
        position: u64,
    },
    /// The cell names no slot, or its token is not this entry: somebody wrote where they must not.
    Corrupt {
        position: u64,
    },
}

impl<'a> Lane<'a> {
    #[inline(always)]
    pub(crate) fn cell(&self, position: u64) -> &'a AtomicU64 {
        &self.cells[position as usize & (self.cells.len() - 1)]
    }

    /// The entry at `position`, if it is published.
    #[inline(always)]
    pub(crate) fn published(&self, position: u64) -> Option<Cell> {
        // Acquire: pairs with p2; the payload and p1 are visible with the cell.
        let cell = Cell(self.cell(position).load(Ordering::Acquire));
        cell.is_published_at(position).then_some(cell)
    }

    /// The first position from `from` on that is not published. At most one lap.
    pub(crate) fn next_unpublished(&self, from: u64) -> u64 {
        // Wrapping, here and wherever a position comes from shared memory: it may be anything.
        let unpublished = |n: &u64| self.published(from.wrapping_add(*n)).is_none();
        let entries = self.cells.len() as u64;
        from.wrapping_add((0..entries).find(unpublished).unwrap_or(entries))
    }

    /// p1: the reference becomes the entry at `position`.
    #[inline(always)]
    pub(crate) fn put_token(&self, references: &References, token: u8, position: u64) {
        // Relaxed: p2's Release orders it before the cell.
        references.tokens[token as usize].store(Token::queued(self.id, position).0, Ordering::Relaxed);
        crash_point!(PushToken);
    }

    /// p2: the entry is published. The caller has seen that `position - head < depth`.
    #[inline(always)]
    pub(crate) fn publish(&self, position: u64, reference: Reference, flags: u8) {
        self.cell(position).store(Cell::new(position, reference, flags).0, Ordering::Release);
        crash_point!(PushPublished);
    }

    /// x1, x1', x2: takes the entry at `position` for `me` without moving `head`. Exclusive lanes only, one thread at a time.
    #[inline(always)]
    pub(crate) fn claim_exclusive(&self, slots: &impl Slots, me: ProcessSlot, position: u64) -> Taken {
        let Some(cell) = self.published(position) else { return Taken::Empty }; // x1
        let reference = cell.reference();
        let Some(references) = slots.references(reference) else { return Taken::Corrupt { position } };
        let Some(token) = references.tokens.get(reference.token as usize) else {
            return Taken::Corrupt { position };
        };
        // The line comes from the sender's cache. Asked for with the right to write, it comes once; loaded first and stored to
        // afterwards, twice.
        crate::prefetch::for_writing(references);
        // x1': only a stray write can make this differ; checking keeps it from spreading to somebody else's token.
        if token.load(Ordering::Relaxed) != Token::queued(self.id, position).0 {
            return Taken::Corrupt { position };
        }
        crash_point!(PopExclusiveSeen);
        token.store(Token::taken(me, self.id, position).0, Ordering::Relaxed); // x2
        crash_point!(PopExclusiveClaimed);
        Taken::Entry { cell, position }
    }

    /// x3 or k2: everything before `position` is claimed for good. Must happen before the taken entry is handed out.
    #[inline]
    pub(crate) fn advance(&self, position: u64) {
        // Release: x2 before x3 in the instruction stream, so that a crash leaves an entry that recovery can undo.
        self.head.store(position, Ordering::Release);
    }

    /// q1..q3: takes the oldest entry of a shared lane. Lock-free: goes round again only if somebody else moved `head`, and
    /// at most a lap before it gives up as corrupt.
    #[inline]
    pub(crate) fn pop_shared(&self, slots: &impl Slots, me: ProcessSlot) -> Taken {
        let mut rounds = 0u64;
        loop {
            let position = self.head.load(Ordering::Acquire);
            let Some(cell) = self.published(position) else {
                if self.head.load(Ordering::Acquire) == position {
                    return Taken::Empty;
                }
                #[cfg(loom)]
                loom::thread::yield_now();
                continue; // somebody moved on in between: what we read was old
            };
            let reference = cell.reference();
            let token = slots.references(reference).and_then(|r| r.tokens.get(reference.token as usize));
            let Some(token) = token else {
                if self.head.load(Ordering::Acquire) != position {
                    continue;
                }
                return Taken::Corrupt { position };
            };
            let queued = Token::queued(self.id, position).0;
            let taken = Token::taken(me, self.id, position).0;
            // Exclusivity only: coherence makes it see p1, which happened before the cell that we have read. (q2)
            let won = token.compare_exchange(queued, taken, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if won {
                crash_point!(PopSharedClaimed);
            }
            // Always tried: a lost race here means that somebody helped, not that the pop failed. (q3)
            let _ = self.head.compare_exchange(
                position,
                position.wrapping_add(1),
                Ordering::Release,
                Ordering::Relaxed,
            );
            if won {
                crash_point!(PopSharedDone);
                return Taken::Entry { cell, position };
            }
            crash_point!(PopSharedHelped);
            rounds += 1;
            if rounds > 2 * self.cells.len() as u64 + 1_000_000 {
                return Taken::Corrupt { position }; // head cannot move that often while we lose every race
            }
        }
    }

    /// o1..o3: the producer of a full shared lane drops the oldest entry. `true`: it was us who dropped one; `false`: a consumer
    /// took it, or there was none; the caller tests again whether the lane is full.
    #[inline]
    pub(crate) fn drop_oldest(&self, slots: &impl Slots) -> bool {
        let position = self.head.load(Ordering::Acquire);
        let Some(cell) = self.published(position) else { return false };
        let reference = cell.reference();
        let token = slots.references(reference).and_then(|r| r.tokens.get(reference.token as usize));
        let Some(token) = token else { return false };
        // Release: this is the release of the reference. (o2)
        let won = token
            .compare_exchange(Token::queued(self.id, position).0, 0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if won {
            crash_point!(DropOldestClaimed);
        }
        let _ = self.head.compare_exchange(
            position,
            position.wrapping_add(1),
            Ordering::Release,
            Ordering::Relaxed,
        ); // o3
        if won {
            crash_point!(DropOldestDone);
        } else {
            crash_point!(DropOldestHelped);
        }
        won
    }
}
