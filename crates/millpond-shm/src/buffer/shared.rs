//! The read-only handle: one of perhaps many references to its buffer.

#![allow(unsafe_code)]

use super::{AGAIN, ALONE, BufferMut, CLONED, Handle, MORE_HANDLES, TO_FINISH};
use crate::allocator::Allocator;
use crate::attachment::Attachment;
use crate::error::Result;
use crate::layout::SlotRecord;
use crate::sync::private;
use crate::token::Reference;
use bytemuck::Pod;

/// A buffer that others may refer to as well: read-only. Clones are cheap and stay in this process.
///
/// # Crash safety
/// If the process dies, its references are given back; other holders and queues keep theirs.
pub struct Buffer {
    pub(super) handle: Handle,
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
