//! How a flowgraph is brought to its end.
//!
//! A block that is done ends its streams, and its receivers follow when they have taken everything. When the duration is over, on the
//! first signal, and when a block is given up, the sources are asked to end and the rest follows in the same way; a block
//! whose senders are all gone without having ended their streams is asked as well. A second signal stops everybody at once.

use std::time::{Duration, Instant};

use super::guests::Guest;
use super::{EndReason, Event, State, Supervisor};
use crate::flowgraph::wiring::Link;

/// Processes that have not left so long after they were told to stop at once are killed.
const STOP_GRACE: Duration = Duration::from_secs(3);

impl Supervisor {
    /// Brings everything to its end, unless that has begun. A failure is remembered in any case.
    pub(super) fn end(&mut self, reason: EndReason, watch: &mut dyn FnMut(Event<'_>)) {
        let failed = |reason: &EndReason| matches!(reason, EndReason::Failed { .. });
        match &self.ending {
            Some(known) if failed(known) || !failed(&reason) => {}
            _ => {
                // Whoever has just come is waited for, too.
                self.follow(&self.monitor.snapshot());
                watch(Event::Ending { reason: self.ending.insert(reason) });
            }
        }
    }

    /// The first signal ends everything in order, the second stops everybody at once.
    pub(super) fn interrupt(&mut self, watch: &mut dyn FnMut(Event<'_>)) {
        if self.ending.is_none() {
            self.end(EndReason::Interrupted, watch);
        } else if self.stopping.is_none() {
            self.stopping = Some(Instant::now() + STOP_GRACE);
            self.pond.request_stop();
            for member in &mut self.members {
                match &mut member.state {
                    State::Runs(process) => process.tell_to_stop(),
                    state => *state = State::Ended,
                }
            }
        }
    }

    /// Kills what has not left in time.
    pub(super) fn kill_overdue(&mut self, now: Instant) {
        if self.stopping.is_none_or(|deadline| now < deadline) {
            return;
        }
        for member in &mut self.members {
            if let State::Runs(process) = &mut member.state {
                process.kill();
            }
        }
    }

    /// Asks those blocks to end that nobody sends to, or receives from, any more.
    pub(super) fn lead_to_the_end(&mut self) {
        let is_due = |name: &str| {
            self.wiring.is_due_to_end(name, self.ending.is_some(), |block| self.has_nothing_to_add(block))
        };
        let mut due: Vec<usize> =
            (0..self.fates.len()).filter(|&block| is_due(&self.flowgraph.blocks[block].name)).collect();
        let guests = self.guests.iter().filter(|guest| self.ending.is_some() && is_due(&guest.block));
        let guests: Vec<Guest> = guests.cloned().collect();
        if self.ending.is_some() && guests.is_empty() {
            due.extend(self.cycles_that_are_left());
        }
        if self.ending.is_none() && self.only_waits_are_left() {
            due.extend(0..self.flowgraph.blocks.len());
        }
        due.sort_unstable();
        due.dedup();
        due.retain(|&block| !self.fates[block].ended && !self.fates[block].told_to_end);
        if !due.is_empty() {
            self.tell_to_end(due);
        }
        for guest in guests {
            guest.tell_to_end(&self.monitor, &mut self.told_guests);
        }
    }

    /// The blocks of cycles, when nothing else is left but what they feed.
    fn cycles_that_are_left(&self) -> Vec<usize> {
        let names = || self.flowgraph.blocks.iter().map(|node| node.name.as_str());
        let left: Vec<&str> = names().filter(|block| !self.has_nothing_to_add(block)).collect();
        let cycles = self.wiring.cycles_of(&left);
        names().enumerate().filter(|(_, block)| cycles.contains(block)).map(|(index, _)| index).collect()
    }

    /// All blocks that are left wait for somebody who would send to them: connections were undone by hand. (They would end by
    /// themselves had their streams ended.)
    fn only_waits_are_left(&self) -> bool {
        let waits = |name: &str| {
            let mut senders = self.wiring.links_to(name).map(Link::sender);
            self.flowgraph.senders(name).next().is_some()
                && senders.all(|sender| self.has_nothing_to_add(sender))
        };
        let left = self.fates.iter().zip(&self.flowgraph.blocks).filter(|(fate, _)| !fate.ended);
        self.guests.is_empty() && left.map(|(_, node)| node.name.as_str()).all(waits)
    }

    /// Whoever waits for this block waits in vain. Nobody knows that of a block that was started by hand, unless everything ends.
    fn has_nothing_to_add(&self, block: &str) -> bool {
        match self.flowgraph.blocks.iter().position(|node| node.name == block) {
            Some(index) => self.fates[index].ended,
            None => self.ending.is_some() && !self.guests.iter().any(|guest| guest.block == block),
        }
    }

    fn tell_to_end(&mut self, due: Vec<usize>) {
        // A process catches signals before it attaches; told earlier, it would be killed. It is told at the next look.
        let snapshot = self.monitor.snapshot();
        let can_be_told = |pid: u32, block: &str| {
            // A program that starts another one has a pid of its own.
            snapshot.processes.iter().any(|process| process.pid == pid)
                || snapshot.blocks.iter().any(|known| known.name == block && known.pid.is_some())
        };
        for block in due {
            let Some(member) = self.members.iter_mut().find(|member| member.group.blocks.contains(&block))
            else {
                continue;
            };
            let name = &self.flowgraph.blocks[block].name;
            match &mut member.state {
                State::Runs(process) if can_be_told(process.pid(), name) => {
                    self.fates[block].told_to_end = true;
                    process.tell_to_end(name);
                }
                State::RestartsAt(_) if self.wiring.is_source(name) => {
                    self.has_ended(block);
                    self.retire_if_idle(block);
                }
                State::Runs(_) | State::RestartsAt(_) | State::Ended => {}
            }
        }
    }

    /// A process that waits for its restart has none if all its blocks have ended.
    pub(super) fn retire_if_idle(&mut self, block: usize) {
        for member in &mut self.members {
            let is_idle =
                matches!(member.state, State::RestartsAt(_)) && member.group.blocks.contains(&block);
            if is_idle && member.group.blocks.iter().all(|&block| self.fates[block].ended) {
                member.state = State::Ended;
            }
        }
    }
}
