//! The control segment as mapped by one process: tables with checked indices, never a pointer from shared memory.

#![allow(unsafe_code)]

use crate::doorbell::Doorbell;
use crate::error::{Context as _, Error, Result};
use crate::layout::{
    self, BlockRecord, Header, LOG_LINES, LaneRecord, LogRecord, MAX_BLOCKS, MAX_CONNECTIONS, MAX_MAILBOXES,
    MAX_POOLS, MAX_PORTS, MAX_PROCESSES, MAX_SHARES, MAX_WAITERS, MailboxBody, MailboxRecord, PoolRecord,
    PortRecord, Process, Settings, SlotRecord, Tables, WaiterSlot,
};
use crate::sync::{AtomicU64, Ordering};
use crate::sys::memory::Mapping;
use rustix::fd::AsFd;
use std::mem::size_of;

/// Process states.
pub(crate) const PROCESS_FREE: u64 = 0;
pub(crate) const PROCESS_JOINING: u64 = 1;
pub(crate) const PROCESS_LIVE: u64 = 2;
pub(crate) const PROCESS_DEAD: u64 = 3;

/// The mapped tables. Everything that decides where something lies is copied here at attach and never read again.
pub(crate) struct Control {
    mapping: Mapping,
    tables: Tables,
    table_slots: u32,
}

impl Control {
    /// Maps a control segment that was just made with room for `table_slots` buffers.
    pub(crate) fn fresh(fd: &impl AsFd, table_slots: u32) -> std::io::Result<Control> {
        let tables = Tables::new(table_slots);
        Ok(Control { mapping: Mapping::new(fd, 0, tables.bytes, true)?, tables, table_slots })
    }

    /// Maps an existing one after checking that it is a pond of this layout.
    pub(crate) fn open(name: &str, fd: &impl AsFd, writable: bool) -> Result<Control> {
        let refuse = |what, expected: String, found: String| {
            Err(Error::NotAPond { name: name.to_owned(), what, expected, found })
        };
        let doing = || format!("map pond `{name}`");
        let length = rustix::fs::fstat(fd).doing(doing)?.st_size as u64;
        let header_bytes = size_of::<Header>() as u64;
        if length < header_bytes {
            return refuse("size", format!("at least {header_bytes} bytes"), format!("{length} bytes"));
        }
        let head = Control {
            mapping: Mapping::new(fd, 0, header_bytes, false).doing(doing)?,
            tables: Tables::new(0),
            table_slots: 0,
        };
        let header = head.header();
        let magic = header.magic.load(Ordering::Acquire);
        if magic != layout::MAGIC {
            return refuse("magic", format!("{:#x}", layout::MAGIC), format!("{magic:#x}"));
        }
        let version = header.layout_version.load(Ordering::Relaxed);
        if version != layout::LAYOUT_VERSION {
            return refuse("layout version", layout::LAYOUT_VERSION.to_string(), version.to_string());
        }
        let hash = header.layout_hash.load(Ordering::Relaxed);
        if hash != layout::hash() {
            return refuse(
                "layout hash",
                format!("{:#x} (this build)", layout::hash()),
                format!("{hash:#x}"),
            );
        }
        let table_slots = header.table_slots.load(Ordering::Relaxed);
        let tables = Tables::new(table_slots);
        if table_slots == 0 || table_slots > MAX_TABLE_SLOTS || tables.bytes != length {
            return refuse(
                "size",
                format!("{} bytes for {table_slots} slots", tables.bytes),
                format!("{length} bytes"),
            );
        }
        Ok(Control { mapping: Mapping::new(fd, 0, length, writable).doing(doing)?, tables, table_slots })
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn table_slots(&self) -> u32 {
        self.table_slots
    }

    /// The entry `index` of a table at `offset` with `entries` entries.
    #[inline]
    fn entry<T>(&self, offset: u64, index: usize, entries: usize) -> Option<&T> {
        if index >= entries {
            return None;
        }
        let at = offset as usize + index * size_of::<T>();
        debug_assert!(at + size_of::<T>() <= self.mapping.len());
        // SAFETY: `offset` is from `Tables`, whose end was checked against the mapping's length, and `index` against the table's
        // end; T is one of layout.rs's structs (or an atomic): fields are atomics only, so any bytes are valid and concurrent
        // writers are allowed; the mapping outlives `self`.
        Some(unsafe { self.mapping.base().add(at).cast::<T>().as_ref() })
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: as in `entry`: every mapping made here is at least one header long.
        unsafe { self.mapping.base().cast::<Header>().as_ref() }
    }

    #[inline]
    pub(crate) fn process(&self, slot: usize) -> Option<&Process> {
        if slot == 0 { None } else { self.entry(self.tables.processes, slot, MAX_PROCESSES + 1) }
    }

    /// The place of line `number` in the log.
    pub(crate) fn log_line(&self, number: u64) -> Option<&LogRecord> {
        self.entry(self.tables.log, (number % LOG_LINES as u64) as usize, LOG_LINES)
    }

    #[inline]
    pub(crate) fn waiter(&self, index: u32) -> Option<&WaiterSlot> {
        if index == 0 { None } else { self.entry(self.tables.waiters, index as usize, MAX_WAITERS) }
    }

    /// The doorbell of a waiting party.
    #[inline]
    pub(crate) fn doorbell(&self, waiter: u32) -> Option<Doorbell<'_>> {
        let slot = self.waiter(waiter)?;
        Some(Doorbell { bell: &slot.bell, asleep: &slot.asleep })
    }

    pub(crate) fn block(&self, index: u32) -> Option<&BlockRecord> {
        self.entry(self.tables.blocks, index as usize, MAX_BLOCKS)
    }

    pub(crate) fn port(&self, index: u32) -> Option<&PortRecord> {
        self.entry(self.tables.ports, index as usize, MAX_PORTS)
    }

    pub(crate) fn pool(&self, index: usize) -> Option<&PoolRecord> {
        self.entry(self.tables.pools, index, MAX_POOLS)
    }

    pub(crate) fn lane(&self, index: u32) -> Option<&LaneRecord> {
        self.entry(self.tables.lanes, index as usize, MAX_CONNECTIONS)
    }

    pub(crate) fn mailbox(&self, index: u32) -> Option<&MailboxRecord> {
        self.entry(self.tables.mailboxes, index as usize, MAX_MAILBOXES)
    }

    /// Has memory once its mailbox has been made.
    pub(crate) fn mailbox_body(&self, index: u32) -> Option<&MailboxBody> {
        self.entry(self.tables.mailbox_bodies, index as usize, MAX_MAILBOXES)
    }

    /// Has memory once the block was given settings.
    pub(crate) fn settings(&self, block: u32) -> Option<&Settings> {
        self.entry(self.tables.settings, block as usize, MAX_BLOCKS)
    }

    #[inline]
    pub(crate) fn slot(&self, index: u32) -> Option<&SlotRecord> {
        self.entry(self.tables.slots, index as usize, self.table_slots as usize)
    }

    /// The cells of a ring, if it lies inside the arena.
    pub(crate) fn ring(&self, offset: u64, cells: u32) -> Option<&[AtomicU64]> {
        let end = offset.checked_add(u64::from(cells) * 8)?;
        if !cells.is_power_of_two()
            || offset < self.tables.rings
            || !offset.is_multiple_of(64)
            || end > self.tables.bytes
        {
            return None;
        }
        // SAFETY: the range lies inside the mapping (checked above against the tables, they against the length) and is
        // aligned; words are atomics, valid with any bytes and under concurrent writes.
        Some(unsafe {
            std::slice::from_raw_parts(
                self.mapping.base().add(offset as usize).cast::<AtomicU64>().as_ptr(),
                cells as usize,
            )
        })
    }

    // ---- walks over the used part of a table; the used counts are shared, so they are clamped

    pub(crate) fn live_lanes(&self) -> impl Iterator<Item = (u32, &LaneRecord)> {
        let used = self.header().lanes_used.load(Ordering::Acquire).min(MAX_CONNECTIONS as u32);
        (0..used)
            .filter_map(|i| Some((i, self.lane(i)?)))
            .filter(|(_, lane)| lane.state.load(Ordering::Acquire) != LANE_FREE)
    }

    pub(crate) fn used_ports(&self) -> impl Iterator<Item = (u32, &PortRecord)> {
        let used = self.header().ports_used.load(Ordering::Acquire).min(MAX_PORTS as u32);
        (0..used)
            .filter_map(|i| Some((i, self.port(i)?)))
            .filter(|(_, p)| p.direction.load(Ordering::Acquire) != 0)
    }

    pub(crate) fn used_blocks(&self) -> impl Iterator<Item = (u32, &BlockRecord)> {
        let used = self.header().blocks_used.load(Ordering::Acquire).min(MAX_BLOCKS as u32);
        (0..used)
            .filter_map(|i| Some((i, self.block(i)?)))
            .filter(|(_, b)| b.state.load(Ordering::Acquire) != 0)
    }

    /// Every mailbox that was ever made, free ones included.
    pub(crate) fn used_mailboxes(&self) -> impl Iterator<Item = (u32, &MailboxRecord)> {
        let used = self.header().mailboxes_used.load(Ordering::Acquire).min(MAX_MAILBOXES as u32);
        (0..used).filter_map(|i| Some((i, self.mailbox(i)?)))
    }

    /// Every pool that is ready and lies inside the table.
    pub(crate) fn ready_pools(&self) -> impl Iterator<Item = ReadyPool<'_>> {
        (0..MAX_POOLS).filter_map(|index| {
            let record = self.pool(index)?;
            let ready = record.state.load(Ordering::Acquire) == 1;
            let pool = ReadyPool {
                index,
                record,
                first_slot: record.first_slot.load(Ordering::Relaxed),
                blocks: record.blocks.load(Ordering::Relaxed),
                share_blocks: record.share_blocks.load(Ordering::Relaxed).max(1),
                shares: record.shares.load(Ordering::Relaxed).min(MAX_SHARES as u32),
            };
            let end = pool.first_slot.checked_add(pool.blocks)?;
            (ready && end <= self.table_slots).then_some(pool)
        })
    }

    /// Slots of every share that has memory (the others have never held a buffer, and touching them would cost memory).
    pub(crate) fn committed_slots(&self) -> impl Iterator<Item = (u32, &SlotRecord)> {
        self.ready_pools().flat_map(move |pool| {
            (0..MAX_SHARES as u32)
                .filter(move |share| pool.is_committed(*share))
                .flat_map(move |share| pool.share_slots(share))
                .filter_map(move |slot| Some((slot, self.slot(slot)?)))
        })
    }

    /// Processes whose slot is not free: slot, record, state, pid.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (u16, &Process, u64, u32)> {
        (1..=MAX_PROCESSES).filter_map(|slot| {
            let process = self.process(slot)?;
            let word = process.state.load(Ordering::Acquire);
            (word >> 56 != PROCESS_FREE).then_some((slot as u16, process, word >> 56, word as u32))
        })
    }
}

/// A pool's place in the table, read once and checked: the record may change under a stray write.
#[derive(Clone, Copy)]
pub(crate) struct ReadyPool<'a> {
    pub(crate) index: usize,
    pub(crate) record: &'a PoolRecord,
    pub(crate) first_slot: u32,
    pub(crate) blocks: u32,
    pub(crate) shares: u32,
    share_blocks: u32,
}

impl ReadyPool<'_> {
    /// The slots of a share; none beyond the last.
    pub(crate) fn share_slots(&self, share: u32) -> std::ops::Range<u32> {
        let from = share.saturating_mul(self.share_blocks).min(self.blocks);
        let to = from.saturating_add(self.share_blocks).min(self.blocks);
        self.first_slot + from..self.first_slot + to
    }

    /// Whether a share has memory.
    pub(crate) fn is_committed(&self, share: u32) -> bool {
        self.record.share_committed.get(share as usize).is_some_and(|c| c.load(Ordering::Acquire) == 1)
    }
}

/// Whether a memory file can never shrink, which would turn loads into SIGBUS.
pub(crate) fn is_sealed(fd: &impl AsFd) -> bool {
    rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::SHRINK))
}

/// Entries that a table of buffers can have: what a cell's slot field can name, less none.
pub(crate) const MAX_TABLE_SLOTS: u32 = 1 << 26;

/// Lane states.
pub(crate) const LANE_FREE: u32 = 0;
pub(crate) const LANE_ACTIVE: u32 = 1;
pub(crate) const LANE_CLOSING: u32 = 2;

/// Lane kinds.
pub(crate) const EXCLUSIVE: u32 = 0;
pub(crate) const SHARED: u32 = 1;

/// How an end of a lane stands; the low byte of a presence word.
pub(crate) const NEVER: u32 = 0;
pub(crate) const ATTACHED: u32 = 1;
pub(crate) const LEFT: u32 = 2;
pub(crate) const DIED: u32 = 3;

/// As `set_presence`, but leaves a word that says so already as it is: a change that was cut off and redone is one change.
pub(crate) fn change_presence(word: &crate::sync::AtomicU32, presence: u32) {
    if word.load(Ordering::Relaxed) & 0xff != presence {
        set_presence(word, presence);
    }
}

/// Stores a presence and raises its count of changes.
pub(crate) fn set_presence(word: &crate::sync::AtomicU32, presence: u32) {
    let before = word.load(Ordering::Relaxed);
    if before & 0xff != presence {
        word.store((before & !0xff).wrapping_add(0x100) | presence, Ordering::Release);
    }
}
