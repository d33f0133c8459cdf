//! What the measurements agree on.

use std::time::Duration;

/// How long a measurement runs before it counts: page faults, caches, processor frequency.
pub const WARM_UP: Duration = Duration::from_millis(200);

/// The sequence number that ends a stream. No stream gets this far by counting.
pub const END: u64 = u64::MAX;

/// Small messages between two looks at the clock, which costs as much as some of them.
pub const BATCH: u64 = 64;
