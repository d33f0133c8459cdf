//! The victim receives, and dies with buffers in hand.

use crate::run::{Run, Scenario, nothing};
use millpond_shm::crash_point::{CrashPoint, Then};
use std::collections::BTreeSet;

pub const ALL: &[Scenario] = &[
    RECEIVE,
    RECEIVE_BATCH,
    COMPETE,
    WAIT_ON_EMPTY,
    REDELIVER,
    REDELIVER_OUT_OF_ORDER,
    REDELIVER_CLOSED,
    FORWARD,
    FORWARD_REDELIVERED,
];

/// The keeper's queue is shorter than its stream, so it sleeps until the victim makes room.
const FEED: &[&str] = &["feed keeper.out 0 30"];
const MESSAGES: u64 = 30;

const RECEIVE: Scenario = Scenario {
    name: "receive",
    keeper: &["connect keeper.out victim.in 8 block", "output keeper.out"],
    victim: &["attach", "input victim.in plain"],
    meanwhile: FEED,
    action: &["receive victim.in 3", "release 2", "receive victim.in 5", "release 3", "receive victim.in 2"],
    during: nothing,
    after: |run| {
        let rest = successor_takes_the_rest(run, "plain");
        only_what_was_in_hand_is_lost(run, &rest, 1);
    },
};

const RECEIVE_BATCH: Scenario = Scenario {
    name: "receive batches",
    keeper: &["connect keeper.out victim.in 8 block", "output keeper.out"],
    victim: &["attach", "input victim.in plain"],
    meanwhile: FEED,
    action: &["receive-batch victim.in 6", "release 3", "receive-batch victim.in 6", "release 2"],
    during: nothing,
    after: |run| {
        let rest = successor_takes_the_rest(run, "plain");
        only_what_was_in_hand_is_lost(run, &rest, 6);
    },
};

/// A second consumer of the same queue lives on, in the keeper.
const COMPETE: Scenario = Scenario {
    name: "compete",
    keeper: &[
        "connect keeper.out victim.in 8 block",
        "input victim.in shared",
        "output keeper.out",
        "send keeper.out 0 4",
    ],
    victim: &["attach", "input victim.in shared"],
    meanwhile: &["grab victim.in 2", "feed keeper.out 4 26"],
    action: &["receive victim.in 3", "release 2", "receive victim.in 4", "release 1"],
    during: nothing,
    after: |run| {
        run.keeper.obey("follow victim.in");
        run.keeper.hear("victim.in ended");
        each_was_taken_by_one(run);
    },
};

const WAIT_ON_EMPTY: Scenario = Scenario {
    name: "wait on an empty queue",
    keeper: &["connect keeper.out victim.in 8 block", "output keeper.out"],
    victim: &["attach", "input victim.in plain"],
    meanwhile: &[],
    action: &["receive victim.in 3"],
    during: |run| {
        for sequence in 0..3 {
            run.victim.falls_asleep();
            run.keeper.obey(&format!("send keeper.out {sequence} 1"));
        }
    },
    after: |run| {
        run.keeper.obey("feed keeper.out 3 27");
        let rest = successor_takes_the_rest(run, "plain");
        only_what_was_in_hand_is_lost(run, &rest, 1);
    },
};

const REDELIVER: Scenario = Scenario {
    name: "receive with redelivery",
    keeper: &["connect keeper.out victim.in 8 block", "output keeper.out"],
    victim: &["attach", "input victim.in redeliver"],
    meanwhile: FEED,
    action: &["receive victim.in 3", "release 2", "receive victim.in 5", "release 3", "receive victim.in 2"],
    during: nothing,
    after: |run| {
        successor_takes_the_rest(run, "redeliver");
        what_was_unfinished_came_again(run);
    },
};

/// Given back in another order than taken: an entry is only finished when those before it are.
const REDELIVER_OUT_OF_ORDER: Scenario = Scenario {
    name: "finish out of order",
    keeper: &["connect keeper.out victim.in 8 block", "output keeper.out"],
    victim: &["attach", "input victim.in redeliver"],
    meanwhile: FEED,
    action: &["receive victim.in 5", "release-at 2", "release-at 1", "release-at 0", "receive victim.in 1"],
    during: nothing,
    after: |run| {
        successor_takes_the_rest(run, "redeliver");
        what_was_unfinished_came_again(run);
    },
};

/// The port is closed while its buffers are held: from then on they are held like any others.
const REDELIVER_CLOSED: Scenario = Scenario {
    name: "close a port that redelivers",
    keeper: &["connect keeper.out victim.in 8 block", "output keeper.out", "send keeper.out 0 4"],
    victim: &["attach", "input victim.in redeliver", "receive victim.in 4"],
    meanwhile: &["feed keeper.out 4 26"],
    action: &["release 1", "close victim.in", "release 2"],
    during: nothing,
    after: |run| {
        let rest = successor_takes_the_rest(run, "redeliver");
        let released = run.victim.sequences("victim.in", "releasing").len() as u64;
        let lost = run.connection("keeper.out", "victim.in").lost_in_hand;
        match rest.first().copied() {
            // Closed: what it had in hand went with it.
            Some(4) => assert_eq!(lost, 4 - released),
            // Killed before: it comes again.
            first => {
                assert_eq!((first, lost), (Some(released), 0));
                what_was_unfinished_came_again(run);
            }
        }
    },
};

const FORWARD: Scenario = Scenario {
    name: "forward",
    keeper: &[
        "connect keeper.out victim.in 8 block",
        "connect victim.out keeper.in 8 block",
        "output keeper.out",
        "input keeper.in plain",
    ],
    victim: &["attach", "input victim.in plain", "output victim.out"],
    meanwhile: &["follow keeper.in", "feed keeper.out 0 30"],
    action: &["forward victim.in victim.out 6"],
    during: nothing,
    after: |run| {
        forward_the_rest(run, "plain");
        let arrived = run.keeper.sequences("keeper.in", "took");
        assert!(arrived.is_sorted_by(|a, b| a < b), "out of order, or twice: {arrived:?}");
        let lost = run.connection("keeper.out", "victim.in").lost_in_hand;
        // Between p1 and p2 the token says where the buffer goes to, no longer where it came from: lost, but not counted.
        let uncounted = run.died_at(CrashPoint::PushToken);
        assert_eq!(MESSAGES - arrived.len() as u64, lost + u64::from(uncounted), "{arrived:?}");
    },
};

const FORWARD_REDELIVERED: Scenario = Scenario {
    name: "forward with redelivery",
    keeper: &[
        "connect keeper.out victim.in 8 block",
        "connect victim.out keeper.in 8 block",
        "output keeper.out",
        "input keeper.in plain",
    ],
    victim: &["attach", "input victim.in redeliver", "output victim.out"],
    meanwhile: &["follow keeper.in", "feed keeper.out 0 30"],
    action: &["forward victim.in victim.out 6"],
    during: nothing,
    after: |run| {
        forward_the_rest(run, "redeliver");
        let mut first_time = BTreeSet::new();
        for message in run.keeper.messages("keeper.in", "took") {
            assert!(first_time.insert(message.sequence) || message.again, "{message:?} came again, unmarked");
        }
        assert_eq!(first_time, (0..MESSAGES).collect(), "nothing is lost");
        assert_eq!(run.connection("keeper.out", "victim.in").lost_in_hand, 0);
    },
};

/// A successor takes over the port with its queue, and receives to the end of the stream. Returns what it got.
fn successor_takes_the_rest(run: &mut Run, mode: &str) -> Vec<u64> {
    let mut successor = run.successor();
    successor.obey(&format!("input victim.in {mode}"));
    successor.obey("follow victim.in");
    successor.hear("victim.in ended");
    let rest = successor.messages("victim.in", "took");
    run.rest.clone_from(&rest);
    run.leaves(successor);
    let sequences: Vec<u64> = rest.iter().map(|m| m.sequence).collect();
    let first = sequences.first().copied().unwrap_or(MESSAGES);
    assert_eq!(sequences, (first..MESSAGES).collect::<Vec<_>>(), "a gap, or out of order");
    sequences
}

/// Without redelivery: the victim took everything before the rest; what it had not given back is what the connection lost.
fn only_what_was_in_hand_is_lost(run: &Run, rest: &[u64], at_most_untold: u64) {
    let told = run.victim.sequences("victim.in", "took");
    let taken = MESSAGES - rest.len() as u64;
    assert_eq!(told, (0..told.len() as u64).collect::<Vec<_>>());
    // It may have died between taking one (or a batch) and saying so.
    assert!((told.len() as u64..=told.len() as u64 + at_most_untold).contains(&taken), "{taken}, {told:?}");
    let given_back = run.victim.sequences("victim.in", "releasing").len() as u64;
    let connection = run.connection("keeper.out", "victim.in");
    assert_eq!((connection.taken, connection.lost_in_hand), (taken, taken - given_back), "{connection:?}");
    assert_eq!(connection.redelivered, 0, "nothing was delivered twice");
    assert!(run.rest.iter().all(|m| !m.again), "{:?}", run.rest);
}

/// With redelivery: nothing is lost; what was taken and not finished came again, and said so; the others did not.
fn what_was_unfinished_came_again(run: &Run) {
    let told = run.victim.sequences("victim.in", "took").len() as u64;
    let first = run.rest.first().map_or(MESSAGES, |m| m.sequence);
    let marked = run.rest.iter().take_while(|m| m.again).count() as u64;
    assert_eq!(run.rest.iter().filter(|m| m.again).count() as u64, marked, "marks are at the front");
    assert!((told..=told + 1).contains(&(first + marked)), "{told} taken, {first} finished, {marked} marked");
    let finished = |what| {
        let given_back: BTreeSet<u64> = run.victim.sequences("victim.in", what).into_iter().collect();
        (0..).take_while(|s| given_back.contains(s)).count() as u64
    };
    assert!((finished("released")..=finished("releasing")).contains(&first), "{:?}", run.victim.events());
    let connection = run.connection("keeper.out", "victim.in");
    assert_eq!((connection.lost_in_hand, connection.redelivered), (0, marked), "{connection:?}");
}

/// Competing: every message went to the keeper, or to the victim, which gave it back or lost it; none to both.
fn each_was_taken_by_one(run: &Run) {
    let keeper: BTreeSet<u64> = run.keeper.sequences("victim.in", "took").into_iter().collect();
    assert_eq!(keeper.len(), run.keeper.sequences("victim.in", "took").len(), "the keeper got one twice");
    let victim: BTreeSet<u64> = run.victim.sequences("victim.in", "took").into_iter().collect();
    assert!(keeper.is_disjoint(&victim), "{keeper:?}, {victim:?}");
    let untold = MESSAGES - (keeper.len() + victim.len()) as u64;
    assert!(untold <= 1, "neither has {untold} messages");
    let given_back = run.victim.sequences("victim.in", "releasing").len() as u64;
    let lost = run.connection("keeper.out", "victim.in").lost_in_hand;
    assert_eq!(lost, victim.len() as u64 + untold - given_back);
}

/// A successor takes over both ports and forwards to the end.
fn forward_the_rest(run: &mut Run, mode: &str) {
    let left = MESSAGES - run.connection("keeper.out", "victim.in").taken;
    let mut successor = run.successor();
    successor.obey(&format!("input victim.in {mode}"));
    successor.obey("output victim.out");
    successor.obey(&format!("forward victim.in victim.out {left}"));
    successor.obey("close victim.out");
    run.keeper.hear("keeper.in ended");
    run.leaves(successor);
}

#[test]
fn dies_receiving() {
    RECEIVE.die_everywhere(&[]);
}

/// A process that dumps core dies late, and is recovered all the same.
#[test]
fn dies_receiving_with_a_core_dump() {
    RECEIVE.dumps_core(CrashPoint::PopExclusiveClaimed, Then::Segfault);
    REDELIVER.dumps_core(CrashPoint::FinishFreed, Then::Abort);
    COMPETE.dumps_core(CrashPoint::PopSharedClaimed, Then::Segfault);
}

#[test]
fn dies_receiving_batches() {
    RECEIVE_BATCH.die_everywhere(&[]);
}

#[test]
fn dies_competing() {
    COMPETE.die_everywhere(&[]);
}

#[test]
fn dies_waiting_on_an_empty_queue() {
    WAIT_ON_EMPTY.die_everywhere(&[CrashPoint::SleepAnnounced, CrashPoint::SleepOver]);
}

#[test]
fn dies_receiving_with_redelivery() {
    REDELIVER.die_everywhere(&[]);
}

#[test]
fn dies_finishing_out_of_order() {
    REDELIVER_OUT_OF_ORDER.die_everywhere(&[]);
}

#[test]
fn dies_closing_a_port_that_redelivers() {
    REDELIVER_CLOSED.die_everywhere(&[]);
}

#[test]
fn dies_forwarding() {
    FORWARD.die_everywhere(&[]);
}

#[test]
fn dies_forwarding_with_redelivery() {
    FORWARD_REDELIVERED.die_everywhere(&[]);
}
