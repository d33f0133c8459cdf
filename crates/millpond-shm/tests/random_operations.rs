//! Random operations on a real pond beside a plain model of it: a few `VecDeque`s and counts. After every step both must agree about
//! every queue, every reference and every free buffer, also where positions pass the 20 bits of a cell's tag and the 40 bits of a
//! token.

#[path = "support/segment.rs"]
mod segment;

use millpond_shm::{
    Allocator, Buffer, BufferMut, ConnectionConfig, Error, Input, InputConfig, Monitor, Output, OutputConfig,
    Policy, Pond, PondConfig, PoolConfig, ReceiveError, Role, SendReason,
};
use proptest::prelude::*;
use segment::Segment;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};

fn unique_name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

// ---- queues

const BLOCKS: u32 = 24;
/// Depth of each connection; what happens when it is full; how many consumers take from it.
const LANES: [(Policy, u32, usize); 3] =
    [(Policy::Block, 3, 1), (Policy::DropOldest, 2, 2), (Policy::DropNewest, 4, 1)];

#[derive(Clone, Debug)]
enum Step {
    Send,
    SendBatch(usize),
    Receive(usize),
    ReceiveBatch(usize, usize),
    Clone(usize),
    Drop(usize),
    Forward(usize),
    MakeMutable(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Send),
        1 => (1usize..6).prop_map(Step::SendBatch),
        5 => (0usize..4).prop_map(Step::Receive),
        1 => (0usize..4, 1usize..5).prop_map(|(i, n)| Step::ReceiveBatch(i, n)),
        1 => any::<usize>().prop_map(Step::Clone),
        4 => any::<usize>().prop_map(Step::Drop),
        2 => any::<usize>().prop_map(Step::Forward),
        2 => any::<usize>().prop_map(Step::MakeMutable),
    ]
}

/// What is known of a held buffer: its contents, and which reference it is (clones in this process are one).
struct Held {
    buffer: Buffer,
    number: u64,
    reference: u64,
}

/// A lane of the model: numbers of buffers, and what the counters should say.
#[derive(Default)]
struct Queue {
    entries: VecDeque<u64>,
    published: u64,
    dropped: u64,
}

struct World {
    _pond: Pond,
    monitor: Monitor,
    out: Output,
    inputs: Vec<Input>,
    queues: [Queue; 3],
    held: Vec<Held>,
    next_number: u64,
    next_reference: u64,
    base: u64,
}

impl World {
    fn new(base: u64) -> World {
        let name = unique_name("model");
        let config = PondConfig { pools: vec![PoolConfig::new(8, BLOCKS)], table_slots: BLOCKS };
        let pond = Pond::create(&name, &config, Role::Worker).unwrap();
        // A lane's positions go on from where its record's last use ended.
        let segment = Segment::named(&name);
        for lane in 0..LANES.len() as u64 {
            segment.set_u64(segment.entry("LaneRecord", lane, "head"), base);
        }
        let mut inputs = Vec::new();
        for (i, (policy, depth, consumers)) in LANES.into_iter().enumerate() {
            let config =
                ConnectionConfig { depth: Some(depth), policy: Some(policy), ..ConnectionConfig::default() };
            let port = format!("sink.in{i}");
            pond.connect("source.out", &port, &config).unwrap();
            for _ in 0..consumers {
                let config = InputConfig { shared: consumers > 1, ..InputConfig::default() };
                inputs.push(pond.input(&port, &config).unwrap());
            }
        }
        let out = pond.output("source.out", &OutputConfig::default()).unwrap();
        World {
            monitor: Monitor::open(&name).unwrap(),
            _pond: pond,
            out,
            inputs,
            queues: Default::default(),
            held: Vec::new(),
            next_number: 1,
            next_reference: 0,
            base,
        }
    }

    /// Which lane an input takes from.
    fn lane_of(input: usize) -> usize {
        [0, 1, 1, 2][input]
    }

    /// Numbers of all buffers that are in use, with their references.
    fn in_use(&self) -> BTreeMap<u64, u32> {
        let mut references: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for held in &self.held {
            references.entry(held.number).or_default().push(held.reference);
        }
        let mut count: BTreeMap<u64, u32> = BTreeMap::new();
        for (number, mut references) in references {
            references.sort_unstable();
            references.dedup();
            count.insert(number, references.len() as u32);
        }
        for queue in &self.queues {
            for number in &queue.entries {
                *count.entry(*number).or_default() += 1;
            }
        }
        count
    }

    fn allocate(&mut self) -> Option<(BufferMut, u64)> {
        let free = self.in_use().len() < BLOCKS as usize;
        match self.out.allocate(8) {
            Ok(mut buffer) => {
                assert!(free, "a buffer was given out twice");
                let number = self.next_number;
                self.next_number += 1;
                buffer.as_bytes_mut().copy_from_slice(&number.to_le_bytes());
                Some((buffer, number))
            }
            Err(Error::PoolExhausted { .. }) => {
                assert!(!free, "{} of {BLOCKS} are in use", self.in_use().len());
                None
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// What a send does to the queues; `false`: it has to wait.
    fn model_send(&mut self, number: u64) -> bool {
        let full = |q: &Queue, depth: u32| q.entries.len() == depth as usize;
        if full(&self.queues[0], LANES[0].1) {
            return false;
        }
        for (queue, (policy, depth, _)) in self.queues.iter_mut().zip(LANES) {
            if full(queue, depth) {
                queue.dropped += 1;
                if policy == Policy::DropNewest {
                    continue;
                }
                queue.entries.pop_front();
            }
            queue.entries.push_back(number);
            queue.published += 1;
        }
        true
    }

    fn send(&mut self, buffer: Buffer, number: u64) -> Option<Buffer> {
        let sent = self.out.try_send(buffer);
        match (self.model_send(number), sent) {
            (true, Ok(())) => None,
            (false, Err(error)) if error.reason == SendReason::Full => Some(error.buffer),
            (expected, other) => panic!("expected {expected}, got {other:?}"),
        }
    }

    fn take(&mut self, input: usize, buffer: Buffer) {
        let number = self.queues[Self::lane_of(input)].entries.pop_front().expect("nothing was queued");
        assert_eq!(buffer.as_bytes(), number.to_le_bytes(), "another buffer was expected");
        self.held.push(Held { buffer, number, reference: self.next_reference });
        self.next_reference += 1;
    }

    fn do_step(&mut self, step: &Step) {
        let pick = |n: usize, held: &Vec<Held>| (!held.is_empty()).then(|| n % held.len());
        match *step {
            Step::Send => {
                if let Some((buffer, number)) = self.allocate() {
                    drop(self.send(buffer.freeze(), number));
                }
            }
            Step::SendBatch(count) => {
                let mut numbers = VecDeque::new();
                let mut batch = VecDeque::new();
                for _ in 0..count {
                    // The model does not count what is allocated and not sent: stay clear of exhaustion.
                    if self.in_use().len() + batch.len() + 1 < BLOCKS as usize
                        && let Some((buffer, number)) = self.allocate()
                    {
                        batch.push_back(buffer.freeze());
                        numbers.push_back(number);
                    }
                }
                let sent = self.out.send_batch(&mut batch).unwrap();
                assert_eq!(sent + batch.len(), numbers.len());
                for number in numbers.drain(..sent) {
                    assert!(self.model_send(number), "more were sent than fit");
                }
                let full = self.queues[0].entries.len() == LANES[0].1 as usize;
                assert!(batch.is_empty() || full, "fewer were sent than fit");
            }
            Step::Receive(input) => match self.inputs[input].try_receive() {
                Ok(buffer) => self.take(input, buffer),
                Err(ReceiveError::Empty) => assert!(self.queues[Self::lane_of(input)].entries.is_empty()),
                Err(other) => panic!("{other}"),
            },
            Step::ReceiveBatch(input, max) => {
                let expected = self.queues[Self::lane_of(input)].entries.len().min(max);
                let mut batch = Vec::new();
                assert_eq!(self.inputs[input].receive_batch(max, &mut batch).unwrap(), expected);
                batch.into_iter().for_each(|buffer| self.take(input, buffer));
            }
            Step::Clone(n) => {
                if let Some(i) = pick(n, &self.held) {
                    let Held { buffer, number, reference } = &self.held[i];
                    let clone = Held { buffer: buffer.clone(), number: *number, reference: *reference };
                    self.held.push(clone);
                }
            }
            Step::Drop(n) => {
                if let Some(i) = pick(n, &self.held) {
                    drop(self.held.swap_remove(i));
                }
            }
            Step::Forward(n) => {
                if let Some(i) = pick(n, &self.held) {
                    // At most three more: below the limit of sixteen, which has a test of its own.
                    if self.in_use()[&self.held[i].number] > 10 {
                        return;
                    }
                    let Held { buffer, number, reference } = self.held.swap_remove(i);
                    if let Some(buffer) = self.send(buffer, number) {
                        self.held.push(Held { buffer, number, reference });
                    }
                }
            }
            Step::MakeMutable(n) => {
                if let Some(i) = pick(n, &self.held) {
                    let alone = self.in_use()[&self.held[i].number] == 1
                        && self.held.iter().filter(|h| h.number == self.held[i].number).count() == 1;
                    let Held { buffer, number, reference } = self.held.swap_remove(i);
                    match buffer.try_into_mut() {
                        Ok(mut mutable) => {
                            assert!(alone, "somebody else has it");
                            let number = self.next_number;
                            self.next_number += 1;
                            mutable.as_bytes_mut().copy_from_slice(&number.to_le_bytes());
                            self.held.push(Held { buffer: mutable.freeze(), number, reference });
                        }
                        Err(buffer) => {
                            assert!(!alone, "nobody else has it");
                            self.held.push(Held { buffer, number, reference });
                        }
                    }
                }
            }
        }
    }

    fn compare(&mut self) {
        let in_use = self.in_use();
        let report = self.monitor.check();
        assert!(report.is_clean(), "{:?}", report.problems);
        assert_eq!(report.used, in_use.len() as u64, "{report:?}");
        assert_eq!(report.queued, self.queues.iter().map(|q| q.entries.len() as u64).sum::<u64>());
        for held in &self.held {
            assert_eq!(held.buffer.as_bytes(), held.number.to_le_bytes(), "a held buffer was overwritten");
            assert_eq!(held.buffer.references(), in_use[&held.number]);
        }
        for (connection, queue) in self.monitor.snapshot().connections.iter().zip(&self.queues) {
            assert_eq!(connection.queued, queue.entries.len() as u64, "{connection:?}");
            assert_eq!(connection.published, queue.published, "{connection:?}");
            assert_eq!(
                connection.dropped_newest + connection.dropped_oldest,
                queue.dropped,
                "{connection:?}"
            );
        }
        for (i, input) in self.inputs.iter_mut().enumerate() {
            assert_eq!(input.queued(), self.queues[Self::lane_of(i)].entries.len() as u64);
        }
    }
}

/// Where positions begin: at the start, and just before the tag and the token's field wrap, together and alone.
fn base() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        (1u64..40).prop_map(|n| (1 << 20) - n),
        (1u64..40).prop_map(|n| (1 << 40) - n),
        (1u64..40).prop_map(|n| (7 << 40) + (3 << 20) - n),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn queues_and_references_are_as_the_model_says(base in base(), steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new(base);
        for step in &steps {
            world.do_step(step);
            world.compare();
        }
        world.held.clear();
        prop_assert!(world.monitor.snapshot().connections.iter().all(|c| c.published < 1 << 20), "base {}", world.base);
    }
}

// ---- allocation

#[derive(Clone, Debug)]
enum Taking {
    Take(usize),
    GiveBack(usize),
    AddPool(u64, u32),
    /// Another allocator of the same process takes one, gives it back, and goes.
    Other(usize),
}

fn taking() -> impl Strategy<Value = Taking> {
    prop_oneof![
        6 => (0usize..700).prop_map(Taking::Take),
        4 => any::<usize>().prop_map(Taking::GiveBack),
        1 => (1u64..600, 1u32..9).prop_map(|(bytes, blocks)| Taking::AddPool(bytes, blocks)),
        1 => (0usize..700).prop_map(Taking::Other),
    ]
}

/// A model pool: bytes of a block, blocks, blocks in use.
type Model = Vec<(u64, u32, u32)>;

/// The pool that must be used: the smallest that fits and has a free block.
fn fitting(pools: &mut Model, bytes: usize) -> Option<&mut (u64, u32, u32)> {
    pools.sort_unstable_by_key(|p| p.0);
    pools.iter_mut().find(|(block, blocks, used)| *block >= bytes as u64 && used < blocks)
}

fn take(allocator: &mut Allocator, pools: &mut Model, bytes: usize) -> Option<BufferMut> {
    let largest = pools.iter().map(|p| p.0).max().unwrap_or(0);
    match (allocator.allocate(bytes), fitting(pools, bytes)) {
        (Ok(buffer), Some((block, _, used))) => {
            assert_eq!(buffer.capacity() as u64, *block, "{bytes} bytes");
            assert_eq!(buffer.len(), bytes);
            *used += 1;
            Some(buffer)
        }
        (Err(Error::PoolExhausted { .. }), None) => {
            assert!(largest >= bytes as u64);
            None
        }
        (Err(Error::BufferTooLarge { largest: found, .. }), None) => {
            assert_eq!(found, largest);
            assert!(largest < bytes as u64);
            None
        }
        (found, expected) => panic!("{bytes} bytes: {found:?}, the model says {expected:?}"),
    }
}

fn give_back(pools: &mut Model, buffer: BufferMut) {
    let block = buffer.capacity() as u64;
    let pool = pools.iter_mut().filter(|p| p.0 == block && p.2 > 0).max_by_key(|p| p.2).expect("its pool");
    pool.2 -= 1;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn allocation_is_as_the_model_says(steps in prop::collection::vec(taking(), 1..200)) {
        let name = unique_name("pools");
        let config = PondConfig { pools: vec![PoolConfig::new(64, 7)], table_slots: 60 };
        let pond = Pond::create(&name, &config, Role::Worker).unwrap();
        let monitor = Monitor::open(&name).unwrap();
        let mut allocator = pond.allocator();
        let mut pools: Model = vec![(64, 7, 0)];
        let mut held: Vec<BufferMut> = Vec::new();
        for step in steps {
            match step {
                Taking::Take(bytes) => held.extend(take(&mut allocator, &mut pools, bytes)),
                Taking::GiveBack(n) if !held.is_empty() => {
                    let buffer = held.swap_remove(n % held.len());
                    give_back(&mut pools, buffer);
                }
                Taking::GiveBack(_) => {}
                Taking::AddPool(bytes, blocks) => {
                    let room = 60 - pools.iter().map(|p| p.1).sum::<u32>();
                    // One pool a size, so that the model can tell by a block's size where it came from.
                    if pools.iter().any(|p| p.0 == bytes) {
                        continue;
                    }
                    let added = pond.add_pool(PoolConfig::new(bytes, blocks));
                    prop_assert_eq!(added.is_ok(), blocks <= room, "{:?}", added);
                    if added.is_ok() {
                        pools.push((bytes, blocks, 0));
                    }
                }
                Taking::Other(bytes) => {
                    // What the first allocator has collected it keeps, so the other may get less than the model allows, never more.
                    let mut other = pond.allocator();
                    if let Ok(buffer) = other.allocate(bytes) {
                        prop_assert!(fitting(&mut pools, bytes).is_some_and(|p| p.0 <= buffer.capacity() as u64));
                    }
                }
            }
            let report = monitor.check();
            prop_assert!(report.is_clean(), "{:?}", report.problems);
            prop_assert_eq!(report.used, held.len() as u64);
            let mut slots: Vec<u64> = held.iter().map(|b| b.id().0 & 0xffff_ffff).collect();
            slots.sort_unstable();
            slots.dedup();
            prop_assert_eq!(slots.len(), held.len(), "a slot was given out twice");
        }
    }
}
