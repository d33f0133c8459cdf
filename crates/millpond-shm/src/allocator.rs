//! Taking buffers: from slots that only this allocator tries, so that it costs loads and one store.
//!
//! An allocator remembers the slots it has handed out and probes the oldest first: with consumers that take turns the first
//! probe hits, and few slots stay warm in the cache. What it has not, it gets from its process's shares; when the pool has no
//! share left, from the shares that are open to everybody; then from the next larger pool.

use crate::attachment::{Attachment, Session};
use crate::buffer::BufferMut;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::layout::{MAX_SHARES, SlotRecord};
use crate::pools::{EVERYBODY, PoolMap, TakenShare};
use crate::registry_lock::STREAM_PATIENCE;
use crate::sync::Ordering;
use crate::sys::{futex, time};
use crate::token::{IN_LANE, ProcessSlot, Token};
use crate::types::Description;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Slots that an allocator asks for at once: enough to keep a few in flight, few enough to stay in the cache.
const BATCH: usize = 16;
const BATCH_BYTES: u64 = 1 << 20;
/// How many allocations ahead a slot's lines are asked for: several hand-overs take as long as one transfer between cores.
const PREFETCH_AHEAD: usize = 8;
/// How many slots `try_allocate_recent` tries before it goes on as `try_allocate` does.
const RECENT: usize = 8;
const LONGEST_NAP: Duration = Duration::from_millis(1);

/// Takes buffers for one thread. Get one from [`Pond::allocator`](crate::Pond::allocator), or use an output port's own.
pub struct Allocator {
    session: Arc<Session>,
    /// By block size, smallest first.
    pools: Vec<Candidates>,
    pool_epoch: u32,
    /// Why the last search gave no buffer.
    error: Option<Error>,
}

/// The slots of one pool that only this allocator tries.
struct Candidates {
    pool: &'static PoolMap,
    slots: Vec<Candidate>,
    /// The one handed out longest ago.
    oldest: usize,
    /// Where the search in shares that are open to everybody goes on.
    open_cursor: u32,
}

impl Allocator {
    pub(crate) fn new(session: &Arc<Session>) -> Allocator {
        // Differs from the pond's, so that the first allocation looks for pools. A forked child has no pond to look at.
        let pool_epoch = match session.is_forked() {
            true => 0,
            false => session.control.header().pool_epoch.load(Ordering::Acquire).wrapping_sub(1),
        };
        Allocator { session: Arc::clone(session), pools: Vec::new(), pool_epoch, error: None }
    }

    /// Takes a buffer that can hold `len_bytes`, with that length, dtype bytes, no timestamp, sequence 0. Its contents are
    /// whatever was there before.
    ///
    /// Never blocks, except for a registry lock when the process needs another share of a pool.
    ///
    /// # Errors
    /// [`Error::PoolExhausted`] if every fitting buffer is in use, [`Error::BufferTooLarge`] if none could ever fit,
    /// [`Error::OutOfMemory`] if a share's memory cannot be had.
    ///
    /// # Crash safety
    /// A buffer taken by a process that is killed is free again after recovery.
    #[inline(always)]
    pub fn allocate(&mut self, len_bytes: usize) -> Result<BufferMut> {
        if let Some(buffer) = self.try_oldest(len_bytes) {
            return Ok(buffer);
        }
        // An error comes by another way than the buffer, which so stays in registers; see `Output::is_simple_for`.
        match self.allocate_slowly(len_bytes) {
            Some(buffer) => Ok(buffer),
            None => Err(self.last_error()),
        }
    }

    /// The usual case, small enough to be inlined: the fitting pool's oldest slot is free again.
    #[inline(always)]
    fn try_oldest(&mut self, len_bytes: usize) -> Option<BufferMut> {
        let pond = self.session.attachment();
        if pond.is_forked() || pond.control.header().pool_epoch.load(Ordering::Relaxed) != self.pool_epoch {
            return None;
        }
        let candidates = self.pools.iter_mut().find(|c| c.pool.block_bytes >= len_bytes as u64)?;
        let fresh = candidates.try_oldest(pond)?;
        Some(BufferMut::allocated(candidates.pool, fresh.slot, fresh.record, len_bytes))
    }

    /// As [`allocate`](Self::allocate), but `None` instead of [`Error::PoolExhausted`], whose text costs a look at every buffer of
    /// the pool: for a party that will try again.
    ///
    /// # Errors
    /// As `allocate`, but for that one.
    #[inline]
    pub fn try_allocate(&mut self, len_bytes: usize) -> Result<Option<BufferMut>> {
        match self.try_oldest(len_bytes) {
            Some(buffer) => Ok(Some(buffer)),
            None => self.search(len_bytes),
        }
    }

    /// As [`try_allocate`](Self::try_allocate), but takes a slot that was given back a moment ago if there is one, instead of the one that
    /// was handed out longest ago: for a chain of blocks that one core runs, whose few buffers then stay in its cache.
    ///
    /// # Errors
    /// As `try_allocate`.
    #[inline]
    pub fn try_allocate_recent(&mut self, len_bytes: usize) -> Result<Option<BufferMut>> {
        let pond = self.session.attachment();
        if !pond.is_forked()
            && pond.control.header().pool_epoch.load(Ordering::Relaxed) == self.pool_epoch
            && let Some(candidates) = self.pools.iter_mut().find(|c| c.pool.block_bytes >= len_bytes as u64)
            && let Some(fresh) = candidates.try_first(pond)
        {
            return Ok(Some(BufferMut::allocated(candidates.pool, fresh.slot, fresh.record, len_bytes)));
        }
        self.try_allocate(len_bytes)
    }

    #[cold]
    #[inline(never)]
    fn last_error(&mut self) -> Error {
        self.error.take().unwrap_or(Error::Forked)
    }

    #[cold]
    #[inline(never)]
    fn allocate_slowly(&mut self, len_bytes: usize) -> Option<BufferMut> {
        self.error = match self.search(len_bytes) {
            Ok(Some(buffer)) => return Some(buffer),
            Ok(None) => Some(self.exhausted(len_bytes)),
            Err(error) => Some(error),
        };
        None
    }

    /// A claimed buffer of the smallest pool that has one; `None`: none of those that fit has one, which is counted.
    fn search(&mut self, len_bytes: usize) -> Result<Option<BufferMut>> {
        let pond = self.session.attachment();
        pond.check_fork()?;
        if pond.control.header().pool_epoch.load(Ordering::Acquire) != self.pool_epoch {
            self.look_for_pools();
        }
        let mut fits = false;
        for candidates in self.pools.iter_mut().filter(|c| c.pool.block_bytes >= len_bytes as u64) {
            fits = true;
            if let Some(fresh) = candidates.take(pond)? {
                let buffer = BufferMut::allocated(candidates.pool, fresh.slot, fresh.record, len_bytes);
                return Ok(Some(buffer));
            }
        }
        if !fits {
            let largest = self.pools.iter().map(|c| c.pool.block_bytes).max().unwrap_or(0);
            return Err(Error::BufferTooLarge { pond: pond.name.clone(), wanted: len_bytes, largest });
        }
        for candidates in self.fitting(len_bytes) {
            if let Some(record) = pond.control.pool(candidates.pool.index.into()) {
                record.exhausted.fetch_add(1, Ordering::Relaxed);
                crash_point!(ExhaustedCounted);
            }
        }
        Ok(None)
    }

    fn fitting(&self, len_bytes: usize) -> impl Iterator<Item = &Candidates> {
        self.pools.iter().filter(move |c| c.pool.block_bytes >= len_bytes as u64)
    }

    /// As [`allocate`](Self::allocate), but waits up to `timeout` for a buffer to be given back.
    ///
    /// # Errors
    /// As `allocate`, after the timeout; errors that waiting cannot mend come at once.
    #[inline(always)]
    pub fn allocate_timeout(&mut self, len_bytes: usize, timeout: Duration) -> Result<BufferMut> {
        if let Some(buffer) = self.try_oldest(len_bytes) {
            return Ok(buffer);
        }
        match self.wait_for_a_buffer(len_bytes, timeout) {
            Some(buffer) => Ok(buffer),
            None => Err(self.last_error()),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_a_buffer(&mut self, len_bytes: usize, timeout: Duration) -> Option<BufferMut> {
        let start = Instant::now();
        let mut nap = Duration::from_micros(20);
        loop {
            let left = timeout.saturating_sub(start.elapsed());
            self.error = match self.search(len_bytes) {
                Ok(Some(buffer)) => return Some(buffer),
                Ok(None) if !left.is_zero() && !self.session.stop_requested() => None,
                Ok(None) => Some(self.exhausted(len_bytes)),
                Err(error) => Some(error),
            };
            if self.error.is_some() {
                return None;
            }
            // A release is one store and tells nobody, so this looks again soon; recovery rings.
            let header = self.session.control.header();
            let bell = header.allocation_bell.load(Ordering::Acquire);
            futex::wait(&header.allocation_bell, bell, Some(nap.min(left)));
            nap = (nap * 2).min(LONGEST_NAP);
        }
    }

    fn look_for_pools(&mut self) {
        let attachment = self.session.attachment();
        self.pool_epoch = attachment.control.header().pool_epoch.load(Ordering::Acquire);
        for pool in attachment.pools.by_block_size(attachment) {
            if !self.pools.iter().any(|c| c.pool.index == pool.index) {
                self.pools.push(Candidates {
                    pool,
                    slots: Vec::new(),
                    oldest: 0,
                    open_cursor: u32::from(attachment.me).wrapping_mul(0x9e37_79b9),
                });
            }
        }
        self.pools.sort_by_key(|c| (c.pool.block_bytes, c.pool.index));
    }

    /// Who has the buffers. Looks at every one of the pools that fit.
    #[cold]
    fn exhausted(&self, wanted: usize) -> Error {
        let pond = self.session.name.clone();
        let mut details = String::new();
        for candidates in self.fitting(wanted) {
            let _ = write!(details, "\n  {}", describe_use(&self.session.control, candidates.pool));
        }
        Error::PoolExhausted { pond, wanted, details }
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        if self.session.is_forked() {
            return;
        }
        let mut stock = self.session.stock.lock().unwrap_or_else(PoisonError::into_inner);
        for candidates in &mut self.pools {
            stock.of(candidates.pool.index).extend(candidates.slots.drain(..).map(|s| s.slot));
        }
    }
}

/// A slot and where its record lies.
#[derive(Clone, Copy)]
struct Candidate {
    slot: u32,
    record: &'static SlotRecord,
}

impl Candidates {
    /// The slot handed out longest ago, claimed, if nobody refers to it any more.
    #[inline(always)]
    fn try_oldest(&mut self, pond: &'static Attachment) -> Option<Candidate> {
        let fresh = *self.slots.get(self.oldest)?;
        if !fresh.record.references.claim_exclusive(pond.me) {
            return None;
        }
        self.oldest += 1;
        if self.oldest == self.slots.len() {
            self.oldest = 0;
        }
        // The lines of those to come may lie in a consumer's cache: ask for them now, so that they are here by then.
        let ahead = self.oldest + PREFETCH_AHEAD;
        if let Some(soon) =
            self.slots.get(if ahead < self.slots.len() { ahead } else { ahead - self.slots.len() })
        {
            crate::prefetch::for_writing(soon.record);
            if let Some(data) = self.pool.written_address(soon.slot) {
                crate::prefetch::address_for_writing(data);
            }
        }
        Some(fresh)
    }

    /// The first of the first few slots that is free, claimed. Always tried in the same order, so that the first ones are
    /// used again and again, and those behind only while the first are in use.
    #[inline]
    fn try_first(&mut self, pond: &'static Attachment) -> Option<Candidate> {
        let mut first = self.slots.iter().take(RECENT);
        first.find(|candidate| candidate.record.references.claim_exclusive(pond.me)).copied()
    }

    /// A claimed slot, wherever one can be had.
    fn take(&mut self, pond: &'static Attachment) -> Result<Option<Candidate>> {
        while !self.slots.iter().any(|s| s.record.references.is_free()) && self.refill(pond)? {}
        for _ in 0..self.slots.len() {
            if let Some(fresh) = self.try_oldest(pond) {
                return Ok(Some(fresh));
            }
            self.oldest = (self.oldest + 1) % self.slots.len();
        }
        self.take_open(pond)
    }

    /// Gets more slots, in front of the rotation: those of the process's stock first, else another share. `false`: there are none.
    fn refill(&mut self, pond: &'static Attachment) -> Result<bool> {
        // What can fail, first: slots that have left the stock must arrive.
        self.pool.map_for_writing()?;
        let stock = || pond.stock.lock().unwrap_or_else(PoisonError::into_inner);
        if stock().of(self.pool.index).is_empty() {
            // Without the stock's lock: other threads may have slots of other pools to get from it. And without waiting long for a
            // stopped process: until it goes on, this pool has no more.
            let Some(registry) = pond.lock_registry_within(STREAM_PATIENCE)? else { return Ok(false) };
            if let TakenShare::Ours(slots) = registry.take_share(self.pool)? {
                stock().of(self.pool.index).extend(slots.rev());
            }
        }
        let mut stock = stock();
        let spare = stock.of(self.pool.index);
        let batch = (BATCH_BYTES / self.pool.block_bytes).clamp(2, BATCH as u64) as usize;
        let keep = spare.len().saturating_sub(batch.max(self.slots.len() / 4));
        let fresh: Vec<Candidate> =
            spare.drain(keep..).rev().map(|slot| self.locate(pond, slot)).collect::<Result<_>>()?;
        drop(stock);
        // They go where the search begins; the rotation behind keeps its order.
        self.slots.rotate_left(self.oldest);
        let found = !fresh.is_empty();
        self.slots.splice(0..0, fresh);
        self.oldest = 0;
        Ok(found)
    }

    fn locate(&self, pond: &'static Attachment, slot: u32) -> Result<Candidate> {
        let record = pond.control.slot(slot).ok_or_else(|| Error::Corrupt {
            pond: pond.name.clone(),
            what: format!("pool {}", self.pool.index),
            expected: format!("slots below {}", pond.control.table_slots()),
            found: slot.to_string(),
        })?;
        self.pool.map_for_writing()?;
        Ok(Candidate { slot, record })
    }

    /// From the shares that are open to everybody, each process beginning somewhere else.
    fn take_open(&mut self, pond: &'static Attachment) -> Result<Option<Candidate>> {
        let Some(record) = pond.control.pool(self.pool.index.into()) else { return Ok(None) };
        loop {
            let shares = (record.shares.load(Ordering::Relaxed) as usize).min(MAX_SHARES);
            for step in 0..shares as u32 {
                let share = (self.open_cursor.wrapping_add(step)) % shares as u32;
                if record.share_owners[share as usize].load(Ordering::Acquire) != EVERYBODY {
                    continue;
                }
                let slots = self.pool.share_slots(share);
                let count = slots.len() as u32;
                for i in 0..count {
                    let slot = slots.start + (self.open_cursor.wrapping_add(i)) % count;
                    if pond.control.slot(slot).is_some_and(|r| r.references.claim_shared(pond.me)) {
                        self.open_cursor = self.open_cursor.wrapping_add(1);
                        return self.locate(pond, slot).map(Some);
                    }
                }
            }
            // One more share may be free: another process may have left or died since.
            let taken = pond.lock_registry()?.take_share(self.pool)?;
            match taken {
                TakenShare::Opened => {}
                TakenShare::Ours(slots) => {
                    let mut stock = pond.stock.lock().unwrap_or_else(PoisonError::into_inner);
                    stock.of(self.pool.index).extend(slots.rev());
                    drop(stock);
                    self.refill(pond)?;
                    return Ok(self.try_oldest(pond));
                }
                TakenShare::None => return Ok(None),
            }
        }
    }
}

/// The words that describe a fresh buffer; the caller owns the slot alone.
#[inline(always)]
pub(crate) fn describe_fresh(record: &SlotRecord, me: ProcessSlot, description: Description) {
    let generation = record.references.generation.load(Ordering::Relaxed);
    record.references.generation.store(generation.wrapping_add(1), Ordering::Relaxed);
    record.references.info.store(description.0, Ordering::Relaxed);
    record.references.stamp.store(0, Ordering::Relaxed);
    record.references.sequence.store(0, Ordering::Relaxed);
    record.creator.store(me.into(), Ordering::Relaxed);
    record.allocated_ns.store(time::coarse_ns(), Ordering::Relaxed);
    crash_point!(AllocateDescribed);
}

/// One line about a pool for an error: free slots by share owner, and who holds or queues the rest.
fn describe_use(control: &Control, pool: &PoolMap) -> String {
    let mut free: BTreeMap<u32, u32> = BTreeMap::new();
    let mut used: BTreeMap<String, u32> = BTreeMap::new();
    let pid = |slot: u16| control.process(slot.into()).map_or(0, |p| p.state.load(Ordering::Relaxed) as u32);
    let Some(record) = control.pool(pool.index.into()) else { return String::new() };
    for share in 0..record.shares.load(Ordering::Relaxed).min(MAX_SHARES as u32) {
        let owner = record.share_owners[share as usize].load(Ordering::Relaxed);
        if record.share_committed[share as usize].load(Ordering::Acquire) == 0 {
            *free.entry(0).or_default() += pool.share_slots(share).len() as u32;
            continue;
        }
        for slot in pool.share_slots(share) {
            let Some(slot) = control.slot(slot) else { continue };
            let tokens = slot.references.tokens.iter().map(|t| Token(t.load(Ordering::Relaxed)));
            let mut owners: Vec<String> = tokens
                .filter(|t| t.0 != 0)
                .map(|t| match t.owner() {
                    IN_LANE => lane_name(control, t.lane()),
                    process => format!("held by process {}", pid(process)),
                })
                .collect();
            owners.sort();
            owners.dedup();
            match owners.is_empty() {
                true => *free.entry(owner).or_default() += 1,
                false => *used.entry(owners.join(" and ")).or_default() += 1,
            }
        }
    }
    let mut text = format!("{} blocks of {} bytes:", pool.blocks, pool.block_bytes);
    for (owners, count) in &used {
        let _ = write!(text, " {count} {owners};");
    }
    for (&owner, count) in &free {
        let _ = match owner {
            0 => write!(text, " {count} free in nobody's share;"),
            EVERYBODY => write!(text, " {count} free for everybody;"),
            process => write!(text, " {count} free in the share of process {};", pid(process as u16)),
        };
    }
    text
}

pub(crate) fn lane_name(control: &Control, lane: u16) -> String {
    let Some(lane) = control.lane(lane.into()) else { return "queued nowhere".to_owned() };
    let port = |index: u32| crate::registry::port_name(control, index);
    format!(
        "queued from {} to {}",
        port(lane.from_port.load(Ordering::Relaxed)),
        port(lane.to_port.load(Ordering::Relaxed))
    )
}
