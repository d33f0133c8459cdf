//! What becomes of the others when one process is killed.
//!
//! - *Receiver*: a lossless sender whose only receiver is killed while it holds messages, and what those are worth then.
//! - *Sender*: a receiver whose sender is killed while it holds buffers, and whether a new sender can go on.
//! - *Midway*: the receiver of a full stream is killed at some instant, and a new one takes its place.

use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::message::{Role, Said};
use super::parent::{Event, Parent};
use super::side::{connect, meet, note};
use crate::library::{Library, Message, Receiver, Sender, Shape};

/// The topic of all sides.
const TOPIC: &str = "kill";
/// Messages that fit between the two.
const DEPTH: usize = 4;
/// Messages the victim holds: more than may be queued, so that held ones that do not come back are not mistaken for those.
const HELD: usize = 8;
/// Time given to a process to be well inside the call it hangs in.
const SETTLE: Duration = Duration::from_millis(300);
/// Pause between two searches, for free buffers and for dead processes.
const PAUSE: Duration = Duration::from_millis(1);
/// Pause between two searches for dead processes.
const CLEANING_PAUSE: Duration = Duration::from_millis(10);
/// How long a stream flows before its receiver is killed, and how long a new one waits for its first message.
const FLOW: Duration = Duration::from_millis(50);
const RESUME: Duration = Duration::from_secs(3);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Victim {
    /// The receiver, while it holds messages and its sender waits for room.
    Receiver,
    /// The sender, while it holds buffers.
    Sender,
    /// The receiver, again and again, in the middle of a stream.
    Midway,
}

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Plan {
    /// Words in a payload.
    pub(super) words: usize,
    /// How long to watch.
    pub(super) time: Duration,
    /// How many receivers of a stream are killed.
    pub(super) kills: usize,
    /// Whether a third process searches for dead processes and cleans up after them.
    pub(super) cleaner: bool,
}

impl Plan {
    fn shape<L: Library>(&self) -> Shape {
        Shape { held: HELD, ..Shape::pair(self.words, DEPTH, L::WAIT) }
    }
}

/// The parts to be played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Part {
    StuckSender,
    HoldingReceiver,
    HoldingSender,
    WaitingReceiver,
    NewSender,
    Stream,
    /// Receives until killed; a new one, if it is not the first.
    Drain {
        first: bool,
    },
}

/// The points in a child's work the parent waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Point {
    /// The sender is about to send one message more than there is room for.
    NoRoom,
    /// That call has returned.
    Released,
    /// Whatever the victim held can be taken again.
    Free,
    /// The library has no shared buffers, or no way to count those that can be taken.
    NotCounted,
    /// The receiver is about to wait for a message that does not come.
    Waiting,
    /// It was told that the sender is gone.
    Told,
    /// A message came over the topic.
    Flowing,
}

/// What was seen after the death of a receiver.
#[derive(Debug, Serialize)]
pub(super) struct ReceiverKilled {
    sender_blocked_ms: f64,
    released: bool,
    cleaner: bool,
    held: usize,
    /// Until as many buffers can be taken as before, but for those that are still queued; `None`: not in the time.
    held_free_ms: Option<f64>,
    /// Whether the library lets its buffers be counted.
    held_counted: bool,
}

/// Kills the receiver under the sender and watches.
pub(super) fn receiver<L: Library>(plan: Plan) -> Result<ReceiverKilled> {
    let mut parent = Parent::<L>::new(plan.time, &plan.shape::<L>(), 1)?;
    parent.start(Role::Kill(plan, Part::StuckSender), None)?;
    let victim = parent.start(Role::Kill(plan, Part::HoldingReceiver), None)?;
    bring_to(&mut parent, Point::NoRoom)?;
    ensure!(
        until(&parent, &[Point::Released], SETTLE)?.is_none(),
        "the sender did not wait for its receiver"
    );
    let killed = parent.kill(victim)?;
    if plan.cleaner {
        parent.start(Role::Cleaner, None)?;
    }
    let end = killed + plan.time;
    let released = until(&parent, &[Point::Released], end.saturating_duration_since(Instant::now()))?;
    let free = match released {
        Some(_) => {
            until(&parent, &[Point::Free, Point::NotCounted], end.saturating_duration_since(Instant::now()))?
        }
        None => None,
    };
    let ms = |at: Instant| (at - killed).as_secs_f64() * 1e3;
    Ok(ReceiverKilled {
        sender_blocked_ms: ms(released.map_or_else(Instant::now, |(_, at)| at)),
        released: released.is_some(),
        cleaner: plan.cleaner,
        held: HELD,
        held_free_ms: free.and_then(|(point, at)| (point == Point::Free).then(|| ms(at))),
        held_counted: !matches!(free, Some((Point::NotCounted, _))),
    })
}

/// What was seen after the death of a sender.
#[derive(Debug, Serialize)]
pub(super) struct SenderKilled {
    /// Until the waiting receiver was told; `None`: not in the time.
    receiver_told_ms: Option<f64>,
    /// From the start of a new sender, its process included, until its message arrived; `None`: not in the time.
    new_sender_ms: Option<f64>,
    /// Why the new sender could not begin.
    new_sender_error: Option<String>,
    watched_ms: f64,
}

/// Kills the sender and watches the receiver; then starts a new sender.
pub(super) fn sender<L: Library>(plan: Plan) -> Result<SenderKilled> {
    let mut parent = Parent::<L>::new(plan.time * 2, &plan.shape::<L>(), 1)?;
    let victim = parent.start(Role::Kill(plan, Part::HoldingSender), None)?;
    parent.start(Role::Kill(plan, Part::WaitingReceiver), None)?;
    bring_to(&mut parent, Point::Waiting)?;
    ensure!(until(&parent, &[Point::Told], SETTLE)?.is_none(), "the receiver did not wait for its sender");
    let killed = parent.kill(victim)?;
    let told = until(&parent, &[Point::Told], plan.time)?;

    let started = Instant::now();
    let new = parent.start(Role::Kill(plan, Part::NewSender), None)?;
    let (mut flowing, mut error) = (None, None);
    while started.elapsed() < plan.time && flowing.is_none() && error.is_none() {
        match parent.listen(started + plan.time)? {
            Some(Event::Said(_, Said::Note(Point::Flowing), at)) => flowing = Some(at),
            Some(Event::Said(number, Said::Failed(why), _)) if number == new => error = Some(why),
            Some(Event::Said(number, Said::Failed(why), _)) => bail!("side {number} failed: {why}"),
            Some(_) => {}
            None => break,
        }
    }
    let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    Ok(SenderKilled {
        receiver_told_ms: told.map(|(_, at)| ms(killed, at)),
        new_sender_ms: flowing.map(|at| ms(started, at)),
        new_sender_error: error,
        watched_ms: plan.time.as_secs_f64() * 1e3,
    })
}

/// What was seen when receivers of a stream were killed.
#[derive(Debug, Serialize)]
pub(super) struct MidwayKilled {
    kills: usize,
    /// After how many of them a new receiver got a message in time; after the others the run began anew.
    resumed: usize,
    /// From the start of the new receiver, its process included, until its first message: the median, and the longest.
    resumed_p50_ms: Option<f64>,
    resumed_max_ms: Option<f64>,
    waited_ms: f64,
}

/// Kills the receiver of a stream again and again.
pub(super) fn midway<L: Library>(plan: Plan) -> Result<MidwayKilled> {
    let mut resumed = Vec::new();
    let mut kills = 0;
    while kills < plan.kills {
        let mut parent = Parent::<L>::new(plan.time + RESUME * plan.kills as u32, &plan.shape::<L>(), 1)?;
        parent.start(Role::Kill(plan, Part::Stream), None)?;
        let mut victim = parent.start(Role::Kill(plan, Part::Drain { first: true }), None)?;
        bring_to(&mut parent, Point::Flowing)?;
        while kills < plan.kills {
            // Not always at the same instant of a message's way.
            thread::sleep(FLOW + Duration::from_micros(kills as u64 * 137 % 1000));
            parent.kill(victim)?;
            kills += 1;
            let started = Instant::now();
            victim = parent.start(Role::Kill(plan, Part::Drain { first: false }), None)?;
            match until(&parent, &[Point::Flowing], RESUME)? {
                Some((_, at)) => resumed.push((at - started).as_secs_f64() * 1e3),
                None => break,
            }
        }
    }
    resumed.sort_by(f64::total_cmp);
    Ok(MidwayKilled {
        kills,
        resumed: resumed.len(),
        resumed_p50_ms: resumed.get(resumed.len() / 2).copied(),
        resumed_max_ms: resumed.last().copied(),
        waited_ms: RESUME.as_secs_f64() * 1e3,
    })
}

/// Brings the sides together, up to `point`.
fn bring_to<L: Library>(parent: &mut Parent<L>, point: Point) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match parent.next(deadline)? {
            Some(Event::Said(number, Said::Ready, _)) => {
                parent.mark_ready(number)?;
            }
            Some(Event::Said(_, Said::Note(noted), _)) if noted == point => return Ok(()),
            Some(event) => bail!("unexpected before {point:?}: {event:?}"),
            None => bail!("{point:?} was not reached in time"),
        }
    }
}

/// Waits for one of `points`, and gives the moment it was heard of. What a killed process still says does not matter.
fn until<L: Library>(
    parent: &Parent<L>,
    points: &[Point],
    time: Duration,
) -> Result<Option<(Point, Instant)>> {
    let end = Instant::now() + time;
    loop {
        match parent.next(end)? {
            Some(Event::Said(_, Said::Note(point), at)) if points.contains(&point) => {
                return Ok(Some((point, at)));
            }
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Plays a part.
pub(super) fn play<L: Library>(place: &str, plan: Plan, part: Part) -> Result<Value> {
    let library = L::join(place)?;
    match part {
        Part::StuckSender => stuck_sender(&library, plan),
        Part::HoldingReceiver => holding_receiver(&library, plan),
        Part::HoldingSender => holding_sender(&library, plan),
        Part::WaitingReceiver => waiting_receiver(&library, plan),
        Part::NewSender => new_sender(&library, plan),
        Part::Stream => stream(&library, plan),
        Part::Drain { first } => drain(&library, plan, first),
    }?;
    Ok(Value::Null)
}

const PLAIN: Message = Message { sequence: 0, fill: true };

/// Sends until there is no room, and then notes when that call returns.
fn stuck_sender<L: Library>(library: &L, plan: Plan) -> Result<()> {
    let mut sender = library.sender(TOPIC, &plan.shape::<L>())?;
    connect::<L>(slice::from_mut(&mut sender), &mut [])?;
    let free_before = sender.free_buffers()?;
    for _ in 0..HELD {
        sender.send(PLAIN)?;
    }
    // The receiver takes these now.
    meet()?;
    let still = Still::watch();
    // Whether the last message is then delivered or given up does not matter here.
    while sender.send(PLAIN).is_ok() && still.goes_on() {}
    note(Point::Released)?;
    let Some(free_before) = free_before else { return note(Point::NotCounted) };
    let deadline = Instant::now() + plan.time;
    while Instant::now() < deadline {
        // What is still queued may wait for a restarted receiver.
        if sender.free_buffers()?.unwrap_or(0) + DEPTH + 1 >= free_before {
            return note(Point::Free);
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Watches a loop that may hang, and notes when it does: not every library says how many messages it has room for.
struct Still(Arc<AtomicU64>);

/// The count of a loop that was found to hang.
const HANGS: u64 = u64::MAX;

impl Still {
    fn watch() -> Self {
        let count = Arc::new(AtomicU64::new(0));
        let watched = Arc::clone(&count);
        thread::spawn(move || {
            loop {
                let before = watched.load(Ordering::Relaxed);
                thread::sleep(SETTLE);
                if watched.compare_exchange(before, HANGS, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    return note(Point::NoRoom);
                }
            }
        });
        Self(count)
    }

    /// Called once a turn: false once the loop has been found to hang.
    fn goes_on(&self) -> bool {
        let before = self.0.load(Ordering::Relaxed);
        before != HANGS
            && self.0.compare_exchange(before, before + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Takes what it can hold, and holds it until it is killed.
fn holding_receiver<L: Library>(library: &L, plan: Plan) -> Result<()> {
    let mut receiver = library.receiver(TOPIC, 0, &plan.shape::<L>())?;
    connect::<L>(&mut [], slice::from_mut(&mut receiver))?;
    for _ in 0..HELD {
        receiver.hold()?;
    }
    meet()?;
    wait_to_be_killed()
}

/// Sends one message, keeps a few buffers, and waits to be killed.
fn holding_sender<L: Library>(library: &L, plan: Plan) -> Result<()> {
    let mut sender = library.sender(TOPIC, &plan.shape::<L>())?;
    connect::<L>(slice::from_mut(&mut sender), &mut [])?;
    sender.send(PLAIN)?;
    sender.keep()?;
    meet()?;
    wait_to_be_killed()
}

fn wait_to_be_killed() -> ! {
    loop {
        thread::park();
    }
}

/// The number of the message that a new sender sends.
const AFRESH: u64 = 1 << 40;

/// Takes the only message, waits for another, and says what becomes of that.
fn waiting_receiver<L: Library>(library: &L, plan: Plan) -> Result<()> {
    let mut receiver = library.receiver(TOPIC, 0, &plan.shape::<L>())?;
    connect::<L>(&mut [], slice::from_mut(&mut receiver))?;
    receiver.receive(|_| ())?;
    meet()?;
    note(Point::Waiting)?;
    let mut told = false;
    loop {
        match receiver.receive(|words| words.first() == Some(&AFRESH)) {
            Ok(true) => return note(Point::Flowing),
            Ok(false) => {}
            Err(_) => {
                if !told {
                    note(Point::Told)?;
                }
                told = true;
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Takes the place of the killed sender.
fn new_sender<L: Library>(library: &L, plan: Plan) -> Result<()> {
    let mut sender = library.sender(TOPIC, &plan.shape::<L>())?;
    // Some libraries find the other end only after a while, and lose what is sent until then.
    let end = Instant::now() + plan.time;
    while Instant::now() < end {
        if sender.settle().and_then(|()| sender.send(Message { sequence: AFRESH, fill: true })).is_err() {
            thread::sleep(PAUSE);
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Sends for ever; a receiver that is gone is waited for.
fn stream<L: Library>(library: &L, plan: Plan) -> Result<()> {
    let mut sender = library.sender(TOPIC, &plan.shape::<L>())?;
    connect::<L>(slice::from_mut(&mut sender), &mut [])?;
    loop {
        if sender.send(PLAIN).is_err() {
            thread::sleep(PAUSE);
            // There may be nobody to be found yet.
            let _ = sender.settle();
        }
    }
}

/// Receives until killed.
fn drain<L: Library>(library: &L, plan: Plan, first: bool) -> Result<()> {
    let mut receiver = library.receiver(TOPIC, 0, &plan.shape::<L>())?;
    if first {
        connect::<L>(&mut [], slice::from_mut(&mut receiver))?;
    } else {
        receiver.settle()?;
    }
    receiver.receive(|_| ())?;
    note(Point::Flowing)?;
    loop {
        receiver.receive(|_| ())?;
    }
}

/// Calls what the library documents to take back what a dead process held, over and over.
pub(super) fn clean<L: Library>(place: &str) -> Result<()> {
    let library = L::join(place)?;
    loop {
        if library.clean_up_dead().is_none() {
            bail!("{} has no call that cleans up after dead processes", L::NAME);
        }
        thread::sleep(CLEANING_PAUSE);
    }
}
