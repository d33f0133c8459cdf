//! Benchmarks zenoh between processes of one machine, for the comparison with Millpond.
//!
//! Peers without discovery, connected by Unix sockets; payloads of at least [`SHARED_FROM`] bytes lie in its shared memory, as
//! its documentation advises, smaller ones travel in the messages themselves, which is faster.
//!
//! Messages come in threads of the library's own, and on a core that they would have to share with a receiver that asks again and
//! again they come later: here a receiver always sleeps until there is something, also where others spin.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use millpond_compare::harness;
use millpond_compare::library::{self, Directory, Library, Message, Shape, Wait, poll};
use zenoh::bytes::ZBytes;
use zenoh::handlers::{FifoChannel, FifoChannelHandler};
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::CongestionControl;
use zenoh::sample::Sample;
use zenoh::shm::{
    AllocAlignment, GarbageCollect, MemoryLayout, PosixShmProviderBackend, ShmProvider, ShmProviderBuilder,
    ZShmMut,
};
use zenoh::shm::{ZAllocError, ZLayoutAllocError};
use zenoh::{Config, Session, Wait as _};

/// Bytes from which on a payload goes to shared memory: the default of zenoh's `message_size_threshold`.
const SHARED_FROM: usize = 3072;
/// More than its allocator needs for itself.
const ALLOCATOR_BYTES: usize = 64 << 10;
/// How long a publisher looks for its subscribers, and how long the last of several gets to be found.
const LONGEST_MATCHING: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_millis(200);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    harness::main::<Zenoh>()
}

type Memory = ShmProvider<PosixShmProviderBackend>;

/// zenoh's errors are no `std::error::Error`.
fn plain<T>(result: zenoh::Result<T>, what: &str) -> Result<T> {
    result.map_err(|error| anyhow!("{what}: {error}"))
}

/// A session.
struct Zenoh(Session);

/// The directory of a run's sockets. zenoh's shared memory is removed by the documented call when all processes are gone.
struct Place(#[expect(dead_code, reason = "removed when dropped")] Directory);

impl Drop for Place {
    fn drop(&mut self) {
        zenoh::shm::cleanup_orphaned_shm_segments();
    }
}

impl Library for Zenoh {
    const NAME: &'static str = "zenoh";
    const COPIES: bool = false;
    const WAIT: Wait = Wait::Block;
    const CROWDED: Wait = Wait::Block;
    type Place = Place;
    type Sender = Sender;
    type Receiver = Receiver;

    fn version() -> String {
        library::locked_version(include_str!("../../Cargo.lock"), "zenoh")
    }

    fn place(_shape: &Shape, _topics: usize) -> Result<(Place, String)> {
        let directory = Directory::create("mpzn")?;
        let text = directory.text()?;
        Ok((Place(directory), text))
    }

    /// Each newcomer connects to all who are there, one newcomer after the other, so that every pair is connected once.
    fn join(place: &str) -> Result<Self> {
        let place = PathBuf::from(place);
        let lock = File::create(place.join("lock")).context("cannot make the lock file")?;
        lock.lock().context("cannot lock the directory")?;
        let mut others = Vec::new();
        for entry in fs::read_dir(&place)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "sock")
                && UnixStream::connect(&path).is_ok()
            {
                others.push(format!("unixsock-stream/{}", path.display()));
            }
        }
        let own = format!("unixsock-stream/{}", place.join(format!("{}.sock", std::process::id())).display());
        let mut config = Config::default();
        let mut set = |key: &str, value: String| {
            plain(config.insert_json5(key, &value), "zenoh refuses a setting").with_context(|| key.to_owned())
        };
        set("listen/endpoints", format!("[{own:?}]"))?;
        set("connect/endpoints", format!("{others:?}"))?;
        set("scouting/multicast/enabled", "false".into())?;
        set("scouting/gossip/enabled", "false".into())?;
        set("transport/shared_memory/enabled", "true".into())?;
        Ok(Self(plain(zenoh::open(config).wait(), "cannot open a zenoh session")?))
    }

    fn sender(&self, topic: &str, shape: &Shape) -> Result<Sender> {
        let publisher = self
            .0
            .declare_publisher(topic.to_owned())
            .congestion_control(CongestionControl::Block)
            // Not collected into batches: as in zenoh's own latency benchmark, and not as in that of throughput.
            .express(shape.depth == 1)
            .wait();
        let publisher = plain(publisher, "cannot declare a publisher")?;
        let memory = match shape.bytes() >= SHARED_FROM {
            true => Some(memory(shape)?),
            false => None,
        };
        let many = shape.receivers > 1;
        Ok(Sender { publisher, memory, message: vec![0; shape.words], many, kept: None })
    }

    fn receiver(&self, topic: &str, _index: usize, shape: &Shape) -> Result<Receiver> {
        let subscriber =
            self.0.declare_subscriber(topic.to_owned()).with(FifoChannel::new(shape.depth)).wait();
        let subscriber = plain(subscriber, "cannot declare a subscriber")?;
        Ok(Receiver { subscriber, copy: vec![0; shape.words], held: Vec::new() })
    }

    fn clean_up_dead(&self) -> Option<()> {
        zenoh::shm::cleanup_orphaned_shm_segments();
        Some(())
    }
}

/// A pool for what can be under way at once.
fn memory(shape: &Shape) -> Result<(Memory, MemoryLayout)> {
    let chunks = shape.depth * shape.receivers + shape.held + 4;
    let layout = |bytes: usize| {
        MemoryLayout::new(bytes, AllocAlignment::ALIGN_8_BYTES)
            .map_err(|error| anyhow!("zenoh refuses a size of {bytes} bytes: {error}"))
    };
    // The allocator's own words are no part of a chunk.
    let pool = ShmProviderBuilder::default_backend(layout(chunks * shape.bytes() + ALLOCATOR_BYTES)?).wait();
    let pool = pool.map_err(|error| anyhow!("cannot make shared memory: {error}"))?;
    Ok((pool, layout(shape.bytes())?))
}

struct Sender {
    publisher: Publisher<'static>,
    memory: Option<(Memory, MemoryLayout)>,
    /// A small message.
    message: Vec<u64>,
    many: bool,
    kept: Option<ZShmMut>,
}

impl Sender {
    /// Takes a chunk, waiting for one.
    fn allocate(&self) -> Result<Option<ZShmMut>> {
        let Some((memory, layout)) = &self.memory else { return Ok(None) };
        let chunk = poll(Wait::Yield, || {
            match memory.alloc(layout.clone()).with_policy::<GarbageCollect>().wait() {
                Ok(chunk) => Ok(Some(chunk)),
                Err(ZLayoutAllocError::Alloc(ZAllocError::OutOfMemory | ZAllocError::NeedDefragment)) => {
                    Ok(None)
                }
                Err(error) => Err(anyhow!("zenoh has no chunk: {error}")),
            }
        })?;
        Ok(Some(chunk))
    }

    fn put(&self, payload: impl Into<ZBytes>) -> Result<()> {
        plain(self.publisher.put(payload).wait(), "cannot publish")
    }
}

impl library::Sender for Sender {
    fn send(&mut self, message: Message) -> Result<()> {
        match self.allocate()? {
            Some(mut chunk) => {
                message.write(bytemuck::try_cast_slice_mut(&mut chunk).map_err(|error| anyhow!("{error}"))?);
                self.put(chunk)
            }
            None => {
                message.write(&mut self.message);
                self.put(bytemuck::cast_slice::<u64, u8>(&self.message))
            }
        }
    }

    fn settle(&mut self) -> Result<()> {
        let end = Instant::now() + LONGEST_MATCHING;
        while !plain(self.publisher.matching_status().wait(), "cannot look for subscribers")?.matching() {
            ensure!(Instant::now() < end, "no subscriber was found");
            thread::sleep(PAUSE);
        }
        if self.many {
            // It tells of the first only.
            thread::sleep(SETTLE);
        }
        Ok(())
    }

    fn keep(&mut self) -> Result<bool> {
        self.kept = self.allocate()?;
        Ok(self.kept.is_some())
    }

    fn free_buffers(&mut self) -> Result<Option<usize>> {
        let Some((memory, _)) = &self.memory else { return Ok(None) };
        memory.garbage_collect();
        Ok(Some(memory.available() / (self.message.len() * size_of::<u64>())))
    }
}

struct Receiver {
    subscriber: Subscriber<FifoChannelHandler<Sample>>,
    /// Where a payload goes that does not lie as words have to.
    copy: Vec<u64>,
    held: Vec<Sample>,
}

impl Receiver {
    #[inline(always)]
    fn take(&self) -> Result<Sample> {
        plain(self.subscriber.recv(), "cannot receive")
    }
}

/// The words of a payload, in `copy` if they are not words where they are.
#[inline(always)]
fn read<R>(payload: &ZBytes, copy: &mut [u64], read: impl FnOnce(&[u64]) -> R) -> Result<R> {
    let bytes = payload.to_bytes();
    if let Ok(words) = bytemuck::try_cast_slice::<u8, u64>(&bytes) {
        return Ok(read(words));
    }
    if bytes.len() != size_of_val(copy) {
        bail!("a message of {} bytes came", bytes.len());
    }
    bytemuck::cast_slice_mut::<u64, u8>(copy).copy_from_slice(&bytes);
    Ok(read(copy))
}

impl library::Receiver for Receiver {
    type Sender = Sender;

    fn receive<R>(&mut self, reader: impl FnOnce(&[u64]) -> R) -> Result<R> {
        let sample = self.take()?;
        read(sample.payload(), &mut self.copy, reader)
    }

    /// The payload itself is published again.
    fn forward(&mut self, to: &mut Sender) -> Result<u64> {
        let sample = self.take()?;
        let first = read(sample.payload(), &mut self.copy, |words| words.first().copied())?;
        to.put(sample.payload().clone())?;
        first.context("an empty message came")
    }

    fn hold(&mut self) -> Result<()> {
        let sample = self.take()?;
        self.held.push(sample);
        Ok(())
    }
}
