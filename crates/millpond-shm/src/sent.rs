//! How many buffers an output has sent, as the queues themselves count it: a successor of a killed sender goes on behind them.
//!
//! Every connection knows what its output had sent when the output first saw it (`sent_before`), and its positions say the rest; what the
//! output had sent when its last connection went is kept with the port. So the count survives connections that come and go, and no send
//! pays for it.

use crate::control::{Control, LANE_ACTIVE};
use crate::lane::Lane;
use crate::layout::LaneRecord;
use crate::ports::Policy;
use crate::sync::Ordering;

/// Buffers that the output with this index has sent to connections. After a kill in the middle of a fan-out the connections may differ by
/// one: the smallest number, so that nothing is left out.
///
/// What a connection drops as the newest is no position of it, and counted apart, so such connections are asked only if there is no
/// other; those that are being removed lag behind, and are asked only if there is no other at all.
pub(crate) fn sent_to_connections(control: &Control, port: u32) -> u64 {
    let (mut exact, mut dropping) = (None::<u64>, None::<u64>);
    let mut before = control.port(port).map_or(0, |port| port.sent_before.load(Ordering::Relaxed));
    for (index, lane) in control.live_lanes() {
        if lane.from_port.load(Ordering::Relaxed) != port {
            continue;
        }
        let Some(sent) = sent_through(control, index, lane) else { continue };
        let is_active = lane.state.load(Ordering::Relaxed) == LANE_ACTIVE;
        let drops_newest = lane.policy.load(Ordering::Relaxed) == Policy::DropNewest as u32;
        match (is_active, drops_newest) {
            (true, false) => exact = Some(exact.map_or(sent, |known| known.min(sent))),
            (true, true) => dropping = Some(dropping.map_or(sent, |known| known.max(sent))),
            (false, _) => before = before.max(sent),
        }
    }
    exact.or(dropping).unwrap_or(before)
}

/// What its output had sent when it last sent to this connection; `None` if it never saw the connection.
pub(crate) fn sent_through(control: &Control, index: u32, record: &LaneRecord) -> Option<u64> {
    let before = record.sent_before.load(Ordering::Relaxed).checked_sub(1)?;
    let cells = control
        .ring(record.ring_offset.load(Ordering::Relaxed), record.ring_cells.load(Ordering::Relaxed))?;
    let lane = Lane { id: u16::try_from(index).ok()?, head: &record.head, cells };
    let end = lane.next_unpublished(record.head.load(Ordering::Acquire));
    let entered = end.wrapping_sub(record.base.load(Ordering::Relaxed));
    let dropped = record.dropped_newest.load(Ordering::Relaxed);
    // Wrapping: a stray write may have put anything there.
    Some(before.wrapping_add(entered).wrapping_add(dropped))
}
