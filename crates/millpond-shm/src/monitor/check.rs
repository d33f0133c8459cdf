//! The account of every buffer: two looks at every token and every queued cell, of which only what both agree on is judged.

use crate::control::SHARED;
use crate::mailbox::account;
use crate::monitor::Monitor;
use crate::sync::Ordering;
use crate::token::{Cell, Token};
use serde::Serialize;
use std::collections::BTreeMap;

/// Buffers that one process holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldBy {
    /// Slot in the process table.
    pub process: u16,
    /// Its pid.
    pub pid: u32,
    /// References that it holds.
    pub references: u64,
}

/// The account of every buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Buffers of all pools.
    pub slots: u64,
    /// Those without any reference.
    pub free: u64,
    /// Those with at least one.
    pub used: u64,
    /// References held, by process.
    pub held: Vec<HeldBy>,
    /// References that lie in connections.
    pub queued: u64,
    /// What is wrong. Empty: every reference belongs to a living process or is matched by the cell of its connection, and
    /// every queued cell by its reference.
    pub problems: Vec<String>,
    /// Words that changed between the two looks, and so were not judged.
    pub unsettled: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}
impl Monitor {
    /// Accounts for every buffer.
    pub fn check(&self) -> CheckReport {
        let mail_problems = account::problems(&self.control);
        let first = Look::take(self);
        let second = Look::take(self);
        let mut report = CheckReport {
            slots: self.control.ready_pools().map(|p| u64::from(p.blocks)).sum(),
            ..CheckReport::default()
        };
        let settled = first.agreed(&second, &mut report);
        self.judge_tokens(&settled, &mut report);
        judge_cells(&settled, &mut report);
        report.problems.extend(mail_problems.intersection(&account::problems(&self.control)).cloned());
        report
    }

    /// Every reference: its owner takes part, or the cell of its connection names it.
    fn judge_tokens(&self, look: &Look, report: &mut CheckReport) {
        let mut held: BTreeMap<u16, u64> = BTreeMap::new();
        let mut used: BTreeMap<u32, ()> = BTreeMap::new();
        for (&(slot, index), &word) in &look.tokens {
            used.insert(slot, ());
            let token = Token(word);
            let what = format!("buffer slot {slot}, token {index} ({word:#018x})");
            if !token.is_queued() {
                *held.entry(token.owner()).or_default() += 1;
                let listed = self
                    .control
                    .process(token.owner().into())
                    .is_some_and(|p| p.state.load(Ordering::Acquire) != 0);
                if !listed {
                    report
                        .problems
                        .push(format!("{what} is held by process slot {}, where nobody is", token.owner()));
                }
                continue;
            }
            report.queued += 1;
            let Some(lane) = look.lanes.get(&token.lane()) else {
                if !look.unsettled_lanes.contains_key(&token.lane()) {
                    report
                        .problems
                        .push(format!("{what} lies in connection {}, which does not exist", token.lane()));
                }
                continue;
            };
            let entry = lane.entries.iter().find(|(p, _)| *p & 0xff_ffff_ffff == token.position());
            match entry {
                Some((_, cell)) if cell.reference().slot == slot && cell.reference().token == index => {}
                Some((p, _)) => report.problems.push(format!(
                    "{what} lies in connection {} at position {p}, but the cell there names another buffer",
                    token.lane()
                )),
                // Between p1 and p2: its sender is about to publish it, or recovery is about to give it back.
                None if lane.producer != 0 && token.is_queued_from(token.lane(), lane.end) => {
                    report.unsettled += 1
                }
                None => report.problems.push(format!(
                    "{what} lies in connection {} outside of its entries {}..{}",
                    token.lane(),
                    lane.head,
                    lane.end
                )),
            }
        }
        report.used = used.len() as u64;
        report.free = report.slots.saturating_sub(report.used);
        report.held = held
            .into_iter()
            .map(|(process, references)| HeldBy {
                process,
                pid: self.pid(process.into()).unwrap_or(0),
                references,
            })
            .collect();
    }
}

/// Every entry of every connection: its reference says so, or its consumer is just taking it.
fn judge_cells(look: &Look, report: &mut CheckReport) {
    for (&id, lane) in &look.lanes {
        for &(position, cell) in &lane.entries {
            let reference = cell.reference();
            let token = look.tokens.get(&(reference.slot, reference.token)).copied().map(Token);
            let queued = Token::queued(id, position);
            let taken_here = token.is_some_and(|t| {
                t.lane() == id
                    && t.position() == queued.position()
                    && lane.consumers.contains(&u32::from(t.owner()))
            });
            if token == Some(queued)
                || taken_here
                || look.unsettled_tokens.contains_key(&(reference.slot, reference.token))
            {
                continue;
            }
            // A shared lane's head may lag behind a claim; and a finished entry's token may be free just before head moves.
            if lane.shared || position == lane.head {
                report.unsettled += 1;
                continue;
            }
            report.problems.push(format!(
                "connection {id}, position {position}: its buffer slot {}, token {} is {}",
                reference.slot,
                reference.token,
                token.map_or_else(|| "free".to_owned(), |t| format!("{:#018x}", t.0))
            ));
        }
    }
}

struct LaneLook {
    head: u64,
    end: u64,
    producer: u32,
    consumers: Vec<u32>,
    shared: bool,
    entries: Vec<(u64, Cell)>,
}

/// One look at every token and every queued cell.
#[derive(Default)]
struct Look {
    tokens: BTreeMap<(u32, u8), u64>,
    lanes: BTreeMap<u16, LaneLook>,
    unsettled_tokens: BTreeMap<(u32, u8), ()>,
    unsettled_lanes: BTreeMap<u16, ()>,
}

impl Look {
    fn take(monitor: &Monitor) -> Look {
        let mut look = Look::default();
        for (index, record) in monitor.control.live_lanes() {
            let Some(lane) = monitor.lane(index, record) else { continue };
            let head = record.head.load(Ordering::Acquire);
            let end = lane.next_unpublished(head);
            look.lanes.insert(
                lane.id,
                LaneLook {
                    head,
                    end,
                    producer: record.producer.load(Ordering::Acquire),
                    consumers: record
                        .consumers
                        .iter()
                        .map(|c| c.load(Ordering::Acquire))
                        .filter(|c| *c != 0)
                        .collect(),
                    shared: record.kind.load(Ordering::Relaxed) == SHARED,
                    entries: (head..end).filter_map(|p| Some((p, lane.published(p)?))).collect(),
                },
            );
        }
        for (index, slot) in monitor.control.committed_slots() {
            for (i, token) in slot.references.tokens.iter().enumerate() {
                let word = token.load(Ordering::Acquire);
                if word != 0 {
                    look.tokens.insert((index, i as u8), word);
                }
            }
        }
        look
    }

    /// What two looks agree on. The rest is counted and not judged.
    fn agreed(mut self, later: &Look, report: &mut CheckReport) -> Look {
        let mut unsettled = BTreeMap::new();
        for (key, word) in self.tokens.iter().chain(&later.tokens) {
            if self.tokens.get(key) != later.tokens.get(key) || self.tokens.get(key) != Some(word) {
                unsettled.insert(*key, ());
            }
        }
        self.tokens.retain(|key, _| !unsettled.contains_key(key));
        let moved = |a: Option<&LaneLook>, b: Option<&LaneLook>| match (a, b) {
            (Some(a), Some(b)) => a.head != b.head || a.end != b.end || a.entries != b.entries,
            _ => true,
        };
        let ids: Vec<u16> = self.lanes.keys().chain(later.lanes.keys()).copied().collect();
        for id in ids {
            if moved(self.lanes.get(&id), later.lanes.get(&id)) {
                self.lanes.remove(&id);
                self.unsettled_lanes.insert(id, ());
            }
        }
        report.unsettled += (unsettled.len() + self.unsettled_lanes.len()) as u64;
        self.unsettled_tokens = unsettled;
        self
    }
}
