//! Which process stands at a port, and so at each of its connections: taking a place, letting go of it, and clearing those of the dead.

use crate::attachment::Belonging;
use crate::control::{ATTACHED, DIED, EXCLUSIVE, LANE_ACTIVE, LEFT, SHARED, change_presence, set_presence};
use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::layout::{LaneRecord, MAX_CONSUMERS, PortRecord};
use crate::ports::Policy;
use crate::registry::port_name;
use crate::registry_lock::Registry;
use crate::sync::{AtomicU32, Ordering};

impl Registry<'_> {
    /// Recovers whoever stands in `owner` if it is dead; `true`: the place is free now.
    fn vacate(&self, owner: u32) -> bool {
        if let Ok(slot) = u16::try_from(owner)
            && let Some(word) = self.pond.word_of_dead(slot)
        {
            self.recover(slot, word);
        }
        owner == 0 || self.pond.has_free_slot(owner)
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
    pub(super) fn set_producer(&self, lane: &LaneRecord, port: &PortRecord) {
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

    pub(super) fn set_consumer(&self, lane: &LaneRecord, port: &PortRecord, place: usize) {
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

    /// Lets go of what this process has and does not use any more.
    pub(crate) fn let_go(&self, end: Belonging) {
        match end {
            Belonging::Output(port) => self.detach_output(port),
            Belonging::Input(port, place) => self.detach_input(port, place),
            Belonging::Mailbox(index) => self.leave_mailbox(index),
            Belonging::Waiter(index) => {
                let Some(waiter) = self.pond.control.waiter(index) else { return };
                Doorbell { bell: &waiter.bell, asleep: &waiter.asleep }.forget_sleepers();
                crash_point!(WaiterWoken);
                waiter.owner.store(0, Ordering::Release);
            }
        }
    }

    /// Lets go of an output port and its connections. The owner has stopped using them.
    pub(crate) fn detach_output(&self, port: u32) {
        let Some(record) = self.pond.control.port(port) else { return };
        let me = u32::from(self.pond.me);
        // It may have been a while ago: the port may be another one by now.
        if record.owners[0].load(Ordering::Relaxed) != me {
            return;
        }
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
        if record.owners[place].load(Ordering::Relaxed) != u32::from(self.pond.me) {
            return;
        }
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
    pub(super) fn tell_port(&self, port: u32) {
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
