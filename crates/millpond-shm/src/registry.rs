//! Blocks, ports and connections by name. Every change is made under the registry lock and in an order that leaves a half-made
//! record free and a half-removed one closing, so that whoever takes the lock over has nothing to repair.

use crate::attachment::Attachment;
use crate::control::{
    ATTACHED, Control, DIED, EXCLUSIVE, LANE_ACTIVE, LANE_CLOSING, LANE_FREE, LEFT, SHARED, change_presence,
    set_presence,
};
use crate::error::{Context, Error, Result};
use crate::lane::Lane;
use crate::layout::{
    BlockRecord, LaneRecord, MAX_BLOCKS, MAX_CONNECTIONS, MAX_CONSUMERS, MAX_DEPTH, MAX_DESCRIPTION_BYTES,
    MAX_DIMENSIONS, MAX_NAME_BYTES, MAX_PORTS, PortRecord,
};
use crate::ports::{ConnectionConfig, DEFAULT_DEPTH, Policy, StreamFormat};
use crate::registry_lock::Registry;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::memory;
use crate::token::{Cell, Token};
use crate::types::DType;

/// Which way data goes through a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Direction {
    /// Out of the block.
    Output = 1,
    /// Into the block.
    Input = 2,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Output => "output",
            Direction::Input => "input",
        }
    }
}

/// Whether `name` can be the name of a pond, block or port: 1 to 64 letters, digits, `-` and `_`.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!("it has {} bytes, at most {MAX_NAME_BYTES} are allowed", name.len())
    } else if let Some(bad) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
        format!("`{bad}` is not allowed; use letters, digits, `-` and `_`")
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { what, name: name.to_owned(), reason })
}

/// Where a connection leads whose port was removed: no port has this index.
const NO_PORT: u32 = u32::MAX;

fn split_port(port: &str) -> Result<(&str, &str)> {
    let Some((block, name)) = port.split_once('.') else {
        return Err(Error::InvalidName {
            what: "port",
            name: port.to_owned(),
            reason: "expected `block.port`, for example `gain.out`".to_owned(),
        });
    };
    check_name("block", block)?;
    check_name("port", name)?;
    Ok((block, name))
}

/// `block.port` of a port's index, for people.
pub(crate) fn port_name(control: &Control, index: u32) -> String {
    let Some(port) = control.port(index) else { return "?".to_owned() };
    let block =
        control.block(port.block.load(Ordering::Relaxed)).map_or_else(|| "?".to_owned(), |b| b.name.load());
    format!("{block}.{}", port.name.load())
}

fn find<'a, T>(
    mut records: impl Iterator<Item = (u32, &'a T)>,
    matches: impl Fn(&T) -> bool,
) -> Option<(u32, &'a T)> {
    records.find(|(_, r)| matches(r))
}

impl Registry<'_> {
    pub(crate) fn full(&self, what: &'static str, limit: usize, advice: &'static str) -> Error {
        Error::TableFull { pond: self.pond.name.clone(), what, limit, advice }
    }

    pub(crate) fn unknown(&self, what: &'static str, name: &str) -> Error {
        Error::Unknown { pond: self.pond.name.clone(), what, name: name.to_owned() }
    }

    // ---- blocks

    pub(crate) fn find_block(&self, name: &str) -> Option<(u32, &BlockRecord)> {
        find(self.pond.control.used_blocks(), |b| b.name.load() == name)
    }

    /// The block of that name, made if there is none. An empty type leaves a known one as it is.
    pub(crate) fn declare_block(&self, name: &str, block_type: &str) -> Result<u32> {
        check_name("block", name)?;
        if let Some((index, block)) = self.find_block(name) {
            if !block_type.is_empty() {
                block.block_type.store(block_type);
            }
            return Ok(index);
        }
        let header = self.pond.control.header();
        let used = header.blocks_used.load(Ordering::Relaxed).min(MAX_BLOCKS as u32);
        let unused =
            |i: &u32| self.pond.control.block(*i).is_some_and(|b| b.state.load(Ordering::Relaxed) == 0);
        let free = (0..used).find(unused).unwrap_or(used);
        let block =
            self.pond.control.block(free).ok_or_else(|| {
                self.full("block", MAX_BLOCKS, "remove blocks that are gone, or merge some")
            })?;
        block.name.store(name);
        block.block_type.store(block_type);
        block.process.store(0, Ordering::Relaxed);
        block.has_settings.store(0, Ordering::Relaxed);
        for counter in &block.counters {
            counter.store(0, Ordering::Relaxed);
        }
        crash_point!(BlockWritten);
        block.state.store(1, Ordering::Release);
        crash_point!(BlockMade);
        header.blocks_used.store(used.max(free + 1), Ordering::Release);
        Ok(free)
    }

    /// Says that this process runs the block.
    pub(crate) fn own_block(&self, index: u32) {
        if let Some(block) = self.pond.control.block(index) {
            block.process.store(self.pond.me.into(), Ordering::Release);
            crash_point!(BlockOwned);
        }
    }

    /// Removes a block that nobody runs, with its ports and connections.
    pub(crate) fn remove_block(&self, name: &str) -> Result<()> {
        let (index, block) = self.find_block(name).ok_or_else(|| self.unknown("block", name))?;
        let ports: Vec<(u32, &PortRecord)> = self
            .pond
            .control
            .used_ports()
            .filter(|(_, p)| p.block.load(Ordering::Relaxed) == index)
            .collect();
        for (port, record) in &ports {
            for owner in &record.owners {
                let owner = owner.load(Ordering::Relaxed);
                if owner != 0 {
                    let end = if record.direction.load(Ordering::Relaxed) == 1 { "output" } else { "input" };
                    let port = port_name(&self.pond.control, *port);
                    return Err(Error::PortInUse { port, pid: self.pond.pid_of(owner), end });
                }
            }
        }
        let of_block = |i: u32| ports.iter().any(|(p, _)| *p == i);
        let lanes: Vec<u32> = self
            .pond
            .control
            .live_lanes()
            .filter(|(_, l)| {
                of_block(l.from_port.load(Ordering::Relaxed)) || of_block(l.to_port.load(Ordering::Relaxed))
            })
            .map(|(i, _)| i)
            .collect();
        for lane in lanes {
            self.close_lane(lane);
            crash_point!(RemoveLane);
        }
        // A connection whose other end has not let go yet must not turn up at the next port with this index.
        for (_, lane) in self.pond.control.live_lanes() {
            for end in [&lane.from_port, &lane.to_port] {
                if of_block(end.load(Ordering::Relaxed)) {
                    end.store(NO_PORT, Ordering::Relaxed);
                }
            }
        }
        for (_, port) in ports {
            port.direction.store(0, Ordering::Release);
            crash_point!(RemovePort);
        }
        block.state.store(0, Ordering::Release);
        Ok(())
    }

    // ---- ports

    fn find_port(&self, block: u32, name: &str) -> Option<(u32, &PortRecord)> {
        find(self.pond.control.used_ports(), |p| {
            p.block.load(Ordering::Relaxed) == block && p.name.load() == name
        })
    }

    /// The port of that name, made (with its block) if there is none.
    pub(crate) fn declare_port(&self, port: &str, direction: Direction) -> Result<u32> {
        let (block_name, name) = split_port(port)?;
        let block = self.declare_block(block_name, "")?;
        if let Some((index, record)) = self.find_port(block, name) {
            if record.direction.load(Ordering::Relaxed) != direction as u32 {
                let other = if direction == Direction::Output { Direction::Input } else { Direction::Output };
                let (expected, found) = (direction.name(), other.name());
                return Err(Error::WrongDirection { port: port.to_owned(), expected, found });
            }
            return Ok(index);
        }
        let header = self.pond.control.header();
        let used = header.ports_used.load(Ordering::Relaxed).min(MAX_PORTS as u32);
        let unused =
            |i: &u32| self.pond.control.port(*i).is_some_and(|p| p.direction.load(Ordering::Relaxed) == 0);
        let free = (0..used).find(unused).unwrap_or(used);
        let record = self
            .pond
            .control
            .port(free)
            .ok_or_else(|| self.full("port", MAX_PORTS, "remove blocks that are gone"))?;
        record.block.store(block, Ordering::Relaxed);
        record.name.store(name);
        for word in [&record.shared, &record.redeliver, &record.has_format] {
            word.store(0, Ordering::Relaxed);
        }
        record.depth.store(DEFAULT_DEPTH, Ordering::Relaxed);
        record.unconnected.store(0, Ordering::Relaxed);
        record.dropped_at_disconnect.store(0, Ordering::Relaxed);
        for word in record.owners.iter().chain(&record.waiters) {
            word.store(0, Ordering::Relaxed);
        }
        crash_point!(PortWritten);
        record.direction.store(direction as u32, Ordering::Release);
        crash_point!(PortMade);
        header.ports_used.store(used.max(free + 1), Ordering::Release);
        Ok(free)
    }

    fn port(&self, index: u32) -> Result<&PortRecord> {
        self.pond.control.port(index).ok_or_else(|| self.unknown("port", &index.to_string()))
    }

    pub(crate) fn set_format(&self, port: u32, format: &StreamFormat) -> Result<()> {
        let record = self.port(port)?;
        let wrong = |expected: String, found: String| {
            Err(Error::InvalidConfig { what: "stream format".to_owned(), expected, found })
        };
        if format.shape.len() > MAX_DIMENSIONS {
            return wrong(format!("at most {MAX_DIMENSIONS} dimensions"), format!("{:?}", format.shape));
        }
        if format.description.len() > MAX_DESCRIPTION_BYTES {
            let found = format!("{} bytes", format.description.len());
            return wrong(format!("a description of at most {MAX_DESCRIPTION_BYTES} bytes"), found);
        }
        let (num, den) = format.rate_hz.unwrap_or((0, 1));
        if format.rate_hz.is_some() && (num == 0 || den == 0) {
            return wrong("a rate above 0 Hz".to_owned(), format!("{num}/{den} Hz"));
        }
        record.has_format.store(0, Ordering::Release);
        crash_point!(FormatCleared);
        record.dtype.store(format.dtype as u32, Ordering::Relaxed);
        record.dimensions.store(format.shape.len() as u32, Ordering::Relaxed);
        for (word, &dimension) in record.shape.iter().zip(&format.shape) {
            word.store(dimension, Ordering::Relaxed);
        }
        record.rate[0].store(num, Ordering::Relaxed);
        record.rate[1].store(den, Ordering::Relaxed);
        record.description.store(&format.description);
        crash_point!(FormatWritten);
        record.has_format.store(1, Ordering::Release);
        Ok(())
    }

    /// The format of an output port's stream, if its sender has given one.
    pub(crate) fn format(&self, port: u32) -> Option<StreamFormat> {
        read_format(self.pond.control.port(port)?)
    }

    // ---- ends

    /// Recovers whoever stands in `owner` if it is dead; `true`: the place is free now.
    fn vacate(&self, owner: u32) -> bool {
        if let Ok(slot) = u16::try_from(owner)
            && let Some(word) = self.pond.word_of_dead(slot)
        {
            self.recover(slot, word);
        }
        owner == 0 || !self.pond.is_listed(owner)
    }

    /// Takes the producing end of an output port, and of its connections.
    pub(crate) fn attach_output(&self, port: u32, waiter: u32) -> Result<()> {
        let record = self.port(port)?;
        let owner = record.owners[0].load(Ordering::Relaxed);
        if !self.vacate(owner) {
            let (port, pid) = (port_name(&self.pond.control, port), self.pond.pid_of(owner));
            return Err(Error::PortInUse { port, pid, end: "output" });
        }
        record.waiters[0].store(waiter, Ordering::Relaxed);
        crash_point!(AttachOutputWaiter);
        record.owners[0].store(self.pond.me.into(), Ordering::Release);
        crash_point!(AttachProducer);
        for (_, lane) in self.pond.control.live_lanes() {
            if lane.from_port.load(Ordering::Relaxed) == port
                && lane.state.load(Ordering::Relaxed) == LANE_ACTIVE
            {
                self.set_producer(lane, record);
                self.tell_port(lane.to_port.load(Ordering::Relaxed));
            }
        }
        record.epoch.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Makes the output port's owner the producer of a lane.
    fn set_producer(&self, lane: &LaneRecord, port: &PortRecord) {
        let owner = port.owners[0].load(Ordering::Relaxed);
        if owner == 0 {
            return;
        }
        lane.producer_waiter.store(port.waiters[0].load(Ordering::Relaxed), Ordering::Relaxed);
        crash_point!(ProducerWaiter);
        lane.producer.store(owner, Ordering::Release);
        crash_point!(ProducerSet);
        set_presence(&lane.producer_presence, ATTACHED);
        crash_point!(ProducerPresent);
        // After the field: a receiver that has seen no sender must still find the end that the last one stored.
        lane.end.store(0, Ordering::Release);
    }

    /// Takes a consumer's place at an input port, and at its connections. Returns the place.
    pub(crate) fn attach_input(
        &self,
        port: u32,
        waiter: u32,
        shared: bool,
        redeliver: bool,
    ) -> Result<usize> {
        let record = self.port(port)?;
        let name = || port_name(&self.pond.control, port);
        let wrong = |expected: &str, found: &str| {
            Err(Error::InvalidConfig {
                what: format!("input `{}`", name()),
                expected: expected.into(),
                found: found.into(),
            })
        };
        if shared && redeliver {
            return wrong("either `shared` or `redeliver`", "both");
        }
        let occupied = |i: usize| record.owners[i].load(Ordering::Relaxed);
        for i in 0..MAX_CONSUMERS {
            self.vacate(occupied(i));
        }
        let others: Vec<u32> = (0..MAX_CONSUMERS).map(occupied).filter(|o| *o != 0).collect();
        if let Some(&other) = others.first() {
            let already_shared = record.shared.load(Ordering::Relaxed) == 1;
            if !(shared && already_shared) {
                return Err(Error::PortInUse { port: name(), pid: self.pond.pid_of(other), end: "input" });
            }
        }
        let Some(place) = (0..MAX_CONSUMERS).find(|i| occupied(*i) == 0) else {
            return Err(self.full("competing consumer of one port", MAX_CONSUMERS, "use another port"));
        };
        let lanes =
            || self.pond.control.live_lanes().filter(|(_, l)| l.to_port.load(Ordering::Relaxed) == port);
        if redeliver && lanes().any(|(_, l)| l.policy.load(Ordering::Relaxed) == Policy::DropOldest as u32) {
            return wrong(
                "connections that block or drop the newest, for `redeliver`",
                "one that drops the oldest",
            );
        }
        // With no consumer attached a lane may change its kind: nothing of it can be half taken (recovery has undone that).
        if others.is_empty() {
            for (_, lane) in lanes() {
                let drops = lane.policy.load(Ordering::Relaxed) == Policy::DropOldest as u32;
                lane.kind.store(if shared || drops { SHARED } else { EXCLUSIVE }, Ordering::Relaxed);
                crash_point!(AttachInputKind);
            }
            record.shared.store(shared.into(), Ordering::Relaxed);
            crash_point!(AttachInputMode);
            record.redeliver.store(redeliver.into(), Ordering::Relaxed);
        }
        record.waiters[place].store(waiter, Ordering::Relaxed);
        crash_point!(AttachInputWaiter);
        record.owners[place].store(self.pond.me.into(), Ordering::Release);
        crash_point!(AttachConsumer);
        for (_, lane) in lanes() {
            self.set_consumer(lane, record, place);
            self.tell_port(lane.from_port.load(Ordering::Relaxed));
        }
        record.epoch.fetch_add(1, Ordering::Release);
        Ok(place)
    }

    fn set_consumer(&self, lane: &LaneRecord, port: &PortRecord, place: usize) {
        let owner = port.owners[place].load(Ordering::Relaxed);
        if owner == 0 {
            return;
        }
        lane.consumer_waiters[place].store(port.waiters[place].load(Ordering::Relaxed), Ordering::Relaxed);
        crash_point!(ConsumerWaiter);
        lane.consumers[place].store(owner, Ordering::Release);
        crash_point!(ConsumerSet);
        set_presence(&lane.consumer_presence, ATTACHED);
    }

    /// Lets go of an output port and its connections. The owner has stopped using them.
    pub(crate) fn detach_output(&self, port: u32) {
        let Some(record) = self.pond.control.port(port) else { return };
        let me = u32::from(self.pond.me);
        let lanes: Vec<u32> = self
            .pond
            .control
            .live_lanes()
            .filter(|(_, l)| {
                l.from_port.load(Ordering::Relaxed) == port && l.producer.load(Ordering::Relaxed) == me
            })
            .map(|(i, _)| i)
            .collect();
        for lane in lanes {
            self.leave_as_producer(lane);
            crash_point!(DetachLane);
        }
        record.owners[0].store(0, Ordering::Release);
        crash_point!(DetachPort);
        record.waiters[0].store(0, Ordering::Relaxed);
    }

    /// Lets go of a consumer's place at an input port and its connections. The owner has stopped using them.
    pub(crate) fn detach_input(&self, port: u32, place: usize) {
        let Some(record) = self.pond.control.port(port) else { return };
        let lanes: Vec<u32> = self
            .pond
            .control
            .live_lanes()
            .filter(|(_, l)| l.to_port.load(Ordering::Relaxed) == port)
            .map(|(i, _)| i)
            .collect();
        for lane in lanes {
            self.leave_as_consumer(lane, place);
            crash_point!(DetachLane);
        }
        record.owners[place].store(0, Ordering::Release);
        crash_point!(DetachPort);
        record.waiters[place].store(0, Ordering::Relaxed);
    }

    pub(crate) fn leave_as_producer(&self, lane: u32) {
        self.clear_producer(lane, LEFT);
    }

    pub(crate) fn leave_as_consumer(&self, lane: u32, place: usize) {
        self.clear_consumer(lane, place, LEFT);
    }

    /// Clears the producing end and tells the consumers.
    pub(crate) fn clear_producer(&self, index: u32, presence: u32) {
        let Some(lane) = self.pond.control.lane(index) else { return };
        change_presence(&lane.producer_presence, presence);
        crash_point!(ClearPresence);
        lane.producer_waiter.store(0, Ordering::Relaxed);
        crash_point!(ClearWaiter);
        lane.producer.store(0, Ordering::Release);
        crash_point!(ClearEnd);
        for waiter in &lane.consumer_waiters {
            self.pond.ring(waiter.load(Ordering::Relaxed));
        }
        self.teardown_if_abandoned(index);
    }

    /// Clears one consumer and tells the producer and the other consumers.
    pub(crate) fn clear_consumer(&self, index: u32, place: usize, presence: u32) {
        let Some(lane) = self.pond.control.lane(index) else { return };
        if lane.consumers[place].load(Ordering::Relaxed) == 0 {
            return;
        }
        // Before the field: cut off behind it, recovery would not find the lane again, and the sender would never be told.
        let is_last = |(i, c): (usize, &AtomicU32)| i == place || c.load(Ordering::Relaxed) == 0;
        if lane.consumers.iter().enumerate().all(is_last) {
            change_presence(&lane.consumer_presence, presence);
            crash_point!(ClearPresence);
        }
        lane.consumer_waiters[place].store(0, Ordering::Relaxed);
        crash_point!(ClearWaiter);
        lane.consumers[place].store(0, Ordering::Release);
        crash_point!(ClearEnd);
        self.pond.ring(lane.producer_waiter.load(Ordering::Relaxed));
        for waiter in &lane.consumer_waiters {
            self.pond.ring(waiter.load(Ordering::Relaxed));
        }
        self.teardown_if_abandoned(index);
    }

    /// Gives every active lane those ends that its ports have and it has not: somebody died while telling it.
    pub(crate) fn mend_ends(&self) {
        let missing = |end: u32, presence: &AtomicU32, owner: u32| {
            let told = end == owner && presence.load(Ordering::Relaxed) & 0xff == ATTACHED;
            owner != 0 && !told && u16::try_from(owner).is_ok_and(|o| !self.pond.has_died(o))
        };
        for (_, lane) in self.pond.control.live_lanes() {
            if lane.state.load(Ordering::Relaxed) != LANE_ACTIVE {
                continue;
            }
            if let Some(port) = self.pond.control.port(lane.from_port.load(Ordering::Relaxed)) {
                let owner = port.owners[0].load(Ordering::Relaxed);
                if missing(lane.producer.load(Ordering::Relaxed), &lane.producer_presence, owner) {
                    self.set_producer(lane, port);
                }
            }
            let Some(port) = self.pond.control.port(lane.to_port.load(Ordering::Relaxed)) else { continue };
            for place in 0..MAX_CONSUMERS {
                let owner = port.owners[place].load(Ordering::Relaxed);
                let consumer = lane.consumers[place].load(Ordering::Relaxed);
                if missing(consumer, &lane.consumer_presence, owner) {
                    self.set_consumer(lane, port, place);
                }
            }
        }
    }

    /// Makes a port's owners look at their connections again.
    fn tell_port(&self, port: u32) {
        let Some(record) = self.pond.control.port(port) else { return };
        record.epoch.fetch_add(1, Ordering::Release);
        crash_point!(PortTold);
        for (owner, waiter) in record.owners.iter().zip(&record.waiters) {
            if owner.load(Ordering::Relaxed) != 0 {
                self.pond.ring(waiter.load(Ordering::Relaxed));
                self.pond.poke(owner.load(Ordering::Relaxed));
            }
        }
    }

    // ---- connections

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
        let from_port = self.declare_port(from, Direction::Output)?;
        let to_port = self.declare_port(to, Direction::Input)?;
        if self.find_lane(from_port, to_port).is_some() {
            let name = format!("{from} -> {to}");
            return Err(Error::Exists { pond: self.pond.name.clone(), what: "connection", name });
        }
        let target = self.port(to_port)?;
        if config.policy == Policy::DropOldest && target.redeliver.load(Ordering::Relaxed) == 1 {
            return wrong(
                "a policy that blocks or drops the newest (the port redelivers)".into(),
                "drop-oldest".into(),
            );
        }
        let fan_out =
            self.pond.control.live_lanes().filter(|(_, l)| l.from_port.load(Ordering::Relaxed) == from_port);
        // One token is left for a holder that keeps what it sends.
        if fan_out.count() + 2 > crate::references::TOKENS {
            return wrong(
                format!("at most {} connections from one output", crate::references::TOKENS - 1),
                "one more".to_owned(),
            );
        }
        let cells = depth.next_power_of_two();
        let (index, lane) = self.free_lane(cells)?;
        let shared = target.shared.load(Ordering::Relaxed) == 1 || config.policy == Policy::DropOldest;
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
        lane.policy.store(config.policy as u32, Ordering::Relaxed);
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

    fn close_lane(&self, index: u32) {
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
        crash_point!(TeardownDrained);
        lane.state.store(LANE_FREE, Ordering::Release);
    }

    /// Clears every place of a dead process at a port.
    pub(crate) fn clear_port(&self, port: &PortRecord, process: u32) {
        for (owner, waiter) in port.owners.iter().zip(&port.waiters) {
            if owner.load(Ordering::Relaxed) == process {
                waiter.store(0, Ordering::Relaxed);
                crash_point!(RecoverPortWaiter);
                owner.store(0, Ordering::Release);
                crash_point!(RecoverPortCleared);
            }
        }
    }

    /// Clears every end that a dead process had at a lane.
    pub(crate) fn clear_lane(&self, index: u32, process: u32) {
        let Some(lane) = self.pond.control.lane(index) else { return };
        for place in 0..MAX_CONSUMERS {
            if lane.consumers[place].load(Ordering::Relaxed) == process {
                self.clear_consumer(index, place, DIED);
            }
        }
        if lane.producer.load(Ordering::Relaxed) == process {
            self.clear_producer(index, DIED);
        }
    }
}

/// The format stored with an output port.
pub(crate) fn read_format(record: &PortRecord) -> Option<StreamFormat> {
    if record.has_format.load(Ordering::Acquire) == 0 {
        return None;
    }
    let dimensions = (record.dimensions.load(Ordering::Relaxed) as usize).min(MAX_DIMENSIONS);
    let (num, den) = (record.rate[0].load(Ordering::Relaxed), record.rate[1].load(Ordering::Relaxed));
    Some(StreamFormat {
        dtype: DType::from_code(record.dtype.load(Ordering::Relaxed) as u8).unwrap_or_default(),
        shape: record.shape[..dimensions].iter().map(|d| d.load(Ordering::Relaxed)).collect(),
        rate_hz: (num != 0 && den != 0).then_some((num, den)),
        description: record.description.load(),
    })
}

impl Attachment {
    /// Wakes the watcher thread of another process, so that it looks whom to watch.
    pub(crate) fn poke(&self, owner: u32) {
        let Some(process) = self.control.process(owner as usize) else { return };
        let pid = process.state.load(Ordering::Relaxed) as u32;
        let fd = process.wake_fd.load(Ordering::Relaxed);
        if owner == u32::from(self.me) {
            let _ = rustix::io::write(&self.wake_write, b"p");
            return;
        }
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let pipe = rustix::fs::open(format!("/proc/{pid}/fd/{fd}"), flags, rustix::fs::Mode::empty())
            .doing(|| "open a watcher's pipe".to_owned());
        if let Ok(pipe) = pipe {
            // Opened through numbers in shared memory: write only into that very pipe, and never into somebody else's.
            let inode = process.wake_inode.load(Ordering::Relaxed);
            let is_its_pipe = rustix::fs::fstat(&pipe).is_ok_and(|s| {
                rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::Fifo
                    && s.st_ino == inode
            });
            if is_its_pipe {
                let _ = rustix::io::write(&pipe, b"p"); // full: it is awake already
            }
        }
    }
}
