//! How this benchmark sets iceoryx2 up: the fastest way its documentation and its own benchmarks show
//! for two processes. Every measurement opens its ports here.

use std::mem::MaybeUninit;

use anyhow::{Context, Result};
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

use crate::arena::ArenaName;
use crate::side::meet;

/// The single-threaded service between processes: faster than `ipc_threadsafe`.
pub type Ipc = ipc::Service;
/// A payload is a slice of words and not of bytes, so that it is aligned for reading and writing
/// words. (Asking for an alignment on a slice of bytes makes iceoryx2 0.10 pad every single byte.)
pub type Publisher = iceoryx2::port::publisher::Publisher<Ipc, [u64], ()>;
/// The receiving end for [`Publisher`].
pub type Subscriber = iceoryx2::port::subscriber::Subscriber<Ipc, [u64], ()>;
/// A sample taken but not written yet.
pub type Loan = SampleMutUninit<Ipc, [MaybeUninit<u64>], ()>;
/// A sample ready to be sent.
pub type Message = SampleMut<Ipc, [u64], ()>;
type Topic = publish_subscribe::PortFactory<Ipc, [u64], ()>;
type Bell = event::PortFactory<Ipc>;

/// The sizes of one stream of messages.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Words in a payload.
    pub words: usize,
    /// Messages a subscriber's buffer holds.
    pub depth: usize,
    /// Messages a subscriber may hold on to at once.
    pub held: usize,
    /// Subscribers there will be. iceoryx2 walks over all possible ones for each message, so no more
    /// than needed are asked for.
    pub subscribers: usize,
    /// Whether a full buffer loses its oldest message, instead of holding the sender up.
    pub overflow: bool,
}

/// Joins the iceoryx2 system of this run.
pub fn node(arena: &ArenaName) -> Result<Node<Ipc>> {
    set_log_level(LogLevel::Error);
    NodeBuilder::new()
        .config(&arena.config()?)
        // The parent process decides when this one ends.
        .signal_handling_mode(SignalHandlingMode::Disabled)
        .create::<Ipc>()
        .context("cannot create the iceoryx2 node")
}

/// Opens the topic `name`, or makes it if the other process was slower.
pub fn topic(node: &Node<Ipc>, name: &str, shape: Shape) -> Result<Topic> {
    node.service_builder(&service_name(name)?)
        .publish_subscribe::<[u64]>()
        .max_publishers(1)
        .max_subscribers(shape.subscribers)
        .max_nodes(shape.subscribers + 2)
        .history_size(0)
        .subscriber_max_buffer_size(shape.depth)
        .subscriber_max_borrowed_samples(shape.held)
        .enable_safe_overflow(shape.overflow)
        .open_or_create()
        .with_context(|| format!("cannot open the topic `{name}`"))
}

/// The sending end of `topic`. Unless messages may be lost, it blocks in `send` while a subscriber's
/// buffer is full.
pub fn publisher(topic: &Topic, shape: Shape) -> Result<Publisher> {
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
pub fn subscriber(topic: &Topic) -> Result<Subscriber> {
    topic.subscriber_builder().create().context("cannot create the subscriber")
}

/// Brings this side's ports together with those of the other sides. After this no message is lost:
/// iceoryx2 connects a publisher and a subscriber only when each of them next looks for the other,
/// and a publisher drops what it sends to a full buffer that nobody has connected to yet.
pub fn connect(publisher: Option<&Publisher>, subscriber: Option<&Subscriber>) -> Result<()> {
    // Until every side has made its ports ...
    meet()?;
    if let Some(publisher) = publisher {
        publisher.update_connections().context("cannot connect the publisher")?;
    }
    if let Some(subscriber) = subscriber {
        subscriber.update_connections().context("cannot connect the subscriber")?;
    }
    // ... and until every side has seen those of the others.
    meet()
}

/// Opens the event service `name`, which wakes a sleeping process.
pub fn bell(node: &Node<Ipc>, name: &str) -> Result<Bell> {
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
pub fn notifier(bell: &Bell) -> Result<Notifier<Ipc>> {
    bell.notifier_builder().create().context("cannot create the notifier")
}

/// The sleeping end of `bell`.
pub fn listener(bell: &Bell) -> Result<Listener<Ipc>> {
    bell.listener_builder().create().context("cannot create the listener")
}

/// Takes a sample to write a message into.
pub fn loan(publisher: &Publisher, words: usize) -> Result<Loan> {
    publisher.loan_slice_uninit(words).context("cannot loan a sample")
}

/// Writes the first word of a sample only. The rest keeps what it held before.
#[expect(unsafe_code, reason = "iceoryx2 has no safe way to send a slice that was not written in full")]
pub fn with_first_word(mut sample: Loan, first: u64) -> Message {
    if let Some(word) = sample.payload_mut().first_mut() {
        word.write(first);
    }
    // SAFETY: the payload lies in a shared memory object, which the system hands out filled with
    // zeroes: each of its words holds either that zero or what an earlier message stored there. So
    // every word is initialised, and every bit pattern is a valid `u64`.
    unsafe { sample.assume_init() }
}

/// Writes every word of a sample: `first`, `first + 1` and so on, with the same loop as Millpond's benchmark.
#[expect(unsafe_code, reason = "iceoryx2 has no safe way to write a slice with a loop of one's own")]
pub fn filled(mut sample: Loan, first: u64) -> Message {
    for (word, i) in sample.payload_mut().iter_mut().zip(0..) {
        word.write(first.wrapping_add(i));
    }
    // SAFETY: the loop has written each word of the payload.
    unsafe { sample.assume_init() }
}

fn service_name(name: &str) -> Result<ServiceName> {
    ServiceName::new(name).with_context(|| format!("iceoryx2 refuses the service name `{name}`"))
}
