//! The account of every message: what receivers wrote down against what the pond says it delivered.

use std::collections::{BTreeMap, VecDeque};

use millpond_shm::Policy;
use serde::Serialize;

use super::actor::Death;
use super::graph::{Graph, Process, Role};
use super::message::Record;
use super::stream::Stream;

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wrongs {
    /// Published, never received, and not explained by anything that was done.
    pub lost: u64,
    /// Received twice without a mark.
    pub doubled: u64,
    /// Received after a later one of the same connection, without a mark.
    pub reordered: u64,
    /// Counted by recovery as lost in hand: fewer than what victims certainly had in hand.
    pub miscounted: u64,
    /// Bytes differ from those that were sent.
    pub corrupted: u64,
    /// One sentence each, the first ones only.
    pub findings: Vec<String>,
}

/// More findings than these say nothing new.
const MAX_FINDINGS: usize = 20;

impl Wrongs {
    /// Remembers a sentence.
    pub fn find(&mut self, finding: String) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }
}

/// What the pond says about one connection, and what was done to its ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Buffers published: from positions, or where connections come and go, what the source has counted.
    pub published: u64,
    /// Dropped while connected, counted.
    pub dropped_oldest: u64,
    /// Sent while not connected, or queued when the connection was removed.
    pub disconnected: u64,
    /// In the hands of killed receivers, as recovery counted them.
    pub lost_in_hand: u64,
    /// How often a receiver was killed.
    pub receiver_kills: u64,
    /// How often the sender was killed.
    pub sender_kills: u64,
}

/// No source sends so many in one life; a larger number is damage.
pub const MOST_NUMBERS: u64 = 1 << 36;

/// Collects records and judges them.
pub struct Account<'a> {
    graph: &'a Graph,
    routes: BTreeMap<(String, u32), usize>,
    /// By connection, source and incarnation.
    streams: BTreeMap<(usize, u32, u32), Stream>,
    /// The last unmarked message of each source at each connection and receiver.
    last: BTreeMap<(usize, usize, u32), (u32, u64)>,
    /// By which connections came what each sink holds.
    held: BTreeMap<usize, VecDeque<usize>>,
    /// By connection: what was written down and still held when its holder was killed.
    killed_holding: BTreeMap<usize, u64>,
    /// What is known so far.
    pub wrongs: Wrongs,
    /// Records so far.
    pub received: u64,
    /// Those with the mark.
    pub redelivered: u64,
}

impl<'a> Account<'a> {
    /// Nothing received yet.
    pub fn new(graph: &'a Graph) -> Self {
        Self {
            graph,
            routes: graph.routes(),
            streams: BTreeMap::new(),
            last: BTreeMap::new(),
            held: BTreeMap::new(),
            killed_holding: BTreeMap::new(),
            wrongs: Wrongs::default(),
            received: 0,
            redelivered: 0,
        }
    }

    /// Enters what a process has written down; records of one process in their order.
    pub fn enter(&mut self, process: usize, record: Record) {
        self.received += 1;
        self.redelivered += u64::from(record.redelivered);
        let receiver = &self.graph.processes[process];
        let known = record.message.filter(|m| m.2 < MOST_NUMBERS);
        let route = known.and_then(|m| {
            let mut ports = receiver.inputs().into_iter();
            Some((ports.find_map(|port| self.routes.get(&(port, m.0)).copied())?, m))
        });
        let Some((connection, (source, incarnation, number))) = route else {
            self.wrongs.corrupted += 1;
            self.wrongs.find(format!(
                "`{}` received {:?}, which is damaged or not for it",
                receiver.name, record.message
            ));
            return;
        };
        let what = |problem: &str| {
            let port = &self.graph.connections[connection].to;
            format!("message {number} of incarnation {incarnation} of source {source} {problem} at {port}")
        };
        let new = self.streams.entry((connection, source, incarnation)).or_default().see(number);
        if let Role::Sink { hold, .. } = receiver.role {
            let held = self.held.entry(process).or_default();
            held.push_back(connection);
            if held.len() > hold {
                held.pop_front();
            }
        }
        if record.redelivered && self.graph.may_be_marked(receiver) {
            return;
        }
        if record.redelivered {
            self.wrongs.doubled += 1;
            self.wrongs.find(what("arrived marked, where nothing is delivered again,"));
        }
        if !new {
            self.wrongs.doubled += 1;
            self.wrongs.find(what("arrived twice, unmarked,"));
        }
        // Of a connection that comes and goes two exist for a moment, and competing consumers share one.
        if self.graph.connections[connection].comes_and_goes {
            return;
        }
        let last = self.last.entry((connection, process, source)).or_default();
        if new && (incarnation, number) < *last {
            self.wrongs.reordered += 1;
            self.wrongs.find(what(&format!("arrived after number {} of incarnation {}", last.1, last.0)));
        }
        *last = (incarnation, number).max(*last);
    }

    /// The process whose records were entered is dead.
    pub fn died(&mut self, process: usize, death: Death) {
        let held = self.held.remove(&process).unwrap_or_default();
        if death == Death::Killed && !self.graph.processes[process].redelivers() {
            for connection in held {
                *self.killed_holding.entry(connection).or_default() += 1;
            }
        }
    }

    /// How many different messages arrived by a connection.
    pub fn distinct(&self, connection: usize) -> u64 {
        self.streams
            .range((connection, 0, 0)..=(connection, u32::MAX, u32::MAX))
            .map(|(_, s)| s.distinct())
            .sum()
    }

    /// The graph whose account this is.
    pub(super) fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// The connections of which this is the case, by where they come from and go to.
    pub(super) fn connections(&self, which: impl Fn((&String, &String)) -> bool) -> Vec<usize> {
        let all = self.graph.connections.iter().enumerate();
        all.filter(|(_, c)| which((&c.from, &c.to))).map(|(i, _)| i).collect()
    }

    /// The numbers that arrived by a connection, once for each incarnation of their source.
    pub(super) fn numbers(&self, connection: usize) -> impl Iterator<Item = u64> {
        let streams = self.streams.range((connection, 0, 0)..=(connection, u32::MAX, u32::MAX));
        streams.flat_map(|(_, stream)| stream.numbers())
    }

    /// After everything has been received: whether what is missing at each connection is explained. Returns how many messages were
    /// missing because victims had them in hand.
    pub fn close(&mut self, delivered: &[Delivered]) -> u64 {
        let mut in_hand = 0;
        for (i, (connection, d)) in self.graph.connections.iter().zip(delivered).enumerate() {
            let distinct = self.distinct(i);
            // What is delivered to a forwarder again it publishes again: then positions count more than there is.
            let sender = self.graph.sender(connection).map(|s| &self.graph.processes[s]);
            let again = sender.filter(|s| s.forwards() && s.redelivers());
            let published = again.map_or(d.published, |forwarder| self.accepted(forwarder));
            let redelivers = self.graph.receivers(connection).any(|r| self.graph.processes[r].redelivers());
            let batch =
                self.graph.receivers(connection).map(|r| self.graph.processes[r].batch()).max().unwrap_or(1);
            let missing = published.saturating_sub(distinct);
            // A source that is killed may have dropped one, or counted one, without it having been counted.
            let uncounted = match connection.policy() {
                Policy::DropOldest => d.sender_kills,
                _ => 0,
            };
            let dropped = d.dropped_oldest + d.disconnected + uncounted;
            // Each death takes with it what was received and not yet written down: at most what was taken in one go, and at most
            // what recovery says that was lost in hand, less what had been written down before.
            let written = self.killed_holding.get(&i).copied().unwrap_or(0);
            if !connection.comes_and_goes && written > d.lost_in_hand {
                self.wrongs.miscounted += written - d.lost_in_hand;
                self.wrongs.find(format!(
                    "{} -> {}: killed receivers held {written} buffers, recovery counted {}",
                    connection.from, connection.to, d.lost_in_hand
                ));
            }
            let unwritten = d.receiver_kills * batch;
            let hand = match (redelivers, connection.comes_and_goes) {
                (true, _) => 0,
                // The counts of a connection that was removed are gone.
                (false, true) => unwritten,
                (false, false) => unwritten.min(d.lost_in_hand.saturating_sub(written)),
            };
            let unexplained = missing.saturating_sub(dropped + hand);
            in_hand += missing.saturating_sub(dropped).min(hand);
            let route = format!("{} -> {}", connection.from, connection.to);
            if unexplained > 0 {
                self.wrongs.lost += unexplained;
                self.wrongs.find(format!(
                    "{route}: {unexplained} of {published} are missing ({d:?}, received {distinct})"
                ));
            }
            if !connection.comes_and_goes && distinct > published {
                self.wrongs.doubled += distinct - published;
                self.wrongs
                    .find(format!("{route}: {distinct} different ones were received, {published} published"));
            }
        }
        self.close_forwarders(delivered);
        self.close_aligners(delivered);
        in_hand
    }

    /// How many different messages a forwarder received.
    fn accepted(&self, forwarder: &Process) -> u64 {
        let inputs = forwarder.inputs();
        self.connections(|(_, to)| inputs.contains(to)).into_iter().map(|i| self.distinct(i)).sum()
    }

    /// What a forwarder has accepted it has passed on, except for what it held when it was killed.
    fn close_forwarders(&mut self, delivered: &[Delivered]) {
        let connections = || self.graph.connections.iter().zip(delivered);
        // One that is delivered to again was judged by what arrived from it.
        let forwarders = self.graph.processes.iter().filter(|p| p.forwards() && !p.redelivers());
        for forwarder in forwarders {
            let accepted = self.accepted(forwarder);
            // Between the token and the cell of a send a buffer belongs to neither side: one for each death.
            let into = connections().filter(|(c, _)| forwarder.inputs().contains(&c.to));
            let held: u64 = into.map(|(_, d)| d.lost_in_hand + d.receiver_kills).sum();
            // What another connection drops is judged there.
            let out = connections().filter(|(c, _)| Some(&c.from) == forwarder.output().as_ref());
            for (_, Delivered { published, .. }) in out.filter(|(c, _)| c.policy() == Policy::Block) {
                let unexplained = accepted.saturating_sub(published + held);
                if unexplained > 0 {
                    self.wrongs.lost += unexplained;
                    self.wrongs.find(format!(
                        "`{}` accepted {accepted} messages, passed on {published} and held {held} when it was killed",
                        forwarder.name
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    /// One whose sink `every` is delivered to again, and whose `chain-sink` holds some.
    fn graph() -> Graph {
        let is = |g: &Graph, name: &str, what: fn(&Process) -> bool| {
            g.processes.iter().any(|p| p.name == name && what(p))
        };
        let fits = |g: &Graph| is(g, "every", Process::redelivers) && is(g, "chain-sink", |p| p.hold() > 0);
        (0..).map(|seed| Graph::new(&mut Random::new(seed), true)).find(fits).unwrap()
    }

    /// Its copy, the place of its plain sink, of the connection to it, and the source that comes there.
    fn setting(name: &str) -> (Graph, usize, usize, u32) {
        let graph = graph();
        let process = graph.processes.iter().position(|p| p.name == name).unwrap();
        let port = graph.processes[process].inputs().pop().unwrap();
        let ((_, source), connection) = graph.routes().into_iter().find(|((to, _), _)| *to == port).unwrap();
        (graph, process, connection, source)
    }

    /// Enters (incarnation, number, marked) and closes with so many published there.
    fn judged(name: &str, records: &[(u32, u64, bool)], here: Delivered) -> (Wrongs, u64) {
        let (graph, process, connection, source) = setting(name);
        let mut account = Account::new(&graph);
        for &(incarnation, number, redelivered) in records {
            account.enter(process, Record { message: Some((source, incarnation, number)), redelivered });
        }
        let mut delivered = vec![Delivered::default(); graph.connections.len()];
        delivered[connection] = here;
        let in_hand = account.close(&delivered);
        (account.wrongs, in_hand)
    }

    fn published(published: u64) -> Delivered {
        Delivered { published, ..Delivered::default() }
    }

    #[test]
    fn a_sound_stream_is_found_sound() {
        let records = [(0, 0, false), (0, 1, false), (2, 0, false), (2, 1, false)];
        assert_eq!(judged("every", &records, published(4)), (Wrongs::default(), 0));
    }

    #[test]
    fn a_missing_message_is_seen_in_the_middle_and_at_the_end() {
        for records in [[(0, 0, false), (0, 2, false)], [(0, 0, false), (0, 1, false)]] {
            let (wrongs, _) = judged("every", &records, published(3));
            assert_eq!(wrongs.lost, 1);
            assert_eq!(wrongs.findings.len(), 1);
        }
    }

    #[test]
    fn what_a_victim_had_in_hand_is_no_loss_but_one_more_is() {
        let killed = Delivered { lost_in_hand: 40, receiver_kills: 1, ..published(10) };
        let (_, sink, ..) = setting("chain-sink");
        let batch = graph().processes[sink].batch();
        let records: Vec<_> = (batch..10).map(|number| (0, number, false)).collect();
        assert_eq!(judged("chain-sink", &records, killed), (Wrongs::default(), batch));
        assert_eq!(judged("chain-sink", &records[1..], killed).0.lost, 1);
        // Recovery counted nothing as lost in hand: then nothing may be missing.
        assert_eq!(judged("chain-sink", &records, Delivered { lost_in_hand: 0, ..killed }).0.lost, batch);
    }

    #[test]
    fn what_a_victim_had_written_down_explains_no_other_loss() {
        let (graph, sink, connection, source) = setting("chain-sink");
        let hold = graph.processes[sink].hold() as u64;
        for (lost_in_hand, lost, miscounted) in [(hold + 1, 0, 0), (hold, 1, 0), (hold - 1, 1, 1)] {
            let mut account = Account::new(&graph);
            for number in 0..9 {
                account.enter(sink, Record { message: Some((source, 0, number)), redelivered: false });
            }
            account.died(sink, Death::Killed);
            let mut delivered = vec![Delivered::default(); graph.connections.len()];
            delivered[connection] = Delivered { lost_in_hand, receiver_kills: 1, ..published(10) };
            account.close(&delivered);
            assert_eq!((account.wrongs.lost, account.wrongs.miscounted), (lost, miscounted), "{hold}");
        }
    }

    #[test]
    fn a_mark_where_nothing_is_delivered_again_is_seen() {
        assert_eq!(judged("chain-sink", &[(0, 0, true)], published(1)).0.doubled, 1);
        assert_eq!(judged("safe-forwarder", &[(0, 0, true)], published(1)).0.doubled, 0);
    }

    #[test]
    fn where_buffers_are_delivered_again_nothing_may_be_missing() {
        let killed = Delivered { lost_in_hand: 3, receiver_kills: 3, ..published(3) };
        assert_eq!(judged("every", &[(0, 0, false), (0, 2, false)], killed).0.lost, 1);
        let again = [(0, 0, false), (0, 1, false), (0, 0, true), (0, 1, true), (0, 2, false)];
        assert_eq!(judged("every", &again, killed).0, Wrongs::default());
    }

    #[test]
    fn a_double_a_wrong_order_and_damage_are_seen() {
        let (wrongs, _) = judged("every", &[(0, 0, false), (0, 1, false), (0, 1, false)], published(2));
        assert_eq!((wrongs.doubled, wrongs.lost), (1, 0));
        let (wrongs, _) = judged("every", &[(0, 0, false), (0, 2, false), (0, 1, false)], published(3));
        assert_eq!((wrongs.reordered, wrongs.doubled), (1, 0));
        let (wrongs, _) = judged("every", &[(1, 0, false), (0, 7, false)], published(2));
        assert_eq!(wrongs.reordered, 1, "an earlier incarnation");
        let (wrongs, _) = judged("every", &[(0, 0, false), (0, 1, false)], published(1));
        assert_eq!(wrongs.doubled, 1, "more were received than published");

        let (graph, process, ..) = setting("every");
        let mut account = Account::new(&graph);
        account.enter(process, Record { message: None, redelivered: false });
        account.enter(process, Record { message: Some((9999, 0, 0)), redelivered: false });
        assert_eq!(account.wrongs.corrupted, 2);
    }

    #[test]
    fn a_drop_is_no_loss_where_the_queue_drops() {
        let dropped = Delivered { dropped_oldest: 2, ..published(4) };
        assert_eq!(judged("oldest", &[(0, 1, false), (0, 3, false)], dropped).0, Wrongs::default());
        assert_eq!(judged("oldest", &[(0, 3, false)], dropped).0.lost, 1);
    }

    /// Three messages came to a forwarder, which then published some; these numbers arrived behind it.
    fn forwarded(name: &str, published_out: u64, arrived: &[u64], held: Delivered) -> Wrongs {
        let (graph, process, into, source) = setting(&format!("{name}-forwarder"));
        let (_, sink, out, _) = setting(&format!("{name}-sink"));
        let mut account = Account::new(&graph);
        for number in 0..3 {
            account.enter(process, Record { message: Some((source, 0, number)), redelivered: false });
        }
        for &number in arrived {
            account.enter(sink, Record { message: Some((source, 0, number)), redelivered: false });
        }
        let mut delivered = vec![Delivered::default(); graph.connections.len()];
        delivered[into] = Delivered { published: 3, ..held };
        delivered[out] = published(published_out);
        account.close(&delivered);
        account.wrongs
    }

    #[test]
    fn a_forwarder_that_swallows_a_message_is_found() {
        let killed = Delivered { receiver_kills: 1, lost_in_hand: 1, ..Delivered::default() };
        // It publishes again what it got again: what is published says nothing, what is missing does.
        assert_eq!(forwarded("safe", 4, &[0, 1, 2], killed), Wrongs::default());
        assert_eq!(forwarded("safe", 4, &[0, 2], killed).lost, 1);
        assert_eq!(forwarded("plain", 3, &[0, 1, 2], Delivered::default()), Wrongs::default());
        assert_eq!(forwarded("plain", 2, &[0, 2], Delivered::default()).lost, 1);
        assert_eq!(forwarded("plain", 2, &[0, 2], killed), Wrongs::default());
    }
}
