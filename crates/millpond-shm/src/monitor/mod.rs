//! Looking at a whole pond from outside: read-only, without taking part, and without trusting any of it.
//!
//! A monitor maps the tables read-only and holds no lock, so it can neither disturb nor be disturbed; it goes on showing the last
//! state when every process of the pond is dead. While things move, two looks are compared and only what both agree on is
//! judged.

mod check;

use crate::attachment::{Role, identity_of};
use crate::control::{Control, LANE_CLOSING, PROCESS_DEAD, PROCESS_LIVE, ReadyPool};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::layout::LaneRecord;
use crate::mailbox::account::{self, MailboxInfo, MessageTotals};
pub use crate::monitor::check::{CheckReport, HeldBy};
use crate::pond::open_memory;
use crate::pools::EVERYBODY;
use crate::ports::{Policy, StreamFormat};
use crate::registry::{Direction, check_name, port_name, read_format};
use crate::rendezvous::Directory;
use crate::sync::Ordering;
use crate::sys::{process, time};
use crate::token::Token;
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
    /// `live`, `stopped` (by a signal), `traced` (halted by a debugger), `stalled` (its heartbeat is over 3 s old for another
    /// reason), `dead` (to be recovered) or `joining`.
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
    /// Buffers that an output has sent, by all its processes so far: to connections, those that are gone included, and to nobody. 0 for
    /// inputs.
    pub sent: u64,
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
    /// Nanoseconds that the timestamps of what waits may be apart.
    pub max_time_ns: Option<u64>,
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
            mailboxes: account::infos(&self.control),
            messages: account::message_totals(&self.control),
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
                    PROCESS_LIVE => process::halted(pid).unwrap_or(match age > STALLED_AFTER_NS {
                        true => "stalled",
                        false => "live",
                    }),
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
                sent: match port.direction.load(Ordering::Relaxed) {
                    1 => crate::sent::sent_to_connections(&self.control, index)
                        .wrapping_add(port.unconnected.load(Ordering::Relaxed)),
                    _ => 0, // an input, which looks through no connections in vain
                },
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
            max_time_ns: Some(record.max_time_ns.load(Ordering::Relaxed)).filter(|&ns| ns != 0),
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
}
