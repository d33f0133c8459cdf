//! What becomes of a lossless publisher whose only subscriber is killed while it holds samples.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::arena::ArenaName;
use crate::message::{Role, Said};
use crate::parent::{Event, Parent};
use crate::ports::{self, Shape};
use crate::side::{meet, note};

/// The topic both sides use.
const TOPIC: &str = "stuck";
/// Samples the subscriber holds when it is killed.
const HELD: usize = 2;
/// Samples that fit into its buffer.
const DEPTH: usize = 8;
const SHAPE: Shape = Shape { words: 8, depth: DEPTH, held: HELD, subscribers: 1, overflow: false };

/// Time given to the publisher to be well inside the call it hangs in.
const SETTLE: Duration = Duration::from_millis(200);
/// Pause between two searches for dead processes.
const CLEANING_PAUSE: Duration = Duration::from_millis(10);

/// What to measure.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Plan {
    /// How long to watch the publisher.
    pub time: Duration,
    /// Whether a third process searches for dead processes and cleans up after them.
    pub cleaner: bool,
}

/// The points in a child's work the parent waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Point {
    /// The publisher is about to send one message more than there is room for.
    NoRoom,
    /// That call has returned.
    Released,
}

/// What was seen.
#[derive(Debug, Serialize)]
pub struct Stuck {
    sender_blocked_ms: f64,
    released: bool,
    cleaner: bool,
}

/// Kills the subscriber under the publisher and watches.
pub fn measure(plan: Plan) -> Result<Stuck> {
    let mut parent = Parent::new(plan.time)?;
    parent.start(Role::StuckPublisher(plan), None)?;
    let subscriber = parent.start(Role::StuckSubscriber(plan), None)?;

    until_no_room(&mut parent)?;
    ensure!(released(&parent, SETTLE)?.is_none(), "the publisher did not wait for its subscriber");
    parent.kill(subscriber)?;
    let killed = Instant::now();
    if plan.cleaner {
        parent.start(Role::Cleaner, None)?;
    }

    let remaining = plan.time.saturating_sub(killed.elapsed());
    let released = released(&parent, remaining)?;
    let blocked = released.unwrap_or_else(Instant::now) - killed;
    Ok(Stuck {
        sender_blocked_ms: blocked.as_secs_f64() * 1e3,
        released: released.is_some(),
        cleaner: plan.cleaner,
    })
}

/// Brings the two sides together, up to the call that hangs.
fn until_no_room(parent: &mut Parent) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match parent.next(deadline)? {
            Some(Event::Said(number, Said::Ready)) => {
                parent.mark_ready(number)?;
            }
            Some(Event::Said(_, Said::Note(Point::NoRoom))) => return Ok(()),
            Some(event) => bail!("unexpected before the publisher is stuck: {event:?}"),
            None => bail!("the publisher did not fill its subscriber's buffer in time"),
        }
    }
}

/// Waits for the publisher's call to return, and gives the moment it was heard of.
fn released(parent: &Parent, time: Duration) -> Result<Option<Instant>> {
    let until = Instant::now() + time;
    loop {
        match parent.next(until)? {
            Some(Event::Said(_, Said::Note(Point::Released))) => return Ok(Some(Instant::now())),
            // The killed subscriber.
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// The publisher: fills all there is, then sends one message more.
pub fn publish(arena: &ArenaName, _plan: Plan) -> Result<()> {
    let node = ports::node(arena)?;
    let publisher = ports::publisher(&ports::topic(&node, TOPIC, SHAPE)?, SHAPE)?;
    ports::connect(Some(&publisher), None)?;
    let send = |count: usize| -> Result<()> {
        for _ in 0..count {
            let receivers = ports::filled(ports::loan(&publisher, SHAPE.words)?, 0).send()?;
            ensure!(receivers == 1, "a message was not delivered");
        }
        Ok(())
    };
    send(HELD)?;
    // The subscriber takes these now.
    meet()?;
    send(DEPTH)?;
    note(Point::NoRoom)?;
    // Whether the message is then delivered or given up does not matter here.
    let returned = ports::filled(ports::loan(&publisher, SHAPE.words)?, 0).send();
    note(Point::Released)?;
    returned.map(drop).context("the call returned with an error")
}

/// The subscriber: takes what it can hold, and holds it until it is killed.
pub fn hold(arena: &ArenaName, _plan: Plan) -> Result<()> {
    let node = ports::node(arena)?;
    let subscriber = ports::subscriber(&ports::topic(&node, TOPIC, SHAPE)?)?;
    ports::connect(None, Some(&subscriber))?;
    let mut held = Vec::new();
    while held.len() < HELD {
        held.extend(subscriber.receive()?);
    }
    meet()?;
    loop {
        thread::park();
    }
}

/// The cleaner: iceoryx2's documented way to take back what a dead process held.
pub fn clean(arena: &ArenaName) -> Result<()> {
    let node = ports::node(arena)?;
    loop {
        node.try_cleanup_dead_nodes();
        thread::sleep(CLEANING_PAUSE);
    }
}
