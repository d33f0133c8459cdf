//! The writable handle: the only reference to its buffer.

#![allow(unsafe_code)]

use super::{ALONE, Buffer, Handle};
use crate::allocator::describe_fresh;
use crate::error::{Error, Result};
use crate::layout::{MAX_DIMENSIONS, SlotRecord};
use crate::pools::PoolMap;
use crate::sync::Ordering;
use crate::timestamp::Timestamp;
use crate::types::{DType, Description, MAX_LENGTH, Shape};
use bytemuck::Pod;
use std::ptr::NonNull;

/// A buffer that only this handle refers to: writable.
///
/// Dropping it gives the buffer back. Sending it, or [`freeze`](BufferMut::freeze), makes it a [`Buffer`].
///
/// # Crash safety
/// If the process dies, the buffer is given back; nobody else has seen it.
pub struct BufferMut {
    pub(super) handle: Handle,
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

    /// Takes over what `other` says about its contents.
    pub(super) fn describe_as(&mut self, other: &Buffer) -> Result<()> {
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

impl Drop for BufferMut {
    #[inline]
    fn drop(&mut self) {
        if !self.handle.inert() {
            self.handle.record().references.release(self.handle.token());
        }
    }
}
