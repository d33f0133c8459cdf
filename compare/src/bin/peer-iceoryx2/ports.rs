//! How this benchmark sets iceoryx2 up: the fastest way its documentation and its own benchmarks show
//! for two processes. Every measurement opens its ports here.

use std::mem::MaybeUninit;

use anyhow::{Context, Result, ensure};
use iceoryx2::node::Node;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::prelude::{
    AllocationStrategy, BackpressureStrategy, LogLevel, NodeBuilder, ServiceName, SignalHandlingMode, ipc,
    set_log_level,
};
use iceoryx2::sample_mut::SampleMut;
use iceoryx2::sample_mut_uninit::SampleMutUninit;
use iceoryx2::service::port_factory::{event, publish_subscribe};
use millpond_compare::library::{self, Library, Message, Shape, Wait, poll};

use crate::arena::{Arena, ArenaName};

/// The single-threaded service between processes: faster than `ipc_threadsafe`.
type Ipc = ipc::Service;
/// A payload is a slice of words and not of bytes, so that it is aligned for reading and writing
/// words. (Asking for an alignment on a slice of bytes makes iceoryx2 0.10 pad every single byte.)
type Publisher = iceoryx2::port::publisher::Publisher<Ipc, [u64], ()>;
type Subscriber = iceoryx2::port::subscriber::Subscriber<Ipc, [u64], ()>;
/// A sample taken but not written yet.
type Loan = SampleMutUninit<Ipc, [MaybeUninit<u64>], ()>;
/// A sample ready to be sent.
type Sample = SampleMut<Ipc, [u64], ()>;
/// A sample that was received.
type Received = iceoryx2::sample::Sample<Ipc, [u64], ()>;
type Topic = publish_subscribe::PortFactory<Ipc, [u64], ()>;
type Bell = event::PortFactory<Ipc>;

/// iceoryx2, as one process uses it.
pub struct Iceoryx2(Node<Ipc>);

impl Library for Iceoryx2 {
    const NAME: &'static str = "iceoryx2";
    const COPIES: bool = false;
    const WAIT: Wait = Wait::Spin;
    const CROWDED: Wait = Wait::Yield;
    type Place = Arena;
    type Sender = Sender;
    type Receiver = Receiver;

    fn version() -> String {
        library::locked_version(include_str!("../../../Cargo.lock"), "iceoryx2")
    }

    fn place(_shape: &Shape, _topics: usize) -> Result<(Arena, String)> {
        let arena = Arena::create()?;
        let name = serde_json::to_string(arena.name())?;
        Ok((arena, name))
    }

    fn join(place: &str) -> Result<Self> {
        Ok(Self(node(&serde_json::from_str(place)?)?))
    }

    fn sender(&self, name: &str, shape: &Shape) -> Result<Sender> {
        let publisher = publisher(&topic(&self.0, name, shape)?, shape)?;
        let bell = match shape.wait {
            Wait::Block => Some(notifier(&bell(&self.0, name)?)?),
            _ => None,
        };
        Ok(Sender {
            publisher,
            bell,
            words: shape.words,
            receivers: shape.receivers,
            ahead: None,
            kept: None,
        })
    }

    fn receiver(&self, name: &str, _index: usize, shape: &Shape) -> Result<Receiver> {
        let subscriber = subscriber(&topic(&self.0, name, shape)?)?;
        let bell = match shape.wait {
            Wait::Block => Some(listener(&bell(&self.0, name)?)?),
            _ => None,
        };
        Ok(Receiver { subscriber, bell, wait: shape.wait, held: Vec::new() })
    }

    fn clean_up_dead(&self) -> Option<()> {
        self.0.try_cleanup_dead_nodes();
        Some(())
    }
}

/// A publisher, and the notifier that wakes a sleeping subscriber.
pub struct Sender {
    publisher: Publisher,
    bell: Option<Notifier<Ipc>>,
    words: usize,
    receivers: usize,
    /// The sample for the next message, if it is taken already.
    ahead: Option<Loan>,
    kept: Option<Loan>,
}

impl Sender {
    #[inline(always)]
    fn deliver(&self, sample: Sample) -> Result<()> {
        let receivers = sample.send()?;
        ensure!(receivers == self.receivers, "a message went to {receivers} of {} receivers", self.receivers);
        if let Some(bell) = &self.bell {
            bell.notify().context("cannot ring the bell")?;
        }
        Ok(())
    }
}

impl library::Sender for Sender {
    #[inline(always)]
    fn send(&mut self, message: Message) -> Result<()> {
        let sample = match self.ahead.take() {
            Some(sample) => sample,
            None => loan(&self.publisher, self.words)?,
        };
        self.deliver(written(sample, message))
    }

    fn prepare(&mut self) -> Result<()> {
        self.ahead = Some(loan(&self.publisher, self.words)?);
        Ok(())
    }

    /// iceoryx2 connects a publisher and a subscriber only when each of them next looks for the other, and a publisher drops
    /// what it sends to a full buffer that nobody has connected to yet.
    fn settle(&mut self) -> Result<()> {
        self.publisher.update_connections().context("cannot connect the publisher")
    }

    #[inline(always)]
    fn take(&mut self) -> Result<()> {
        std::hint::black_box(loan(&self.publisher, self.words)?);
        Ok(())
    }

    fn keep(&mut self) -> Result<bool> {
        self.kept = Some(loan(&self.publisher, self.words)?);
        Ok(true)
    }
}

/// A subscriber, and the listener it sleeps on.
pub struct Receiver {
    subscriber: Subscriber,
    bell: Option<Listener<Ipc>>,
    wait: Wait,
    held: Vec<Received>,
}

impl Receiver {
    #[inline(always)]
    fn take(&self) -> Result<Received> {
        poll(self.wait, || {
            if let Some(bell) = &self.bell {
                bell.blocking_wait(|_| {}).context("cannot wait for the bell")?;
            }
            Ok(self.subscriber.receive()?)
        })
    }
}

impl library::Receiver for Receiver {
    type Sender = Sender;

    #[inline(always)]
    fn receive<R>(&mut self, read: impl FnOnce(&[u64]) -> R) -> Result<R> {
        Ok(read(self.take()?.payload()))
    }

    /// A sample belongs to the publisher that loaned it: another one can only send a copy.
    fn forward(&mut self, to: &mut Sender) -> Result<u64> {
        let received = self.take()?;
        let first = received.payload().first().copied().context("an empty message came")?;
        let copy = loan(&to.publisher, to.words)?.write_from_slice(received.payload());
        to.deliver(copy)?;
        Ok(first)
    }

    fn hold(&mut self) -> Result<()> {
        let sample = self.take()?;
        self.held.push(sample);
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        self.subscriber.update_connections().context("cannot connect the subscriber")
    }
}

/// Joins the iceoryx2 system of this run.
fn node(arena: &ArenaName) -> Result<Node<Ipc>> {
    set_log_level(LogLevel::Error);
    NodeBuilder::new()
        .config(&arena.config()?)
        // The parent process decides when this one ends.
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<Ipc>()
        .context("cannot create the iceoryx2 node")
}

/// Opens the topic `name`, or makes it if the other process was slower.
fn topic(node: &Node<Ipc>, name: &str, shape: &Shape) -> Result<Topic> {
    node.service_builder(&service_name(name)?)
        .publish_subscribe::<[u64]>()
        .max_publishers(1)
        .max_subscribers(shape.receivers)
        .max_nodes(shape.receivers + 2)
        .history_size(0)
        .subscriber_max_buffer_size(shape.depth)
        .subscriber_max_borrowed_samples(shape.held)
        .enable_safe_overflow(shape.upstream)
        .open_or_create()
        .with_context(|| format!("cannot open the topic `{name}`"))
}

/// The sending end of `topic`. Unless messages may be lost, it blocks in `send` while a subscriber's
/// buffer is full.
fn publisher(topic: &Topic, shape: &Shape) -> Result<Publisher> {
    topic
        .publisher_builder()
        .initial_max_slice_len(shape.words)
        .allocation_strategy(AllocationStrategy::Static)
        .max_loaned_samples(1)
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()
        .context("cannot create the publisher")
}

/// A receiving end of `topic`.
fn subscriber(topic: &Topic) -> Result<Subscriber> {
    topic.subscriber_builder().create().context("cannot create the subscriber")
}

/// Opens the event service `name`, which wakes a sleeping process.
fn bell(node: &Node<Ipc>, name: &str) -> Result<Bell> {
    node.service_builder(&service_name(name)?)
        .event()
        .max_notifiers(1)
        .max_listeners(1)
        .max_nodes(2)
        .event_id_max_value(1)
        .open_or_create()
        .with_context(|| format!("cannot open the event service `{name}`"))
}

/// The ringing end of `bell`.
fn notifier(bell: &Bell) -> Result<Notifier<Ipc>> {
    bell.notifier_builder().create().context("cannot create the notifier")
}

/// The sleeping end of `bell`.
fn listener(bell: &Bell) -> Result<Listener<Ipc>> {
    bell.listener_builder().create().context("cannot create the listener")
}

/// Takes a sample to write a message into.
fn loan(publisher: &Publisher, words: usize) -> Result<Loan> {
    publisher.loan_slice_uninit(words).context("cannot loan a sample")
}

/// Writes a message into a sample: its first word only, where the rest keeps what it held before, or every word, with the same
/// loop as everybody here.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "iceoryx2 has no safe way to send a slice that was not written in full, or by a loop of one's own"
)]
fn written(mut sample: Loan, message: Message) -> Sample {
    let words = sample.payload_mut();
    if message.fill {
        for (word, i) in words.iter_mut().zip(0..) {
            word.write(message.sequence.wrapping_add(i));
        }
    } else if let Some(word) = words.first_mut() {
        word.write(message.sequence);
    }
    // SAFETY: the payload lies in a shared memory object, which the system hands out filled with
    // zeroes: each of its words holds either that zero or what this or an earlier message stored there. So
    // every word is initialised, and every bit pattern is a valid `u64`.
    unsafe { sample.assume_init() }
}

fn service_name(name: &str) -> Result<ServiceName> {
    ServiceName::new(name).with_context(|| format!("iceoryx2 refuses the service name `{name}`"))
}
