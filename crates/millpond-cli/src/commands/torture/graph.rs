//! The random graph of processes, and where each stream of it flows.

use std::collections::{BTreeMap, BTreeSet};

use millpond_shm::{ConnectionConfig, OnReceiverDeath, Policy};
use serde::{Deserialize, Serialize};

use super::random::Random;

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Makes the pond and its connections if need be, then connects and disconnects as it is told.
    Supervisor,
    /// The runtime server.
    Server,
    /// Sends numbered messages on `NAME.out`, `batch` at a time, with a pause in between.
    Source { source: u32, batch: usize, pause_us: u64 },
    /// Sends one message a millisecond on `NAME.out`; its number is the time, so that those of two belong together.
    Sensor { source: u32 },
    /// Passes on what arrives at `NAME.in`, once it holds `hold` of them.
    Forwarder { hold: usize, redeliver: bool, python: bool },
    /// Sends one message on `NAME.out` for each number that arrives both at `NAME.left` and `NAME.right`.
    Aligner { source: u32, hold: usize, redeliver: bool },
    /// Publishes numbered messages over the bus to all others of its kind, and writes down theirs.
    Publisher { source: u32, pause_us: u64 },
    /// Answers calls.
    Responder,
    /// Calls the responders.
    Caller { responders: Vec<String> },
    /// Writes down what arrives at `port`, `batch` at a time, and holds the last `hold`.
    Sink { port: String, hold: usize, batch: usize, shared: bool, redeliver: bool, pause_us: u64 },
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Name of the process, and of its block.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Never killed or stopped, and never made to wait by one that is stopped: it must not stall.
    pub bystander: bool,
}

impl Process {
    /// Where it receives.
    pub fn inputs(&self) -> Vec<String> {
        match &self.role {
            Role::Forwarder { .. } => vec![format!("{}.in", self.name)],
            Role::Aligner { .. } => ["left", "right"].map(|port| format!("{}.{port}", self.name)).to_vec(),
            Role::Sink { port, .. } => vec![port.clone()],
            _ => Vec::new(),
        }
    }

    /// Where it sends.
    pub fn output(&self) -> Option<String> {
        match &self.role {
            Role::Forwarder { .. } | Role::Source { .. } | Role::Sensor { .. } | Role::Aligner { .. } => {
                Some(format!("{}.out", self.name))
            }
            _ => None,
        }
    }

    /// Whether what it had received when it was killed is delivered again.
    pub fn redelivers(&self) -> bool {
        matches!(
            self.role,
            Role::Forwarder { redeliver: true, .. }
                | Role::Aligner { redeliver: true, .. }
                | Role::Sink { redeliver: true, .. }
        )
    }

    /// Whether it passes on the very buffers that it receives.
    pub fn forwards(&self) -> bool {
        matches!(self.role, Role::Forwarder { .. })
    }

    /// The source of the messages that it makes.
    pub fn source(&self) -> Option<u32> {
        match self.role {
            Role::Source { source, .. } | Role::Sensor { source } | Role::Aligner { source, .. } => {
                Some(source)
            }
            _ => None,
        }
    }

    /// Buffers that it keeps until more arrive.
    pub fn hold(&self) -> usize {
        match self.role {
            // One more may have come for which there was no room.
            Role::Aligner { hold, .. } => hold + 1,
            Role::Forwarder { hold, .. } | Role::Sink { hold, .. } => hold,
            _ => 0,
        }
    }

    /// Most buffers that it can have received and not yet written down.
    pub fn batch(&self) -> u64 {
        if let Role::Sink { batch, .. } = self.role { batch as u64 } else { 1 }
    }
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub from: String,
    pub to: String,
    depth: u32,
    /// 0 waits, 1 drops the newest, 2 the oldest.
    policy: u8,
    gives_up: bool,
    /// Disconnected and connected again and again.
    pub comes_and_goes: bool,
}

impl Connection {
    fn new(from: impl Into<String>, to: impl Into<String>, depth: u64, policy: Policy) -> Self {
        let policy = match policy {
            Policy::Block => 0,
            Policy::DropNewest => 1,
            Policy::DropOldest => 2,
        };
        let (from, to) = (from.into(), to.into());
        Self { from, to, depth: depth as u32, policy, gives_up: false, comes_and_goes: false }
    }

    /// What happens when it is full.
    pub fn policy(&self) -> Policy {
        match self.policy {
            1 => Policy::DropNewest,
            2 => Policy::DropOldest,
            _ => Policy::Block,
        }
    }

    /// As the pond is told.
    pub fn config(&self) -> ConnectionConfig {
        let death = if self.gives_up { OnReceiverDeath::GiveUp } else { OnReceiverDeath::Wait };
        ConnectionConfig {
            depth: Some(self.depth),
            policy: Some(self.policy()),
            on_receiver_death: death,
            ..ConnectionConfig::default()
        }
    }
}

/// All processes, the supervisor first, and their connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    pub processes: Vec<Process>,
    pub connections: Vec<Connection>,
}

/// The supervisor's place among the processes.
pub const SUPERVISOR: usize = 0;

impl Graph {
    /// The graph of a seed: every kind of part, each of random measures.
    /// With one written in Python, if that is possible here.
    pub fn new(random: &mut Random, python: bool) -> Self {
        let mut graph = Self::default();
        graph.add("supervisor", Role::Supervisor);
        graph.add("server", Role::Server);
        let steady = graph.source("steady", random);
        graph.sink("watcher", "watcher.in", random, false, false);
        for process in graph.processes.iter_mut().filter(|p| p.name == "steady" || p.name == "watcher") {
            process.bystander = true;
        }
        graph.connect(&steady, "watcher.in", 256, Policy::Block);

        // A chain; its last forwarder also sends to the watcher, which then hears of every death in the chain.
        let mut from = graph.source("chain-source", random);
        for i in 0..random.between(1, 2) {
            from = graph.forward(&from, &format!("chain{i}"), random, false);
        }
        graph.sink("chain-sink", "chain-sink.in", random, false, false);
        let depth = random.between(2, 64);
        graph.connect(&from, "chain-sink.in", depth, Policy::Block);
        graph.connect(&from, "watcher.in", random.between(2, 64), Policy::DropNewest);

        // The same where nothing at all may be lost.
        let safe = graph.source("safe-source", random);
        let from = graph.forward(&safe, "safe-forwarder", random, true);
        graph.sink("safe-sink", "safe-sink.in", random, false, true);
        graph.connect(&from, "safe-sink.in", random.between(2, 64), Policy::Block);

        // The same where a death takes with it what was in hand, and always at work.
        let plain = graph.source("plain-source", random);
        if let Some(Process { role: Role::Source { batch, pause_us, .. }, .. }) = graph.processes.last_mut() {
            (*batch, *pause_us) = (48, 1000);
        }
        let from = graph.forward(&plain, "plain-forwarder", random, false);
        graph.sink("plain-sink", "plain-sink.in", random, false, false);
        graph.connect(&from, "plain-sink.in", random.between(2, 64), Policy::Block);

        // Two sources into one port that consumers compete for.
        for i in 0..2 {
            let from = graph.source(&format!("shared-source{i}"), random);
            graph.connect(&from, "shared.in", random.between(2, 64), Policy::Block);
        }
        for i in 0..random.between(2, 3) {
            graph.sink(&format!("consumer{i}"), "shared.in", random, true, false);
        }

        // One source to several: those that drop also hear the bystander, which may not stall for them.
        let fast = graph.source("fast-source", random);
        for (name, policy) in [("oldest", Policy::DropOldest), ("newest", Policy::DropNewest)] {
            let to = format!("{name}.in");
            graph.sink(name, &to, random, false, false);
            graph.connect(&fast, &to, random.between(1, 8), policy);
            graph.connect(&steady, &to, random.between(1, 8), policy);
        }
        let redeliver = random.one_in(2);
        graph.sink("every", "every.in", random, false, redeliver);
        graph.connect(&fast, "every.in", random.between(8, 64), Policy::Block);
        graph.last_connection(|c| c.gives_up = true);

        // One connection that comes and goes.
        let from = graph.source("moving-source", random);
        graph.sink("moving-sink", "moving-sink.in", random, false, false);
        graph.connect(&from, "moving-sink.in", random.between(4, 32), Policy::Block);
        graph.last_connection(|c| c.comes_and_goes = true);

        graph.add_aligner(random);
        graph.add_bus(random);
        if python {
            let from = graph.source("python-source", random);
            let hold = random.between(0, 8) as usize;
            graph.add("python", Role::Forwarder { hold, redeliver: false, python });
            graph.connect(&from, "python.in", random.between(2, 64), Policy::Block);
            graph.sink("python-sink", "python-sink.in", random, false, false);
            graph.connect("python.out", "python-sink.in", random.between(2, 64), Policy::Block);
        }
        graph
    }

    /// Two streams that belong together by their numbers, joined. Behind it nothing may be lost, so that all sets are seen.
    fn add_aligner(&mut self, random: &mut Random) {
        let (hold, redeliver) = (random.between(2, 32) as usize, random.one_in(2));
        let source = self.processes.len() as u32;
        self.add("aligner", Role::Aligner { source, hold, redeliver });
        for side in ["left", "right"] {
            let source = self.processes.len() as u32;
            self.add(&format!("{side}-sensor"), Role::Sensor { source });
            let depth = random.between(2, 64);
            self.connect(&format!("{side}-sensor.out"), &format!("aligner.{side}"), depth, Policy::Block);
        }
        self.sink("set-sink", "set-sink.in", random, false, true);
        self.connect("aligner.out", "set-sink.in", random.between(2, 64), Policy::Block);
    }

    /// Some that publish to each other, and a bystander that calls victims.
    fn add_bus(&mut self, random: &mut Random) {
        for i in 0..random.between(2, 3) {
            let source = self.processes.len() as u32;
            let pause_us = random.between(500, 5000);
            self.add(&format!("publisher{i}"), Role::Publisher { source, pause_us });
        }
        let responders: Vec<String> = (0..2).map(|i| format!("responder{i}")).collect();
        responders.iter().for_each(|name| self.add(name, Role::Responder));
        self.add("caller", Role::Caller { responders });
        self.processes.iter_mut().filter(|p| p.name == "caller").for_each(|p| p.bystander = true);
    }

    fn add(&mut self, name: &str, role: Role) {
        self.processes.push(Process { name: name.to_owned(), role, bystander: false });
    }

    fn source(&mut self, name: &str, random: &mut Random) -> String {
        let source = self.processes.len() as u32;
        let batch = if random.one_in(2) { 1 } else { random.between(2, 6) as usize };
        // Some are so eager that a kill mostly meets them, and those behind them, at work.
        let pause_us = if random.one_in(3) { random.between(50, 300) } else { random.between(700, 2000) };
        let pause_us = batch as u64 * pause_us;
        self.add(name, Role::Source { source, batch, pause_us });
        format!("{name}.out")
    }

    fn forward(&mut self, from: &str, name: &str, random: &mut Random, redeliver: bool) -> String {
        self.add(name, Role::Forwarder { hold: random.between(0, 8) as usize, redeliver, python: false });
        self.connect(from, &format!("{name}.in"), random.between(2, 64), Policy::Block);
        format!("{name}.out")
    }

    fn sink(&mut self, name: &str, port: &str, random: &mut Random, shared: bool, redeliver: bool) {
        let batch = if shared || redeliver || random.one_in(2) { 1 } else { 8 };
        let pause_us = if name == "oldest" || name == "newest" { random.between(500, 5000) } else { 0 };
        let hold = random.between(0, 6) as usize;
        self.add(name, Role::Sink { port: port.to_owned(), hold, batch, shared, redeliver, pause_us });
    }

    fn connect(&mut self, from: &str, to: &str, depth: u64, policy: Policy) {
        // What a redelivering port has handed out still counts as queued: it may not fill the queue and wait for more.
        let held = |p: &&Process| p.redelivers() && p.inputs().iter().any(|port| port == to);
        let least = self.processes.iter().find(held).map_or(1, |p| p.hold() as u64 + 2);
        self.connections.push(Connection::new(from, to, depth.max(least), policy));
    }

    fn last_connection(&mut self, change: impl FnMut(&mut Connection)) {
        self.connections.last_mut().into_iter().for_each(change);
    }

    /// The process with this output.
    pub fn sender(&self, connection: &Connection) -> Option<usize> {
        self.processes.iter().position(|p| p.output().as_ref() == Some(&connection.from))
    }

    /// Those with this input.
    pub fn receivers(&self, connection: &Connection) -> impl Iterator<Item = usize> {
        let at = |p: &Process| p.inputs().contains(&connection.to);
        self.processes.iter().enumerate().filter(move |(_, p)| at(p)).map(|(i, _)| i)
    }

    /// Whether what arrives somewhere may have been delivered before, so that it is marked.
    pub fn may_be_marked(&self, receiver: &Process) -> bool {
        let inputs = receiver.inputs();
        let into = self.connections.iter().filter(|c| inputs.contains(&c.to));
        let mut senders = into.filter_map(|c| self.sender(c)).map(|sender| &self.processes[sender]);
        receiver.redelivers() || senders.any(|sender| sender.forwards() && self.may_be_marked(sender))
    }

    /// Sources whose messages pass through a connection.
    fn sources_of(&self, connection: &Connection) -> BTreeSet<u32> {
        let Some(sender) = self.sender(connection).map(|i| &self.processes[i]) else {
            return BTreeSet::new();
        };
        if let Some(source) = sender.source() {
            return BTreeSet::from([source]);
        }
        let inputs = sender.inputs();
        let into = self.connections.iter().filter(|c| inputs.contains(&c.to));
        into.flat_map(|c| self.sources_of(c)).collect()
    }

    /// By which connection the messages of a source come to a port. No source reaches a port by two ways.
    pub fn routes(&self) -> BTreeMap<(String, u32), usize> {
        let routes = self.connections.iter().enumerate();
        routes
            .flat_map(|(i, c)| self.sources_of(c).into_iter().map(move |s| ((c.to.clone(), s), i)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_graph_and_every_source_reaches_a_port_by_one_way() {
        let graphs: Vec<Graph> = (0..50).map(|seed| Graph::new(&mut Random::new(seed), true)).collect();
        for (seed, graph) in graphs.iter().enumerate() {
            assert_eq!(*graph, Graph::new(&mut Random::new(seed as u64), true));
            // Without Python everything else is the same.
            let without = Graph::new(&mut Random::new(seed as u64), false);
            assert_eq!(without.processes, graph.processes[..without.processes.len()]);
            let ways: usize = graph.connections.iter().map(|c| graph.sources_of(c).len()).sum();
            assert_eq!(graph.routes().len(), ways);
            assert!(graph.connections.iter().all(|c| graph.sender(c).is_some()));
            assert!(graph.connections.iter().all(|c| graph.receivers(c).next().is_some()));
            assert_eq!(graph.processes[SUPERVISOR].role, Role::Supervisor);
        }
        assert_ne!(graphs[0], graphs[1]);
    }
}
