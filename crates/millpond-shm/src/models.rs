//! loom models of the protocol's own code: every C11 execution (but load buffering) of small scenarios.
//!
//! Payloads are loom cells, so an ordering that is too weak shows as a data race; a lost wake-up shows as a deadlock; the rest
//! is asserted. Each scenario also counts the executions that reached its point (a slot used again, a sleeper woken), lest
//! it becomes empty unnoticed. Nobody dies here: that is what the SPIN model and the crash-point tests are for.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p millpond-shm --release --lib models`; `mutants/run.sh` shows that these models can see.

#![allow(unsafe_code)]

mod doorbell;
mod lanes;
mod mail;
mod slots;

use crate::lane::{Lane, Slots, Taken};
use crate::references::{References, TOKENS};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::token::{Cell, ProcessSlot, Reference, Token};
use loom::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// How often a scenario reached what it is about, over all executions.
#[derive(Clone, Default)]
struct Reached(Arc<AtomicUsize>);

impl Reached {
    fn here(&self) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Tries all executions of `scenario`, or those with at most `preemptions`.
fn explore(preemptions: Option<usize>, scenario: impl Fn(&Reached) + Send + Sync + 'static) {
    explore_with(preemptions, false, scenario);
}

/// As [`explore`], for scenarios with fences (see `sync::modelled`).
fn explore_fences(preemptions: Option<usize>, scenario: impl Fn(&Reached) + Send + Sync + 'static) {
    explore_with(preemptions, true, scenario);
}

fn explore_with(
    preemptions: Option<usize>,
    clock_off: bool,
    scenario: impl Fn(&Reached) + Send + Sync + 'static,
) {
    let mut model = loom::model::Builder::new();
    model.max_branches = 100_000;
    model.preemption_bound = preemptions;
    let reached = Reached::default();
    let executions = Reached::default();
    let (inside, count) = (reached.clone(), executions.clone());
    model.check(move || {
        crate::sync::start_clock(clock_off);
        count.here();
        scenario(&inside);
    });
    let number = |r: &Reached| r.0.load(std::sync::atomic::Ordering::Relaxed);
    println!("{} executions, {} reached the point", number(&executions), number(&reached));
    assert_ne!(number(&reached), 0, "no execution reached what the scenario is about");
}

/// A buffer: its references and its payload.
struct Slot {
    references: References,
    payload: UnsafeCell<u64>,
}

/// A small pond: slots, and lanes with their rings.
struct Pond {
    slots: Vec<Slot>,
    heads: Vec<AtomicU64>,
    rings: Vec<Vec<AtomicU64>>,
}

impl Pond {
    fn new(slots: usize, capacities: &[u32]) -> Arc<Pond> {
        let slot = |_| Slot {
            references: References {
                clones: AtomicU32::new(0),
                generation: AtomicU32::new(0),
                info: AtomicU64::new(0),
                stamp: AtomicU64::new(0),
                sequence: AtomicU64::new(0),
                tokens: std::array::from_fn(|_| AtomicU64::new(0)),
            },
            payload: UnsafeCell::new(0),
        };
        let ring = |&capacity: &u32| {
            (0..capacity.into()).map(|p| AtomicU64::new(Cell::consumed(p, capacity).0)).collect()
        };
        Arc::new(Pond {
            slots: (0..slots).map(slot).collect(),
            heads: capacities.iter().map(|_| AtomicU64::new(0)).collect(),
            rings: capacities.iter().map(ring).collect(),
        })
    }

    fn lane(&self, id: u16) -> Lane<'_> {
        Lane { id, head: &self.heads[id as usize], cells: &self.rings[id as usize] }
    }

    fn slot(&self, slot: u32) -> &References {
        &self.slots[slot as usize].references
    }

    /// Sets the scene: `process` holds `token` of `slot`.
    fn give(&self, slot: u32, token: usize, process: ProcessSlot) {
        self.slot(slot).tokens[token].store(Token::held(process).0, Ordering::Relaxed);
    }

    fn write(&self, slot: u32, value: u64) {
        // SAFETY: loom checks that nobody else accesses the cell meanwhile, which is what the models are about.
        self.slots[slot as usize].payload.with_mut(|p| unsafe { *p = value });
    }

    fn read(&self, slot: u32) -> u64 {
        // SAFETY: as in `write`.
        self.slots[slot as usize].payload.with(|p| unsafe { *p })
    }

    /// p1 and p2, as `output.rs` does them.
    fn push(&self, lane: u16, position: u64, slot: u32, token: u8) {
        self.lane(lane).put_token(self.slot(slot), token, position);
        self.lane(lane).publish(position, Reference { pool: 0, slot, token }, 0);
    }

    /// x1 to x3, as `input.rs` does them.
    fn pop(&self, lane: u16, me: ProcessSlot, position: u64) -> Option<Reference> {
        match self.lane(lane).claim_exclusive(&self, me, position) {
            Taken::Empty => None,
            Taken::Entry { cell, position } => {
                self.lane(lane).advance(position + 1);
                Some(cell.reference())
            }
            Taken::Corrupt { position } => panic!("lane {lane} is corrupt at {position}"),
        }
    }

    fn pop_shared(&self, lane: u16, me: ProcessSlot) -> Option<(Reference, u64)> {
        match self.lane(lane).pop_shared(&self, me) {
            Taken::Empty => None,
            Taken::Entry { cell, position } => Some((cell.reference(), position)),
            Taken::Corrupt { position } => panic!("lane {lane} is corrupt at {position}"),
        }
    }

    fn release(&self, reference: Reference) {
        self.slot(reference.slot).release(reference.token);
    }
}

impl Slots for &Pond {
    fn references(&self, reference: Reference) -> Option<&References> {
        self.slots.get(reference.slot as usize).map(|s| &s.references)
    }
}
