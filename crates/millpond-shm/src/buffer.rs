//! Handles of buffers: a unique writable one and a shared read-only one.
//!
//! A handle is local to its process and is never stored in shared memory; it knows where the shared record is and which
//! token of it this process owns. Cloning inside a process counts privately; the last handle gives the token back with one
//! store. A received buffer is seen through a read-only mapping, so a stray write faults here instead of corrupting others.

#![allow(unsafe_code)]

use crate::allocator::{Allocator, describe_fresh};
use crate::attachment::Attachment;
use crate::error::{Error, Result};
use crate::layout::{MAX_DIMENSIONS, SlotRecord};
use crate::pools::PoolMap;
use crate::sync::{Ordering, private};
use crate::timestamp::Timestamp;
use crate::token::Reference;
use crate::types::{DType, Description, MAX_LENGTH, Shape};
use bytemuck::Pod;
use std::fmt;
use std::ptr::NonNull;

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

/// A buffer that only this handle refers to: writable.
///
/// Dropping it gives the buffer back. Sending it, or [`freeze`](BufferMut::freeze), makes it a [`Buffer`].
///
/// # Crash safety
/// If the process dies, the buffer is given back; nobody else has seen it.
pub struct BufferMut {
    handle: Handle,
}

impl BufferMut {
    /// The handle of a slot whose token 0 was just claimed. Its pool is mapped for writing.
    #[inline(always)]
    pub(crate) fn allocated(
        pool: &'static PoolMap,
        slot: u32,
        record: &SlotRecord,
        length: usize,
    ) -> BufferMut {
        describe_fresh(record, pool.pond.me, Description::bytes(length as u64));
        BufferMut { handle: Handle::new(pool, slot, 0, ALONE) }
    }

    /// Start of the block; `None` in a forked child, which has no mapping.
    #[inline(always)]
    fn data(&self) -> Option<NonNull<u8>> {
        if self.handle.inert() { None } else { self.handle.pool.written_address(self.handle.slot()) }
    }

    /// Bytes in use.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.handle.length()
    }

    /// Whether no bytes are in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the block can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        if self.handle.inert() { 0 } else { self.handle.pool.block_bytes as usize }
    }

    /// Uses the first `bytes` of the block, as plain bytes of the same dtype.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] beyond the capacity.
    pub fn set_len(&mut self, bytes: usize) -> Result<()> {
        if self.handle.inert() {
            return Err(Error::Forked);
        }
        if bytes > self.capacity() {
            return Err(Error::InvalidConfig {
                what: format!("length of buffer {}", self.id()),
                expected: format!("at most {} bytes, its capacity", self.capacity()),
                found: format!("{bytes} bytes"),
            });
        }
        let description = self.handle.description();
        let dtype = description.dtype().unwrap_or_default();
        self.handle.set_description(description.with_length(bytes as u64).with_array(dtype, 0));
        Ok(())
    }

    /// Says that the contents are an array of `dtype` with `shape` (at most 6 dimensions, slowest first); sets the length.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if that does not fit.
    pub fn set_array(&mut self, dtype: DType, shape: &[u32]) -> Result<()> {
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d.into()));
        let bytes =
            elements.and_then(|n| n.checked_mul(dtype.size_bytes() as u64)).filter(|b| *b <= MAX_LENGTH);
        let (Some(bytes), Some(_)) = (bytes, Shape::new(shape)) else {
            return Err(Error::InvalidConfig {
                what: "shape".to_owned(),
                expected: format!("at most {MAX_DIMENSIONS} dimensions and 2^40 bytes"),
                found: format!("{shape:?} of {dtype}"),
            });
        };
        self.set_len(bytes as usize)?;
        // One dimension needs no words of its own: it follows from the length.
        let stored = if shape.len() == 1 { 0 } else { shape.len() };
        if stored > 0 {
            for (to, &from) in self.handle.record().shape.iter().zip(shape) {
                to.store(from, Ordering::Relaxed);
                crash_point!(DescribedInPart);
            }
        }
        self.handle.set_description(self.handle.description().with_array(dtype, stored));
        Ok(())
    }

    /// The contents.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let Some(data) = self.data() else { return &[] };
        // SAFETY: `data` is the start of the slot's block in the writable mapping, which lives as long as the handle's token
        // keeps the pond attached; `len` is at most the block's size; any byte is valid. This handle's token is the only
        // one of the slot (I2), so no process that follows the protocol writes meanwhile, and `&self` excludes `as_bytes_mut`.
        unsafe { std::slice::from_raw_parts(data.as_ptr(), self.len()) }
    }

    /// The contents, to be written.
    #[inline]
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        let Some(data) = self.data() else { return &mut [] };
        // SAFETY: as in `as_bytes`; `&mut self` on the only handle of the only token makes the slice exclusive.
        unsafe { std::slice::from_raw_parts_mut(data.as_ptr(), self.len()) }
    }

    /// The contents as a slice of `T`.
    ///
    /// # Errors
    /// [`Error::WrongType`] if `T` is a number type and the elements are of another one, or if the length is no multiple of `T`'s
    /// size. Bytes without a type can be seen as anything. Blocks are aligned to 64 bytes.
    #[inline]
    pub fn as_slice<T: Pod>(&self) -> Result<&[T]> {
        self.handle.typed(self.as_bytes())
    }

    /// The contents as a slice of `T`, to be written.
    ///
    /// # Errors
    /// As [`as_slice`](Self::as_slice).
    #[inline]
    pub fn as_mut_slice<T: Pod>(&mut self) -> Result<&mut [T]> {
        if self.handle.inert() {
            return Err(Error::Forked);
        }
        let admits = self.handle.description().dtype().is_none_or(DType::admits::<T>);
        if !admits || !self.len().is_multiple_of(size_of::<T>().max(1)) {
            return Err(self.handle.wrong_type::<T>());
        }
        let wrong = Error::WrongType {
            expected: std::any::type_name::<T>().to_owned(),
            found: "its bytes".to_owned(),
        };
        bytemuck::try_cast_slice_mut(self.as_bytes_mut()).map_err(|_| wrong)
    }

    /// Says when the contents were taken.
    pub fn set_timestamp(&mut self, timestamp: Timestamp) {
        if self.handle.inert() {
            return;
        }
        let (kind, value) = match timestamp {
            Timestamp::None => (0, 0),
            Timestamp::Absolute(ns) => (1, ns),
            Timestamp::Relative(ns) => (2, ns),
            Timestamp::Sample { index, rate_num, rate_den } => {
                self.handle.record().rate[0].store(rate_num, Ordering::Relaxed);
                self.handle.record().rate[1].store(rate_den, Ordering::Relaxed);
                crash_point!(DescribedInPart);
                (3, index)
            }
        };
        self.handle.record().references.stamp.store(value as u64, Ordering::Relaxed);
        crash_point!(DescribedInPart);
        self.handle.set_description(self.handle.description().with_stamp_kind(kind));
    }

    /// Says which span of time the contents cover: start and end in the timestamp's unit.
    pub fn set_time_range(&mut self, range: Option<(i64, i64)>) {
        if self.handle.inert() {
            return;
        }
        if let Some((start, end)) = range {
            self.handle.record().range[0].store(start as u64, Ordering::Relaxed);
            self.handle.record().range[1].store(end as u64, Ordering::Relaxed);
            crash_point!(DescribedInPart);
        }
        self.handle.set_description(self.handle.description().with_range(range.is_some()));
    }

    /// Numbers the buffer within its stream.
    #[inline]
    pub fn set_sequence(&mut self, sequence: u64) {
        if !self.handle.inert() {
            self.handle.record().references.sequence.store(sequence, Ordering::Relaxed);
        }
    }

    /// Makes it shared and read-only.
    #[inline]
    #[must_use]
    pub fn freeze(self) -> Buffer {
        let this = std::mem::ManuallyDrop::new(self);
        Buffer { handle: Handle { pool: this.handle.pool, bits: this.handle.bits } }
    }
}

impl Drop for BufferMut {
    #[inline]
    fn drop(&mut self) {
        if !self.handle.inert() {
            self.handle.record().references.release(self.handle.token());
        }
    }
}

/// A buffer that others may refer to as well: read-only. Clones are cheap and stay in this process.
///
/// # Crash safety
/// If the process dies, its references are given back; other holders and queues keep theirs.
pub struct Buffer {
    handle: Handle,
}

impl Buffer {
    /// The handle of a token that was just taken from a lane. `None`: the word names no buffer.
    #[inline(always)]
    pub(crate) fn taken(
        pond: &'static Attachment,
        reference: Reference,
        again: bool,
        to_finish: bool,
    ) -> Option<Buffer> {
        let pool = pond.pools.get(pond, reference.pool)?;
        let flags = if again { AGAIN } else { 0 } | if to_finish { TO_FINISH } else { 0 };
        pool.contains(reference.slot)
            .then(|| Buffer { handle: Handle::new(pool, reference.slot, reference.token, flags) })
    }

    /// Bytes in use.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        if self.handle.inert() { 0 } else { self.handle.length() }
    }

    /// Whether no bytes are in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The contents.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        if self.handle.inert() {
            return &[];
        }
        let data = self.handle.pool.read_address(self.handle.slot());
        // SAFETY: `data` is the start of the slot's block in the read-only mapping, which lives as long as the handle's token
        // keeps the pond attached; the length is at most the block's size; any byte is valid. While a token is held nobody
        // who follows the protocol writes to the block: a writer must be the only holder (I2).
        unsafe { std::slice::from_raw_parts(data.as_ptr(), self.handle.length()) }
    }

    /// The contents as a slice of `T`.
    ///
    /// # Errors
    /// As [`BufferMut::as_slice`].
    #[inline]
    pub fn as_slice<T: Pod>(&self) -> Result<&[T]> {
        self.handle.typed(self.as_bytes())
    }

    /// Whether this buffer may have been delivered before, to a consumer that was killed before it finished.
    #[must_use]
    pub fn redelivered(&self) -> bool {
        self.handle.is(AGAIN)
    }

    /// References to the buffer in all processes and queues, now. For people: it may change at any moment.
    #[must_use]
    pub fn references(&self) -> u32 {
        if self.handle.inert() { 0 } else { self.handle.record().references.count() }
    }

    /// Makes it writable without copying, if this is the only reference to the buffer in all processes and queues.
    ///
    /// # Errors
    /// The buffer itself, if somebody else has it too, or if it is to be redelivered should this process die.
    pub fn try_into_mut(self) -> std::result::Result<BufferMut, Buffer> {
        let handle = &self.handle;
        let unique = !handle.inert()
            && !handle.is(TO_FINISH)
            && handle.is_only_handle()
            && (handle.is_known_alone()
                || handle.record().references.is_unreferenced_except(handle.token().into()));
        // The writable mapping first: without it the buffer goes back as it was.
        if !unique || handle.pool.map_for_writing().is_err() {
            return Err(self);
        }
        let this = std::mem::ManuallyDrop::new(self);
        this.handle.clones().store(0, private::Ordering::Relaxed);
        let handle = Handle::new(this.handle.pool, this.handle.slot(), this.handle.token(), ALONE);
        Ok(BufferMut { handle })
    }

    /// Makes it writable: itself if this is the only reference, else a copy from `allocator`.
    ///
    /// # Errors
    /// Those of [`Allocator::allocate`], when a copy is needed.
    pub fn into_mut(self, allocator: &mut Allocator) -> Result<BufferMut> {
        self.try_into_mut().or_else(|shared| {
            let from = shared.as_bytes();
            let mut copy = allocator.allocate(from.len())?;
            // Both lengths stand in shared memory: a stray write may change them at any moment.
            let to = copy.as_bytes_mut();
            let both = to.len().min(from.len());
            to[..both].copy_from_slice(&from[..both]);
            copy.describe_as(&shared)?;
            Ok(copy)
        })
    }

    // ---- for output ports

    #[inline]
    pub(crate) fn pond(&self) -> &'static Attachment {
        self.handle.pond()
    }

    #[inline]
    pub(crate) fn record(&self) -> &'static SlotRecord {
        self.handle.record()
    }

    #[inline]
    pub(crate) fn reference(&self) -> Reference {
        self.handle.reference()
    }

    /// Whether the token can be given away: no clone in this process uses it, and it is not a redeliverable entry.
    #[inline]
    pub(crate) fn owns_token(&self) -> bool {
        !self.handle.is(TO_FINISH) && self.handle.is_only_handle()
    }

    /// Adds a reference for another lane; this handle keeps its own.
    #[inline]
    pub(crate) fn add_reference(&self) -> Option<Reference> {
        let references = &self.record().references;
        let me = self.handle.pond().me;
        let token =
            if self.handle.is_known_alone() { references.add_as_unique(me) } else { references.add(me) }?;
        Some(Reference { token, ..self.handle.reference() })
    }

    /// Gives the token away: the handle is gone, the token is not released.
    #[inline]
    pub(crate) fn into_token(self) -> Reference {
        debug_assert!(self.owns_token());
        let this = std::mem::ManuallyDrop::new(self);
        let clones = this.handle.clones();
        if clones.load(private::Ordering::Relaxed) != 0 {
            clones.store(0, private::Ordering::Relaxed); // the token may come back: it begins anew then
        }
        this.handle.reference()
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let handle = &self.handle;
        if !handle.inert() {
            let clones = handle.clones();
            // Relaxed: only who holds a handle of the token, and so got it after this, depends on the mark.
            clones.fetch_or(CLONED, private::Ordering::Relaxed);
            let before = clones.fetch_add(1, private::Ordering::Relaxed);
            // As Arc does: a count that could wrap would free what is in use.
            if before & MORE_HANDLES > MORE_HANDLES / 2 {
                std::process::abort();
            }
        }
        Buffer { handle: Handle { pool: handle.pool, bits: handle.bits & !ALONE } }
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        let handle = &self.handle;
        if handle.inert() {
            return;
        }
        let clones = handle.clones();
        // Zero: no other handle exists, and none can come to be but through this one. The usual case costs one load.
        if clones.load(private::Ordering::Acquire) != 0 {
            if clones.fetch_sub(1, private::Ordering::AcqRel) & MORE_HANDLES != 0 {
                return;
            }
            clones.store(0, private::Ordering::Relaxed); // we are the last
        }
        if handle.is(TO_FINISH) {
            crate::redelivery::finish(handle.pond(), handle.reference());
        } else {
            handle.record().references.release(handle.token());
        }
    }
}

impl From<BufferMut> for Buffer {
    #[inline]
    fn from(buffer: BufferMut) -> Buffer {
        buffer.freeze()
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

impl BufferMut {
    /// Takes over what `other` says about its contents.
    fn describe_as(&mut self, other: &Buffer) -> Result<()> {
        self.set_array(other.dtype(), &other.shape())?;
        self.set_len_keeping_shape(other.len());
        self.set_timestamp(other.timestamp());
        self.set_time_range(other.time_range());
        self.set_sequence(other.sequence());
        Ok(())
    }

    fn set_len_keeping_shape(&mut self, bytes: usize) {
        let description = self.handle.description().with_length(bytes as u64);
        self.handle.set_description(description);
    }
}
