//! Looking at a whole pond from outside: read-only, without taking part, and without trusting any of it.
//!
//! A monitor maps the tables read-only and holds no lock, so it can neither disturb nor be disturbed; it goes on showing the last
//! state when every process of the pond is dead. While things move, two looks are compared and only what both agree on is
//! judged.

use crate::attachment::{Role, identity_of};
use crate::control::{Control, LANE_CLOSING, PROCESS_DEAD, PROCESS_LIVE, ReadyPool, SHARED};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::layout::LaneRecord;
use crate::mailbox::{self, MailboxInfo, MessageTotals};
use crate::pond::open_memory;
use crate::pools::EVERYBODY;
use crate::ports::{Policy, StreamFormat};
use crate::registry::{Direction, check_name, port_name, read_format};
use crate::rendezvous::Directory;
use crate::sync::Ordering;
use crate::sys::time;
use crate::token::{Cell, Token};
use crate::watcher::STALLED_AFTER_NS;
use serde::Serialize;
use std::collections::BTreeMap;

/// One process of a pond.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessInfo {
    /// Its slot in the process table.
    pub slot: u16,
    /// Its pid.
    pub pid: u32,
    /// What it is to the pond.
    pub role: Role,
    /// `live`, `stalled` (its heartbeat is over 3 s old), `dead` (to be recovered) or `joining`.
    pub state: &'static str,
    /// Its program's name.
    pub name: String,
    /// When it attached, Unix nanoseconds.
    pub attached_unix_ns: u64,
    /// How old its heartbeat is.
    pub heartbeat_age_ms: u64,
    /// References to buffers that it holds.
    pub held_buffers: u64,
}

/// One share of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShareInfo {
    /// Pid of the process that allocates there alone; `None`: nobody, or everybody.
    pub owner_pid: Option<u32>,
    /// Whether every process may allocate there.
    pub open: bool,
    /// Whether it has memory.
    pub committed: bool,
    /// Its blocks.
    pub blocks: u32,
    /// Those that are free.
    pub free: u32,
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolInfo {
    /// Its index.
    pub index: usize,
    /// Bytes that a block can hold.
    pub block_bytes: u64,
    /// Blocks.
    pub blocks: u32,
    /// Free blocks.
    pub free: u32,
    /// Blocks in use.
    pub used: u32,
    /// Allocations that found it exhausted.
    pub exhausted: u32,
    /// Its shares.
    pub shares: Vec<ShareInfo>,
}

/// One block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockInfo {
    /// Its name.
    pub name: String,
    /// Its type.
    pub block_type: String,
    /// Pid of the process that runs it.
    pub pid: Option<u32>,
    /// The numbers it publishes.
    pub counters: Vec<u64>,
    /// What it leaves to its successor; the upper layer's parameters that were set while it ran.
    pub settings: Option<String>,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortInfo {
    /// `block.port`.
    pub name: String,
    /// Which way data goes.
    pub direction: Direction,
    /// Pids at this end.
    pub pids: Vec<u32>,
    /// Whether consumers compete.
    pub shared: bool,
    /// Whether it redelivers.
    pub redeliver: bool,
    /// What an output's stream carries.
    pub format: Option<StreamFormat>,
    /// Buffers sent while nothing was connected.
    pub unconnected: u64,
    /// Buffers dropped because their connection was removed.
    pub dropped_at_disconnect: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionInfo {
    /// The output port.
    pub from: String,
    /// The input port.
    pub to: String,
    /// What happens when it is full.
    pub policy: Policy,
    /// `open`, `ended` (the sender said so), `closing`.
    pub state: &'static str,
    /// Buffers that may wait.
    pub depth: u32,
    /// Buffers that wait.
    pub queued: u64,
    /// Buffers ever published, derived from positions.
    pub published: u64,
    /// Buffers taken by consumers, dropped ones not counted.
    pub taken: u64,
    /// Buffers not sent because it was full.
    pub dropped_newest: u64,
    /// Queued buffers removed because it was full.
    pub dropped_oldest: u64,
    /// Buffers that consumers had taken and not given back or passed on when they were killed.
    pub lost_in_hand: u64,
    /// Buffers delivered again.
    pub redelivered: u64,
    /// Pid of the sender.
    pub sender_pid: Option<u32>,
    /// Whether the sender died and nobody took over.
    pub sender_died: bool,
    /// Pids of the receivers.
    pub receiver_pids: Vec<u32>,
    /// Whether the last receiver died and nobody took over.
    pub receiver_died: bool,
}

/// Everything about a pond at about one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Its random number.
    pub uuid: String,
    /// When it was made, Unix nanoseconds.
    pub created_unix_ns: u64,
    /// Processes recovered so far.
    pub recoveries: u32,
    /// Whether everybody was asked to stop.
    pub stop_requested: bool,
    /// Its processes.
    pub processes: Vec<ProcessInfo>,
    /// Its pools.
    pub pools: Vec<PoolInfo>,
    /// Its blocks.
    pub blocks: Vec<BlockInfo>,
    /// Their ports.
    pub ports: Vec<PortInfo>,
    /// Its connections.
    pub connections: Vec<ConnectionInfo>,
    /// The mailboxes of its message bus.
    pub mailboxes: Vec<MailboxInfo>,
    /// The account of every message.
    pub messages: MessageTotals,
}

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

/// A read-only view of a pond.
pub struct Monitor {
    name: String,
    pub(crate) control: Control,
}

impl Monitor {
    /// Opens a pond that has a living process. It stays readable when the last one is gone.
    ///
    /// # Errors
    /// As [`Pond::attach`](crate::Pond::attach).
    pub fn open(name: &str) -> Result<Monitor> {
        check_name("pond", name)?;
        let directory = Directory::lock()?;
        let Some(entry) = directory.read(name)? else {
            return Err(Error::PondNotFound { name: name.to_owned(), directory: directory.shown() });
        };
        let (control, _, _) = open_memory(name, &entry, false)?;
        Ok(Monitor { name: name.to_owned(), control })
    }

    /// Whether any process of the pond is alive. `false`: what is shown is its last state.
    pub fn has_living_process(&self) -> bool {
        self.control.processes().any(|(_, process, _, pid)| identity_of(process, u64::from(pid)).is_alive())
    }

    fn pid(&self, slot: u32) -> Option<u32> {
        let pid = self.control.process(slot as usize)?.state.load(Ordering::Acquire) as u32;
        (slot != 0 && pid != 0).then_some(pid)
    }

    /// Reads everything. Costs time in proportion to the buffers that have memory.
    pub fn snapshot(&self) -> Snapshot {
        let header = self.control.header();
        let uuid = header.uuid.each_ref().map(|w| w.load(Ordering::Relaxed));
        Snapshot {
            name: self.name.clone(),
            uuid: format!("{:016x}{:016x}", uuid[0], uuid[1]),
            created_unix_ns: header.created_unix_ns.load(Ordering::Relaxed),
            recoveries: header.recoveries.load(Ordering::Relaxed),
            stop_requested: header.stop_requested.load(Ordering::Relaxed) != 0,
            processes: self.processes(),
            pools: self.pools(),
            blocks: self.blocks(),
            ports: self.ports(),
            connections: self.control.live_lanes().filter_map(|(i, lane)| self.connection(i, lane)).collect(),
            mailboxes: mailbox::infos(&self.control),
            messages: mailbox::message_totals(&self.control),
        }
    }

    fn processes(&self) -> Vec<ProcessInfo> {
        let mut held: BTreeMap<u16, u64> = BTreeMap::new();
        for (_, slot) in self.control.committed_slots() {
            for token in &slot.references.tokens {
                let token = Token(token.load(Ordering::Relaxed));
                if token.0 != 0 && !token.is_queued() {
                    *held.entry(token.owner()).or_default() += 1;
                }
            }
        }
        let now = time::monotonic_ns();
        self.control
            .processes()
            .map(|(slot, process, state, pid)| {
                let age = now.saturating_sub(process.heartbeat_ns.load(Ordering::Relaxed));
                let alive = identity_of(process, u64::from(pid)).is_alive();
                let state = match state {
                    _ if !alive => "dead",
                    PROCESS_LIVE if age > STALLED_AFTER_NS => "stalled",
                    PROCESS_LIVE => "live",
                    PROCESS_DEAD => "dead",
                    _ => "joining",
                };
                ProcessInfo {
                    slot,
                    pid,
                    role: Role::from_word(process.role.load(Ordering::Relaxed)),
                    state,
                    name: process.name.load(),
                    attached_unix_ns: process.attached_unix_ns.load(Ordering::Relaxed),
                    heartbeat_age_ms: age / 1_000_000,
                    held_buffers: held.get(&slot).copied().unwrap_or(0),
                }
            })
            .collect()
    }

    fn pools(&self) -> Vec<PoolInfo> {
        let pool = |pool: ReadyPool<'_>| {
            let is_free = |slot: &u32| self.control.slot(*slot).is_some_and(|s| s.references.is_free());
            let shares: Vec<ShareInfo> = (0..pool.shares)
                .map(|share| {
                    let owner = pool.record.share_owners[share as usize].load(Ordering::Relaxed);
                    let committed = pool.is_committed(share);
                    let slots = pool.share_slots(share);
                    let blocks = slots.len() as u32;
                    ShareInfo {
                        owner_pid: if owner == EVERYBODY { None } else { self.pid(owner) },
                        open: owner == EVERYBODY,
                        committed,
                        blocks,
                        free: if committed { slots.filter(is_free).count() as u32 } else { blocks },
                    }
                })
                .collect();
            let free = shares.iter().map(|s| s.free).sum();
            PoolInfo {
                index: pool.index,
                block_bytes: pool.record.block_bytes.load(Ordering::Relaxed),
                blocks: pool.blocks,
                free,
                used: pool.blocks.saturating_sub(free),
                exhausted: pool.record.exhausted.load(Ordering::Relaxed),
                shares,
            }
        };
        self.control.ready_pools().map(pool).collect()
    }

    fn blocks(&self) -> Vec<BlockInfo> {
        self.control
            .used_blocks()
            .map(|(index, block)| BlockInfo {
                settings: crate::settings::read(&self.control, index),
                name: block.name.load(),
                block_type: block.block_type.load(),
                pid: self.pid(block.process.load(Ordering::Relaxed)),
                counters: block.counters.iter().map(|c| c.load(Ordering::Relaxed)).collect(),
            })
            .collect()
    }

    fn ports(&self) -> Vec<PortInfo> {
        self.control
            .used_ports()
            .map(|(index, port)| PortInfo {
                name: port_name(&self.control, index),
                direction: if port.direction.load(Ordering::Relaxed) == 1 {
                    Direction::Output
                } else {
                    Direction::Input
                },
                pids: port.owners.iter().filter_map(|o| self.pid(o.load(Ordering::Relaxed))).collect(),
                shared: port.shared.load(Ordering::Relaxed) == 1,
                redeliver: port.redeliver.load(Ordering::Relaxed) == 1,
                format: read_format(port),
                unconnected: port.unconnected.load(Ordering::Relaxed),
                dropped_at_disconnect: port.dropped_at_disconnect.load(Ordering::Relaxed),
            })
            .collect()
    }

    fn lane<'a>(&'a self, index: u32, record: &'a LaneRecord) -> Option<Lane<'a>> {
        let cells = self
            .control
            .ring(record.ring_offset.load(Ordering::Relaxed), record.ring_cells.load(Ordering::Relaxed))?;
        Some(Lane { id: u16::try_from(index).ok()?, head: &record.head, cells })
    }

    fn connection(&self, index: u32, record: &LaneRecord) -> Option<ConnectionInfo> {
        let lane = self.lane(index, record)?;
        // Head first, then the cells behind it: what is taken meanwhile counts as queued, never the other way round.
        let head = record.head.load(Ordering::Acquire);
        let end = lane.next_unpublished(head);
        let base = record.base.load(Ordering::Relaxed);
        let dropped_oldest = record.dropped_oldest.load(Ordering::Relaxed);
        let gone = |presence: &crate::sync::AtomicU32| {
            presence.load(Ordering::Relaxed) & 0xff == crate::control::DIED
        };
        let ended = record.end.load(Ordering::Relaxed) != 0;
        Some(ConnectionInfo {
            from: port_name(&self.control, record.from_port.load(Ordering::Relaxed)),
            to: port_name(&self.control, record.to_port.load(Ordering::Relaxed)),
            policy: match record.policy.load(Ordering::Relaxed) {
                1 => Policy::DropNewest,
                2 => Policy::DropOldest,
                _ => Policy::Block,
            },
            state: match record.state.load(Ordering::Relaxed) {
                LANE_CLOSING => "closing",
                _ if ended => "ended",
                _ => "open",
            },
            depth: record.depth.load(Ordering::Relaxed),
            queued: end.wrapping_sub(head),
            published: end.saturating_sub(base),
            taken: head.saturating_sub(base).saturating_sub(dropped_oldest),
            dropped_newest: record.dropped_newest.load(Ordering::Relaxed),
            dropped_oldest,
            lost_in_hand: record.lost_in_hand.load(Ordering::Relaxed),
            redelivered: record.redelivered.load(Ordering::Relaxed),
            sender_pid: self.pid(record.producer.load(Ordering::Relaxed)),
            sender_died: gone(&record.producer_presence),
            receiver_pids: record
                .consumers
                .iter()
                .filter_map(|c| self.pid(c.load(Ordering::Relaxed)))
                .collect(),
            receiver_died: gone(&record.consumer_presence),
        })
    }

    /// Accounts for every buffer.
    pub fn check(&self) -> CheckReport {
        let mail_problems = mailbox::problems(&self.control);
        let first = Look::take(self);
        let second = Look::take(self);
        let mut report = CheckReport {
            slots: self.control.ready_pools().map(|p| u64::from(p.blocks)).sum(),
            ..CheckReport::default()
        };
        let settled = first.agreed(&second, &mut report);
        self.judge_tokens(&settled, &mut report);
        judge_cells(&settled, &mut report);
        report.problems.extend(mail_problems.intersection(&mailbox::problems(&self.control)).cloned());
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
