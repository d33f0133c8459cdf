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

/// A full fence on every running thread of every registered process. `false`: only on this one; the kernel had no memory for it, or
/// a seccomp filter came after the registration.
pub(crate) fn all_processes() -> bool {
    let passed = membarrier(MembarrierCommand::GlobalExpedited).is_ok();
    crate::sync::fence(crate::sync::Ordering::SeqCst);
    passed
}
