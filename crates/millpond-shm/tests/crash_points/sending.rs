//! The victim sends.

use crate::run::{Death, Run, Scenario, nothing};
use crate::support::eventually;
use millpond_shm::crash_point::{CrashPoint, Then};

pub const ALL: &[Scenario] = &[
    SEND,
    DESCRIBE,
    FAN_OUT,
    BATCH,
    KEPT,
    ADVANCE,
    FINISH,
    DROP_OLDEST,
    DROP_OLDEST_RACING,
    DROP_NEWEST,
    UNCONNECTED,
    WAIT_ON_FULL,
    EXHAUST,
];

const SEND: Scenario = Scenario {
    name: "send",
    keeper: &["connect victim.out keeper.in 8 block", "input keeper.in plain"],
    victim: &["attach", "output victim.out"],
    meanwhile: &["follow keeper.in"],
    action: &["send victim.out 0 10"],
    during: nothing,
    after: |run| {
        if let Some(published) = published_by_sends(run) {
            assert_eq!(run.connection("victim.out", "keeper.in").published, published);
        }
        stream_goes_on(run, &["keeper.in"]);
    },
};

/// Sends buffers with everything that a header can say, each of another kind than the one before it in that slot.
const DESCRIBE: Scenario = Scenario {
    name: "describe and send",
    keeper: &["connect victim.out keeper.in 8 block", "input keeper.in plain"],
    victim: &["attach", "output victim.out"],
    meanwhile: &["follow keeper.in"],
    action: &["send-described victim.out 0 3"],
    during: nothing,
    after: |run| stream_goes_on(run, &["keeper.in"]),
};

const FAN_OUT: Scenario = Scenario {
    name: "send to two",
    keeper: &[
        "connect victim.out keeper.left 8 block",
        "connect victim.out keeper.right 8 block",
        "input keeper.left plain",
        "input keeper.right plain",
    ],
    victim: &["attach", "output victim.out"],
    meanwhile: &["follow keeper.left", "follow keeper.right"],
    action: &["send victim.out 0 5"],
    during: nothing,
    after: |run| stream_goes_on(run, &["keeper.left", "keeper.right"]),
};

const BATCH: Scenario = Scenario {
    name: "send batches",
    keeper: &["connect victim.out keeper.in 8 block", "input keeper.in plain"],
    victim: &["attach", "output victim.out"],
    meanwhile: &["follow keeper.in"],
    action: &["send-batch victim.out 0 6", "send-batch victim.out 6 6"],
    during: nothing,
    after: |run| stream_goes_on(run, &["keeper.in"]),
};

const KEPT: Scenario = Scenario {
    name: "send and keep a clone",
    keeper: &["connect victim.out keeper.in 8 block", "input keeper.in plain"],
    victim: &["attach", "output victim.out"],
    meanwhile: &["follow keeper.in"],
    action: &["send-kept victim.out 0 5"],
    during: nothing,
    after: |run| stream_goes_on(run, &["keeper.in"]),
};

const ADVANCE: Scenario = Scenario {
    name: "advance the bound",
    keeper: &[
        "connect victim.out keeper.left 8 block",
        "connect victim.out keeper.right 8 block",
        "input keeper.left plain",
        "input keeper.right plain",
    ],
    victim: &["attach", "output victim.out"],
    meanwhile: &["follow keeper.left", "follow keeper.right"],
    action: &["advance victim.out 7", "send victim.out 0 2", "advance victim.out 9"],
    during: nothing,
    after: |run| stream_goes_on(run, &["keeper.left", "keeper.right"]),
};

const FINISH: Scenario = Scenario {
    name: "end the stream",
    keeper: &[
        "connect victim.out keeper.left 8 block",
        "connect victim.out keeper.right 8 block",
        "input keeper.left plain",
        "input keeper.right plain",
    ],
    victim: &["attach", "output victim.out"],
    meanwhile: &["follow keeper.left", "follow keeper.right"],
    action: &["send victim.out 0 2", "close victim.out"],
    during: nothing,
    after: |run| stream_goes_on(run, &["keeper.left", "keeper.right"]),
};

/// Nobody receives: all but the last four are dropped.
const DROP_OLDEST: Scenario = Scenario {
    name: "drop the oldest",
    keeper: &["connect victim.out keeper.in 4 drop-oldest", "input keeper.in plain"],
    victim: &["attach", "output victim.out"],
    meanwhile: &[],
    action: &["send victim.out 0 9"],
    during: nothing,
    after: |run| {
        let queued = run.connection("victim.out", "keeper.in").queued;
        run.keeper.obey("grab keeper.in 4");
        let took = run.keeper.sequences("keeper.in", "took");
        let published = run.connection("victim.out", "keeper.in").published;
        assert_eq!(took, (published - queued..published).collect::<Vec<_>>());
        what_is_missing_was_dropped(run);
    },
};

/// Nobody receives: all but the first two are dropped.
const DROP_NEWEST: Scenario = Scenario {
    name: "drop the newest",
    keeper: &["connect victim.out keeper.in 2 drop-newest", "input keeper.in plain"],
    victim: &["attach", "output victim.out"],
    meanwhile: &[],
    action: &["send victim.out 0 5"],
    during: nothing,
    after: |run| {
        let connection = run.connection("victim.out", "keeper.in").clone();
        run.keeper.obey("grab keeper.in 4");
        let took = run.keeper.sequences("keeper.in", "took");
        assert_eq!(took, (0..connection.published).collect::<Vec<_>>());
        match run.death {
            Some(Death { point: CrashPoint::DropCounted, pass, .. }) => {
                assert_eq!((connection.published, connection.dropped_newest), (2, pass.into()));
            }
            Some(_) => {}
            None => assert_eq!((connection.published, connection.dropped_newest), (2, 3)),
        }
    },
};

/// Nothing is connected: what is sent is counted and given back.
const UNCONNECTED: Scenario = Scenario {
    name: "send to nobody",
    keeper: &[],
    victim: &["attach", "output victim.out"],
    meanwhile: &[],
    action: &["send victim.out 0 2"],
    during: nothing,
    after: |run| {
        let counted =
            run.recovered.ports.iter().find(|p| p.name == "victim.out").map_or(0, |p| p.unconnected);
        match run.death {
            Some(Death { point: CrashPoint::DropCounted, pass, .. }) => assert_eq!(counted, pass.into()),
            Some(_) => assert!(counted <= 2),
            None => assert_eq!(counted, 2),
        }
        assert_eq!(run.monitor.check().used, 0);
    },
};

/// The receiver takes while the sender drops.
const DROP_OLDEST_RACING: Scenario = Scenario {
    name: "drop the oldest while they are taken",
    keeper: &["connect victim.out keeper.in 1 drop-oldest", "input keeper.in plain"],
    victim: &["attach", "output victim.out"],
    meanwhile: &["follow keeper.in"],
    action: &["send victim.out 0 40"],
    during: nothing,
    after: |run| {
        run.keeper.hear("keeper.in lost its sender");
        what_is_missing_was_dropped(run);
        finish_stream(run, &["keeper.in"], &[], 1000);
    },
};

const WAIT_ON_FULL: Scenario = Scenario {
    name: "wait on a full queue",
    keeper: &["connect victim.out keeper.in 2 block", "input keeper.in plain"],
    victim: &["attach", "output victim.out"],
    meanwhile: &[],
    action: &["send victim.out 0 6"],
    during: |run| {
        while !run.victim.is_dead() && !run.is_published("victim.out", "keeper.in", 6) {
            run.victim.falls_asleep();
            run.keeper.obey("grab keeper.in 1");
        }
    },
    after: |run| {
        run.keeper.obey("follow keeper.in");
        stream_goes_on(run, &["keeper.in"]);
    },
};

/// Takes every buffer there is, those that everybody may take included.
const EXHAUST: Scenario = Scenario {
    name: "take every buffer",
    keeper: &[],
    victim: &["attach", "output victim.out"],
    meanwhile: &[],
    action: &["allocate victim.out 100 33"],
    during: nothing,
    after: |run| {
        assert_eq!(run.monitor.check().used, 0);
        let mut successor = run.successor();
        successor.obey_all(&["output victim.out", "allocate victim.out 100 32"]);
        assert!(successor.said("allocate ok"), "{:?}", successor.events());
        run.leaves(successor);
    },
};

/// Of a plain send the step at which the victim died says how many messages were published.
fn published_by_sends(run: &Run) -> Option<u64> {
    let death = run.death?;
    let pass = u64::from(death.pass);
    match death.point {
        CrashPoint::AllocateScanned
        | CrashPoint::AllocateClaimed
        | CrashPoint::AllocateDescribed
        | CrashPoint::Described
        | CrashPoint::PushToken => Some(pass - 1),
        CrashPoint::PushPublished | CrashPoint::PushDone => Some(pass),
        _ => None,
    }
}

/// The keeper has received what was published, in order and once; a successor takes the port and sends on.
fn stream_goes_on(run: &mut Run, inputs: &[&str]) {
    let mut ended = Vec::new();
    for input in inputs {
        let connection = run.connection("victim.out", input).clone();
        if connection.state == "ended" {
            run.keeper.hear(&format!("{input} ended"));
            ended.push(*input);
        } else {
            run.keeper.hear(&format!("{input} lost its sender"));
        }
        let expected: Vec<u64> = (0..connection.published).collect();
        assert_eq!(run.keeper.sequences(input, "took"), expected, "at {input}");
        assert_eq!(connection.lost_in_hand, 0);
    }
    finish_stream(run, inputs, &ended, 1000);
}

/// A successor sends ten more messages, numbered from `first`, and ends the stream. Those whose stream has ended follow again.
fn finish_stream(run: &mut Run, inputs: &[&str], ended: &[&str], first: u64) {
    let before: Vec<usize> = inputs.iter().map(|i| run.keeper.sequences(i, "took").len()).collect();
    let mut successor = run.successor();
    successor.obey("output victim.out");
    for input in ended {
        run.keeper.obey_all(&[&format!("input {input} plain"), &format!("follow {input}")]);
    }
    for sequence in first..first + 10 {
        successor.obey(&format!("send victim.out {sequence} 1"));
        for input in inputs {
            run.keeper.hear(&format!("{input} took {sequence}"));
        }
    }
    successor.obey("close victim.out");
    for (input, before) in inputs.iter().zip(before) {
        run.keeper.hear(&format!("{input} ended"));
        let took = run.keeper.sequences(input, "took");
        assert_eq!(took[before..], (first..first + 10).collect::<Vec<_>>());
    }
    run.leaves(successor);
}

/// Every message was taken or counted as dropped, except for the one that the victim was just dropping when it died: the drop is
/// there, its count is not.
fn what_is_missing_was_dropped(run: &mut Run) {
    let took = run.keeper.sequences("keeper.in", "took");
    assert!(took.is_sorted_by(|a, b| a < b), "out of order, or twice: {took:?}");
    let connection = run.connection("victim.out", "keeper.in").clone();
    let uncounted = run.died_at(CrashPoint::DropOldestClaimed) || run.died_at(CrashPoint::DropOldestDone);
    let missing = connection.published - took.len() as u64;
    assert_eq!(missing, connection.dropped_oldest + u64::from(uncounted), "{connection:?}, took {took:?}");
    eventually("everything was taken", || run.monitor.check().queued == 0);
}

#[test]
fn dies_sending() {
    SEND.die_everywhere(&[CrashPoint::PushBellRaised]);
}

#[test]
fn dies_describing_what_it_sends() {
    DESCRIBE.die_everywhere(&[CrashPoint::DescribedInPart]);
}

#[test]
fn dies_sending_to_two() {
    FAN_OUT.die_everywhere(&[]);
}

#[test]
fn dies_sending_batches() {
    BATCH.die_everywhere(&[]);
}

#[test]
fn dies_sending_what_it_keeps() {
    KEPT.die_everywhere(&[]);
}

#[test]
fn dies_ending_the_stream() {
    FINISH.die_everywhere(&[]);
}

#[test]
fn dies_dropping_the_oldest() {
    DROP_OLDEST.die_everywhere(&[
        CrashPoint::DropOldestClaimed,
        CrashPoint::DropOldestDone,
        CrashPoint::DropCounted,
    ]);
    DROP_OLDEST_RACING.die_everywhere(&[]);
}

#[test]
fn dies_dropping_what_it_sends() {
    DROP_NEWEST.die_everywhere(&[CrashPoint::DropCounted]);
    UNCONNECTED.die_everywhere(&[CrashPoint::DropCounted]);
}

/// A process that dumps core dies late, and is recovered all the same.
#[test]
fn dies_sending_with_a_core_dump() {
    SEND.dumps_core(CrashPoint::PushToken, Then::Abort);
    SEND.dumps_core(CrashPoint::PushPublished, Then::Segfault);
}

#[test]
fn dies_waiting_on_a_full_queue() {
    WAIT_ON_FULL.die_everywhere(&[CrashPoint::SleepAnnounced, CrashPoint::SleepOver]);
}

#[test]
fn dies_taking_every_buffer() {
    EXHAUST.die_everywhere(&[]);
}
