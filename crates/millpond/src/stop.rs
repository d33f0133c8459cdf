//! Requests to stop one block, from signals, a supervisor or a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// How soon a block is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Urgency {
    /// When it is done.
    None,
    /// A source at once; any other block when its streams end, which they will.
    EndOfStream,
    /// When it has taken what is queued.
    Drain,
    /// Likewise, but it is taken out of the flowgraph: its streams do not end, they are disconnected.
    Leave,
    /// At once, leaving everything as it is.
    Now,
}

/// A request to stop that one side makes and the other looks at. Requests only get more urgent.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopRequest {
    urgency: Arc<AtomicU8>,
}

impl StopRequest {
    /// Whoever waits has to be woken afterwards.
    pub(crate) fn raise_to(&self, urgency: Urgency) {
        // Relaxed: the flag carries no data, and the wake-up that follows orders it before the next look.
        self.urgency.fetch_max(urgency as u8, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn urgency(&self) -> Urgency {
        const LEVELS: [Urgency; 5] =
            [Urgency::None, Urgency::EndOfStream, Urgency::Drain, Urgency::Leave, Urgency::Now];
        LEVELS[usize::from(self.urgency.load(Ordering::Relaxed))]
    }
}
