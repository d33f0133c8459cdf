//! Deaths in the middle of repairing somebody else's: one process dies, a second recovers it and dies at every point of that, and
//! the keeper finishes both. Also what a process does only when it meets another that stopped in the middle.

use crate::puppet::Puppet;
use crate::run::{DEPENDS_ON_SPEED, Death, PASSES, Run, TRIES, nothing_killed, parse_point, with_pond};
use crate::support::{eventually, unique_name};
use millpond_shm::Monitor;
use millpond_shm::crash_point::{CrashPoint, Then};
use std::time::{Duration, Instant};

/// A story of two deaths. The keeper made the pond; it is stopped from before the first death until after the second.
struct Story {
    name: &'static str,
    keeper: &'static [&'static str],
    /// Everything that the second process does before the first acts.
    second: &'static [&'static str],
    first: &'static [&'static str],
    /// What the first process is in the middle of, and where it stops there.
    action: &'static [&'static str],
    point: CrashPoint,
    then: Then,
    /// What the second process does then, beside recovering.
    meets_it: &'static [&'static str],
    /// What must hold when the keeper has recovered both. In it the victim is the first process.
    after: fn(&mut Run, &Puppet),
}

const ALL: &[Story] = &[
    UNFINISHED,
    IN_HAND,
    COMPETING,
    UNPUBLISHED,
    TEARDOWN,
    CONNECTING,
    LOCK_HELD,
    CLAIM_UNFINISHED,
    DROP_PAST_A_CLAIM,
    LOGGING,
];

/// It redelivers: one entry is finished by half (k1), three are not, and it owned whatever a process can own.
const UNFINISHED: Story = Story {
    name: "recover a receiver that redelivers",
    keeper: &[
        "connect keeper.out first.in 8 block",
        "connect first.out keeper.in 8 block",
        "output keeper.out",
        "input keeper.in plain",
        "send keeper.out 0 6",
    ],
    second: &["attach"],
    first: &[
        "attach",
        "own first",
        "input first.in redeliver",
        "output first.out",
        "receive first.in 4",
        "send first.out 0 2",
        "allocate first.out 100 2",
    ],
    action: &["release 1"],
    point: CrashPoint::FinishFreed,
    then: Then::Kill,
    meets_it: &[],
    after: |run, _| {
        what_was_sent_arrives(run, "first.out", &[0, 1]);
        let mut successor = run.successor();
        successor.obey_all(&["input first.in redeliver", "grab first.in 9"]);
        let got: Vec<(u64, bool)> =
            successor.messages("first.in", "took").iter().map(|m| (m.sequence, m.again)).collect();
        assert_eq!(got, [(1, true), (2, true), (3, true), (4, false), (5, false)]);
        run.leaves(successor);
        let connection = run.connection("keeper.out", "first.in");
        assert_eq!((connection.redelivered, connection.lost_in_hand), (3, 0), "{connection:?}");
    },
};

/// Three are in its hands, one is half taken (x2), and its sender gives up when it is dead.
const IN_HAND: Story = Story {
    name: "recover a receiver",
    keeper: &["connect keeper.out first.in 8 give-up", "output keeper.out", "send keeper.out 0 6"],
    second: &["attach"],
    first: &["attach", "input first.in plain", "receive first.in 3"],
    action: &["receive first.in 1"],
    point: CrashPoint::PopExclusiveClaimed,
    then: Then::Kill,
    meets_it: &[],
    after: |run, _| {
        let connection = run.connection("keeper.out", "first.in").clone();
        assert_eq!((connection.taken, connection.lost_in_hand, connection.redelivered), (3, 3, 0));
        run.keeper.obey("offer keeper.out 6");
        assert!(
            run.keeper.said("offer refused: the receiver `first.in` has died"),
            "{:?}",
            run.keeper.events()
        );
        let mut successor = run.successor();
        successor.obey_all(&["input first.in plain", "grab first.in 9"]);
        assert_eq!(successor.sequences("first.in", "took"), [3, 4, 5]);
        run.leaves(successor);
    },
};

/// One is in its hands, one is claimed (q2) and head still points at it.
const COMPETING: Story = Story {
    name: "recover a competing receiver",
    keeper: &[
        "connect keeper.out first.in 8 block",
        "input first.in shared",
        "output keeper.out",
        "send keeper.out 0 4",
    ],
    second: &["attach"],
    first: &["attach", "input first.in shared", "receive first.in 1"],
    action: &["receive first.in 1"],
    point: CrashPoint::PopSharedClaimed,
    then: Then::Kill,
    meets_it: &[],
    after: |run, _| {
        assert_eq!(run.connection("keeper.out", "first.in").lost_in_hand, 2);
        run.keeper.obey("grab first.in 9");
        assert_eq!(run.keeper.sequences("first.in", "took"), [2, 3]);
    },
};

/// One is about to be published (p1), two have been, two were never sent.
const UNPUBLISHED: Story = Story {
    name: "recover a sender",
    keeper: &["connect first.out keeper.in 8 block", "input keeper.in plain"],
    second: &["attach"],
    first: &["attach", "output first.out", "allocate first.out 100 2", "send first.out 0 2"],
    action: &["send first.out 2 1"],
    point: CrashPoint::PushToken,
    then: Then::Kill,
    meets_it: &[],
    after: |run, _| what_was_sent_arrives(run, "first.out", &[0, 1]),
};

/// It held the registry lock, and had released an entry without counting it.
const TEARDOWN: Story = Story {
    name: "take the lock over from a teardown",
    keeper: &[
        "connect keeper.out gone.in 8 block",
        "output keeper.out",
        "send keeper.out 0 5",
        "close keeper.out",
    ],
    second: &["attach"],
    first: &["attach"],
    action: &["disconnect keeper.out gone.in"],
    point: CrashPoint::TeardownReleased,
    then: Then::Kill,
    meets_it: &[],
    after: |run, _| {
        assert!(run.connection_now("keeper.out", "gone.in").is_none());
        let ports = run.monitor.snapshot().ports;
        let dropped = ports.iter().find(|p| p.name == "gone.in").map(|p| p.dropped_at_disconnect);
        assert_eq!((run.monitor.check().used, dropped), (0, Some(5)));
    },
};

/// It held the registry lock; the lane is active and neither of its ends, both open, was told.
const CONNECTING: Story = Story {
    name: "take the lock over from a connect",
    keeper: &["output keeper.out", "input keeper.in plain"],
    second: &["attach"],
    first: &["attach"],
    action: &["connect keeper.out keeper.in 8 block"],
    point: CrashPoint::ConnectListed,
    then: Then::Kill,
    meets_it: &[],
    after: |run, _| {
        run.keeper.obey_all(&["send keeper.out 0 3", "grab keeper.in 9"]);
        assert_eq!(run.keeper.sequences("keeper.in", "took"), [0, 1, 2]);
    },
};

/// It holds the registry lock and does not move; the second waits for it, and takes over once it is killed.
const LOCK_HELD: Story = Story {
    name: "wait for the lock",
    keeper: &["output keeper.out", "input keeper.in plain"],
    second: &["attach"],
    first: &["attach"],
    action: &["own first"],
    point: CrashPoint::LockTaken,
    then: Then::Hang,
    meets_it: &["connect keeper.out keeper.in 8 block"],
    after: |run, _| {
        run.keeper.obey("connect keeper.out keeper.in 8 block"); // done already, or not
        run.keeper.obey_all(&["send keeper.out 0 3", "grab keeper.in 9"]);
        assert_eq!(run.keeper.sequences("keeper.in", "took"), [0, 1, 2]);
    },
};

/// It has claimed an entry (q2) and does not move; the second moves head on for it (q3) and takes those behind.
const CLAIM_UNFINISHED: Story = Story {
    name: "receive past a claim",
    keeper: &["connect keeper.out first.in 8 block", "output keeper.out", "send keeper.out 0 6"],
    second: &["attach", "input first.in shared"],
    first: &["attach", "input first.in shared"],
    action: &["receive first.in 1"],
    point: CrashPoint::PopSharedClaimed,
    then: Then::Hang,
    meets_it: &["receive first.in 2"],
    after: |run, second| {
        let mut successor = run.successor();
        successor.obey_all(&["input first.in shared", "grab first.in 9"]);
        let rest = successor.sequences("first.in", "took");
        let first_left = 6 - rest.len() as u64;
        assert_eq!(rest, (first_left..6).collect::<Vec<_>>());
        let told = second.sequences("first.in", "took");
        assert_eq!(told, (1..=told.len() as u64).collect::<Vec<_>>());
        assert!((told.len() as u64 + 1..=told.len() as u64 + 2).contains(&first_left), "{told:?}, {rest:?}");
        assert_eq!(run.connection("keeper.out", "first.in").lost_in_hand, first_left);
        run.leaves(successor);
    },
};

/// It has claimed the oldest entry (q2) and does not move; the sender of the full queue moves head on for it.
const DROP_PAST_A_CLAIM: Story = Story {
    name: "drop the oldest past a claim",
    keeper: &["connect second.out first.in 2 drop-oldest"],
    second: &["attach", "output second.out", "send second.out 0 2"],
    first: &["attach", "input first.in plain"],
    action: &["receive first.in 1"],
    point: CrashPoint::PopSharedClaimed,
    then: Then::Hang,
    meets_it: &["send second.out 2 2"],
    after: |run, _| {
        let connection = run.connection("second.out", "first.in").clone();
        let mut successor = run.successor();
        successor.obey_all(&["input first.in plain", "grab first.in 9"]);
        let rest = successor.sequences("first.in", "took");
        assert_eq!(
            rest,
            (connection.published - connection.queued..connection.published).collect::<Vec<_>>()
        );
        assert!(rest.first() != Some(&0), "the claimed one came again: {rest:?}");
        assert_eq!(connection.lost_in_hand, 1);
        run.leaves(successor);
    },
};

/// Half a line of the log.
const LOGGING: Story = Story {
    name: "recover a writer of the log",
    keeper: &["log one"],
    second: &["attach"],
    first: &["attach"],
    action: &["log two"],
    point: CrashPoint::LogWritten,
    then: Then::Kill,
    meets_it: &[],
    after: |run, _| {
        run.keeper.obey("log three");
        let log = run.monitor.log(0);
        let texts: Vec<&str> = log.lines.iter().map(|l| l.text.as_str()).collect();
        assert_eq!((texts, log.missed), (vec!["one", "three"], 1));
    },
};

/// The keeper gets what was published, in order and once, and hears once that its sender is gone.
fn what_was_sent_arrives(run: &mut Run, output: &str, expected: &[u64]) {
    assert_eq!(run.connection(output, "keeper.in").published, expected.len() as u64);
    run.keeper.obey_all(&["grab keeper.in 9", "grab keeper.in 9"]);
    assert_eq!(run.keeper.sequences("keeper.in", "took"), expected);
    let told = run.keeper.events().iter().filter(|e| *e == "keeper.in lost its sender").count();
    assert_eq!(told, 1, "{:?}", run.keeper.events());
}

impl Story {
    fn begin(&self) -> (Run, Puppet) {
        let name = unique_name("twice");
        let (mut keeper, mut second, mut first) = (Puppet::start(), Puppet::start(), Puppet::start());
        keeper.obey(&format!("create {name}"));
        keeper.obey_all(self.keeper);
        let monitor = Monitor::open(&name).expect("open a monitor");
        for (puppet, commands) in [(&mut second, self.second), (&mut first, self.first)] {
            for command in commands {
                puppet.obey(&with_pond(command, &name));
            }
        }
        (nothing_killed(name, monitor, keeper, first), second)
    }

    /// The first process stops in the middle, the second meets that: with `death`, by dying of it. `false`: it did not.
    fn act(&self, run: &mut Run, second: &mut Puppet, death: Option<Death>) -> bool {
        run.keeper.falls_asleep();
        run.keeper.stop();
        second.obey(&death.map_or_else(|| "mark".to_owned(), Death::command));
        let stops = Death { point: self.point, pass: 1, then: self.then };
        run.victim.obey(&stops.command());
        for command in self.action {
            run.victim.tell(command);
        }
        if self.then == Then::Hang {
            run.victim.falls_asleep();
        } else {
            run.victim.assert_died_by(stops.signal(), &stops.place(self.name));
        }
        for command in self.meets_it {
            second.tell(command);
        }
        if self.then == Then::Hang {
            second.falls_asleep();
            run.victim.kill();
        }
        let first = run.victim.pid();
        let recovered =
            |run: &Run| run.monitor.snapshot().processes.iter().all(|process| process.pid != first);
        eventually("the second process has recovered the first, or is dead", || {
            second.is_dead() || recovered(run)
        });
        match death {
            None => {
                assert!(second.finishes(), "{}: the second died: {:?}", self.name, second.events());
                second.falls_asleep(); // the last steps come after the slot is free
                false
            }
            Some(_) => {
                let start = Instant::now();
                while !second.is_dead() && start.elapsed() < Duration::from_secs(1) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                second.is_dead()
            }
        }
    }

    /// The keeper wakes up to two deaths.
    fn end(&self, mut run: Run, second: &Puppet) {
        run.keeper.go_on();
        run.recovers(&[run.victim.pid(), second.pid()]);
        (self.after)(&mut run, second);
        run.assert_nothing_is_left();
    }

    fn rehearse(&self) -> Vec<(CrashPoint, u32)> {
        let (mut run, mut second) = self.begin();
        self.act(&mut run, &mut second, None);
        second.obey("seen");
        let points = second.events().iter().filter_map(|e| parse_point(e)).collect();
        second.kill();
        self.end(run, &second);
        points
    }

    fn die_everywhere(&self) {
        for (point, count) in self.rehearse() {
            for pass in 1..=count.min(PASSES) {
                self.die_at(Death { point, pass, then: Then::Kill });
            }
        }
    }

    fn die_at(&self, death: Death) {
        let place = death.place(self.name);
        println!("{place}");
        for _ in 0..TRIES {
            let (mut run, mut second) = self.begin();
            if !self.act(&mut run, &mut second, Some(death)) {
                run.keeper.go_on();
                continue; // it did not come by this time
            }
            second.assert_died_by(death.signal(), &place);
            self.end(run, &second);
            return;
        }
        let may_miss = death.pass > 1 && DEPENDS_ON_SPEED.contains(&death.point);
        assert!(may_miss, "{place}: not reached in {TRIES} tries");
    }
}

/// Every point that some second process comes by.
pub fn rehearse_all() -> Vec<CrashPoint> {
    ALL.iter().flat_map(Story::rehearse).map(|(point, _)| point).collect()
}

#[test]
fn dies_recovering_a_receiver_that_redelivers() {
    UNFINISHED.die_everywhere();
}

#[test]
fn dies_recovering_a_receiver() {
    IN_HAND.die_everywhere();
}

#[test]
fn dies_recovering_a_competing_receiver() {
    COMPETING.die_everywhere();
}

#[test]
fn dies_recovering_a_sender() {
    UNPUBLISHED.die_everywhere();
}

#[test]
fn dies_taking_the_lock_over_from_a_teardown() {
    TEARDOWN.die_everywhere();
}

#[test]
fn dies_taking_the_lock_over_from_a_connect() {
    CONNECTING.die_everywhere();
}

#[test]
fn dies_waiting_for_the_lock() {
    LOCK_HELD.die_everywhere();
}

#[test]
fn dies_receiving_past_a_claim() {
    CLAIM_UNFINISHED.die_everywhere();
}

#[test]
fn dies_recovering_a_writer_of_the_log() {
    LOGGING.die_everywhere();
}

#[test]
fn dies_dropping_past_a_claim() {
    DROP_PAST_A_CLAIM.die_everywhere();
}
