//! The references of one buffer: claiming, adding, releasing, and proving that nobody holds any.
//!
//! A slot is free exactly when all its tokens are zero. There is no count, no free list and no state beside the tokens, so a
//! process that dies between two stores leaves nothing to repair but words that name it. Steps are labelled as in
//! docs/crash-safety.md; nothing here blocks, allocates or loops over more than the tokens of one slot.

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::token::{ProcessSlot, Token};

/// References that one buffer can have at a time.
pub(crate) const TOKENS: usize = if cfg!(loom) { 3 } else { 16 };

/// The first 160 bytes of a slot: reference words and what a receiver needs first, so that the usual hand-over moves one
/// cache line.
#[repr(C)]
pub(crate) struct References {
    /// Number of references ever added to a held one (c2). Changes tell a scan that it may have been overtaken.
    pub(crate) clones: AtomicU32,
    /// How often the slot was allocated. Diagnostic: half of the buffer's id.
    pub(crate) generation: AtomicU32,
    /// Payload length, dtype, kind of timestamp and flags, packed (see `Description`). Written by the unique owner.
    pub(crate) info: AtomicU64,
    /// Timestamp in its own kind's unit. Written by the unique owner.
    pub(crate) stamp: AtomicU64,
    /// Sequence number that the producer gave. Written by the unique owner.
    pub(crate) sequence: AtomicU64,
    /// One word a reference. Non-zero: owned, and changed only by its owner or, once that is dead, by recovery.
    pub(crate) tokens: [AtomicU64; TOKENS],
}

impl References {
    /// Whether no token but `except` is in use, at one moment during the call. Pass `TOKENS` to except none.
    ///
    /// Sound although the tokens are read one after the other: a reference can only be added by the holder of another one,
    /// who raises `clones` before letting go of the one it had (lemma L4).
    #[inline(always)]
    pub(crate) fn is_unreferenced_except(&self, except: usize) -> bool {
        // Acquire: pairs with the Release of c2 and keeps the token loads behind it.
        let before = self.clones.load(Ordering::Acquire);
        let mut in_use = 0;
        for (i, token) in self.tokens.iter().enumerate() {
            if i != except {
                // Acquire: pairs with the releasing stores; what the last holder read precedes what the next owner writes.
                in_use |= token.load(Ordering::Acquire);
                #[cfg(loom)]
                if in_use != 0 {
                    return false;
                }
            }
        }
        in_use == 0 && self.clones.load(Ordering::Relaxed) == before
    }

    /// Whether the slot is free.
    #[inline(always)]
    pub(crate) fn is_free(&self) -> bool {
        self.is_unreferenced_except(TOKENS)
    }

    /// Allocates a slot that only this process may allocate. In-process: one thread at a time. `true`: token 0 is ours.
    #[inline(always)]
    pub(crate) fn claim_exclusive(&self, me: ProcessSlot) -> bool {
        if !self.is_free() {
            return false; // a1
        }
        crash_point!(AllocateScanned);
        self.tokens[0].store(Token::held(me).0, Ordering::Relaxed); // a2
        crash_point!(AllocateClaimed);
        true
    }

    /// Allocates a slot that several processes may allocate. `true`: token 0 is ours.
    #[inline]
    pub(crate) fn claim_shared(&self, me: ProcessSlot) -> bool {
        let mine = Token::held(me).0;
        // Token 0 is reserved for allocation, so this compare-and-swap decides between allocators. (a1)
        if self.tokens[0].load(Ordering::Relaxed) != 0
            || self.tokens[0].compare_exchange(0, mine, Ordering::Acquire, Ordering::Relaxed).is_err()
        {
            return false;
        }
        crash_point!(AllocateShared);
        if self.is_unreferenced_except(0) {
            return true; // a2
        }
        self.release(0); // a3
        false
    }

    /// Adds a reference; the caller holds one already and keeps it until this returns. `None`: all tokens are in use.
    #[inline]
    pub(crate) fn add(&self, me: ProcessSlot) -> Option<u8> {
        let mine = Token::held(me).0;
        for (i, token) in self.tokens.iter().enumerate().skip(1) {
            // Relaxed: nothing is read through it; c2's Release makes it visible with the count. (c1)
            if token.load(Ordering::Relaxed) == 0
                && token.compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            {
                crash_point!(CloneClaimed);
                self.clones.fetch_add(1, Ordering::Release); // c2
                crash_point!(CloneCounted);
                return Some(i as u8);
            }
        }
        None
    }

    /// As [`add`](Self::add), with plain stores, for a holder that knows that it is alone.
    #[inline]
    pub(crate) fn add_as_unique(&self, me: ProcessSlot) -> Option<u8> {
        for (i, token) in self.tokens.iter().enumerate().skip(1) {
            if token.load(Ordering::Relaxed) == 0 {
                token.store(Token::held(me).0, Ordering::Relaxed); // c1
                crash_point!(CloneClaimed);
                let clones = self.clones.load(Ordering::Relaxed);
                self.clones.store(clones.wrapping_add(1), Ordering::Release); // c2
                crash_point!(CloneCounted);
                return Some(i as u8);
            }
        }
        None
    }

    /// Gives a reference back: the last thing its owner does with the slot.
    #[inline]
    pub(crate) fn release(&self, token: u8) {
        // Release: my reads, and those of whoever handed it to me, precede the next owner's writes.
        self.tokens[token as usize].store(0, Ordering::Release);
        crash_point!(Released);
    }

    /// Number of references now. For people; not a basis for decisions.
    pub(crate) fn count(&self) -> u32 {
        self.tokens.iter().filter(|t| t.load(Ordering::Relaxed) != 0).count() as u32
    }
}
