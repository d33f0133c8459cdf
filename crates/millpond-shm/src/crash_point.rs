//! Named points between any two shared-memory stores, at which a test lets the process kill itself by a real SIGKILL.
//!
//! Compiled to nothing unless the feature `crash-points` is on. A test arms one point by name and a count; the process
//! dies the `count`-th time it comes by. [`ALL`] lists every point so that a test can loop over them and notice one that
//! no scenario reaches.

macro_rules! crash_points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A point between two shared-memory stores.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        #[allow(missing_docs, reason = "each is named for the step it follows; see docs/crash-safety.md")]
        pub enum CrashPoint { $($(#[$doc])* $variant,)* }

        /// Every crash point with its name.
        pub const ALL: &[(CrashPoint, &str)] = &[$((CrashPoint::$variant, $name),)*];
    };
}

crash_points! {
    AllocateScanned = "allocate: after a1 (scanned), before a2 (token)",
    AllocateClaimed = "allocate: after a2 (token), before the slot's description",
    AllocateShared = "allocate from a shared share: after a1 (compare-and-swap), before a2 (scan)",
    AllocateDescribed = "allocate: after the slot's description",
    CloneClaimed = "clone: after c1 (token), before c2 (count)",
    CloneCounted = "clone: after c2 (count)",
    DescribedInPart = "describe a buffer: a part of its header written, before the rest",
    Described = "send: header written, before p1",
    PushToken = "send: after p1 (token), before p2 (cell)",
    PushPublished = "send: after p2 (cell), before p3 (doorbell)",
    PushBellRaised = "send: bell raised, before the futex wake",
    PushDone = "send: after p3",
    FanOutBetween = "send to several: between two connections",
    BatchTokens = "send a batch: after all p1, before the first p2",
    BatchBetween = "send a batch: between two p2",
    PopExclusiveSeen = "receive, exclusive: after x1, before x2",
    PopExclusiveClaimed = "receive, exclusive: after x2 (token), before x3 (head)",
    PopExclusiveDone = "receive, exclusive: after x3 (head), before the sender's doorbell",
    PopBatchBetween = "receive a batch: between two x2",
    PopSharedClaimed = "receive, shared: after q2 (token), before q3 (head)",
    PopSharedHelped = "receive, shared: head moved for another consumer, before the next try",
    PopSharedDone = "receive, shared: after q3 (head)",
    DropOldestClaimed = "drop oldest: after o2 (token), before o3 (head)",
    DropOldestHelped = "drop oldest: head moved for a consumer, before the next try",
    DropOldestDone = "drop oldest: after o3, before the counter",
    DropCounted = "send: a dropped buffer counted",
    TakenAhead = "receive with redelivery: after x2, nothing finished",
    FinishFreed = "finish with redelivery: after k1 (token), before k2 (head)",
    FinishDone = "finish with redelivery: after k2 (head)",
    CloseHeadMoved = "close with redelivery: head moved past what is held, before the port is left",
    Released = "release: token cleared",
    ExhaustedCounted = "allocate: nothing free, and counted",
    BoundStored = "advance a stream's bound: stored, before the doorbell",
    EndStored = "end the stream: final position stored, before the doorbell",
    SleepAnnounced = "wait: asleep announced, before the futex",
    SleepOver = "wait: woken, before asleep is cleared",
    BellRaised = "ring whether asleep or not: bell raised, before the futex wake",
    WaiterReset = "make a waiter: not asleep, before it is owned",
    WaiterWoken = "drop a waiter: not asleep, before it is free",
    StopStored = "ask everybody to stop: asked, before the doorbells",
    LockTaken = "registry lock: taken, nothing changed",
    LockWaited = "registry lock: marked as waited for, before the futex",
    LockTakenOver = "registry lock: taken over from a dead owner, nothing redone",
    LockReleasing = "registry lock: all changed, before it is given back",
    LockReleased = "registry lock: given back, before the futex wake",
    RedoTold = "take-over: a port's epoch raised",
    RedoPools = "take-over: the pools' epoch raised",
    RedoDone = "take-over: everything redone",
    ShareCommitted = "take a share: memory committed, before the mark",
    ShareMarked = "take a share: marked as committed, before its owner",
    ShareOwned = "take a share: owner stored",
    BlockWritten = "make a block: written, before it is in use",
    BlockMade = "make a block: in use, before the count of blocks",
    BlockOwned = "own a block: its process stored",
    PortWritten = "make a port: written, before it is in use",
    PortMade = "make a port: in use, before the count of ports",
    FormatCleared = "set a format: none, before it is written",
    FormatWritten = "set a format: written, before it is given",
    ConnectRing = "connect: ring made, before the lane's record",
    ConnectWritten = "connect: lane written, before it is active",
    ConnectActive = "connect: lane active, before the count of lanes",
    ConnectListed = "connect: lane found, before its ends are set",
    ConnectEnds = "connect: ends set, before the ports are told",
    AttachOutputWaiter = "attach an output: waiter stored, before the port is taken",
    AttachProducer = "attach an output: port taken, before its lanes",
    AttachInputKind = "attach an input: kind of a lane stored",
    AttachInputMode = "attach an input: shared stored, before redeliver",
    AttachInputWaiter = "attach an input: waiter stored, before the port is taken",
    AttachConsumer = "attach an input: port taken, before its lanes",
    ProducerWaiter = "set a producer: waiter stored, before the process",
    ProducerSet = "set a producer: process stored, before its presence",
    ProducerPresent = "set a producer: presence stored, before the end is cleared",
    ConsumerWaiter = "set a consumer: waiter stored, before the process",
    ConsumerSet = "set a consumer: process stored, before its presence",
    PortTold = "tell a port: epoch raised, before the doorbells",
    DetachLane = "detach: one lane left, before the port",
    DetachPort = "detach: port left, before its waiter is forgotten",
    ClearPresence = "clear an end: presence stored, before the waiter",
    ClearWaiter = "clear an end: waiter forgotten, before the process",
    ClearEnd = "clear an end: process cleared, before the doorbells",
    CloseMarked = "disconnect: lane closing, before it is torn down",
    TeardownNoted = "teardown: what the count will be noted, before the release",
    TeardownReleased = "teardown: an entry released, before it is counted",
    TeardownEntry = "teardown: an entry counted, before head moves",
    TeardownHead = "teardown: head moved, before the next entry",
    TeardownDrained = "teardown: drained, before the lane is free",
    RemoveLane = "remove a block: one connection closed",
    RemovePort = "remove a block: one port free",
    PoolWritten = "add a pool: written, before it is ready",
    PoolReady = "add a pool: ready, before the epoch",
    PoolTold = "add a pool: epoch raised",
    CreateWritten = "create: header written, before the magic word",
    CreateDone = "create: pools made, before the rendezvous file",
    JoinClaimed = "join: process slot claimed, before it is written",
    JoinWritten = "join: process slot written, before it is live",
    JoinLive = "join: live, before the rendezvous file names it",
    RendezvousWritten = "rendezvous file: new one written, before it takes the old one's place",
    RendezvousDone = "rendezvous file: in its place",
    LeaveGivenBack = "leave: all given back and unlocked, before the process slot is free",
    MailboxOwned = "make a mailbox: written, with its owner, before the count of mailboxes",
    MailboxMade = "make a mailbox: it has memory and an owner, before it is open",
    MailboxOpened = "make a mailbox: open, before others are told",
    LabelCleared = "label: the old text cleared, before the new one",
    LabelWritten = "label: text written, before it is in use",
    LabelStored = "label: text stored, before others are told",
    MailTicket = "send a message: its number drawn, before s1",
    MailClaimed = "send a message: after s1 (cell claimed)",
    MailWritten = "send a message: after s2 (written), before s3 (ready)",
    MailReady = "send a message: after s3 (ready), before s4 and the doorbell",
    MailCopied = "receive a message: after r2 (copied), before r3 (free)",
    MailFreed = "receive a message: after r3 (free), before the senders' bell",
    RoomMarkCleared = "receive a message: the senders' mark cleared, before their bell",
    RoomBellRaised = "receive a message: the senders' bell raised, before the futex wake",
    MailClosing = "close a mailbox: after c1 (closing), before c2",
    MailSwept = "close a mailbox: c2 counted a message as lost",
    MailboxTold = "close a mailbox: others told, before the senders' bell",
    MailboxForgotten = "close a mailbox: its waiter forgotten, before its owner",
    SettingsWritten = "settings: text written, before it counts",
    LogNumbered = "log: number drawn, before its place is taken",
    LogClaimed = "log: place taken, before the text",
    LogWritten = "log: text written, before it is complete",
    LogDone = "log: complete",
    RecoverLogLine = "recovery: the place of an incomplete line free",
    RecoverMailCell = "recovery: a dead sender's cell freed, before it is counted",
    RecoverMailbox = "recovery: a dead process's mailbox closed, before its owner is cleared",
    RecoverMarked = "recovery: slot says dead, before R1",
    RecoverRedeliveryCounted = "recovery: redeliveries of a lane computed",
    RecoverStage = "recovery: a stage stored",
    RecoverMarkSet = "recovery: redelivery mark set, before the undo",
    RecoverUndone = "recovery: R1 undid an entry",
    RecoverCommitted = "recovery: R1 moved head past a finished entry",
    RecoverRedeliveryStored = "recovery: redeliveries of a lane stored",
    RecoverLossCounted = "recovery: losses of a lane computed",
    RecoverToken = "recovery: R3 freed a token",
    RecoverLossStored = "recovery: losses of a lane stored",
    RecoverHelped = "recovery: R4 moved a head",
    RecoverPortWaiter = "recovery: a port's waiter forgotten, before its owner",
    RecoverPortCleared = "recovery: a port's owner cleared",
    RecoverBlockCleared = "recovery: a block's process cleared",
    RecoverWaiterWoken = "recovery: a waiter not asleep, before it is free",
    RecoverWaiterFreed = "recovery: a waiter free",
    RecoverShareFreed = "recovery: a share given back",
    RecoverCounted = "recovery: counted, before R6",
    RecoverFreed = "recovery: after R6",
    RecoverAllocationBell = "recovery: allocation bell raised, before the futex wake",
}

#[cfg(feature = "crash-points")]
mod armed {
    use super::CrashPoint;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// What happens at the armed point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u32)]
    pub enum Then {
        /// SIGKILL.
        Kill,
        /// SIGABRT, as `abort` raises it, with a core dump if those are on.
        Abort,
        /// SIGSEGV, as a stray pointer raises it, likewise.
        Segfault,
        /// The thread stops there for good; the process's other threads go on.
        Hang,
    }

    static THEN: AtomicU32 = AtomicU32::new(0);
    static POINT: AtomicU32 = AtomicU32::new(u32::MAX);
    static PASSES_LEFT: AtomicU32 = AtomicU32::new(0);
    static SEEN: [AtomicU32; super::ALL.len()] = [const { AtomicU32::new(0) }; super::ALL.len()];

    /// Makes this process die (or hang) the `pass`-th time (from 1) it comes by `point`.
    pub fn arm(point: CrashPoint, pass: u32, then: Then) {
        THEN.store(then as u32, Ordering::SeqCst);
        PASSES_LEFT.store(pass, Ordering::SeqCst);
        POINT.store(point as u32, Ordering::SeqCst);
    }

    /// How often this process has come by `point`.
    pub fn seen(point: CrashPoint) -> u32 {
        SEEN[point as usize].load(Ordering::SeqCst)
    }

    pub(crate) fn pass(point: CrashPoint) {
        SEEN[point as usize].fetch_add(1, Ordering::SeqCst);
        if POINT.load(Ordering::SeqCst) == point as u32 && PASSES_LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            let signal = match THEN.load(Ordering::SeqCst) {
                then if then == Then::Abort as u32 => Some(rustix::process::Signal::ABORT),
                then if then == Then::Segfault as u32 => Some(rustix::process::Signal::SEGV),
                then if then == Then::Hang as u32 => None,
                _ => Some(rustix::process::Signal::KILL),
            };
            loop {
                // No further store may happen. Again and again: the first SIGSEGV only ends the handler of Rust's runtime.
                if let Some(signal) = signal {
                    let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
}

#[cfg(feature = "crash-points")]
pub(crate) use armed::pass;
#[cfg(feature = "crash-points")]
pub use armed::{Then, arm, seen};

/// Passes the named crash point (nothing without the feature).
macro_rules! crash_point {
    ($variant:ident) => {
        #[cfg(feature = "crash-points")]
        $crate::crash_point::pass($crate::crash_point::CrashPoint::$variant)
    };
}
