//! The victim changes the registry, joins or leaves. What it began is either not there or done, and can be done again.

use crate::run::{Run, SLOTS, Scenario, nothing};
use crate::support::eventually;

pub const ALL: &[Scenario] = &[
    CONNECT,
    CONNECT_NEW,
    DISCONNECT,
    DISCONNECT_LIVE,
    REMOVE,
    PORTS,
    OWN,
    LOG,
    ADD_POOL,
    CREATE,
    JOIN,
    LEAVE,
    STOP,
];

/// Both ends are open already, in the keeper, and wait to be told.
const CONNECT: Scenario = Scenario {
    name: "connect",
    keeper: &["output keeper.out", "input keeper.in plain"],
    victim: &["attach"],
    meanwhile: &["follow keeper.in"],
    action: &["connect keeper.out keeper.in 8 block"],
    during: nothing,
    after: |run| {
        again(run, "connect keeper.out keeper.in 8 block", "already has");
        run.keeper.obey_all(&["send keeper.out 0 6", "close keeper.out"]);
        run.keeper.hear("keeper.in ended");
        assert_eq!(run.keeper.sequences("keeper.in", "took"), [0, 1, 2, 3, 4, 5]);
    },
};

/// Blocks and ports are made with the connection.
const CONNECT_NEW: Scenario = Scenario {
    name: "connect ports that do not exist yet",
    keeper: &[],
    victim: &["attach"],
    meanwhile: &[],
    action: &["connect new.out new.in 8 block"],
    during: nothing,
    after: |run| {
        again(run, "connect new.out new.in 8 block", "already has");
        a_stream_flows(run, "new.out", "new.in");
    },
};

const DISCONNECT: Scenario = Scenario {
    name: "disconnect with a queue that nobody receives",
    keeper: &[
        "connect keeper.out gone.in 8 block",
        "output keeper.out",
        "send keeper.out 0 5",
        "close keeper.out",
    ],
    victim: &["attach"],
    meanwhile: &[],
    action: &["disconnect keeper.out gone.in"],
    during: nothing,
    after: |run| {
        again(run, "disconnect keeper.out gone.in", "has no connection");
        assert!(run.connection_now("keeper.out", "gone.in").is_none());
        assert_eq!((run.monitor.check().used, dropped(run, "gone.in")), (0, 5));
        // The lane is used again, from the position where it stopped.
        run.keeper.obey("connect keeper.out gone.in 4 block");
        a_stream_flows(run, "keeper.out", "gone.in");
    },
};

/// Both ends are open: what is queued is still received, and the ends let go by themselves.
const DISCONNECT_LIVE: Scenario = Scenario {
    name: "disconnect while both ends are open",
    keeper: &[
        "connect keeper.out keeper.in 8 block",
        "output keeper.out",
        "input keeper.in plain",
        "send keeper.out 0 3",
    ],
    victim: &["attach"],
    meanwhile: &[],
    action: &["disconnect keeper.out keeper.in"],
    during: nothing,
    after: |run| {
        again(run, "disconnect keeper.out keeper.in", "has no connection");
        run.keeper.obey_all(&["send keeper.out 3 1", "grab keeper.in 9", "grab keeper.in 9"]);
        assert_eq!(run.keeper.sequences("keeper.in", "took"), [0, 1, 2]);
        assert!(run.connection_now("keeper.out", "keeper.in").is_none(), "both ends have let go");
    },
};

const REMOVE: Scenario = Scenario {
    name: "remove a block",
    keeper: &[
        "connect keeper.out gone.in 8 block",
        "connect gone.out other.in 8 block",
        "output keeper.out",
        "send keeper.out 0 2",
        "close keeper.out",
    ],
    victim: &["attach"],
    meanwhile: &[],
    action: &["remove gone"],
    during: nothing,
    after: |run| {
        again(run, "remove gone", "has no block");
        let snapshot = run.monitor.snapshot();
        assert!(snapshot.connections.is_empty() && snapshot.blocks.iter().all(|b| b.name != "gone"));
        assert!(snapshot.ports.iter().all(|p| !p.name.starts_with("gone.")), "{:?}", snapshot.ports);
        assert_eq!(run.monitor.check().used, 0);
        run.keeper.obey("connect keeper.out gone.in 8 block");
        a_stream_flows(run, "keeper.out", "gone.in");
    },
};

/// Opens and closes ports that have connections with the keeper, and something queued.
const PORTS: Scenario = Scenario {
    name: "open and close ports",
    keeper: TWO_WAYS,
    victim: &["attach"],
    meanwhile: &[],
    action: &[
        "output victim.out",
        "send victim.out 0 2",
        "close victim.out",
        "input victim.in plain",
        "receive victim.in 2",
        "close victim.in",
        "release 1",
    ],
    during: nothing,
    after: both_ways_go_on,
};

/// The same, and then the process leaves the pond.
const LEAVE: Scenario = Scenario {
    name: "leave",
    keeper: TWO_WAYS,
    victim: &[
        "attach",
        "output victim.out",
        "input victim.in plain",
        "send victim.out 0 2",
        "receive victim.in 2",
    ],
    meanwhile: &[],
    action: &["release 2", "leave"],
    during: nothing,
    after: both_ways_go_on,
};

const TWO_WAYS: &[&str] = &[
    "connect victim.out keeper.left 8 block",
    "connect victim.out keeper.right 8 block",
    "connect keeper.out victim.in 8 block",
    "connect keeper.other victim.in 8 block",
    "output keeper.out",
    "input keeper.left plain",
    "input keeper.right plain",
    "send keeper.out 0 5",
];

const ADD_POOL: Scenario = Scenario {
    name: "add a pool",
    keeper: &["output keeper.out"],
    victim: &["attach"],
    meanwhile: &[],
    action: &["pool 4096 20"],
    during: nothing,
    after: |run| {
        // The table has room for one more such pool and no two: nothing of a half-made one may stay taken.
        if run.monitor.snapshot().pools.len() == 1 {
            run.keeper.obey("pool 4096 20");
            assert!(run.keeper.said("pool ok"), "{:?}", run.keeper.events());
        }
        run.keeper.obey("pool 16384 12");
        assert!(run.keeper.said("pool ok"), "{:?}", run.keeper.events());
        let sizes: Vec<u64> = run.monitor.snapshot().pools.iter().map(|p| p.block_bytes).collect();
        assert_eq!((sizes, run.monitor.check().slots), (vec![256, 4096, 16384], SLOTS + 32));
        run.keeper.obey_all(&["allocate keeper.out 4096 20", "allocate keeper.out 16384 12"]);
        assert!(!run.keeper.events().iter().any(|e| e.contains("refused")), "{:?}", run.keeper.events());
        run.assert_accounted();
    },
};

/// The block's counters and its name outlive the process that ran it.
const OWN: Scenario = Scenario {
    name: "own a block",
    keeper: &[],
    victim: &["attach"],
    meanwhile: &[],
    action: &["own new"],
    during: nothing,
    after: |run| {
        let runs = |run: &Run| run.monitor.snapshot().blocks.iter().find(|b| b.name == "new").map(|b| b.pid);
        assert!(matches!(runs(run), None | Some(None)), "nobody runs it: {:?}", runs(run));
        let mut successor = run.successor();
        successor.obey("own new");
        assert_eq!(runs(run), Some(Some(successor.pid())));
        run.leaves(successor);
        assert_eq!(runs(run), Some(None));
    },
};

/// A line is there completely or not at all, and its place is used again.
const LOG: Scenario = Scenario {
    name: "write to the log",
    keeper: &[],
    victim: &["attach"],
    meanwhile: &[],
    action: &["log one", "log two"],
    during: nothing,
    after: |run| {
        run.keeper.obey("log three");
        let log = run.monitor.log(0);
        let texts: Vec<&str> = log.lines.iter().map(|l| l.text.as_str()).collect();
        let whole = ["one", "two", "three"];
        assert!(texts.iter().all(|t| whole.contains(t)) && texts.last() == Some(&"three"), "{texts:?}");
        assert_eq!(log.lines.len() as u64 + log.missed, log.next, "{log:?}");
    },
};

/// Another pond, in which nobody but the victim ever was.
const CREATE: Scenario = Scenario {
    name: "create",
    keeper: &[],
    victim: &["attach"],
    meanwhile: &[],
    action: &["create-other"],
    during: nothing,
    after: |run| {
        let other = format!("{}-other", run.name);
        let mut successor = run.successor();
        successor.obey(&format!("create-other {other}"));
        run.leaves(successor);
        let left: Vec<String> = millpond_shm::list().expect("list").into_iter().map(|p| p.name).collect();
        assert!(!left.contains(&other), "{left:?}");
    },
};

const JOIN: Scenario = Scenario {
    name: "join",
    keeper: &[],
    victim: &[],
    meanwhile: &[],
    action: &["attach"],
    during: nothing,
    after: |run| {
        run.keeper.obey("connect keeper.out gone.in 8 block");
        a_stream_flows(run, "keeper.out", "gone.in");
    },
};

/// Whoever sleeps is woken by the recovery, if not by the victim.
const STOP: Scenario = Scenario {
    name: "ask everybody to stop",
    keeper: &["connect keeper.out keeper.in 8 block", "input keeper.in plain"],
    victim: &["attach"],
    meanwhile: &["follow keeper.in"],
    action: &["stop"],
    during: nothing,
    after: |run| run.keeper.hear("keeper.in failed: the pond was asked to stop"),
};

/// A successor does the same again: it succeeds, or is told that it is done already.
fn again(run: &mut Run, command: &str, done_already: &str) {
    let mut successor = run.successor();
    successor.obey(command);
    let answer = successor.events().last().cloned().unwrap_or_default();
    assert!(answer.ends_with(" ok") || answer.contains(done_already), "{answer}");
    run.leaves(successor);
}

/// The keeper sends six messages to a new process.
fn a_stream_flows(run: &mut Run, from: &str, to: &str) {
    let mut successor = run.successor();
    successor.obey(&format!("input {to} plain"));
    successor.obey(&format!("follow {to}"));
    run.keeper.obey(&format!("output {from}"));
    run.keeper.obey(&format!("feed {from} 0 6"));
    successor.hear(&format!("{to} ended"));
    assert_eq!(successor.sequences(to, "took"), [0, 1, 2, 3, 4, 5]);
    run.leaves(successor);
}

fn dropped(run: &Run, port: &str) -> u64 {
    run.monitor.snapshot().ports.iter().find(|p| p.name == port).map_or(0, |p| p.dropped_at_disconnect)
}

/// What the victim sent arrives, what it had not taken is still there, and a successor takes both ports.
fn both_ways_go_on(run: &mut Run) {
    for input in ["keeper.left", "keeper.right"] {
        let published = run.connection("victim.out", input).published;
        run.keeper.obey(&format!("grab {input} 9"));
        assert_eq!(run.keeper.sequences(input, "took"), (0..published).collect::<Vec<_>>());
    }
    let queue = run.connection("keeper.out", "victim.in").clone();
    let given_back = run.victim.sequences("victim.in", "releasing").len() as u64;
    assert_eq!(queue.lost_in_hand, queue.taken - given_back, "{queue:?}");
    let mut successor = run.successor();
    successor.obey_all(&["input victim.in plain", "output victim.out"]);
    successor.obey("grab victim.in 9");
    assert_eq!(successor.sequences("victim.in", "took"), (queue.taken..5).collect::<Vec<_>>());
    successor.obey("send victim.out 1000 3");
    for input in ["keeper.left", "keeper.right"] {
        run.keeper.obey(&format!("grab {input} 9"));
        assert_eq!(run.keeper.sequences(input, "took").iter().filter(|s| **s >= 1000).count(), 3);
    }
    run.leaves(successor);
    eventually("nobody is at the victim's ports", || {
        run.monitor.snapshot().ports.iter().all(|p| !p.name.starts_with("victim") || p.pids.is_empty())
    });
}

#[test]
fn dies_connecting() {
    CONNECT.die_everywhere(&[]);
    CONNECT_NEW.die_everywhere(&[]);
}

#[test]
fn dies_disconnecting() {
    DISCONNECT.die_everywhere(&[]);
    DISCONNECT_LIVE.die_everywhere(&[]);
}

#[test]
fn dies_removing_a_block() {
    REMOVE.die_everywhere(&[]);
}

#[test]
fn dies_opening_and_closing_ports() {
    PORTS.die_everywhere(&[]);
}

#[test]
fn dies_adding_a_pool() {
    ADD_POOL.die_everywhere(&[]);
}

#[test]
fn dies_owning_a_block() {
    OWN.die_everywhere(&[]);
}

#[test]
fn dies_writing_to_the_log() {
    LOG.die_everywhere(&[]);
}

#[test]
fn dies_creating() {
    CREATE.die_everywhere(&[]);
}

#[test]
fn dies_joining() {
    JOIN.die_everywhere(&[]);
}

#[test]
fn dies_leaving() {
    LEAVE.die_everywhere(&[]);
}

#[test]
fn dies_asking_everybody_to_stop() {
    STOP.die_everywhere(&[]);
}
