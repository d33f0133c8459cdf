//! Output stamps that never go back, not even when the block's process is killed and another one goes on.

use crate::prelude::*;

/// The stamp of the last buffer that a block has sent on one output, by all its processes so far. A block can keep it for one
/// output only.
pub(super) struct LastStamp {
    /// Buffers sent so far.
    sent: u64,
    last_ns: i64,
    /// Until the first buffer beyond it, the successor of a killed process may make again what was sent.
    is_catching_up: bool,
}

impl Default for LastStamp {
    /// Nothing was sent.
    fn default() -> Self {
        Self { sent: 0, last_ns: i64::MIN, is_catching_up: false }
    }
}

impl LastStamp {
    /// What earlier processes of the block have left. Called in `start`, while the next sequence tells what they have sent.
    pub(super) fn of(io: &Io, output: &str) -> Self {
        let sent = io.next_sequence(output);
        match sent.checked_sub(1) {
            Some(last) => Self { sent, last_ns: io.statistics.left_stamp_ns(last), is_catching_up: true },
            None => Self::default(),
        }
    }

    /// A predecessor has sent this already.
    pub(super) fn was_sent(&mut self, stamp_ns: i64) -> bool {
        self.is_catching_up &= stamp_ns <= self.last_ns;
        self.is_catching_up
    }

    /// A new epoch begins: stamps may begin anywhere, also for a successor.
    pub(super) fn forget(&mut self, io: &Io) {
        (self.last_ns, self.is_catching_up) = (i64::MIN, false);
        if let Some(last) = self.sent.checked_sub(1) {
            io.statistics.leave_stamp(last, self.last_ns);
        }
    }

    /// The stamp itself, or the last one if it is earlier than that.
    pub(super) fn at_least(&self, stamp_ns: i64) -> i64 {
        stamp_ns.max(self.last_ns)
    }

    /// Sends a buffer, having left its stamp to a successor.
    pub(super) fn send(&mut self, io: &mut Io, output: &str, buffer: BufferMut) -> WorkResult {
        self.last_ns = buffer.timestamp().to_ns(None).map_or(self.last_ns, |ns| ns.max(self.last_ns));
        io.statistics.leave_stamp(self.sent, self.last_ns);
        self.sent += 1;
        io.send(output, buffer)
    }
}
