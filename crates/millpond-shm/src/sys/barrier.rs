//! The expensive half of an asymmetric fence.
//!
//! The doorbell needs a store-load fence on both sides (Dekker's pattern). The side that is about
//! to sleep is slow anyway, so it pays for both: `membarrier` makes every running thread of every registered process pass
//! a full fence, and the side that publishes gets by with a compiler fence.

use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

/// Whether the kernel offers the global expedited barrier, and this process is now registered for it.
pub(crate) fn register() -> bool {
    let needed = MembarrierQuery::GLOBAL_EXPEDITED | MembarrierQuery::REGISTER_GLOBAL_EXPEDITED;
    membarrier_query().contains(needed) && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok()
}

/// A full fence on every running thread of every registered process.
pub(crate) fn all_processes() {
    // The command was accepted at registration; it has no other way to fail. The fence below covers this thread.
    let _ = membarrier(MembarrierCommand::GlobalExpedited);
    crate::sync::fence(crate::sync::Ordering::SeqCst);
}
