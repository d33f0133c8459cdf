//! Carries out the plan, from outside: nobody waits for this process, and it sees the pond only through a [`Monitor`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use millpond_shm::{Error, Monitor, Snapshot};
use rustix::process::Signal;

use super::account::{Account, Delivered};
use super::actor::{Actor, Death, Dying, Entry};
use super::graph::{Graph, Role, SUPERVISOR};
use super::mail_account::{MailAccount, Sent};
use super::plan::{Action, Event};
use super::post::{ANSWERED, GONE, UNANSWERED};
use super::report::Report;
use super::resources::Resources;
use super::roles::{CONNECT, DISCONNECT, LONGEST_STALL_NS, MEASURE, MESSAGES, SENDING_SINCE_NS, STOP};
use crate::clock::monotonic_ns;

/// Between two looks while somebody has been killed and not been recovered.
const LOOK_EVERY: Duration = Duration::from_micros(300);
/// Between two looks at everything else.
const ROUND: Duration = Duration::from_millis(5);
/// Between two readings of what receivers wrote down.
const READ_EVERY: Duration = Duration::from_millis(50);
/// Nothing takes so long unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// The graph runs undisturbed so long, and then its processes are as large as they get.
const WARM_UP: Duration = Duration::from_millis(500);

/// Something that is due later.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Next(usize),
    Restart(usize),
    /// Of this incarnation.
    Continue(usize, u32),
    Connect,
}

/// The run of one plan.
pub struct Director<'a> {
    pond: String,
    graph: &'a Graph,
    actors: Vec<Actor>,
    monitor: Option<Monitor>,
    account: Account<'a>,
    mail: MailAccount,
    dying: Vec<Dying>,
    due: BinaryHeap<Reverse<(Duration, Due)>>,
    connected: bool,
    report: Report,
    /// What the last account of the buffers found; only what two find in a row is judged.
    suspicions: Vec<String>,
    /// Messages of the bystanders, and when that number was last seen to change.
    progress: Vec<(u64, u64)>,
}

impl<'a> Director<'a> {
    /// Starts all processes and waits until they run.
    ///
    /// # Errors
    /// If one does not.
    pub fn start(pond: String, graph: &'a Graph) -> anyhow::Result<Self> {
        let actors = graph.processes.iter().cloned().map(Actor::new).collect();
        let mut director = Self {
            pond,
            graph,
            actors,
            monitor: None,
            account: Account::new(graph),
            mail: MailAccount::default(),
            dying: Vec::new(),
            due: BinaryHeap::new(),
            connected: true,
            report: Report::default(),
            suspicions: Vec::new(),
            progress: vec![(0, 0); graph.processes.len()],
        };
        director.start_actor(SUPERVISOR)?;
        let start = Instant::now();
        let connections = graph.connections.len();
        while director.monitor.as_ref().is_none_or(|m| m.snapshot().connections.len() < connections) {
            match Monitor::open(&director.pond) {
                Ok(monitor) => director.monitor = Some(monitor),
                Err(Error::PondNotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(start.elapsed() < DEADLINE, "the pond was not made within {DEADLINE:?}");
            std::thread::sleep(ROUND);
        }
        for actor in 0..graph.processes.len() {
            if actor != SUPERVISOR {
                director.start_actor(actor)?;
            }
        }
        director.until("all processes to join", |d| Ok(d.all_are_there()))?;
        Ok(director)
    }

    /// Carries out the plan, unless `interrupted`; then lets everything end and judges.
    ///
    /// # Errors
    /// If something cannot be done or seen. What goes wrong with the pond is in the report.
    pub fn run(
        mut self,
        plan: &[Event],
        seconds: u64,
        interrupted: impl Fn() -> bool,
        mut progress: impl FnMut(&Report),
    ) -> anyhow::Result<Report> {
        std::thread::sleep(WARM_UP);
        let bystanders: Vec<usize> =
            (0..self.actors.len()).filter(|&i| self.actors[i].process.bystander).collect();
        let resources =
            |d: &Self| bystanders.iter().map(|&i| Resources::of(d.actors[i].pid()?)).collect::<Vec<_>>();
        let before = resources(&self);
        bystanders.iter().for_each(|&i| self.actors[i].tell(MEASURE));

        let start = Instant::now();
        self.due.extend(plan.iter().enumerate().map(|(i, event)| Reverse((event.at, Due::Next(i)))));
        let end = Duration::from_secs(seconds);
        let (mut read_at, mut second_at) = (Duration::ZERO, Duration::from_secs(1));
        while start.elapsed() < end && !interrupted() {
            let now = start.elapsed();
            while let Some(Reverse((at, _))) = self.due.peek()
                && *at <= now
                && let Some(Reverse((_, due))) = self.due.pop()
            {
                self.act(due, plan, now)?;
            }
            self.look_after_the_dead()?;
            if now >= read_at {
                self.read()?;
                read_at = now + READ_EVERY;
            }
            if now >= second_at && (self.dying.is_empty() || now >= second_at + Duration::from_millis(500)) {
                self.report.seconds = now.as_secs_f64();
                self.look_at_all(&bystanders);
                progress(&self.report);
                second_at += Duration::from_secs(1);
            }
            let next = self.due.peek().map_or(ROUND, |Reverse((at, _))| at.saturating_sub(start.elapsed()));
            std::thread::sleep(next.min(if self.dying.is_empty() { ROUND } else { LOOK_EVERY }));
        }
        self.report.seconds = start.elapsed().as_secs_f64();
        self.report.interrupted = interrupted();

        self.everybody_up()?;
        for (&i, before) in bystanders.iter().zip(before) {
            let now = self.actors[i].pid().and_then(Resources::of);
            let name = &self.actors[i].process.name;
            match before.zip(now).map(|(before, now)| now.growth_since(&before, self.actors.len())) {
                Some(None) => {}
                Some(Some(growth)) => self.report.left_behind.push(format!("`{name}` has grown: {growth}")),
                None => self.report.failures.push(format!("the bystander `{name}` is gone")),
            }
        }
        self.end()
    }

    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        match &self.monitor {
            Some(monitor) => Ok(monitor.snapshot()),
            None => bail!("no pond to look at"),
        }
    }

    fn start_actor(&mut self, actor: usize) -> anyhow::Result<()> {
        if self.actors[actor].pid().is_some() {
            return Ok(());
        }
        let graph = (actor == SUPERVISOR).then_some(self.graph);
        self.actors[actor].start(&self.pond, graph)?;
        if actor == SUPERVISOR && self.actors[actor].incarnation() > 1 {
            // Its predecessor may have died over it.
            self.tell_connection();
        }
        Ok(())
    }

    fn tell_connection(&mut self) {
        let command = if self.connected { CONNECT } else { DISCONNECT };
        self.actors[SUPERVISOR].tell(command);
    }

    fn act(&mut self, due: Due, plan: &[Event], now: Duration) -> anyhow::Result<()> {
        match due {
            Due::Next(i) => match &plan[i].action {
                Action::Kill(victims) => {
                    let pond = self.snapshot()?;
                    for &(victim, restart) in victims {
                        if let Some(mut dying) = self.actors[victim].kill(victim) {
                            dying.joined = pond.processes.iter().any(|p| p.pid == dying.child.id());
                            self.dying.push(dying);
                            self.report.kills += 1;
                        }
                        self.due.push(Reverse((now + restart, Due::Restart(victim))));
                    }
                }
                &Action::Stop(victim, time) => {
                    self.actors[victim].signal(Signal::STOP);
                    self.report.stops += 1;
                    let incarnation = self.actors[victim].incarnation();
                    self.due.push(Reverse((now + time, Due::Continue(victim, incarnation))));
                }
                &Action::Disconnect(away) => {
                    self.connected = false;
                    self.tell_connection();
                    self.report.disconnections += 1;
                    self.due.push(Reverse((now + away, Due::Connect)));
                }
            },
            Due::Restart(actor) => self.start_actor(actor)?,
            Due::Continue(actor, incarnation) => {
                if self.actors[actor].incarnation() == incarnation {
                    self.actors[actor].signal(Signal::CONT);
                }
            }
            Due::Connect => {
                self.connected = true;
                self.tell_connection();
            }
        }
        Ok(())
    }

    /// Takes the time of recoveries, waits for the dead, and notices who ended without having been killed.
    fn look_after_the_dead(&mut self) -> anyhow::Result<()> {
        if !self.dying.is_empty() {
            let pond = self.snapshot()?;
            let now = monotonic_ns();
            let mut still = Vec::new();
            for mut dying in std::mem::take(&mut self.dying) {
                let pid = dying.child.id();
                let listed = pond.processes.iter().any(|p| p.pid == pid);
                dying.joined |= listed;
                // Until it is waited for its pid belongs to nobody else.
                if dying.joined && !listed && !dying.recovered {
                    dying.recovered = true;
                    let stopped = self.actors.iter().filter(|a| a.stopped).map(|a| a.process.name.as_str());
                    let stopped: Vec<&str> = stopped.collect();
                    let name = &self.actors[dying.actor].process.name;
                    let age_ms = dying.age_ns as f64 / 1e6;
                    self.report.recovered((now - dying.killed_ns) as f64 / 1e6, || {
                        format!("`{name}`, {age_ms:.1} ms old; stopped just now: {stopped:?}")
                    });
                }
                if !listed && dying.child.try_wait()?.is_some() {
                    self.report.unjoined += u64::from(!dying.joined);
                    self.actors[dying.actor].close_book(pid, Death::Killed);
                } else {
                    still.push(dying);
                }
            }
            self.dying = still;
        }
        for i in 0..self.actors.len() {
            if let Some(status) = self.actors[i].ended()? {
                let name = &self.actors[i].process.name;
                self.report.failures.push(format!("`{name}` ended by itself ({status})"));
                self.start_actor(i)?;
            }
        }
        Ok(())
    }

    fn read(&mut self) -> anyhow::Result<()> {
        for (i, actor) in self.actors.iter_mut().enumerate() {
            actor.read(|entry| match entry {
                Entry::Received(record) if matches!(self.graph.processes[i].role, Role::Publisher { .. }) => {
                    self.mail.enter(i, record, &mut self.account.wrongs);
                }
                Entry::Received(record) => self.account.enter(i, record),
                Entry::Died(death) => self.account.died(i, death),
            })?;
        }
        self.report.messages = self.account.received;
        Ok(())
    }

    /// The account of all buffers, and the progress of the bystanders.
    fn look_at_all(&mut self, bystanders: &[usize]) {
        let Some(monitor) = &self.monitor else { return };
        let check = monitor.check();
        if check.free + check.used != check.slots {
            self.report.leaked += check.slots.abs_diff(check.free + check.used);
        }
        let again = check.problems.iter().filter(|p| self.suspicions.contains(p));
        for problem in again {
            self.report.leaked += 1;
            self.account.wrongs.find(problem.clone());
        }
        self.suspicions = check.problems;
        let (pond, now) = (monitor.snapshot(), monotonic_ns());
        for &i in bystanders {
            let name = &self.graph.processes[i].name;
            let Some(block) = pond.blocks.iter().find(|b| b.name == *name) else { continue };
            let count = |counter: usize| block.counters.get(counter).copied().unwrap_or(0);
            let (messages, since) = &mut self.progress[i];
            if *messages != count(MESSAGES) || *since == 0 {
                (*messages, *since) = (count(MESSAGES), now);
            }
            let sending = match count(SENDING_SINCE_NS) {
                0 => 0,
                since => now.saturating_sub(since),
            };
            let still = (now - *since).max(sending).max(count(LONGEST_STALL_NS));
            self.report.longest_stall_ms = self.report.longest_stall_ms.max(still as f64 / 1e6);
        }
    }

    fn all_are_there(&self) -> bool {
        let Ok(pond) = self.snapshot() else { return false };
        self.actors.iter().all(|a| pond.processes.iter().any(|p| Some(p.pid) == a.pid() && p.state == "live"))
    }

    /// Goes on until something is the case.
    fn until(
        &mut self,
        what: &str,
        mut reached: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let start = Instant::now();
        while !reached(self)? {
            if start.elapsed() > DEADLINE {
                let there: Vec<&str> = self
                    .actors
                    .iter()
                    .filter(|a| a.pid().is_some())
                    .map(|a| a.process.name.as_str())
                    .collect();
                let queues = self.snapshot()?.connections;
                let queues = queues.iter().filter(|c| c.queued > 0);
                let queues: Vec<String> =
                    queues.map(|c| format!("{} -> {} {}/{}", c.from, c.to, c.queued, c.depth)).collect();
                bail!(
                    "waited for {what} for {DEADLINE:?}; running: {}; queued: {}",
                    there.join(", "),
                    queues.join(", ")
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whoever is stopped goes on, whoever is dead comes again, and the dead are recovered.
    fn everybody_up(&mut self) -> anyhow::Result<()> {
        for actor in 0..self.actors.len() {
            self.actors[actor].signal(Signal::CONT);
            self.start_actor(actor)?;
        }
        self.connected = true;
        self.tell_connection();
        self.until("all victims to be recovered", |d| {
            d.look_after_the_dead()?;
            d.read()?;
            Ok(d.dying.is_empty() && d.all_are_there())
        })?;
        let all_connected = self.graph.connections.len();
        self.until("all connections to be made", |d| {
            d.look_after_the_dead()?;
            Ok(d.snapshot()?.connections.iter().filter(|c| c.state != "closing").count() == all_connected)
        })
    }

    /// Sources stop, queues drain, streams end; then all is counted.
    fn end(mut self) -> anyhow::Result<Report> {
        let bystanders: Vec<usize> =
            (0..self.actors.len()).filter(|&i| self.actors[i].process.bystander).collect();
        self.look_at_all(&bystanders);
        let streams = |role: &Role| !matches!(role, Role::Supervisor | Role::Server);
        for actor in self.actors.iter_mut().filter(|a| streams(&a.process.role)) {
            actor.tell(STOP);
        }
        self.wait_for_end(|actor| streams(&actor.process.role))?;
        self.read()?;

        let Some(monitor) = &self.monitor else { bail!("no pond to look at") };
        let check = monitor.check();
        self.report.leaked += check.used;
        if check.used > 0 {
            self.account
                .wrongs
                .find(format!("{} buffers are in use though nobody is there: {check:?}", check.used));
        }
        let pond = monitor.snapshot();
        let sent = self.sent(&pond);
        self.mail.close(&pond.messages, &sent, &mut self.account.wrongs);
        (self.report.mail, self.report.calls) = (self.mail.received, sent.answered);
        let delivered = self.delivered(&pond);
        self.report.lost_in_hand = delivered.iter().map(|d| d.lost_in_hand).sum();
        self.report.missing_in_hand = self.account.close(&delivered);
        self.report.redelivered = self.account.redelivered;

        for actor in &mut self.actors {
            actor.tell(STOP);
        }
        self.wait_for_end(|_| true)?;
        if millpond_shm::list()?.iter().any(|pond| pond.name == self.pond) {
            self.report.left_behind.push(format!("the pond `{}` is still there", self.pond));
        }
        self.report.wrongs = std::mem::take(&mut self.account.wrongs);
        Ok(self.report)
    }

    fn wait_for_end(&mut self, whom: impl Fn(&Actor) -> bool) -> anyhow::Result<()> {
        self.until("processes to end", |d| {
            d.read()?;
            let mut all = true;
            for actor in d.actors.iter_mut().filter(|a| whom(a)) {
                match actor.ended()? {
                    Some(status) if !status.success() => {
                        let name = &actor.process.name;
                        d.report.failures.push(format!("`{name}` did not end well ({status})"));
                    }
                    _ => {}
                }
                all &= actor.pid().is_none();
            }
            Ok(all)
        })
    }

    /// What publishers and callers say that they have sent.
    fn sent(&self, pond: &Snapshot) -> Sent {
        let mut sent = Sent::default();
        for actor in &self.actors {
            let block = pond.blocks.iter().find(|b| b.name == actor.process.name);
            let count = |c: usize| block.and_then(|b| b.counters.get(c)).copied().unwrap_or(0);
            match actor.process.role {
                Role::Publisher { .. } => {
                    sent.published += count(MESSAGES);
                    sent.receiver_kills += actor.kills;
                }
                Role::Caller { .. } => {
                    sent.answered += count(ANSWERED);
                    sent.unanswered += count(UNANSWERED);
                    sent.gone += count(GONE);
                }
                _ => {}
            }
        }
        sent
    }

    /// What the pond says about each connection of the graph.
    fn delivered(&self, pond: &Snapshot) -> Vec<Delivered> {
        let mut all = Vec::new();
        for connection in &self.graph.connections {
            let sender = self.graph.sender(connection);
            let kills = |i: usize| self.actors[i].kills;
            let mut delivered = Delivered {
                receiver_kills: self.graph.receivers(connection).map(kills).sum(),
                sender_kills: sender.map_or(0, kills),
                ..Delivered::default()
            };
            let found = pond.connections.iter().find(|c| c.from == connection.from && c.to == connection.to);
            if let Some(found) = found {
                delivered.published = found.published;
                delivered.dropped_oldest = found.dropped_oldest;
                delivered.lost_in_hand = found.lost_in_hand;
            }
            if connection.comes_and_goes {
                // Its counts begin anew with each time; the source's goes on.
                let name = sender.map_or("", |i| self.graph.processes[i].name.as_str());
                let block = pond.blocks.iter().find(|b| b.name == name);
                delivered.published = block.and_then(|b| b.counters.get(MESSAGES)).copied().unwrap_or(0);
                let ports =
                    pond.ports.iter().filter(|p| p.name == connection.from || p.name == connection.to);
                delivered.disconnected = ports.map(|p| p.unconnected + p.dropped_at_disconnect).sum();
            }
            all.push(delivered);
        }
        all
    }
}
