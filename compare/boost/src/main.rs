//! Benchmarks Boost.Interprocess `message_queue` between processes, for the comparison with Millpond.
//!
//! The queue copies every message in and out under a mutex in shared memory; it has no hand-over of several messages, and no
//! fan-out: a sender sends to a queue for each receiver.

mod queue;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use millpond_compare::harness;
use millpond_compare::library::{self, Library, Message, Shape, Wait, poll};

use crate::queue::Queue;

/// Start of the name of every queue.
const FAMILY: &str = "mpbst";
/// Where glibc and musl place POSIX shared memory on Linux.
const SHARED_MEMORY: &str = "/dev/shm";

fn main() -> ExitCode {
    harness::main::<Boost>()
}

/// The start of the names of this run's queues.
struct Boost(String);

/// The queues of a run, removed when dropped.
struct Place(String);

impl Drop for Place {
    fn drop(&mut self) {
        let entries = fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.starts_with(&self.0) {
                queue::remove(&name);
            }
        }
    }
}

impl Library for Boost {
    const NAME: &'static str = "boost";
    const COPIES: bool = true;
    const WAIT: Wait = Wait::Block;
    const CROWDED: Wait = Wait::Block;
    type Place = Place;
    type Sender = Sender;
    type Receiver = Receiver;

    fn version() -> String {
        queue::version()
    }

    fn place(_shape: &Shape, _topics: usize) -> Result<(Place, String)> {
        // Those of runs that were killed before they could.
        for old in library::abandoned(Path::new(SHARED_MEMORY), FAMILY) {
            if let Some(name) = old.file_name().and_then(|name| name.to_str()) {
                queue::remove(name);
            }
        }
        let name = library::run_name(FAMILY) + "-";
        Ok((Place(name.clone()), name))
    }

    fn join(place: &str) -> Result<Self> {
        Ok(Self(place.to_owned()))
    }

    fn sender(&self, topic: &str, shape: &Shape) -> Result<Sender> {
        let queues =
            (0..shape.receivers).map(|index| self.queue(topic, index, shape)).collect::<Result<_>>()?;
        Ok(Sender { queues, message: vec![0; shape.words] })
    }

    fn receiver(&self, topic: &str, index: usize, shape: &Shape) -> Result<Receiver> {
        let queue = self.queue(topic, index, shape)?;
        Ok(Receiver { queue, wait: shape.wait, message: vec![0; shape.words], held: Vec::new() })
    }
}

impl Boost {
    fn queue(&self, topic: &str, index: usize, shape: &Shape) -> Result<Queue> {
        Queue::open(&format!("{}{topic}.{index}", self.0), shape.depth, shape.bytes())
    }
}

/// A queue to each receiver, and the message that is copied into them.
struct Sender {
    queues: Vec<Queue>,
    message: Vec<u64>,
}

impl library::Sender for Sender {
    #[inline(always)]
    fn send(&mut self, message: Message) -> Result<()> {
        message.write(&mut self.message);
        for queue in &self.queues {
            queue.send(&self.message)?;
        }
        Ok(())
    }
}

/// The receiving end of a queue, and where its messages are copied to.
struct Receiver {
    queue: Queue,
    wait: Wait,
    message: Vec<u64>,
    held: Vec<Vec<u64>>,
}

impl Receiver {
    #[inline(always)]
    fn fetch(&mut self) -> Result<()> {
        let sleeps = !matches!(self.wait, Wait::Spin | Wait::Yield);
        poll(self.wait, || Ok(self.queue.receive(&mut self.message, sleeps)?.then_some(())))
    }
}

impl library::Receiver for Receiver {
    type Sender = Sender;

    #[inline(always)]
    fn receive<R>(&mut self, read: impl FnOnce(&[u64]) -> R) -> Result<R> {
        self.fetch()?;
        Ok(read(&self.message))
    }

    /// What was copied out of one queue is copied into the next.
    fn forward(&mut self, to: &mut Sender) -> Result<u64> {
        self.fetch()?;
        for queue in &to.queues {
            queue.send(&self.message)?;
        }
        self.message.first().copied().context("an empty message came")
    }

    fn hold(&mut self) -> Result<()> {
        self.fetch()?;
        self.held.push(self.message.clone());
        Ok(())
    }
}
