//! The supervisor: starts the processes that run the blocks (one each, unless the flowgraph puts several into one), watches them,
//! starts the dead again and brings everything to its end.
//!
//! Data never flows through it. When it is killed, the kernel tells the blocks: sources end, and the others when the end of
//! the stream reaches them. In a flowgraph that says `detach` they go on instead.
//!
//! The flowgraph says what it starts with. What was connected, disconnected and removed since is read from the pond.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use millpond_shm::{Monitor, Pond, Role, Snapshot};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Context, Error, Result};
use crate::flowgraph::wiring::{Link, Wiring};
use crate::flowgraph::{Flowgraph, Group, Node, Restart, RestartWhen};
use crate::interrupt::Interrupts;
use crate::statistics::Stage;

mod ending;
mod event;
mod guests;
mod process;
mod report;
mod restart;
mod signals;
mod stall;
mod status;

pub use event::{EndReason, Event, Outcome, Summary};
pub use process::{Death, Launcher};
pub use stall::Stall;
pub use status::{BlockStatus, ConnectionStatus, Status};

use guests::{Guest, guests};
use process::{Process, Said};
use restart::RestartHistory;
use signals::EndSignals;
use stall::StallWatch;
use status::{block_statistics, connection_status};

/// How often the pond is looked at: for progress, and until all blocks run.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs a flowgraph, its blocks in the processes that it names.
pub struct Supervisor {
    flowgraph: Flowgraph,
    launcher: Launcher,
    members: Vec<Member>,
    /// What has become of the blocks, in the flowgraph's order.
    fates: Vec<Fate>,
    pond: Pond,
    monitor: Monitor,
    stalls: StallWatch,
    wiring: Wiring,
    guests: Vec<Guest>,
    /// Pids of guests that were asked to end.
    told_guests: HashSet<u32>,
    /// Final numbers of connections that have been taken down.
    closed: Vec<ConnectionStatus>,
    /// Connections of blocks that have ended, which are yet to be undone.
    to_undo: Vec<(String, String)>,
    ending: Option<EndReason>,
    /// When what is left is killed; set by the second signal.
    stopping: Option<Instant>,
}

/// A process and what has become of it.
struct Member {
    group: Group,
    state: State,
    history: RestartHistory,
    /// Why it was started again the last time, if that was a failure of its own.
    failure: Option<Death>,
    /// It has been started, so its program is there, but for a moment perhaps.
    has_run: bool,
}

enum State {
    Runs(Process),
    RestartsAt(Instant),
    Ended,
}

/// What has become of a block.
#[derive(Clone, Copy, Default)]
struct Fate {
    /// Its process was asked to let it end.
    told_to_end: bool,
    /// It has ended for good.
    ended: bool,
}

impl Supervisor {
    /// Makes the pond and declares blocks, ports and connections. Nothing runs yet.
    ///
    /// # Errors
    /// [`Error::Pond`], for example when a pond of that name is running already.
    pub fn new(flowgraph: Flowgraph, launcher: Launcher) -> Result<Self> {
        let pond = flowgraph.make_pond(Role::Server)?;
        let monitor = Monitor::open(&flowgraph.name)?;
        let now = Instant::now();
        let member = |group| Member {
            group,
            state: State::RestartsAt(now),
            history: RestartHistory::default(),
            failure: None,
            has_run: false,
        };
        let members = flowgraph.groups().into_iter().map(member).collect();
        Ok(Self {
            fates: vec![Fate::default(); flowgraph.blocks.len()],
            wiring: Wiring::new(&flowgraph),
            guests: Vec::new(),
            told_guests: HashSet::new(),
            flowgraph,
            launcher,
            members,
            pond,
            monitor,
            stalls: StallWatch::default(),
            closed: Vec::new(),
            to_undo: Vec::new(),
            ending: None,
            stopping: None,
        })
    }

    /// Runs the flowgraph to its end and tells `watch` what happens. SIGINT, SIGTERM and SIGHUP are requests to end meanwhile.
    ///
    /// # Blocking
    /// Until every block's process has ended. The thread that calls this must not end before: the kernel takes that for the
    /// death of the supervisor.
    ///
    /// # Errors
    /// If a process cannot be started for the first time, or not be watched; all others are killed then. The failure of a block is an
    /// [`Outcome`].
    pub fn run(self, watch: &mut dyn FnMut(Event<'_>)) -> Result<Summary> {
        let interrupts = Interrupts::new()?;
        let _signals = EndSignals::become_interrupts(&interrupts)?;
        self.run_until(&interrupts, watch)
    }

    /// As [`run`](Supervisor::run), but leaves signals alone: interrupts are the requests to end.
    ///
    /// # Errors
    /// As [`run`](Supervisor::run).
    pub fn run_until(mut self, interrupts: &Interrupts, watch: &mut dyn FnMut(Event<'_>)) -> Result<Summary> {
        let log = self.pond.clone();
        let watch = &mut |event: Event<'_>| {
            report::log(&log, &event);
            watch(event);
        };
        let start = Instant::now();
        let mut next_look = start;
        let mut running_since = None;
        loop {
            self.start_due(watch)?;
            let now = Instant::now();
            if now >= next_look {
                let snapshot = self.monitor.snapshot();
                self.follow(&snapshot);
                self.retire_removed(&snapshot);
                self.undo_the_rest();
                let status = self.status(&snapshot, start.elapsed());
                let runs = |block: &BlockStatus| block.statistics.stage >= Stage::Running;
                if running_since.is_none() && status.blocks.iter().all(runs) {
                    running_since = Some(now);
                }
                watch(Event::Progress(&status));
                self.look_for_stalls(&snapshot, now, watch);
                next_look = now + LOOK_EVERY;
            }
            let end_at = running_since.zip(self.flowgraph.duration).map(|(since, duration)| since + duration);
            if end_at.is_some_and(|end| now >= end) {
                self.end(EndReason::DurationOver, watch);
            }
            self.lead_to_the_end();
            self.kill_overdue(now);
            if self.members.iter().all(|member| matches!(member.state, State::Ended)) {
                break;
            }
            let restarts = self.members.iter().filter_map(Member::restarts_at);
            let end_at = end_at.filter(|_| self.ending.is_none());
            let deadline = restarts.chain(end_at).fold(next_look, Instant::min);
            if self.wait(interrupts, deadline.saturating_duration_since(now))? {
                for _ in 0..interrupts.arrived(Some(now))? {
                    self.interrupt(watch);
                }
            }
            self.look_after_members(watch);
        }
        let status = self.status(&self.monitor.snapshot(), start.elapsed());
        let outcome = match self.ending {
            Some(EndReason::Failed { process, death }) => Outcome::Failed { process, death },
            _ if self.stopping.is_some() => Outcome::Stopped,
            reason => Outcome::Done { reason },
        };
        Ok(Summary { outcome, status })
    }

    fn status(&self, snapshot: &Snapshot, elapsed: Duration) -> Status {
        Status::new(&self.flowgraph, &self.wiring, snapshot, &self.closed, elapsed)
    }

    /// Follows what others have changed in the pond: connections, and blocks of their own.
    fn follow(&mut self, snapshot: &Snapshot) {
        let (flowgraph, fates) = (&self.flowgraph, &self.fates);
        self.wiring.follow(snapshot, |block| {
            flowgraph
                .blocks
                .iter()
                .position(|node| node.name == block)
                .is_some_and(|index| fates[index].ended)
        });
        self.guests = guests(&self.flowgraph, snapshot);
    }

    /// A block that waited for its restart when it was removed has none.
    fn retire_removed(&mut self, snapshot: &Snapshot) {
        let name = |block: usize| &self.flowgraph.blocks[block].name;
        let is_gone = |&block: &usize| !snapshot.blocks.iter().any(|known| known.name == *name(block));
        let waiting = self.members.iter().filter(|member| matches!(member.state, State::RestartsAt(_)));
        let gone: Vec<usize> =
            waiting.flat_map(|member| member.group.blocks.iter().copied()).filter(is_gone).collect();
        for block in gone {
            self.has_ended(block);
            self.retire_if_idle(block);
        }
    }

    /// Tells who does not get on, and kills where the flowgraph asks for it.
    fn look_for_stalls(&mut self, snapshot: &Snapshot, now: Instant, watch: &mut dyn FnMut(Event<'_>)) {
        for member in &mut self.members {
            let State::Runs(process) = &mut member.state else { continue };
            let nodes = member.group.blocks.iter().map(|&block| &self.flowgraph.blocks[block]);
            let names = nodes.clone().map(|node| node.name.as_str());
            let Some((stall, since, is_news)) = self.stalls.look(snapshot, process.pid(), names, now) else {
                continue;
            };
            let killed = nodes.filter_map(|node| node.kill_stalled).any(|limit| since >= limit);
            if is_news || killed {
                let (name, pid) = (&member.group.name, process.pid());
                watch(Event::Stalled { process: name, pid, stall: &stall, since, killed });
            }
            if killed {
                process.kill();
            }
        }
    }

    /// Sleeps until a process dies or says something, an interrupt arrives (then `true`), or the time has passed.
    fn wait(&self, interrupts: &Interrupts, timeout: Duration) -> Result<bool> {
        let processes = self.members.iter().filter_map(Member::process);
        let descriptors = processes.flat_map(Process::descriptors).chain([interrupts.descriptor()]);
        let mut descriptors: Vec<_> =
            descriptors.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(timeout).context(|| "wait")?;
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) => Ok(descriptors.last().is_some_and(|fd| !fd.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(std::io::Error::from(error)).context(|| "wait for the blocks' processes"),
        }
    }

    /// Starts the processes whose time has come.
    fn start_due(&mut self, watch: &mut dyn FnMut(Event<'_>)) -> Result<()> {
        let now = Instant::now();
        for index in 0..self.members.len() {
            if self.members[index].restarts_at().is_none_or(|at| at > now) {
                continue;
            }
            // What the dead process held must be given back before the next one takes its place.
            match self.pond.recover_dead() {
                Ok(_) => {}
                // The others run on; this one is started once whoever is stopped goes on.
                Err(busy @ millpond_shm::Error::RegistryBusy { .. }) => {
                    let note = format!("its restart waits: {busy}");
                    watch(Event::Note { block: &self.members[index].group.name, note: &note });
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
            self.retire_removed(&self.monitor.snapshot());
            if self.members[index].restarts_at().is_none() {
                continue;
            }
            let moved = self.moved(index);
            let member = &mut self.members[index];
            let blocks: Vec<usize> =
                member.group.blocks.iter().copied().filter(|&block| !self.fates[block].ended).collect();
            let nodes: Vec<&Node> = blocks.iter().map(|&block| &self.flowgraph.blocks[block]).collect();
            let process = match Process::start(&self.launcher, &member.group, &nodes, &self.flowgraph, moved)
            {
                Ok(process) => process,
                Err(Error::Start { cause, .. }) if member.has_run => {
                    self.could_not_restart(index, &cause.to_string(), watch);
                    continue;
                }
                Err(error) => return Err(error),
            };
            member.has_run = true;
            for node in &nodes {
                watch(Event::Started { block: &node.name, pid: process.pid() });
            }
            blocks.iter().for_each(|&block| self.fates[block].told_to_end = false);
            member.state = State::Runs(process);
        }
        Ok(())
    }

    /// Its program is being replaced, or the system has no room for a process just now: that may pass, as what has killed a process may.
    fn could_not_restart(&mut self, index: usize, cause: &str, watch: &mut dyn FnMut(Event<'_>)) {
        let death = Death::NotStarted { cause: cause.to_owned() };
        let member = &mut self.members[index];
        let process = member.group.name.clone();
        let restarts = member.group.blocks.iter().map(|&block| self.flowgraph.blocks[block].restart);
        let (restart, now) = (strictest(restarts), Instant::now());
        if let Some(pause) = member.history.after(&death, restart, false, now) {
            member.state = State::RestartsAt(now + pause);
            let line = format!("{death}: trying again in {} ms", pause.as_millis());
            watch(Event::Line { block: &process, line: &line });
            return;
        }
        self.process_has_ended(index);
        self.end(EndReason::Failed { process, death }, watch);
    }

    /// Passes on what the processes say, and sees to those that have ended.
    fn look_after_members(&mut self, watch: &mut dyn FnMut(Event<'_>)) {
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            let State::Runs(process) = &mut member.state else { continue };
            let pid = process.pid();
            let (said, end) = process.look();
            let mut done = Vec::new();
            for said in &said {
                match said {
                    Said::Note(block, note) => watch(Event::Note { block, note }),
                    Said::Line(block, line) => watch(Event::Line { block, line }),
                    Said::Done(name) => done.extend(
                        member
                            .group
                            .blocks
                            .iter()
                            .copied()
                            .filter(|&b| self.flowgraph.blocks[b].name == *name),
                    ),
                }
            }
            done.into_iter().for_each(|block| self.has_ended(block));
            match end {
                None => {}
                Some(Ok(())) => self.has_ended_well(index, watch),
                Some(Err(death)) => self.has_died(index, pid, &death, watch),
            }
        }
    }

    fn has_died(&mut self, index: usize, pid: u32, death: &Death, watch: &mut dyn FnMut(Event<'_>)) {
        let moved = self.moved(index);
        let member = &self.members[index];
        let moved_before = member.process().map_or(moved, |process| process.moved_before);
        let name = member.group.name.clone();
        let left: Vec<usize> =
            member.group.blocks.iter().copied().filter(|&block| !self.fates[block].ended).collect();
        let told_to_end = |block: usize| self.fates[block].told_to_end;
        let killed = matches!(death, Death::Signal { .. });
        // Asked to end before it had a handler for it. When the run has failed anyway there is nothing to start it again for.
        let failed = matches!(self.ending, Some(EndReason::Failed { .. }));
        if failed
            && left.iter().any(|&block| told_to_end(block))
            && matches!(death, Death::Signal { signal: 15 })
        {
            self.process_has_ended(index);
            return;
        }
        // A source that was killed after it was asked to end has nothing left to do; others go on with what is queued.
        let has_nothing_to_do = |&block: &usize| {
            let is_source = self.wiring.is_source(&self.flowgraph.blocks[block].name);
            killed && is_source && told_to_end(block)
        };
        let ends_anyway = self.stopping.is_some() || left.iter().all(&has_nothing_to_do);
        let spent: Vec<usize> = left.iter().copied().filter(has_nothing_to_do).collect();
        let restart = strictest(left.iter().map(|&block| self.flowgraph.blocks[block].restart));
        let member = &mut self.members[index];
        let restart_in = match ends_anyway {
            true => None,
            false => member.history.after(death, restart, moved != moved_before, Instant::now()),
        };
        let blocks: Vec<&str> =
            left.iter().map(|&block| self.flowgraph.blocks[block].name.as_str()).collect();
        watch(Event::Died { process: &name, blocks: &blocks, pid, death, restart_in });
        if let Some(pause) = restart_in {
            member.state = State::RestartsAt(Instant::now() + pause);
            member.failure = Some(death.clone()).filter(|death| matches!(death, Death::Failed { .. }));
            spent.into_iter().for_each(|block| self.has_ended(block));
            return;
        }
        self.process_has_ended(index);
        if !ends_anyway {
            self.end(EndReason::Failed { process: name, death: death.clone() }, watch);
        }
    }

    /// A process says that all is done. It does not undo a failure by finding nothing left to do when it is started again: what it
    /// failed with is lost.
    fn has_ended_well(&mut self, index: usize, watch: &mut dyn FnMut(Event<'_>)) {
        let moved = self.moved(index);
        let member = &mut self.members[index];
        let idle = member.process().is_some_and(|process| process.moved_before == moved);
        let failure = member.failure.take().filter(|_| idle && self.ending.is_none());
        let process = member.group.name.clone();
        self.process_has_ended(index);
        if let Some(death) = failure {
            self.end(EndReason::Failed { process, death }, watch);
        }
    }

    /// A process has ended for good, and with it its blocks.
    fn process_has_ended(&mut self, index: usize) {
        self.members[index].state = State::Ended;
        self.members[index].group.blocks.clone().into_iter().for_each(|block| self.has_ended(block));
    }

    /// A block has ended for good: nobody shall wait for it any more.
    fn has_ended(&mut self, block: usize) {
        if self.fates[block].ended {
            return;
        }
        // What was undone before its end was no doing of its end.
        let snapshot = self.monitor.snapshot();
        self.follow(&snapshot);
        self.fates[block].ended = true;
        for Link { from, to } in self.wiring.links_to(&self.flowgraph.blocks[block].name) {
            let last = connection_status(&snapshot, from, to);
            self.closed.push(ConnectionStatus { left_behind: last.queued, queued: 0, ..last });
            if !is_undone(self.pond.disconnect(from, to)) {
                self.to_undo.push((from.clone(), to.clone()));
            }
        }
    }

    /// Tries once more to undo what could not be undone: its sender would wait for ever.
    fn undo_the_rest(&mut self) {
        let pond = &self.pond;
        self.to_undo.retain(|(from, to)| !is_undone(pond.disconnect(from, to)));
    }

    /// Buffers that the blocks of a process have taken and sent so far.
    fn moved(&self, index: usize) -> u64 {
        let snapshot = self.monitor.snapshot();
        let moved = |&block: &usize| {
            let statistics = block_statistics(&snapshot, &self.flowgraph.blocks[block].name);
            statistics.taken + statistics.sent
        };
        self.members[index].group.blocks.iter().map(moved).sum()
    }
}

/// Somebody may have been faster. Any other error: the registry could not be had, as whoever has it is stopped.
fn is_undone(disconnected: std::result::Result<(), millpond_shm::Error>) -> bool {
    matches!(disconnected, Ok(()) | Err(millpond_shm::Error::Unknown { .. }))
}

/// What holds for a process of several blocks.
fn strictest(restarts: impl Iterator<Item = Restart>) -> Restart {
    restarts
        .min_by_key(|restart| (restart.when != RestartWhen::Never, restart.limit, restart.within))
        .unwrap_or_default()
}

impl Member {
    fn process(&self) -> Option<&Process> {
        match &self.state {
            State::Runs(process) => Some(process),
            State::RestartsAt(_) | State::Ended => None,
        }
    }

    fn restarts_at(&self) -> Option<Instant> {
        match self.state {
            State::RestartsAt(at) => Some(at),
            State::Runs(_) | State::Ended => None,
        }
    }
}
