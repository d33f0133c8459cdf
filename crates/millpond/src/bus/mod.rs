//! The message bus: small values between processes, for control and status, beside the streams of data.
//!
//! Every process that uses it has one mailbox in the pond's shared memory and one thread that serves it, which sleeps while there is
//! nothing to do. A message is published on a *topic*, such as `meter/level`, to everybody whose pattern matches, or sent to
//! the one who answers that topic, and answered. Values are JSON, at most 4096 bytes with their topic.
//!
//! Nobody waits for a dead or stopped process: publishing never blocks (a full mailbox is reported and counted), and a caller gets
//! a clear error at once when the responder is absent or dies, or when its time is over. Every message that was not delivered
//! is counted where `millpond inspect` shows it.
//!
//! ```
//! use millpond::bus::{Bus, Json, json};
//! use millpond_shm::{Pond, PondConfig, Role};
//! use std::time::Duration;
//!
//! let name = format!("doc-bus-{}", std::process::id());
//! let pond = Pond::create(&name, &PondConfig::default(), Role::Worker)?;
//! let bus = Bus::open(&pond)?;
//!
//! // Usually in another process:
//! let alarms = bus.subscribe("*/alarm")?;
//! bus.publish("boiler/alarm", &json!({ "celsius": 104.5 }))?;
//! let alarm = alarms.next(Duration::from_secs(5))?.expect("an alarm");
//! assert_eq!((alarm.topic.as_str(), &alarm.value["celsius"]), ("boiler/alarm", &json!(104.5)));
//!
//! let sums = bus.answer("sum")?;
//! let responder = std::thread::spawn(move || {
//!     let request = sums.next(Duration::from_secs(5)).unwrap().expect("a request");
//!     let sum: i64 = request.argument.as_array().into_iter().flatten().filter_map(Json::as_i64).sum();
//!     request.reply(Ok(json!(sum)));
//! });
//! assert_eq!(bus.call("sum", &json!([1, 2, 3]), Duration::from_secs(5))?, json!(6));
//! # responder.join().unwrap();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use millpond_shm::{MailClass, Pond, PostError, Waiter};
use serde::Serialize;

mod calls;
mod directory;
mod member;
mod queue;
mod topic;
mod wire;

use member::Member;
use queue::Queue;
use topic::Pattern;
use wire::Kind;

pub(crate) use topic::check_topic;

pub use serde_json::{Value as Json, json};

/// Why something on the bus did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// Not a topic or pattern.
    #[error(
        "the {what} `{text}` cannot be used: at most 128 bytes, segments of letters, digits, `_`, `-` and `.` joined by `/`{}",
        if *what == "pattern" { "; `*` stands for one segment, `**` at the end for the rest" } else { "" }
    )]
    InvalidTopic {
        /// Topic or pattern.
        what: &'static str,
        /// As given.
        text: String,
    },
    /// Nobody answers the topic.
    #[error("nobody in pond `{pond}` answers `{topic}`{}", nearest.as_ref().map_or_else(String::new, |n| format!("; did you mean `{n}`?")))]
    Absent {
        /// The pond.
        pond: String,
        /// The topic.
        topic: String,
        /// What is answered and most like it.
        nearest: Option<String>,
    },
    /// The responder left or died before it answered.
    #[error("process {pid} ended before it answered `{topic}`")]
    Gone {
        /// The topic.
        topic: String,
        /// Who was asked.
        pid: u32,
    },
    /// The responder takes no more messages: it is stopped or overwhelmed.
    #[error(
        "process {pid}, which answers `{topic}`, takes no messages: its mailbox stayed full for {waited:?}"
    )]
    Full {
        /// The topic.
        topic: String,
        /// Who was asked.
        pid: u32,
        /// How long was waited for room.
        waited: Duration,
    },
    /// The responder was too slow.
    #[error("process {pid} did not answer `{topic}` within {waited:?}")]
    TimedOut {
        /// The topic.
        topic: String,
        /// Who was asked.
        pid: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The responder says no, in its own words.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// The value cannot be sent.
    #[error("the message on `{topic}` cannot be sent: {why}")]
    Unsendable {
        /// The topic.
        topic: String,
        /// Why.
        why: String,
    },
    /// Everybody in the pond was asked to stop.
    #[error("the pond was asked to stop")]
    Stopped,
    /// Shared memory refused something.
    #[error(transparent)]
    Pond(#[from] millpond_shm::Error),
}

/// What became of a published message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Mailboxes that accepted it.
    pub delivered: u32,
    /// Mailboxes that were full.
    pub full: u32,
    /// Mailboxes whose owner left or died at that moment.
    pub gone: u32,
}

/// A message that somebody published.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// What it is about.
    pub topic: String,
    /// What it says.
    pub value: Json,
    /// Pid of the sender, which may have left or died meanwhile.
    pub sender_pid: u32,
}

/// A message that wants an answer. Dropped without one, the caller is told so.
pub struct Request {
    /// What is asked.
    pub topic: String,
    /// With which value.
    pub argument: Json,
    answer: Option<member::Answer>,
}

impl Request {
    /// Answers. Never blocks; if the caller's mailbox is full, which counts there, it will time out.
    pub fn reply(mut self, answer: Result<Json, String>) {
        if let Some(caller) = self.answer.take() {
            caller.send(answer);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(caller) = self.answer.take() {
            caller.send(Err(format!("`{}` was not answered: whoever got it gave it up", self.topic)));
        }
    }
}

/// This process's end of a pond's message bus. Clones, and what [`open`](Bus::open) returns for the same attachment, are the
/// same end. It lasts until the last one, and the last subscription and service, are dropped.
#[derive(Clone)]
pub struct Bus(Arc<Member>);

/// The ends that are open in this process.
static OPEN: Mutex<Vec<(String, u16, Weak<Member>)>> = Mutex::new(Vec::new());

impl Bus {
    /// Joins the bus, unless this process has.
    ///
    /// # Errors
    /// If the pond has no room for another mailbox, or the system for a thread.
    pub fn open(pond: &Pond) -> Result<Self, BusError> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, _, member)| member.strong_count() > 0);
        let known = open.iter().find(|(name, slot, _)| name == pond.name() && *slot == pond.process());
        if let Some(member) = known.and_then(|(_, _, member)| member.upgrade()) {
            return Ok(Self(member));
        }
        let member = Arc::new(Member::start(pond)?);
        open.push((pond.name().to_owned(), pond.process(), Arc::downgrade(&member)));
        Ok(Self(member))
    }

    /// The pond that it belongs to.
    #[must_use]
    pub fn pond(&self) -> &Pond {
        self.0.pond()
    }

    /// Sets a parameter of a block that runs, in whatever process: any number, text or boolean that the block's spec allows. It
    /// counts from the block's next work on, and for its restarts. Returns the parameter as [`param`](Bus::param) does.
    ///
    /// # Errors
    /// As [`call`](Bus::call): [`BusError::Refused`] with the range for a value out of it.
    pub fn set_param(
        &self,
        block: &str,
        param: &str,
        value: impl Serialize,
        timeout: Duration,
    ) -> Result<Json, BusError> {
        self.call(&format!("{block}/set"), &json!({ "param": param, "value": value }), timeout)
    }

    /// A parameter of a block that runs, as `{"name", "value", "unit", "expected", "fixed", "doc"}`; the value is text, or null if it
    /// was not given.
    ///
    /// # Errors
    /// As [`call`](Bus::call).
    pub fn param(&self, block: &str, param: &str, timeout: Duration) -> Result<Json, BusError> {
        self.call(&format!("{block}/get"), &param, timeout)
    }

    /// Publishes a value on a topic: everybody who has subscribed gets it. Never blocks.
    ///
    /// # Errors
    /// [`BusError::InvalidTopic`], [`BusError::Unsendable`]. That a subscriber's mailbox was full is no error but part of the result.
    pub fn publish(&self, topic: &str, value: &impl Serialize) -> Result<Delivery, BusError> {
        self.publish_within(topic, value, Duration::ZERO)
    }

    /// As [`publish`](Bus::publish), but waits for room in full mailboxes: back-pressure instead of loss.
    ///
    /// # Blocking
    /// At most `timeout`, for all subscribers together.
    ///
    /// # Errors
    /// As [`publish`](Bus::publish), and [`BusError::Stopped`].
    pub fn publish_within(
        &self,
        topic: &str,
        value: &impl Serialize,
        timeout: Duration,
    ) -> Result<Delivery, BusError> {
        check_topic(topic)?;
        let deadline = deadline(timeout);
        let subscribers = self.0.subscribers(topic);
        let mut delivery = Delivery::default();
        if subscribers.is_empty() {
            return Ok(delivery);
        }
        let mail = wire::encode(Kind::Event, topic, &to_json(topic, value)?);
        for subscriber in subscribers {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.0.pond().post(subscriber, &mail, MailClass::Ordinary, left) {
                Ok(()) => delivery.delivered += 1,
                Err(PostError::Full { .. }) => delivery.full += 1,
                Err(PostError::Gone) => delivery.gone += 1,
                Err(error) => return Err(unsent(topic, error)),
            }
        }
        Ok(delivery)
    }

    /// From now on, receives what is published on topics that match the pattern.
    ///
    /// # Errors
    /// [`BusError::InvalidTopic`], [`BusError::Pond`] if this process has too many patterns.
    pub fn subscribe(&self, pattern: &str) -> Result<Subscription, BusError> {
        let queue = self.0.hear(Pattern::new(pattern)?)?;
        Ok(Subscription { queue, member: Arc::clone(&self.0) })
    }

    /// From now on, answers requests on topics that match the pattern. If others answer the same topics, callers choose one of them.
    ///
    /// # Errors
    /// As [`subscribe`](Bus::subscribe).
    pub fn answer(&self, pattern: &str) -> Result<Service, BusError> {
        self.answer_for(pattern, None)
    }

    /// As [`answer`](Bus::answer); every request rings `party`, which waits for other things as well.
    pub(crate) fn answer_for(&self, pattern: &str, party: Option<&Waiter>) -> Result<Service, BusError> {
        let queue = self.0.answer(Pattern::new(pattern)?, party.cloned())?;
        Ok(Service { queue, member: Arc::clone(&self.0) })
    }

    /// Asks whoever answers the topic, and waits for the answer.
    ///
    /// # Blocking
    /// At most `timeout`.
    ///
    /// # Errors
    /// [`BusError::Absent`] and [`BusError::Gone`] come at once, [`BusError::Refused`] when the responder says so,
    /// [`BusError::Full`] and [`BusError::TimedOut`] at the end of the time.
    pub fn call(&self, topic: &str, argument: &impl Serialize, timeout: Duration) -> Result<Json, BusError> {
        check_topic(topic)?;
        let argument = to_json(topic, argument)?;
        self.0.call(topic, &argument, timeout, |_| {})
    }

    /// As [`call`](Bus::call); `begun` learns the number of the call, by which another thread can [give it up](Bus::give_up).
    pub(crate) fn call_begun(
        &self,
        topic: &str,
        argument: &Json,
        timeout: Duration,
        begun: impl FnOnce(u64),
    ) -> Result<Json, BusError> {
        check_topic(topic)?;
        self.0.call(topic, argument, timeout, begun)
    }

    /// Ends a call that waits for its answer with [`BusError::Stopped`].
    pub(crate) fn give_up(&self, call: u64) {
        self.0.give_up(call);
    }
}

/// When a wait of this length is over. Longer than a century is as good as a century, and no clock counts on for ever.
fn deadline(timeout: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(876_600 * 3600);
    Instant::now() + timeout.min(CENTURY)
}

fn to_json(topic: &str, value: &impl Serialize) -> Result<Json, BusError> {
    serde_json::to_value(value)
        .map_err(|error| BusError::Unsendable { topic: topic.to_owned(), why: error.to_string() })
}

fn unsent(topic: &str, error: PostError) -> BusError {
    match error {
        PostError::Stopped => BusError::Stopped,
        PostError::Pond(error) => BusError::Pond(error),
        error => BusError::Unsendable { topic: topic.to_owned(), why: error.to_string() },
    }
}

/// Receives what is published on the topics of one pattern. At most 1024 messages wait here; beyond that the newest are
/// dropped and counted.
pub struct Subscription {
    queue: Arc<Queue<Message>>,
    member: Arc<Member>,
}

impl Subscription {
    /// The next message; `None` if there is none in time.
    ///
    /// # Errors
    /// [`BusError::Stopped`] once everybody was asked to stop and nothing is left.
    pub fn next(&self, timeout: Duration) -> Result<Option<Message>, BusError> {
        self.queue.next(timeout)
    }

    /// Messages that were dropped because too many waited here.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.member.forget_subscription(&self.queue);
    }
}

/// Receives the requests on the topics of one pattern. At most 1024 wait here; beyond that they are refused.
pub struct Service {
    queue: Arc<Queue<Request>>,
    member: Arc<Member>,
}

impl Service {
    /// The next request; `None` if there is none in time.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn next(&self, timeout: Duration) -> Result<Option<Request>, BusError> {
        self.queue.next(timeout)
    }

    pub(crate) fn try_next(&self) -> Option<Request> {
        self.queue.try_next()
    }

    #[inline]
    pub(crate) fn has_request(&self) -> bool {
        self.queue.has_any()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.member.forget_service(&self.queue);
    }
}
