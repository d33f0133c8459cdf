//! Where the blocks of one process get their buffers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millpond_shm::{Allocator, Buffer, BufferMut, Pond};

/// One allocator for all blocks of a scheduler: a buffer that the last block of a chain gives back is the one that the first
/// block takes next, while it is still in the cache.
#[derive(Clone)]
pub struct SharedAllocator {
    allocator: Arc<Mutex<Allocator>>,
    /// Several blocks take turns here; a single one does better with the slot that was handed out longest ago, which its
    /// receiver has had time to give back.
    recent_first: bool,
}

impl SharedAllocator {
    pub(crate) fn new(pond: &Pond, recent_first: bool) -> Self {
        Self { allocator: Arc::new(Mutex::new(pond.allocator())), recent_first }
    }

    /// A new buffer; `None` if none is free now.
    ///
    /// # Errors
    /// If no buffer can ever be that large, or the process is a forked child.
    pub fn try_allocate(&self, bytes: usize) -> millpond_shm::Result<Option<BufferMut>> {
        self.with(|allocator| match self.recent_first {
            true => allocator.try_allocate_recent(bytes),
            false => allocator.try_allocate(bytes),
        })
    }

    /// The buffer itself if nobody else can see it, else a copy.
    ///
    /// # Errors
    /// If a copy is needed and no buffer is free.
    pub fn make_mut(&self, buffer: Buffer) -> millpond_shm::Result<BufferMut> {
        self.with(|allocator| buffer.into_mut(allocator))
    }

    /// Who has all the buffers that would hold so many bytes; `None`: one is free after all.
    pub(crate) fn why_exhausted(&self, bytes: usize) -> Option<String> {
        let error = self.with(|allocator| allocator.allocate_timeout(bytes, Duration::ZERO)).err()?;
        Some(error.to_string())
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Allocator) -> T) -> T {
        // A panic in between cannot be: an allocator returns its errors.
        use_it(&mut self.allocator.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
