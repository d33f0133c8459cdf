//! What the measurements agree on.

pub use crate::library::WARM_UP;

/// The sequence number that ends a stream. No stream gets this far by counting.
pub const END: u64 = u64::MAX;

/// Small messages between two looks at the clock, which costs as much as some of them.
pub const BATCH: u64 = 64;
