//! Giving back exactly what a dead process held. The only code that repairs somebody else's state.
//!
//! Runs under the registry lock once the kernel says that the process is gone. Every step can be cut off and redone: a stage in the
//! process's slot tells a successor which losses were counted already. The order R1..R6 is load-bearing; docs/crash-safety.md
//! says why for each pair.

use crate::control::{EXCLUSIVE, PROCESS_DEAD, PROCESS_FREE, PROCESS_JOINING, SHARED};
use crate::doorbell::Doorbell;
use crate::error::Result;
use crate::lane::Lane;
use crate::layout::{LaneRecord, MAX_CONSUMERS, MAX_SHARES, MAX_WAITERS, Process};
use crate::registry_lock::Registry;
use crate::sync::{AtomicU64, Ordering};
use crate::sys::futex;
use crate::token::{NO_LANE, ProcessSlot, Token};
use std::collections::BTreeMap;

/// Stages of one recovery, in the dead process's slot.
const REDELIVERIES_COUNTED: u32 = 1;
const LOSSES_COUNTED: u32 = 2;
const TOKENS_FREED: u32 = 3;

impl Registry<'_> {
    /// Recovers every process that the kernel says is gone. Returns how many.
    pub(crate) fn recover_all_dead(&self) -> u32 {
        let mut suspects: Vec<(bool, ProcessSlot)> = self
            .pond
            .control
            .processes()
            .map(|(slot, process, ..)| (process.recovery_stage.load(Ordering::Acquire) == 0, slot))
            .collect();
        suspects.sort_unstable(); // those whose recovery was cut off first
        let mut recovered = 0;
        for (_, slot) in suspects {
            if slot != self.pond.me
                && let Some(word) = self.pond.word_of_dead(slot)
            {
                self.recover(slot, word);
                recovered += 1;
            }
        }
        recovered
    }

    /// Recovers one process, which this word of the slot names, and whose death is certain.
    pub(crate) fn recover(&self, dead: ProcessSlot, word: u64) {
        self.end_cut_off_recoveries(dead);
        self.recover_one(dead, word);
    }

    /// A recovery that was cut off after counting must end before another one begins, which would overwrite its counts.
    pub(crate) fn end_cut_off_recoveries(&self, before: ProcessSlot) {
        let begun = |p: &Process| p.recovery_stage.load(Ordering::Acquire) != 0;
        let cut_off: Vec<(ProcessSlot, u64)> = self
            .pond
            .control
            .processes()
            .filter(|(slot, p, state, _)| *slot != before && *state == PROCESS_DEAD && begun(p))
            .map(|(slot, p, ..)| (slot, p.state.load(Ordering::Acquire)))
            .collect();
        cut_off.into_iter().for_each(|(slot, word)| self.recover_one(slot, word));
    }

    fn recover_one(&self, dead: ProcessSlot, word: u64) {
        let Some(word) = self.give_back_all(dead, word) else { return };
        let header = self.pond.control.header();
        header.recoveries.fetch_add(1, Ordering::Relaxed);
        crash_point!(RecoverCounted);
        self.pond.free_process_slot(dead, word); // R6
        crash_point!(RecoverFreed);
        header.allocation_bell.fetch_add(1, Ordering::Release);
        crash_point!(RecoverAllocationBell);
        futex::wake_all(&header.allocation_bell);
    }

    /// R1 to R5 for a process that is dead, or for this very process on its way out, which this word of its slot names. Its slot
    /// then says dead, with the word that is returned; `None`: there is nothing of it any more.
    pub(crate) fn give_back_all(&self, dead: ProcessSlot, word: u64) -> Option<u64> {
        let process = self.pond.control.process(dead.into())?;
        if word >> 56 == PROCESS_FREE {
            return None;
        }
        if word >> 56 == PROCESS_JOINING {
            // It had nothing yet. Joining takes no lock, so another process may be claiming the slot right now.
            self.pond.free_process_slot(dead, word);
            return None;
        }
        let marked = PROCESS_DEAD << 56 | word & 0xffff_ffff;
        // By compare-and-swap: if the slot has another word by now, another process is in it, and alive.
        process.state.compare_exchange(word, marked, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        let word = marked;
        crash_point!(RecoverMarked);
        let lanes = self.lanes_of(dead);
        // No recovery stores such a stage: a stray write did, and what it stands for is not known.
        if process.recovery_stage.load(Ordering::Acquire) > TOKENS_FREED {
            set_stage(process, 0);
        }
        // A recovery that was cut off goes on at its stage: once the losses are counted, R1 is done.
        if process.recovery_stage.load(Ordering::Acquire) == 0 {
            self.count_redeliveries(dead, &lanes);
            set_stage(process, REDELIVERIES_COUNTED);
        }
        if process.recovery_stage.load(Ordering::Acquire) == REDELIVERIES_COUNTED {
            self.undo_unfinished_receives(dead, &lanes); // R1
        }
        let unpublished = self.unpublished_positions(dead, &lanes); // R2
        self.free_tokens(dead, process, &unpublished); // R3
        self.help_shared_lanes(&lanes); // R4
        self.detach_everywhere(dead); // R5
        self.give_back_shares(dead);
        crate::log::forget_unfinished(self.pond, dead);
        self.give_back_mail(dead);
        // Every field is clear by now, so whoever wakes sees it. Everybody is rung, not only those whose lanes were just cleared:
        // a predecessor may have died between clearing a field and ringing, and left no trace of whom to ring.
        self.pond.ring_everybody();
        set_stage(process, 0);
        Some(word)
    }

    /// Lanes that the process produces for or consumes from, with their rings.
    fn lanes_of(&self, process: ProcessSlot) -> Vec<(u32, &LaneRecord, Lane<'_>)> {
        let process = u32::from(process);
        let attached = |l: &LaneRecord| {
            l.producer.load(Ordering::Relaxed) == process
                || l.consumers.iter().any(|c| c.load(Ordering::Relaxed) == process)
        };
        self.pond
            .control
            .live_lanes()
            .filter(|(_, l)| attached(l))
            .filter_map(|(index, record)| {
                let cells = self.pond.control.ring(
                    record.ring_offset.load(Ordering::Relaxed),
                    record.ring_cells.load(Ordering::Relaxed),
                )?;
                Some((index, record, Lane { id: u16::try_from(index).ok()?, head: &record.head, cells }))
            })
            .collect()
    }

    fn token(&self, cell: crate::token::Cell) -> Option<&AtomicU64> {
        let reference = cell.reference();
        self.pond.control.slot(reference.slot)?.references.tokens.get(reference.token as usize)
    }

    /// Whether the lane's entries are delivered again, marked: a receiver that does not ask for that has not seen an entry that
    /// it died taking.
    fn redelivers(&self, lane: &LaneRecord) -> bool {
        let port = self.pond.control.port(lane.to_port.load(Ordering::Relaxed));
        port.is_some_and(|p| p.redeliver.load(Ordering::Relaxed) == 1)
    }

    /// Before R1: how many entries will have been put back for the first time in each lane. A count raised with each of them would miss the one at
    /// which this is cut off.
    fn count_redeliveries(&self, dead: ProcessSlot, lanes: &[(u32, &LaneRecord, Lane<'_>)]) {
        for (_, record, lane) in lanes.iter().filter(|l| takes_exclusively(l.1, dead)) {
            let head = record.head.load(Ordering::Acquire);
            let is_taken = |position: &u64| {
                let token = lane.published(*position).and_then(|cell| self.token(cell));
                token.is_some_and(|t| t.load(Ordering::Acquire) == Token::taken(dead, lane.id, *position).0)
            };
            // An entry counts once, however often it comes again.
            let until = record.redelivered_until.load(Ordering::Relaxed);
            let entries = (0..lane.cells.len() as u64).map(|n| head.wrapping_add(n)).filter(|p| *p >= until);
            let count = if self.redelivers(record) { entries.filter(is_taken).count() as u64 } else { 0 };
            let before = record.redelivered.load(Ordering::Relaxed);
            record.redelivered_after.store(before.wrapping_add(count), Ordering::Relaxed);
            crash_point!(RecoverRedeliveryCounted);
        }
    }

    /// R1: entries that the dead consumer of an exclusive lane took without finishing are queued again.
    fn undo_unfinished_receives(&self, dead: ProcessSlot, lanes: &[(u32, &LaneRecord, Lane<'_>)]) {
        for (_, record, lane) in lanes.iter().filter(|l| takes_exclusively(l.1, dead)) {
            let redelivers = self.redelivers(record);
            let start = record.head.load(Ordering::Acquire);
            for position in (0..lane.cells.len() as u64).map(|n| start.wrapping_add(n)) {
                let Some(cell) = lane.published(position) else { break };
                let Some(token) = self.token(cell) else { break };
                let word = token.load(Ordering::Acquire);
                if word == Token::queued(lane.id, position).0 {
                    continue;
                }
                if word == Token::taken(dead, lane.id, position).0 {
                    // The mark first: killed between the two, the undo is redone; the other way round it would go unmarked.
                    let until = position.wrapping_add(1);
                    if redelivers && record.redelivered_until.load(Ordering::Relaxed) < until {
                        record.redelivered_until.store(until, Ordering::Release);
                        crash_point!(RecoverMarkSet);
                    }
                    token.store(Token::queued(lane.id, position).0, Ordering::Release);
                    crash_point!(RecoverUndone);
                } else {
                    // Finished (k1) but head not moved (k2): finishing goes in order, so this is the entry at head.
                    record.head.store(position.wrapping_add(1), Ordering::Release);
                    crash_point!(RecoverCommitted);
                }
            }
            let after = record.redelivered_after.load(Ordering::Relaxed);
            if after > record.redelivered.load(Ordering::Relaxed) {
                record.redelivered.store(after, Ordering::Relaxed);
                crash_point!(RecoverRedeliveryStored);
            }
        }
    }

    /// R2: where each lane that the dead process produced for ends.
    fn unpublished_positions(
        &self,
        dead: ProcessSlot,
        lanes: &[(u32, &LaneRecord, Lane<'_>)],
    ) -> BTreeMap<u16, u64> {
        lanes
            .iter()
            .filter(|(_, record, _)| record.producer.load(Ordering::Relaxed) == u32::from(dead))
            .map(|(_, record, lane)| (lane.id, lane.next_unpublished(record.head.load(Ordering::Acquire))))
            .collect()
    }

    /// R3: frees the tokens that the process owned, and those it put into a lane without publishing them. What it had taken from
    /// a lane is counted there as lost in hand, exactly, however often this is cut off and redone.
    fn free_tokens(&self, dead: ProcessSlot, process: &Process, unpublished: &BTreeMap<u16, u64>) {
        if process.recovery_stage.load(Ordering::Relaxed) == REDELIVERIES_COUNTED {
            let mut losses: BTreeMap<u16, u64> = BTreeMap::new();
            for (_, slot) in self.pond.control.committed_slots() {
                for token in &slot.references.tokens {
                    let token = Token(token.load(Ordering::Acquire));
                    // One of an earlier use of the lane, whose connection is gone, is no loss of this one.
                    let lane = self.pond.control.lane(token.lane().into());
                    let base = lane.map_or(0, |lane| lane.base.load(Ordering::Relaxed));
                    if token.owner() == dead && token.lane() != NO_LANE && token.is_at_or_after(base) {
                        *losses.entry(token.lane()).or_default() += 1;
                    }
                }
            }
            for (index, lane) in self.pond.control.live_lanes() {
                let lost = losses.get(&(index as u16)).copied().unwrap_or(0);
                let before = lane.lost_in_hand.load(Ordering::Relaxed);
                lane.lost_after.store(before.wrapping_add(lost), Ordering::Relaxed);
                crash_point!(RecoverLossCounted);
            }
            set_stage(process, LOSSES_COUNTED);
        }
        if process.recovery_stage.load(Ordering::Relaxed) == LOSSES_COUNTED {
            for (_, slot) in self.pond.control.committed_slots() {
                for token in &slot.references.tokens {
                    let word = Token(token.load(Ordering::Acquire));
                    let orphan = word.is_queued()
                        && unpublished
                            .get(&word.lane())
                            .is_some_and(|end| word.is_queued_from(word.lane(), *end));
                    if word.owner() == dead || orphan {
                        token.store(0, Ordering::Release);
                        crash_point!(RecoverToken);
                    }
                }
            }
            set_stage(process, TOKENS_FREED);
        }
        if process.recovery_stage.load(Ordering::Relaxed) == TOKENS_FREED {
            for (_, lane) in self.pond.control.live_lanes() {
                let after = lane.lost_after.load(Ordering::Relaxed);
                if after > lane.lost_in_hand.load(Ordering::Relaxed) {
                    lane.lost_in_hand.store(after, Ordering::Relaxed);
                    crash_point!(RecoverLossStored);
                }
            }
        }
    }

    /// R4: moves the heads of shared lanes past entries that somebody claimed without moving them. Never an undo here: another
    /// consumer may be about to move head past the very entry.
    fn help_shared_lanes(&self, lanes: &[(u32, &LaneRecord, Lane<'_>)]) {
        for (_, record, lane) in lanes {
            if record.kind.load(Ordering::Relaxed) != SHARED {
                continue;
            }
            for _ in 0..lane.cells.len() {
                let head = record.head.load(Ordering::Acquire);
                let Some(cell) = lane.published(head) else {
                    if record.head.load(Ordering::Acquire) == head {
                        break;
                    }
                    continue;
                };
                let Some(token) = self.token(cell) else { break };
                if token.load(Ordering::Acquire) == Token::queued(lane.id, head).0 {
                    break;
                }
                let _ = record.head.compare_exchange(
                    head,
                    head.wrapping_add(1),
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                crash_point!(RecoverHelped);
            }
        }
    }

    /// R5: tells the other ends, then clears the dead process from lanes, ports, blocks and waiters.
    fn detach_everywhere(&self, dead: ProcessSlot) {
        let dead = u32::from(dead);
        // All of them, also those whose ring a stray write has made unusable: nothing may name a free slot.
        for (index, _) in self.pond.control.live_lanes() {
            self.clear_lane(index, dead);
        }
        for (_, port) in self.pond.control.used_ports() {
            if port.owners[..MAX_CONSUMERS].iter().any(|o| o.load(Ordering::Relaxed) == dead) {
                self.clear_port(port, dead);
            }
        }
        for (_, block) in self.pond.control.used_blocks() {
            if block.process.load(Ordering::Relaxed) == dead {
                block.process.store(0, Ordering::Release);
                crash_point!(RecoverBlockCleared);
            }
        }
        for index in 1..MAX_WAITERS as u32 {
            if let Some(waiter) = self.pond.control.waiter(index)
                && waiter.owner.load(Ordering::Relaxed) == dead
            {
                Doorbell { bell: &waiter.bell, asleep: &waiter.asleep }.forget_sleepers();
                crash_point!(RecoverWaiterWoken);
                waiter.owner.store(0, Ordering::Release);
                crash_point!(RecoverWaiterFreed);
            }
        }
    }

    fn give_back_shares(&self, dead: ProcessSlot) {
        for pool in self.pond.control.ready_pools() {
            for owner in &pool.record.share_owners[..MAX_SHARES] {
                if owner.load(Ordering::Relaxed) == u32::from(dead) {
                    owner.store(0, Ordering::Release);
                    crash_point!(RecoverShareFreed);
                }
            }
        }
    }
}

fn set_stage(process: &Process, stage: u32) {
    process.recovery_stage.store(stage, Ordering::Release);
    crash_point!(RecoverStage);
}

fn takes_exclusively(lane: &LaneRecord, process: ProcessSlot) -> bool {
    lane.kind.load(Ordering::Relaxed) == EXCLUSIVE
        && lane.consumers[0].load(Ordering::Relaxed) == u32::from(process)
}

impl crate::attachment::Attachment {
    /// Frees the slot of a process that has nothing any more. By compare-and-swap: a process that leaves does it after
    /// unlocking (a lock word must never name a free slot), when somebody else may have done it already.
    pub(crate) fn free_process_slot(&self, slot: ProcessSlot, word: u64) {
        if let Some(process) = self.control.process(slot.into()) {
            let _ = process.state.compare_exchange(word, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Looks at every process and recovers those that are gone. Returns how many.
    pub(crate) fn recover_dead(&self) -> Result<u32> {
        let any = self
            .control
            .processes()
            .any(|(slot, _, state, _)| slot != self.me && state != PROCESS_FREE && self.has_died(slot));
        if !any {
            return Ok(0);
        }
        Ok(self.lock_registry()?.recover_all_dead())
    }
}

#[cfg(test)]
mod tests {
    use crate::control::{PROCESS_JOINING, PROCESS_LIVE};
    use crate::sync::Ordering;
    use crate::{Pond, PondConfig, Role};

    /// A process that died while joining is found dead; before it is recovered another one takes over its slot, and is alive.
    #[test]
    fn who_took_over_a_dead_ones_slot_is_not_recovered_in_its_place() {
        let name = format!("u-slot-{}", std::process::id());
        let config = PondConfig { pools: Vec::new(), table_slots: 1 };
        let pond = Pond::create(&name, &config, Role::Worker).unwrap();
        let attachment = pond.session().attachment();
        let slot = 100;
        let process = attachment.control.process(slot.into()).unwrap();
        let dead = PROCESS_JOINING << 56 | 0x3fff_ffff; // no pid is that large
        process.state.store(dead, Ordering::Release);
        let word = attachment.word_of_dead(slot).unwrap();
        assert_eq!(word, dead);
        let me = attachment.control.process(attachment.me.into()).unwrap();
        let start_time = me.start_time.load(Ordering::Relaxed);
        let living = PROCESS_LIVE << 56 | u64::from(std::process::id());
        process.start_time.store(start_time, Ordering::Relaxed);
        process.state.store(living, Ordering::Release);
        attachment.lock_registry().unwrap().recover(slot, word);
        assert_eq!(process.state.load(Ordering::Acquire), living);
        process.state.store(0, Ordering::Release);
    }

    /// A process leaves while another one's recovery, which has counted its losses, was cut off.
    #[test]
    fn a_leaving_process_does_not_overwrite_what_a_cut_off_recovery_has_counted() {
        let name = format!("u-leave-{}", std::process::id());
        let pond = Pond::create(&name, &PondConfig::default(), Role::Worker).unwrap();
        pond.connect("a.out", "b.in", &crate::ConnectionConfig::default()).unwrap();
        let leaving = Pond::attach(&name, Role::Worker).unwrap();
        let attachment = pond.session().attachment();
        let registry = attachment.lock_registry().unwrap();
        let (_, lane) = attachment.control.live_lanes().next().unwrap();
        let process = attachment.control.process(100).unwrap();
        process.recovery_stage.store(super::LOSSES_COUNTED, Ordering::Relaxed);
        lane.lost_after.store(1, Ordering::Relaxed);
        process.state.store(super::PROCESS_DEAD << 56 | 0x3fff_ffff, Ordering::Release);
        drop(registry);
        drop(leaving);
        assert_eq!(lane.lost_in_hand.load(Ordering::Relaxed), 1);
        assert_eq!(process.state.load(Ordering::Acquire), 0, "its recovery was ended");
    }
}
