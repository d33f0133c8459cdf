//! Benchmarks Millpond between processes, in the same way as the others.

use std::collections::VecDeque;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use millpond_compare::harness;
use millpond_compare::library::{self, Library, Message, Shape, Wait};
use millpond_shm::{
    Buffer, BufferMut, ConnectionConfig, Input, InputConfig, OnReceiverDeath, Output, OutputConfig, Pond,
    PondConfig, PoolConfig, Role,
};

/// Messages taken in one go hold about this much together, as in the harness.
const BATCH_BYTES: usize = 8192;

fn main() -> ExitCode {
    harness::main::<Millpond>()
}

/// Millpond, as one process uses it.
struct Millpond(Pond);

impl Library for Millpond {
    const NAME: &'static str = "millpond";
    const COPIES: bool = false;
    const WAIT: Wait = Wait::Adaptive;
    // A side that spins only keeps the others from running.
    const CROWDED: Wait = Wait::Block;
    type Place = Pond;
    type Sender = Sender;
    type Receiver = Receiver;

    fn version() -> String {
        library::locked_version(include_str!("../../Cargo.lock"), "millpond-shm")
    }

    fn place(shape: &Shape, topics: usize) -> Result<(Pond, String)> {
        // What is left of ponds whose processes were all killed: their names.
        millpond_shm::clean().context("cannot remove the names of dead ponds")?;
        let name = library::run_name("compare");
        // A pool from which nobody has to wait: what all queues, senders and receivers can hold at once, and again as much for
        // the share of a pool that is kept for each process. What is not used costs no memory.
        let batch = batch(shape);
        let each = shape.receivers * (shape.depth + shape.held + batch) + 2 * batch;
        let blocks = u32::try_from(2 * topics * each + 64)?;
        let config =
            PondConfig { pools: vec![PoolConfig::new(shape.bytes() as u64, blocks)], table_slots: blocks };
        let pond = Pond::create(&name, &config, Role::Tool).context("cannot create the pond")?;
        Ok((pond, name))
    }

    fn join(place: &str) -> Result<Self> {
        Ok(Self(Pond::attach(place, Role::Block)?))
    }

    fn sender(&self, topic: &str, shape: &Shape) -> Result<Sender> {
        let config = OutputConfig { wait: wait(shape.wait), ..OutputConfig::default() };
        let output = self.0.output(&port(topic), &config)?;
        Ok(Sender { output, size: shape.bytes(), batch: VecDeque::new(), kept: Vec::new() })
    }

    fn receiver(&self, topic: &str, index: usize, shape: &Shape) -> Result<Receiver> {
        let to = format!("{topic}-{index}.in");
        let connection = ConnectionConfig {
            depth: Some(u32::try_from(shape.depth)?),
            on_receiver_death: OnReceiverDeath::GiveUp,
            ..ConnectionConfig::default()
        };
        // A receiver that takes a killed one's place finds it connected.
        let _ = self.0.connect(&port(topic), &to, &connection);
        let config = InputConfig { wait: wait(shape.wait), ..InputConfig::default() };
        let input = self.0.input(&to, &config)?;
        Ok(Receiver { input, max: batch(shape), batch: Vec::new(), held: Vec::new() })
    }
}

fn port(topic: &str) -> String {
    format!("{topic}.out")
}

fn batch(shape: &Shape) -> usize {
    (BATCH_BYTES / shape.bytes()).clamp(1, (shape.depth / 2).max(1))
}

fn wait(wait: Wait) -> millpond_shm::Wait {
    match wait {
        Wait::Spin | Wait::Yield => millpond_shm::Wait::Spin,
        Wait::Block => millpond_shm::Wait::Block,
        Wait::Adaptive => millpond_shm::Wait::Adaptive,
    }
}

struct Sender {
    output: Output,
    size: usize,
    batch: VecDeque<Buffer>,
    kept: Vec<BufferMut>,
}

impl Sender {
    #[inline(always)]
    fn write(&mut self, message: Message) -> Result<BufferMut> {
        let mut buffer = self.output.allocate(self.size)?;
        message.write(buffer.as_mut_slice::<u64>()?);
        Ok(buffer)
    }
}

impl library::Sender for Sender {
    #[inline(always)]
    fn send(&mut self, message: Message) -> Result<()> {
        let buffer = self.write(message)?;
        Ok(self.output.send(buffer)?)
    }

    #[inline(always)]
    fn send_many(&mut self, first: u64, count: u64, fill: bool) -> Result<()> {
        for sequence in first..first + count {
            let buffer = self.write(Message { sequence, fill })?;
            self.batch.push_back(buffer.freeze());
        }
        while !self.batch.is_empty() {
            // Zero: the queue is full. One by one it waits for room.
            if self.output.send_batch(&mut self.batch)? == 0
                && let Some(buffer) = self.batch.pop_front()
            {
                self.output.send(buffer)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn take(&mut self) -> Result<()> {
        std::hint::black_box(self.output.allocate(self.size)?);
        Ok(())
    }

    fn keep(&mut self) -> Result<bool> {
        self.kept.push(self.output.allocate(self.size)?);
        Ok(true)
    }

    fn free_buffers(&mut self) -> Result<Option<usize>> {
        let mut taken = Vec::new();
        while let Some(buffer) = self.output.try_allocate(self.size)? {
            taken.push(buffer);
        }
        Ok(Some(taken.len()))
    }
}

struct Receiver {
    input: Input,
    max: usize,
    batch: Vec<Buffer>,
    held: Vec<Buffer>,
}

impl library::Receiver for Receiver {
    type Sender = Sender;

    #[inline(always)]
    fn receive<R>(&mut self, read: impl FnOnce(&[u64]) -> R) -> Result<R> {
        let buffer = self.input.receive()?;
        Ok(read(buffer.as_slice::<u64>()?))
    }

    #[inline(always)]
    fn receive_some(&mut self, mut read: impl FnMut(&[u64]) -> Result<()>) -> Result<()> {
        match self.input.receive_batch(self.max, &mut self.batch) {
            Ok(0) => self.batch.push(self.input.receive()?),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        for buffer in self.batch.drain(..) {
            read(buffer.as_slice::<u64>()?)?;
        }
        Ok(())
    }

    /// The buffer itself is sent on.
    #[inline(always)]
    fn forward(&mut self, to: &mut Sender) -> Result<u64> {
        let buffer = self.input.receive()?;
        let first = buffer.as_slice::<u64>()?.first().copied().context("an empty message came")?;
        ensure!(buffer.len() == to.size, "a message of {} bytes came", buffer.len());
        to.output.send(buffer)?;
        Ok(first)
    }

    fn hold(&mut self) -> Result<()> {
        self.held.push(self.input.receive()?);
        Ok(())
    }
}
