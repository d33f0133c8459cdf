//! One scenario, once for every crash point that it comes by: a victim dies there by a real SIGKILL, the others recover it, a
//! successor goes on where it stopped, and everything is accounted for.

use crate::puppet::{Message, Puppet};
use crate::support::{TemporaryDirectory, eventually, unique_name};
use millpond_shm::crash_point::{self, CrashPoint, Then};
use millpond_shm::{ConnectionInfo, Monitor, Snapshot};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// Blocks of the pond that `create` makes.
pub const SLOTS: u64 = 32;
/// A point that is passed often is tried at its first passes only.
pub const PASSES: u32 = 3;
/// Whether a point is passed can depend on who is faster; such a run is tried again.
pub const TRIES: u32 = 5;
/// Points at which a process has a slot that nobody watches yet.
const DYING_UNKNOWN: &[CrashPoint] = &[CrashPoint::JoinClaimed, CrashPoint::JoinWritten];

/// Points that a process may not come by, depending on who is faster. Where they are sure to be passed the tests ask for them by
/// name: see `die_everywhere`.
pub const DEPENDS_ON_SPEED: &[CrashPoint] = &[
    CrashPoint::SleepAnnounced,
    CrashPoint::SleepOver,
    CrashPoint::BellRaised,
    CrashPoint::PushBellRaised,
    CrashPoint::LockWaited,
    CrashPoint::DropOldestClaimed,
    CrashPoint::DropOldestHelped,
    CrashPoint::DropOldestDone,
    CrashPoint::DropCounted,
];

/// Points that are passed once for each batch. Into how many batches the same messages fall depends on who is faster: only the first
/// pass is sure.
const ONCE_A_BATCH: &[CrashPoint] = &[
    CrashPoint::PopExclusiveDone,
    CrashPoint::PopBatchBetween,
    CrashPoint::Described,
    CrashPoint::BatchTokens,
    CrashPoint::BatchBetween,
    CrashPoint::PushDone,
];

/// Where the victim dies.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    pub point: CrashPoint,
    pub pass: u32,
    pub then: Then,
}

impl Death {
    /// The command that makes a process die there.
    pub fn command(self) -> String {
        format!("arm {} {} {:?}", index_of(self.point), self.pass, self.then)
    }

    pub fn signal(self) -> i32 {
        match self.then {
            Then::Abort => 6,
            Then::Segfault => 11,
            Then::Kill | Then::Hang => 9, // who hangs is killed by the test
        }
    }

    pub fn place(self, scenario: &str) -> String {
        let Death { point, pass, then } = self;
        format!("{scenario}: {then:?} at {point:?} ({}), pass {pass}", name_of(point))
    }
}

/// A story of three processes: a keeper that survives, a victim, and a successor that takes over from it.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// What the keeper does first; it has made the pond.
    pub keeper: &'static [&'static str],
    /// What the victim does before its crash point is armed. It attaches here, or in `action`.
    pub victim: &'static [&'static str],
    /// What the keeper does then, in threads of its own.
    pub meanwhile: &'static [&'static str],
    /// What the victim does with the point armed.
    pub action: &'static [&'static str],
    /// What the test does while the victim acts.
    pub during: fn(&mut Run),
    /// How the successor goes on, and what must have become of everything.
    pub after: fn(&mut Run),
}

/// For scenarios in which the test does nothing while the victim acts.
pub fn nothing(_: &mut Run) {}

/// The processes of one run.
pub struct Run {
    pub name: String,
    pub monitor: Monitor,
    pub keeper: Puppet,
    pub victim: Puppet,
    /// `None`: the victim was killed when it had done all it had to do.
    pub death: Option<Death>,
    /// The connections as they were when the victim was recovered and nobody had taken over.
    pub recovered: Snapshot,
    /// What a successor received from the victim's queue.
    pub rest: Vec<Message>,
}

impl Scenario {
    /// Runs it without a crash point, and returns the points that the victim came by, with how often.
    pub fn rehearse(&self) -> Vec<(CrashPoint, u32)> {
        let mut run = self.begin();
        run.victim.obey("mark");
        run.act(self);
        assert!(run.victim.finishes(), "{}: the victim died: {:?}", self.name, run.victim.events());
        run.victim.obey("seen");
        let points = run.victim.events().iter().filter_map(|e| parse_point(e)).collect();
        run.victim.kill();
        run.end(self);
        points
    }

    /// Runs it once for every point that a rehearsal came by. It must have died at each of `surely`.
    pub fn die_everywhere(&self, surely: &[CrashPoint]) {
        let mut killed = Vec::new();
        for (point, count) in self.rehearse() {
            for pass in 1..=count.min(PASSES) {
                let death = Death { point, pass, then: Then::Kill };
                match self.die_in(death, None) {
                    Some(_) => killed.push(point),
                    None if DEPENDS_ON_SPEED.contains(&point)
                        || pass > 1 && self.name.contains("batches") && ONCE_A_BATCH.contains(&point) =>
                    {
                        println!("    not come by");
                    }
                    None => panic!("{}: not reached in {TRIES} tries", death.place(self.name)),
                }
            }
        }
        for point in surely {
            assert!(killed.contains(point), "{}: never killed at {point:?}", self.name);
        }
    }

    /// As the other deaths, by another signal, with a core dump.
    pub fn dumps_core(&self, point: CrashPoint, then: Then) {
        let directory = TemporaryDirectory::new();
        let status = self.die_in(Death { point, pass: 1, then }, Some(&directory));
        let status = status.unwrap_or_else(|| panic!("{}: {point:?} was not reached", self.name));
        // A kernel that hands dumps to a program, or to a path of its own, may drop them.
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
        if pattern.starts_with("core") {
            assert!(status.core_dumped(), "{}: no core was dumped: {status:?}", self.name);
        }
    }

    /// How the victim died; `None`: in no try did it come by.
    fn die_in(&self, death: Death, cores: Option<&TemporaryDirectory>) -> Option<ExitStatus> {
        let place = death.place(self.name);
        println!("{place}");
        for _ in 0..TRIES {
            let mut run = self.begin();
            run.death = Some(death);
            if let Some(TemporaryDirectory(path)) = cores {
                run.victim.obey(&format!("dump-cores-in {}", path.display()));
            }
            run.victim.obey(&death.command());
            run.act(self);
            if run.victim.finishes() {
                run.victim.kill(); // it did not come by this time
                continue;
            }
            let status = run.victim.assert_died_by(death.signal(), &place);
            run.end(self);
            return Some(status);
        }
        None
    }

    fn begin(&self) -> Run {
        let name = unique_name("crash");
        let mut keeper = Puppet::start();
        let mut victim = Puppet::start();
        keeper.obey(&format!("create {name}"));
        keeper.obey_all(self.keeper);
        let monitor = Monitor::open(&name).expect("open a monitor");
        let recovered = monitor.snapshot();
        for command in self.victim {
            victim.obey(&with_pond(command, &name));
        }
        keeper.obey_all(self.meanwhile);
        Run { recovered, ..nothing_killed(name, monitor, keeper, victim) }
    }
}

/// Processes of which none is dead yet.
pub fn nothing_killed(name: String, monitor: Monitor, keeper: Puppet, victim: Puppet) -> Run {
    let recovered = monitor.snapshot();
    Run { name, monitor, keeper, victim, death: None, recovered, rest: Vec::new() }
}

impl Run {
    fn act(&mut self, scenario: &Scenario) {
        self.keeper.falls_asleep();
        for command in scenario.action {
            self.victim.tell(&with_pond(command, &self.name));
        }
        (scenario.during)(self);
    }

    /// The victim is dead. The keeper recovers it unasked; nobody else is there to do it.
    fn end(mut self, scenario: &Scenario) {
        let victim = self.victim.pid();
        // Of a process that died while joining the others know nothing yet: they find out when they next look at the table.
        if DYING_UNKNOWN.iter().any(|p| self.died_at(*p)) {
            self.keeper.obey("recover");
        }
        self.recovers(&[victim]);
        (scenario.after)(&mut self);
        self.assert_nothing_is_left();
    }

    /// The keeper recovers these.
    pub fn recovers(&mut self, dead: &[u32]) {
        let gone = || self.monitor.snapshot().processes.iter().all(|p| !dead.contains(&p.pid));
        eventually("the keeper has recovered the dead", gone);
        self.recovered = self.monitor.snapshot();
        self.assert_accounted();
    }

    pub fn died_at(&self, point: CrashPoint) -> bool {
        self.death.is_some_and(|d| d.point == point)
    }

    /// Every buffer is free, queued, or held by somebody who lives.
    pub fn assert_accounted(&self) {
        let report = self.monitor.check();
        assert!(report.is_clean(), "{:?}", report.problems);
        assert_eq!(report.slots - SLOTS, self.added_slots());
    }

    fn added_slots(&self) -> u64 {
        self.monitor.snapshot().pools.iter().skip(1).map(|p| u64::from(p.blocks)).sum()
    }

    /// Everybody has ended: every slot is free.
    pub fn assert_nothing_is_left(&mut self) {
        self.keeper.obey("leave-ports");
        let report = self.monitor.check();
        assert!(report.is_clean(), "{:?}", report.problems);
        assert_eq!(
            (report.free, report.queued, report.unsettled),
            (report.slots, 0, 0),
            "{report:?}, {:?}",
            self.monitor.snapshot().connections
        );
        let processes = self.monitor.snapshot().processes;
        assert_eq!(processes.len(), 1, "only the keeper is left: {processes:?}");
    }

    /// A new process in the pond.
    pub fn successor(&self) -> Puppet {
        let mut successor = Puppet::start();
        successor.obey(&format!("attach {}", self.name));
        successor
    }

    /// A successor's end: it leaves, and is gone.
    pub fn leaves(&self, mut successor: Puppet) {
        successor.obey("leave");
        let pid = successor.pid();
        eventually("it has left", || self.monitor.snapshot().processes.iter().all(|p| p.pid != pid));
    }

    /// A connection as it was after the recovery.
    pub fn connection(&self, from: &str, to: &str) -> &ConnectionInfo {
        find(&self.recovered, from, to).unwrap_or_else(|| panic!("no connection {from} -> {to}"))
    }

    /// Whether as many messages have been published on a connection.
    pub fn is_published(&self, from: &str, to: &str, messages: u64) -> bool {
        self.connection_now(from, to).is_some_and(|c| c.published >= messages)
    }

    /// A connection as it is now.
    pub fn connection_now(&self, from: &str, to: &str) -> Option<ConnectionInfo> {
        find(&self.monitor.snapshot(), from, to).cloned()
    }
}

pub fn find<'a>(snapshot: &'a Snapshot, from: &str, to: &str) -> Option<&'a ConnectionInfo> {
    snapshot.connections.iter().find(|c| c.from == from && c.to == to)
}

pub fn with_pond(command: &str, pond: &str) -> String {
    match command {
        "attach" => format!("attach {pond}"),
        "create-other" => format!("create-other {pond}-other"),
        _ => command.to_owned(),
    }
}

pub fn index_of(point: CrashPoint) -> usize {
    crash_point::ALL.iter().position(|(p, _)| *p == point).expect("a point of the list")
}

pub fn name_of(point: CrashPoint) -> &'static str {
    crash_point::ALL[index_of(point)].1
}

/// `point INDEX COUNT`, as the actor says it.
pub fn parse_point(event: &str) -> Option<(CrashPoint, u32)> {
    let (index, count) = event.strip_prefix("point ")?.split_once(' ')?;
    Some((crash_point::ALL[index.parse::<usize>().ok()?].0, count.parse().ok()?))
}
