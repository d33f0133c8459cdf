//! The two packed words of the protocol: who owns a reference (token), and what lies at a position of a lane (cell).
//!
//! ```text
//! token   owner:10 | lane:14 | position:40      0 = unclaimed
//!           {P, NONE, 0}       process P owns it by allocation or clone
//!           {P, L, h}          process P owns it, having taken it from position h of lane L
//!           {IN_LANE, L, p}    it is the entry at position p of lane L
//! cell    tag:20 | flags:4 | pool:8 | slot:26 | token:6
//!           tag = low 20 bits of the position: position p is published <=> the cell's tag is p mod 2^20
//! ```

use serde::Serialize;

/// A process's index in the process table, 1..=254. The token's field could name 1021.
pub(crate) type ProcessSlot = u16;

/// Owner of a token that lies in a lane.
pub(crate) const IN_LANE: u16 = 0x3ff;
/// The lane field of a token that came from no lane.
pub(crate) const NO_LANE: u16 = 0x3fff;
/// Longest ring: `p` and `p - capacity` must have different tags.
pub(crate) const MAX_RING_CELLS: u32 = 1 << 19;

const POSITION_BITS: u32 = 40;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
const TAG_MASK: u64 = (1 << 20) - 1;

/// One reference's owner, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Token(pub(crate) u64);

impl Token {
    /// Held by a process, from an allocation or a clone.
    #[inline]
    pub(crate) const fn held(process: ProcessSlot) -> Token {
        Token((process as u64) << 54 | (NO_LANE as u64) << POSITION_BITS)
    }

    /// Held by a process that took it from `position` of `lane`.
    #[inline]
    pub(crate) const fn taken(process: ProcessSlot, lane: u16, position: u64) -> Token {
        Token((process as u64) << 54 | (lane as u64) << POSITION_BITS | position & POSITION_MASK)
    }

    /// The entry at `position` of `lane`.
    #[inline]
    pub(crate) const fn queued(lane: u16, position: u64) -> Token {
        Token::taken(IN_LANE, lane, position)
    }

    #[inline]
    pub(crate) const fn owner(self) -> u16 {
        (self.0 >> 54) as u16
    }

    #[inline]
    pub(crate) const fn lane(self) -> u16 {
        (self.0 >> POSITION_BITS) as u16 & NO_LANE
    }

    /// Low 40 bits of the position.
    #[inline]
    pub(crate) const fn position(self) -> u64 {
        self.0 & POSITION_MASK
    }

    #[inline]
    pub(crate) const fn is_queued(self) -> bool {
        self.owner() == IN_LANE
    }

    /// Whether this is an entry of `lane` at or after the full position `from`.
    pub(crate) const fn is_queued_from(self, lane: u16, from: u64) -> bool {
        self.is_queued() && self.lane() == lane && self.is_at_or_after(from)
    }

    /// Whether its position is the full position `from` or a later one (compared as wrapping 40-bit numbers).
    pub(crate) const fn is_at_or_after(self, from: u64) -> bool {
        self.position().wrapping_sub(from) & POSITION_MASK < 1 << (POSITION_BITS - 1)
    }
}

/// Names one token of one buffer slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reference {
    pub(crate) pool: u8,
    /// Index in the table of all buffers.
    pub(crate) slot: u32,
    pub(crate) token: u8,
}

/// One entry of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell(pub(crate) u64);

/// Flag of a cell: the buffer may have been delivered before.
pub(crate) const REDELIVERED: u8 = 1;

impl Cell {
    /// The entry published at `position`.
    #[inline]
    pub(crate) const fn new(position: u64, reference: Reference, flags: u8) -> Cell {
        Cell(
            (position & TAG_MASK) << 44
                | (flags as u64 & 0xf) << 40
                | (reference.pool as u64) << 32
                | (reference.slot as u64 & 0x3ff_ffff) << 6
                | reference.token as u64 & 0x3f,
        )
    }

    /// What the cell for `position` of a fresh ring of `capacity` holds: it looks as if consumed one lap ago.
    pub(crate) const fn consumed(position: u64, capacity: u32) -> Cell {
        Cell((position.wrapping_sub(capacity as u64) & TAG_MASK) << 44)
    }

    #[inline]
    pub(crate) const fn is_published_at(self, position: u64) -> bool {
        self.0 >> 44 == position & TAG_MASK
    }

    #[inline]
    pub(crate) const fn reference(self) -> Reference {
        Reference {
            pool: (self.0 >> 32) as u8,
            slot: (self.0 >> 6) as u32 & 0x3ff_ffff,
            token: self.0 as u8 & 0x3f,
        }
    }

    #[inline]
    pub(crate) const fn flags(self) -> u8 {
        (self.0 >> 40) as u8 & 0xf
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_keeps_its_parts(owner in 1u16..1024, lane in 0u16..=NO_LANE, position in any::<u64>()) {
            let token = Token::taken(owner, lane, position);
            prop_assert_eq!(token.owner(), owner);
            prop_assert_eq!(token.lane(), lane);
            prop_assert_eq!(token.position(), position & POSITION_MASK);
            prop_assert_ne!(token.0, 0);
        }

        #[test]
        fn a_cell_keeps_its_parts(position in any::<u64>(), pool in any::<u8>(), slot in 0u32..1 << 26, token in 0u8..64, flags in 0u8..16) {
            let cell = Cell::new(position, Reference { pool, slot, token }, flags);
            prop_assert!(cell.is_published_at(position));
            prop_assert_eq!(cell.reference(), Reference { pool, slot, token });
            prop_assert_eq!(cell.flags(), flags);
        }

        #[test]
        fn a_fresh_cell_is_never_published(position in any::<u64>(), power in 0u32..20) {
            let capacity = 1u32 << power;
            prop_assert!(!Cell::consumed(position, capacity).is_published_at(position));
        }

        #[test]
        fn positions_compare_across_the_wrap(from in any::<u64>(), ahead in 0u64..1 << 30) {
            let later = Token::queued(7, from.wrapping_add(ahead));
            prop_assert!(later.is_queued_from(7, from));
            prop_assert!(!later.is_queued_from(8, from));
            prop_assert!(!Token::queued(7, from.wrapping_sub(ahead + 1)).is_queued_from(7, from));
        }
    }
}
