//! Connections: a lane and its ring of cells, from making to tearing down.

use crate::control::{EXCLUSIVE, LANE_ACTIVE, LANE_CLOSING, LANE_FREE, SHARED};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::layout::{LaneRecord, MAX_CONNECTIONS, MAX_CONSUMERS, MAX_DEPTH, MAX_FAN_OUT};
use crate::ports::{ConnectionConfig, DEFAULT_DEPTH, Policy};
use crate::registry::{Direction, find, split_port};
use crate::registry_lock::Registry;
use crate::sent::sent_through;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::memory;
use crate::token::{Cell, Token};

impl Registry<'_> {
    fn find_lane(&self, from: u32, to: u32) -> Option<u32> {
        find(self.pond.control.live_lanes(), |l| {
            l.state.load(Ordering::Relaxed) == LANE_ACTIVE
                && l.from_port.load(Ordering::Relaxed) == from
                && l.to_port.load(Ordering::Relaxed) == to
        })
        .map(|(index, _)| index)
    }

    /// Connects two ports, making them if need be.
    pub(crate) fn connect(&self, from: &str, to: &str, config: &ConnectionConfig) -> Result<()> {
        let depth = config.depth.unwrap_or(DEFAULT_DEPTH);
        let wrong = |expected: String, found: String| {
            Err(Error::InvalidConfig { what: format!("connection `{from}` -> `{to}`"), expected, found })
        };
        if depth == 0 || depth > MAX_DEPTH {
            return wrong(format!("a depth of 1 to {MAX_DEPTH}"), depth.to_string());
        }
        // 0 in the record means no limit.
        let max_time_ns = config.max_time.map(|time| i64::try_from(time.as_nanos()).unwrap_or(0));
        if max_time_ns == Some(0) {
            let found = format!("{:?}", config.max_time.unwrap_or_default());
            return wrong("a `max_time` from 1 ns to 292 years".to_owned(), found);
        }
        let from_port = self.declare_port(from, Direction::Output)?;
        let to_port = self.declare_port(to, Direction::Input)?;
        if self.find_lane(from_port, to_port).is_some() {
            let name = format!("{from} -> {to}");
            return Err(Error::Exists { pond: self.pond.name.clone(), what: "connection", name });
        }
        let target = self.port(to_port)?;
        let policy = config.policy.unwrap_or_default();
        if policy == Policy::DropOldest && target.redeliver.load(Ordering::Relaxed) == 1 {
            return wrong(
                "a policy that blocks or drops the newest (the port redelivers)".into(),
                "drop-oldest".into(),
            );
        }
        let fan_out =
            self.pond.control.live_lanes().filter(|(_, l)| l.from_port.load(Ordering::Relaxed) == from_port);
        if fan_out.count() >= MAX_FAN_OUT {
            return wrong(
                format!("at most {MAX_FAN_OUT} connections from one output"),
                "one more".to_owned(),
            );
        }
        let cells = depth.next_power_of_two();
        let (index, lane) = self.free_lane(cells)?;
        let shared = target.shared.load(Ordering::Relaxed) == 1 || policy == Policy::DropOldest;
        let base = lane.head.load(Ordering::Relaxed);
        let ring = self.pond.control.ring(lane.ring_offset.load(Ordering::Relaxed), cells);
        for position in (0..u64::from(cells)).map(|n| base.wrapping_add(n)) {
            if let Some(cell) = ring.and_then(|r| r.get(position as usize & (cells as usize - 1))) {
                cell.store(Cell::consumed(position, cells).0, Ordering::Relaxed);
            }
        }
        crash_point!(ConnectRing);
        for counter in [
            &lane.redelivered_until,
            &lane.redelivered,
            &lane.redelivered_after,
            &lane.lost_in_hand,
            &lane.lost_after,
            &lane.end,
            &lane.dropped_newest,
            &lane.dropped_oldest,
            &lane.dropped_after,
            &lane.base,
            &lane.sent_before,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        lane.base.store(base, Ordering::Relaxed);
        for word in lane.consumers.iter().chain(&lane.consumer_waiters) {
            word.store(0, Ordering::Relaxed);
        }
        for word in [&lane.producer, &lane.producer_waiter, &lane.producer_presence, &lane.consumer_presence]
        {
            word.store(0, Ordering::Relaxed);
        }
        lane.kind.store(if shared { SHARED } else { EXCLUSIVE }, Ordering::Relaxed);
        lane.from_port.store(from_port, Ordering::Relaxed);
        lane.to_port.store(to_port, Ordering::Relaxed);
        lane.depth.store(depth, Ordering::Relaxed);
        lane.max_time_ns.store(max_time_ns.unwrap_or(0).cast_unsigned(), Ordering::Relaxed);
        lane.policy.store(policy as u32, Ordering::Relaxed);
        lane.on_receiver_death.store(config.on_receiver_death as u32, Ordering::Relaxed);
        crash_point!(ConnectWritten);
        lane.state.store(LANE_ACTIVE, Ordering::Release);
        crash_point!(ConnectActive);
        let header = self.pond.control.header();
        let used = header.lanes_used.load(Ordering::Relaxed).min(MAX_CONNECTIONS as u32);
        header.lanes_used.store(used.max(index + 1), Ordering::Release);
        crash_point!(ConnectListed);
        for place in 0..MAX_CONSUMERS {
            self.set_consumer(lane, target, place);
        }
        self.set_producer(lane, self.port(from_port)?);
        crash_point!(ConnectEnds);
        self.tell_port(to_port);
        self.tell_port(from_port);
        Ok(())
    }

    /// A free lane with a committed ring of that size.
    fn free_lane(&self, cells: u32) -> Result<(u32, &LaneRecord)> {
        let control = &self.pond.control;
        let used = control.header().lanes_used.load(Ordering::Relaxed).min(MAX_CONNECTIONS as u32);
        let is_free =
            |i: &u32| control.lane(*i).is_some_and(|l| l.state.load(Ordering::Relaxed) == LANE_FREE);
        let index = (0..used).find(is_free).unwrap_or(used);
        let lane = control
            .lane(index)
            .ok_or_else(|| self.full("connection", MAX_CONNECTIONS, "disconnect some, or merge streams"))?;
        // Rings of free lanes are free space: first fit among those of the others.
        let mut taken: Vec<(u64, u64)> = control
            .live_lanes()
            .map(|(_, l)| {
                let start = l.ring_offset.load(Ordering::Relaxed);
                (start, start.saturating_add(u64::from(l.ring_cells.load(Ordering::Relaxed)) * 8))
            })
            .collect();
        taken.sort_unstable();
        let bytes = memory::round_up(u64::from(cells) * 8, 128);
        let mut offset = control.tables().rings;
        for (start, end) in taken {
            if start >= offset.saturating_add(bytes) {
                break;
            }
            offset = offset.max(memory::round_up(end.min(control.tables().bytes), 128));
        }
        if offset + bytes > control.tables().bytes {
            return Err(Error::OutOfMemory {
                what: format!("a connection's queue of {cells} entries in pond `{}`", self.pond.name),
                problem: "the room for queues (1 GiB) is used up".to_owned(),
            });
        }
        memory::commit(&self.pond.control_fd, offset, bytes).map_err(|e| Error::OutOfMemory {
            what: format!("a connection's queue of {cells} entries in pond `{}`", self.pond.name),
            problem: e.to_string(),
        })?;
        lane.ring_offset.store(offset, Ordering::Relaxed);
        lane.ring_cells.store(cells, Ordering::Relaxed);
        Ok((index, lane))
    }

    /// Removes a connection. What is queued is still received, if somebody receives; else it is given back, and counted.
    pub(crate) fn disconnect(&self, from: &str, to: &str) -> Result<()> {
        let name = || format!("{from} -> {to}");
        let lookup = |port: &str| {
            let (block, port) = split_port(port)?;
            Ok(self.find_block(block).and_then(|(b, _)| self.find_port(b, port)).map(|(p, _)| p))
        };
        let (from_port, to_port) = (lookup(from)?, lookup(to)?);
        let lane = from_port.zip(to_port).and_then(|(f, t)| self.find_lane(f, t));
        self.close_lane(lane.ok_or_else(|| self.unknown("connection", &name()))?);
        Ok(())
    }

    pub(super) fn close_lane(&self, index: u32) {
        let Some(lane) = self.pond.control.lane(index) else { return };
        lane.state.store(LANE_CLOSING, Ordering::Release);
        crash_point!(CloseMarked);
        let (from, to) = (lane.from_port.load(Ordering::Relaxed), lane.to_port.load(Ordering::Relaxed));
        self.teardown_if_abandoned(index);
        self.tell_port(from);
        self.tell_port(to);
    }

    /// Frees a closing lane that neither end uses; what is queued is given back. Idempotent: redone from the start if it is
    /// cut off. `head` stays: it is the base of the lane's next use.
    pub(crate) fn teardown_if_abandoned(&self, index: u32) {
        let Some(lane) = self.pond.control.lane(index) else { return };
        let used = lane.producer.load(Ordering::Relaxed) != 0
            || lane.consumers.iter().any(|c| c.load(Ordering::Relaxed) != 0);
        if used || lane.state.load(Ordering::Relaxed) != LANE_CLOSING {
            return;
        }
        let cells = self
            .pond
            .control
            .ring(lane.ring_offset.load(Ordering::Relaxed), lane.ring_cells.load(Ordering::Relaxed));
        if let Some(cells) = cells {
            let ring = Lane { id: index as u16, head: &lane.head, cells };
            let mut head = lane.head.load(Ordering::Acquire);
            for _ in 0..cells.len() {
                let Some(cell) = ring.published(head) else { break };
                let reference = cell.reference();
                let queued = Token::queued(ring.id, head).0;
                let dropped = self
                    .pond
                    .control
                    .port(lane.to_port.load(Ordering::Relaxed))
                    .map(|p| &p.dropped_at_disconnect);
                let counted = |count: &AtomicU64| count.load(Ordering::Relaxed);
                if let Some(slot) = self.pond.control.slot(reference.slot)
                    && let Some(token) = slot.references.tokens.get(reference.token as usize)
                    && token.load(Ordering::Relaxed) == queued
                {
                    // What the count will be, first: cut off behind the release, it is made good from here.
                    lane.dropped_after.store(dropped.map_or(0, counted).wrapping_add(1), Ordering::Relaxed);
                    crash_point!(TeardownNoted);
                    token.store(0, Ordering::Release);
                    crash_point!(TeardownReleased);
                }
                if let Some(dropped) = dropped {
                    let after = counted(&lane.dropped_after).max(counted(dropped));
                    dropped.store(after, Ordering::Relaxed);
                }
                crash_point!(TeardownEntry);
                head = head.wrapping_add(1);
                lane.head.store(head, Ordering::Release);
                crash_point!(TeardownHead);
            }
        }
        if let Some(sent) = sent_through(&self.pond.control, index, lane)
            && let Some(port) = self.pond.control.port(lane.from_port.load(Ordering::Relaxed))
        {
            let known = port.sent_before.load(Ordering::Relaxed);
            port.sent_before.store(known.max(sent), Ordering::Relaxed);
        }
        crash_point!(TeardownDrained);
        lane.state.store(LANE_FREE, Ordering::Release);
    }
}
