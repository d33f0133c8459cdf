//! Who sends to whom while a flowgraph runs: what it states, and what was connected and disconnected since.

use millpond_shm::{ConnectionInfo, Snapshot};

use super::Flowgraph;
use super::cycles::is_in_cycle;

/// The connections of a flowgraph that runs.
#[derive(Debug)]
pub(crate) struct Wiring {
    links: Vec<Link>,
}

/// A connection, by the full names of its ports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) from: String,
    pub(crate) to: String,
}

impl Link {
    pub(crate) fn sender(&self) -> &str {
        block_of(&self.from)
    }

    pub(crate) fn receiver(&self) -> &str {
        block_of(&self.to)
    }

    fn is(&self, connection: &ConnectionInfo) -> bool {
        self.from == connection.from && self.to == connection.to
    }
}

impl Wiring {
    /// As the flowgraph states it.
    pub(crate) fn new(flowgraph: &Flowgraph) -> Self {
        let link = |c: &super::Connection| Link { from: c.from.to_string(), to: c.to.to_string() };
        Self { links: flowgraph.connections.iter().map(link).collect() }
    }

    /// Follows what was connected and disconnected. Connections to a block that `has_ended` stay known: they were taken down
    /// because of that, and their senders have to learn it.
    pub(crate) fn follow(&mut self, pond: &Snapshot, has_ended: impl Fn(&str) -> bool) {
        let open = || pond.connections.iter().filter(|connection| connection.state != "closing");
        self.links.retain(|link| has_ended(link.receiver()) || open().any(|connection| link.is(connection)));
        for connection in open() {
            if !self.links.iter().any(|link| link.is(connection)) {
                self.links.push(Link { from: connection.from.clone(), to: connection.to.clone() });
            }
        }
    }

    /// The connections, in the flowgraph's order; later ones behind.
    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    /// The connections that end at a block.
    pub(crate) fn links_to(&self, block: &str) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| link.receiver() == block)
    }

    /// Nobody sends to the block.
    pub(crate) fn is_source(&self, block: &str) -> bool {
        self.links_to(block).next().is_none()
    }

    /// Whether a block is to end because nobody receives from it any more or, while everything is `ending`, because nobody sends
    /// to it any more.
    pub(crate) fn is_due_to_end(&self, block: &str, ending: bool, has_ended: impl Fn(&str) -> bool) -> bool {
        let mut receivers =
            self.links.iter().filter(|link| link.sender() == block).map(Link::receiver).peekable();
        let unheard = receivers.peek().is_some() && receivers.all(&has_ended);
        unheard || ending && self.links_to(block).map(Link::sender).all(has_ended)
    }

    /// Of the blocks that are `left`, when each is sent to by another one: only cycles are left, and what they feed, and none of them is the
    /// first. Then the blocks of the cycles, which are to end; the others follow. Else nobody.
    pub(crate) fn cycles_of<'a>(&self, left: &[&'a str]) -> Vec<&'a str> {
        let links = self.links.iter().map(|link| (link.sender(), link.receiver()));
        let links: Vec<(&str, &str)> =
            links.filter(|(from, to)| left.contains(from) && left.contains(to)).collect();
        if left.iter().any(|block| links.iter().all(|(_, to)| to != block)) {
            return Vec::new();
        }
        left.iter().copied().filter(|block| is_in_cycle(&links, block)).collect()
    }
}

fn block_of(port: &str) -> &str {
    port.split_once('.').map_or(port, |(block, _)| block)
}
