//! Pools of blocks, their shares, and where a process has them mapped.
//!
//! A pool is divided into shares. A share belongs to one allocating process at a time, so that the usual allocation needs no
//! atomic read-modify-write; the last quarter of a pool's shares is open to everybody. A share gets its memory when it is first
//! taken, so a pond costs what it uses, and running out of memory is an error there and never a fault later.

use crate::attachment::Attachment;
use crate::error::{Context, Error, Result};
use crate::layout::{MAX_POOLS, MAX_SHARES, PoolRecord, SlotRecord};
use crate::registry_lock::Registry;
use crate::sync::Ordering;
use crate::sys::memory::{self, Mapping, PAGE_BYTES, round_up};
use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::OnceLock;

/// Owner of a share that every process may allocate from.
pub(crate) const EVERYBODY: u32 = 1023;
/// Alignment of every block.
pub const BLOCK_ALIGN: u64 = 64;

/// A pool to be made: blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Bytes that each block can hold, 1 to 2^40.
    pub block_bytes: u64,
    /// Number of blocks, at least 1.
    pub blocks: u32,
}

impl PoolConfig {
    /// A pool of `blocks` blocks of `block_bytes` bytes.
    #[must_use]
    pub const fn new(block_bytes: u64, blocks: u32) -> PoolConfig {
        PoolConfig { block_bytes, blocks }
    }

    fn stride(&self) -> u64 {
        round_up(self.block_bytes, BLOCK_ALIGN)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let wrong = |expected: &str, found: String| {
            Err(Error::InvalidConfig { what: "pool".to_owned(), expected: expected.to_owned(), found })
        };
        if self.block_bytes == 0 || self.block_bytes > 1 << 39 {
            return wrong("blocks of 1 byte to 512 GiB", format!("{} bytes", self.block_bytes));
        }
        if self.blocks == 0 {
            return wrong("at least 1 block", "0 blocks".to_owned());
        }
        Ok(())
    }
}

/// Where one pool lies, copied from its record and checked once, and its mappings in this process.
pub(crate) struct PoolMap {
    pub(crate) pond: &'static Attachment,
    pub(crate) index: u8,
    pub(crate) first_slot: u32,
    pub(crate) blocks: u32,
    pub(crate) block_bytes: u64,
    pub(crate) share_blocks: u32,
    stride: u64,
    data_offset: u64,
    read: Mapping,
    write: OnceLock<Mapping>,
}

impl PoolMap {
    fn open(pond: &'static Attachment, index: u8) -> Option<PoolMap> {
        let record = pond.control.pool(index.into())?;
        if record.state.load(Ordering::Acquire) != 1 {
            return None;
        }
        let first_slot = record.first_slot.load(Ordering::Relaxed);
        let blocks = record.blocks.load(Ordering::Relaxed);
        let block_bytes = record.block_bytes.load(Ordering::Relaxed);
        let stride = record.stride_bytes.load(Ordering::Relaxed);
        let data_offset = record.data_offset.load(Ordering::Relaxed);
        let share_blocks = record.share_blocks.load(Ordering::Relaxed);
        let bytes = round_up(u64::from(blocks).checked_mul(stride)?, PAGE_BYTES);
        let file_bytes = rustix::fs::fstat(&pond.data_fd).ok()?.st_size as u64;
        let fits = first_slot.checked_add(blocks)? <= pond.control.table_slots()
            && block_bytes <= stride
            && stride % BLOCK_ALIGN == 0
            && stride > 0
            && blocks > 0
            && share_blocks > 0
            && data_offset % PAGE_BYTES == 0
            && data_offset.checked_add(bytes)? <= file_bytes;
        if !fits {
            return None;
        }
        let read = Mapping::new(&pond.data_fd, data_offset, bytes, false).ok()?;
        let write = OnceLock::new();
        Some(PoolMap {
            pond,
            index,
            first_slot,
            blocks,
            block_bytes,
            share_blocks,
            stride,
            data_offset,
            read,
            write,
        })
    }

    #[inline]
    pub(crate) fn contains(&self, slot: u32) -> bool {
        slot.wrapping_sub(self.first_slot) < self.blocks
    }

    fn offset(&self, slot: u32) -> u64 {
        u64::from(slot.wrapping_sub(self.first_slot)) * self.stride
    }

    /// Address of a slot's block in the read-only mapping. `slot` must be one of the pool's.
    #[inline]
    pub(crate) fn read_address(&self, slot: u32) -> NonNull<u8> {
        debug_assert!(self.contains(slot));
        // Wrapping arithmetic needs no claim about the bounds; the caller checked `contains`, so it is in the mapping.
        let at = self.read.base().as_ptr().wrapping_add(self.offset(slot) as usize);
        NonNull::new(at).unwrap_or(self.read.base())
    }

    /// Address of a slot's block in the writable mapping; `None` before [`map_for_writing`](Self::map_for_writing).
    #[inline]
    pub(crate) fn written_address(&self, slot: u32) -> Option<NonNull<u8>> {
        debug_assert!(self.contains(slot));
        NonNull::new(self.write.get()?.base().as_ptr().wrapping_add(self.offset(slot) as usize))
    }

    /// Makes the writable mapping, on first use.
    pub(crate) fn map_for_writing(&self) -> Result<&Mapping> {
        if let Some(mapping) = self.write.get() {
            return Ok(mapping);
        }
        let file = &self.pond.data_fd;
        let mapping = Mapping::new(file, self.data_offset, self.read.len() as u64, true)
            .and_then(|mapping| mapping.copied_in_children(file, self.data_offset))
            .doing(|| format!("map pool {} of pond `{}` for writing", self.index, self.pond.name))?;
        Ok(self.write.get_or_init(|| mapping))
    }

    /// The record of one of the pool's slots.
    #[inline(always)]
    pub(crate) fn record(&self, slot: u32) -> &'static SlotRecord {
        match self.pond.control.slot(slot) {
            Some(record) => record,
            // The pool's slots were checked against the table when it was mapped, and handles are made for its slots only.
            None => unreachable!("slot {slot} of pool {} lies in the table", self.index),
        }
    }

    /// The slots of share `share`.
    pub(crate) fn share_slots(&self, share: u32) -> std::ops::Range<u32> {
        let from = share.saturating_mul(self.share_blocks).min(self.blocks);
        let to = from.saturating_add(self.share_blocks).min(self.blocks);
        self.first_slot + from..self.first_slot + to
    }
}

/// Every pool that this process has come across.
pub(crate) struct PoolMaps([OnceLock<PoolMap>; MAX_POOLS]);

impl PoolMaps {
    pub(crate) fn new() -> PoolMaps {
        PoolMaps([const { OnceLock::new() }; MAX_POOLS])
    }

    /// The pool of that index, mapped on first use. `None`: there is none, or its record is corrupt.
    #[inline]
    pub(crate) fn get(&self, pond: &'static Attachment, index: u8) -> Option<&PoolMap> {
        let entry = self.0.get(index as usize)?;
        if let Some(map) = entry.get() {
            return Some(map);
        }
        let map = PoolMap::open(pond, index)?;
        Some(entry.get_or_init(|| map))
    }

    /// All pools that exist now, smallest blocks first.
    pub(crate) fn by_block_size<'a>(&'a self, pond: &'static Attachment) -> Vec<&'a PoolMap> {
        let mut pools: Vec<_> = (0..MAX_POOLS as u8).filter_map(|i| self.get(pond, i)).collect();
        pools.sort_by_key(|p| (p.block_bytes, p.index));
        pools
    }
}

/// Slots of shares that this process owns and no allocator of it has, by pool.
#[derive(Default)]
pub(crate) struct ShareStock {
    spare: Vec<(u8, Vec<u32>)>,
}

impl ShareStock {
    pub(crate) fn of(&mut self, pool: u8) -> &mut Vec<u32> {
        let at = self.spare.iter().position(|(p, _)| *p == pool).unwrap_or_else(|| {
            self.spare.push((pool, Vec::new()));
            self.spare.len() - 1
        });
        &mut self.spare[at].1
    }
}

/// What taking a share gave.
pub(crate) enum TakenShare {
    /// This process alone allocates from these slots now.
    Ours(std::ops::Range<u32>),
    /// A share was opened to everybody.
    Opened,
    /// No share is left.
    None,
}

impl Registry<'_> {
    /// Makes a pool. The table of buffers must have room.
    pub(crate) fn add_pool(&self, config: PoolConfig) -> Result<()> {
        config.validate()?;
        let pond = self.pond;
        let header = pond.control.header();
        // From the pools that are ready, not from counts of their own: a pool whose maker was killed has taken nothing.
        let mut index = 0;
        let mut first_slot = 0u32;
        let mut data_offset = 0u64;
        for ready in pond.control.ready_pools() {
            let bytes =
                u64::from(ready.blocks).saturating_mul(ready.record.stride_bytes.load(Ordering::Relaxed));
            let end = ready.record.data_offset.load(Ordering::Relaxed).saturating_add(bytes.min(1 << 61));
            index = ready.index + 1;
            first_slot = first_slot.max(ready.first_slot.saturating_add(ready.blocks));
            data_offset = data_offset.max(round_up(end.min(1 << 62), PAGE_BYTES));
        }
        let Some(record) = pond.control.pool(index) else {
            return Err(Error::TableFull {
                pond: pond.name.clone(),
                what: "pool",
                limit: MAX_POOLS,
                advice: "use fewer block sizes",
            });
        };
        let table = pond.control.table_slots();
        if first_slot.checked_add(config.blocks).is_none_or(|end| end > table) {
            return Err(Error::InvalidConfig {
                what: format!("pond `{}`, pool of {} blocks", pond.name, config.blocks),
                expected: format!(
                    "at most the {} free of {table} slots (make the pond with more table slots)",
                    table.saturating_sub(first_slot)
                ),
                found: format!("{} blocks", config.blocks),
            });
        }
        let stride = config.stride();
        let shares = (config.blocks / 4).clamp(1, MAX_SHARES as u32);
        let share_blocks = config.blocks.div_ceil(shares);
        let too_large = || Error::InvalidConfig {
            what: format!("pond `{}`, pool", pond.name),
            expected: "a total below 2^62 bytes".to_owned(),
            found: format!("{} blocks of {} bytes", config.blocks, config.block_bytes),
        };
        let bytes =
            u64::from(config.blocks).checked_mul(stride).filter(|b| *b < 1 << 61).ok_or_else(too_large)?;
        let bytes = round_up(bytes, PAGE_BYTES);
        let end = data_offset.checked_add(bytes).filter(|e| *e < 1 << 62).ok_or_else(too_large)?;
        let available = memory::available_bytes();
        if bytes > available {
            return Err(Error::OutOfMemory {
                what: format!(
                    "a pool of {} blocks of {} bytes in pond `{}`",
                    config.blocks, config.block_bytes, pond.name
                ),
                problem: format!("{bytes} bytes wanted, {available} available"),
            });
        }
        // The file only ever grows (it is sealed against shrinking); a creator killed here leaves it longer, nothing else.
        let length =
            rustix::fs::fstat(&pond.data_fd).doing(|| "look at the data segment".to_owned())?.st_size as u64;
        if end > length {
            rustix::fs::ftruncate(&pond.data_fd, end)
                .doing(|| format!("make the data segment {end} bytes long"))?;
        }
        record.blocks.store(config.blocks, Ordering::Relaxed);
        record.block_bytes.store(config.block_bytes, Ordering::Relaxed);
        record.data_offset.store(data_offset, Ordering::Relaxed);
        record.stride_bytes.store(stride, Ordering::Relaxed);
        record.first_slot.store(first_slot, Ordering::Relaxed);
        record.share_blocks.store(share_blocks, Ordering::Relaxed);
        record.shares.store(config.blocks.div_ceil(share_blocks), Ordering::Relaxed);
        crash_point!(PoolWritten);
        record.state.store(1, Ordering::Release);
        crash_point!(PoolReady);
        header.pool_epoch.fetch_add(1, Ordering::Release);
        crash_point!(PoolTold);
        Ok(())
    }

    /// Takes a free share of a pool for this process; the last quarter is opened to everybody instead.
    pub(crate) fn take_share(&self, pool: &PoolMap) -> Result<TakenShare> {
        let pond = self.pond;
        let Some(record) = pond.control.pool(pool.index.into()) else { return Ok(TakenShare::None) };
        let shares = (record.shares.load(Ordering::Relaxed) as usize).min(MAX_SHARES);
        let owners = &record.share_owners[..shares];
        let free: Vec<usize> = (0..shares).filter(|&i| owners[i].load(Ordering::Relaxed) == 0).collect();
        let Some(&share) = free.first() else { return Ok(TakenShare::None) };
        let opened = free.len() <= shares.div_ceil(4);
        let owner = if opened { EVERYBODY } else { u32::from(pond.me) };
        // Memory first: a share that cannot have it stays free.
        self.commit_share(pool, record, share)?;
        owners[share].store(owner, Ordering::Release);
        crash_point!(ShareOwned);
        Ok(if opened { TakenShare::Opened } else { TakenShare::Ours(pool.share_slots(share as u32)) })
    }

    fn commit_share(&self, pool: &PoolMap, record: &PoolRecord, share: usize) -> Result<()> {
        if record.share_committed[share].load(Ordering::Acquire) == 1 {
            return Ok(());
        }
        let pond = self.pond;
        let slots = pool.share_slots(share as u32);
        let what =
            || format!("{} buffers of {} bytes in pond `{}`", slots.len(), pool.block_bytes, pond.name);
        let failed = |e: std::io::Error| Error::OutOfMemory { what: what(), problem: e.to_string() };
        let slot_bytes = size_of::<SlotRecord>() as u64;
        let table_offset = pond.control.tables().slots + u64::from(slots.start) * slot_bytes;
        memory::commit(&pond.control_fd, table_offset, slots.len() as u64 * slot_bytes).map_err(failed)?;
        let data_offset = pool.data_offset + pool.offset(slots.start);
        let data_bytes = slots.len() as u64 * pool.stride;
        memory::commit(&pond.data_fd, data_offset, data_bytes).map_err(failed)?;
        for slot in slots.clone() {
            if let Some(record) = pond.control.slot(slot) {
                record.pool.store(pool.index.into(), Ordering::Relaxed);
                record.block.store(slot - pool.first_slot, Ordering::Relaxed);
                record.data_offset.store(pool.data_offset + pool.offset(slot), Ordering::Relaxed);
            }
        }
        if let Ok(mapping) = pool.map_for_writing() {
            mapping.populate(pool.offset(slots.start) & !(PAGE_BYTES - 1), data_bytes);
        }
        crash_point!(ShareCommitted);
        record.share_committed[share].store(1, Ordering::Release);
        crash_point!(ShareMarked);
        Ok(())
    }
}
