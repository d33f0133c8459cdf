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
    PopSharedDone = "receive, shared: after q3 (head)",
    DropOldestClaimed = "drop oldest: after o2 (token), before o3 (head)",
    DropOldestDone = "drop oldest: after o3, before the counter",
    TakenAhead = "receive with redelivery: after x2, nothing finished",
    FinishFreed = "finish with redelivery: after k1 (token), before k2 (head)",
    FinishDone = "finish with redelivery: after k2 (head)",
    Released = "release: token cleared",
    EndStored = "finish: final position stored, before the doorbell",
    SleepAnnounced = "wait: asleep announced, before the futex",
    SleepOver = "wait: woken, before asleep is cleared",
    LockTaken = "registry lock: taken, nothing changed",
    ShareOwned = "take a share: owner stored, before its memory is committed",
    ShareCommitted = "take a share: memory committed, before the mark",
    ConnectRing = "connect: ring made, before the lane is active",
    ConnectActive = "connect: lane active, before its ends are set",
    ConnectEnds = "connect: ends set, before the ports are told",
    AttachProducer = "attach an output: port taken, before its lanes",
    AttachConsumer = "attach an input: port taken, before its lanes",
    DetachLane = "detach: one lane left, before the port",
    TeardownEntry = "teardown: an entry released, before head moves",
    TeardownDrained = "teardown: drained, before the lane is free",
    PoolSlots = "add a pool: slots reserved, before the pool is ready",
    JoinClaimed = "join: process slot claimed, before it is live",
    MailboxMade = "make a mailbox: it has memory and an owner, before it is open",
    MailboxOpened = "make a mailbox: open, before others are told",
    LabelCleared = "label: the old text cleared, before the new one",
    LabelStored = "label: text stored, before others are told",
    MailClaimed = "send a message: after s1 (cell claimed)",
    MailWritten = "send a message: after s2 (written), before s3 (ready)",
    MailReady = "send a message: after s3 (ready), before s4 and the doorbell",
    MailCopied = "receive a message: after r2 (copied), before r3 (free)",
    MailFreed = "receive a message: after r3 (free), before the senders' bell",
    RoomBellRaised = "receive a message: the senders' bell raised, before the futex wake",
    MailClosing = "close a mailbox: after c1 (closing), before c2",
    MailSwept = "close a mailbox: c2 counted a message as lost",
    SettingsWritten = "settings: text written, before it counts",
    RecoverMailCell = "recovery: a dead sender's cell freed, before it is counted",
    RecoverMailbox = "recovery: a dead process's mailbox closed, before its owner is cleared",
    RecoverMarked = "recovery: slot says dead, before R1",
    RecoverMarkSet = "recovery: redelivery mark set, before the undo",
    RecoverUndone = "recovery: R1 undid an entry",
    RecoverCommitted = "recovery: R1 moved head past a finished entry",
    RecoverUndoDone = "recovery: after R1 and R2",
    RecoverLossCounted = "recovery: losses computed, before the stage",
    RecoverToken = "recovery: R3 freed a token",
    RecoverTokensDone = "recovery: after R3, before the stage",
    RecoverLossStored = "recovery: one loss stored",
    RecoverHelped = "recovery: R4 moved a head",
    RecoverRang = "recovery: R5 rang, before the ends are cleared",
    RecoverDetached = "recovery: one lane detached",
    RecoverShareFreed = "recovery: a share given back",
    RecoverDetachDone = "recovery: after R5, before R6",
    RecoverFreed = "recovery: after R6",
}

#[cfg(feature = "crash-points")]
mod armed {
    use super::CrashPoint;
    use std::sync::atomic::{AtomicU32, Ordering};

    static POINT: AtomicU32 = AtomicU32::new(u32::MAX);
    static PASSES_LEFT: AtomicU32 = AtomicU32::new(0);
    static SEEN: [AtomicU32; super::ALL.len()] = [const { AtomicU32::new(0) }; super::ALL.len()];

    /// Makes this process kill itself the `pass`-th time (from 1) it comes by `point`.
    pub fn arm(point: CrashPoint, pass: u32) {
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
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::hint::spin_loop(); // the signal is on its way; no further store may happen
            }
        }
    }
}

#[cfg(feature = "crash-points")]
pub(crate) use armed::pass;
#[cfg(feature = "crash-points")]
pub use armed::{arm, seen};

/// Passes the named crash point (nothing without the feature).
macro_rules! crash_point {
    ($variant:ident) => {
        #[cfg(feature = "crash-points")]
        $crate::crash_point::pass($crate::crash_point::CrashPoint::$variant)
    };
}
