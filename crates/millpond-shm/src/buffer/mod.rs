//! Handles of buffers: a unique writable one and a shared read-only one.
//!
//! A handle is local to its process and is never stored in shared memory; it knows where the shared record is and which
//! token of it this process owns. Cloning inside a process counts privately; the last handle gives the token back with one
//! store. A received buffer is seen through a read-only mapping, so a stray write faults here instead of corrupting others.

mod shared;
mod writable;

pub use shared::Buffer;
pub use writable::BufferMut;

use crate::attachment::Attachment;
use crate::error::{Error, Result};
use crate::layout::{MAX_DIMENSIONS, SlotRecord};
use crate::pools::PoolMap;
use crate::sync::{Ordering, private};
use crate::timestamp::Timestamp;
use crate::token::Reference;
use crate::types::{DType, Description, Shape};
use bytemuck::Pod;
use std::fmt;

/// Names one allocation of one buffer, for people, logs and look-ups: a later allocation of the same slot has another id. No
/// handle can be made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct BufferId(
    /// Generation in the upper, slot in the lower half.
    pub u64,
);

impl fmt::Display for BufferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 as u32, self.0 >> 32)
    }
}

/// What both kinds of handle are made of: one owned token of one slot.
///
/// Two plain words, so that a handle travels in registers; everything else follows from them. (An atomic would have to live in
/// memory, and a handle that is moved through memory right after it was made waits until the stores before it have left the
/// store buffer, among them those that wait for the other core's cache: four fifths of a message's time, when it was so.)
struct Handle {
    pool: &'static PoolMap,
    /// `flags:.. | slot:26 | token:6`.
    bits: u64,
}

/// When the handle was made, no other token of the slot was in use, and none could come to be but through it. Holds until the
/// handle is cloned, which is noted in `CLONED`, not here: `clone` has a shared reference.
const ALONE: u64 = 1 << 32;
/// The buffer may have been delivered before.
const AGAIN: u64 = 1 << 33;
/// Taken with redelivery: dropping finishes it instead of releasing the token.
const TO_FINISH: u64 = 1 << 34;

/// The lower bits of an in-process clone word: handles of the token beyond the first.
const MORE_HANDLES: u32 = u32::MAX >> 1;
/// Its upper bit: the token's handle has been cloned since this process got it. The word is 0 again when the token is given away.
const CLONED: u32 = 1 << 31;

/// The timestamp of a buffer that cannot change meanwhile: somebody holds it, or it is queued.
pub(crate) fn timestamp_of(record: &SlotRecord) -> Timestamp {
    let value = record.references.stamp.load(Ordering::Relaxed) as i64;
    match Description(record.references.info.load(Ordering::Relaxed)).stamp_kind() {
        1 => Timestamp::Absolute(value),
        2 => Timestamp::Relative(value),
        3 => Timestamp::Sample {
            index: value,
            rate_num: record.rate[0].load(Ordering::Relaxed),
            rate_den: record.rate[1].load(Ordering::Relaxed),
        },
        _ => Timestamp::None,
    }
}

impl Handle {
    #[inline(always)]
    fn new(pool: &'static PoolMap, slot: u32, token: u8, flags: u64) -> Handle {
        Handle { pool, bits: flags | u64::from(slot) << 6 | u64::from(token) }
    }

    #[inline(always)]
    fn is(&self, flag: u64) -> bool {
        self.bits & flag != 0
    }

    #[inline(always)]
    fn pond(&self) -> &'static Attachment {
        self.pool.pond
    }

    #[inline(always)]
    fn slot(&self) -> u32 {
        (self.bits as u32) >> 6
    }

    #[inline(always)]
    fn token(&self) -> u8 {
        self.bits as u8 & 0x3f
    }

    #[inline(always)]
    fn reference(&self) -> Reference {
        Reference { pool: self.pool.index, slot: self.slot(), token: self.token() }
    }

    #[inline(always)]
    fn record(&self) -> &'static SlotRecord {
        self.pool.record(self.slot())
    }

    #[inline]
    fn description(&self) -> Description {
        if self.inert() {
            return Description(0); // a forked child has no mapping to read it from
        }
        Description(self.record().references.info.load(Ordering::Relaxed))
    }

    #[inline]
    fn set_description(&self, description: Description) {
        self.record().references.info.store(description.0, Ordering::Relaxed);
    }

    /// Length, never beyond the block whatever shared memory says.
    #[inline]
    fn length(&self) -> usize {
        self.description().length().min(self.pool.block_bytes) as usize
    }

    fn shape(&self) -> Shape {
        let description = self.description();
        let element = description.dtype().unwrap_or_default().size_bytes();
        match description.dimensions() {
            0 => Shape::new(&[(self.length() / element) as u32]).unwrap_or_default(),
            count => {
                let mut dimensions = [0; MAX_DIMENSIONS];
                for (to, from) in dimensions.iter_mut().zip(&self.record().shape) {
                    *to = from.load(Ordering::Relaxed);
                }
                Shape::new(&dimensions[..count.min(MAX_DIMENSIONS)]).unwrap_or_default()
            }
        }
    }

    fn timestamp(&self) -> Timestamp {
        if self.inert() { Timestamp::None } else { timestamp_of(self.record()) }
    }

    fn time_range(&self) -> Option<(i64, i64)> {
        let at = |i: usize| self.record().range[i].load(Ordering::Relaxed) as i64;
        self.description().has_range().then(|| (at(0), at(1)))
    }

    fn id(&self) -> BufferId {
        let generation = self.record().references.generation.load(Ordering::Relaxed);
        BufferId(u64::from(generation) << 32 | u64::from(self.slot()))
    }

    /// The in-process clone word of the token: `CLONED` and `MORE_HANDLES`.
    #[inline]
    fn clones(&self) -> &'static private::AtomicU32 {
        self.pond().clones(self.slot(), self.token())
    }

    /// No other handle of the token exists in this process, and none can come to be but through this one.
    #[inline]
    fn is_only_handle(&self) -> bool {
        // Acquire: pairs with the AcqRel of other handles' drops.
        self.clones().load(private::Ordering::Acquire) & MORE_HANDLES == 0
    }

    /// No other reference to the buffer exists anywhere, as far as that is known without looking.
    #[inline]
    fn is_known_alone(&self) -> bool {
        self.is(ALONE) && self.clones().load(private::Ordering::Acquire) == 0
    }

    #[inline]
    fn inert(&self) -> bool {
        self.pond().is_forked()
    }

    fn typed<'a, T: Pod>(&self, bytes: &'a [u8]) -> Result<&'a [T]> {
        if self.inert() {
            return Err(Error::Forked);
        }
        if !self.description().dtype().is_none_or(DType::admits::<T>) {
            return Err(self.wrong_type::<T>());
        }
        bytemuck::try_cast_slice(bytes).map_err(|_| self.wrong_type::<T>())
    }

    #[cold]
    fn wrong_type<T>(&self) -> Error {
        if self.inert() {
            return Error::Forked;
        }
        let dtype = self.description().dtype().unwrap_or_default();
        Error::WrongType {
            expected: format!("a slice of {} ({} bytes each)", std::any::type_name::<T>(), size_of::<T>()),
            found: format!("{} bytes of {dtype}", self.length()),
        }
    }
}

macro_rules! descriptions {
    ($($handle:ident),*) => {$(
        impl $handle {
            /// Element type of the contents.
            #[must_use]
            pub fn dtype(&self) -> DType {
                if self.handle.inert() { DType::Bytes } else { self.handle.description().dtype().unwrap_or_default() }
            }

            /// Dimensions of the contents, slowest first.
            #[must_use]
            pub fn shape(&self) -> Shape {
                if self.handle.inert() { Shape::default() } else { self.handle.shape() }
            }

            /// When the contents were taken.
            #[must_use]
            pub fn timestamp(&self) -> Timestamp {
                if self.handle.inert() { Timestamp::None } else { self.handle.timestamp() }
            }

            /// The span of time that the contents cover.
            #[must_use]
            pub fn time_range(&self) -> Option<(i64, i64)> {
                if self.handle.inert() { None } else { self.handle.time_range() }
            }

            /// Its number within its stream, as the producer gave it.
            #[inline]
            #[must_use]
            pub fn sequence(&self) -> u64 {
                if self.handle.inert() { 0 } else { self.handle.record().references.sequence.load(Ordering::Relaxed) }
            }

            /// Names this allocation of the buffer.
            #[must_use]
            pub fn id(&self) -> BufferId {
                if self.handle.inert() { BufferId(u64::MAX) } else { self.handle.id() }
            }
        }

        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.handle.inert() {
                    return f.write_str(concat!(stringify!($handle), "(of the parent process)"));
                }
                f.debug_struct(stringify!($handle))
                    .field("id", &format_args!("{}", self.id()))
                    .field("dtype", &self.dtype())
                    .field("shape", &self.shape())
                    .field("timestamp", &self.timestamp())
                    .finish_non_exhaustive()
            }
        }
    )*};
}
descriptions!(Buffer, BufferMut);
