//! How a running flowgraph is doing, read from the pond without disturbing anybody.

use std::time::Duration;

use millpond_shm::{ConnectionInfo, Snapshot};

use crate::flowgraph::wiring::{Link, Wiring};
use crate::flowgraph::{Flowgraph, Node};
use crate::statistics::BlockStatistics;

/// How a flowgraph is doing.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Time since its start.
    pub elapsed: Duration,
    /// Its blocks, in the file's order, without those that were removed.
    pub blocks: Vec<BlockStatus>,
    /// Its connections, in the file's order, then those that were made by hand; without those that were undone by hand.
    pub connections: Vec<ConnectionStatus>,
}

/// How a block is doing.
#[derive(Clone, Debug, Default)]
pub struct BlockStatus {
    /// Its name.
    pub name: String,
    /// Its type.
    pub block_type: String,
    /// What it says about itself.
    pub statistics: BlockStatistics,
}

/// How a connection is doing. Numbers count buffers.
#[derive(Clone, Debug, Default)]
pub struct ConnectionStatus {
    /// The output port, `block.port`.
    pub from: String,
    /// The input port, `block.port`.
    pub to: String,
    /// Waiting now.
    pub queued: u64,
    /// How many may wait.
    pub depth: u32,
    /// Ever sent.
    pub sent: u64,
    /// Ever taken.
    pub taken: u64,
    /// Not sent because the queue was full, as the policy asked.
    pub dropped_newest: u64,
    /// Removed from the full queue, as the policy asked.
    pub dropped_oldest: u64,
    /// In the hands of a receiver when it was killed.
    pub lost_in_hand: u64,
    /// Still queued when the receiver had ended for good.
    pub left_behind: u64,
}

impl Status {
    /// `closed` are the final numbers of connections that have been taken down.
    pub(super) fn new(
        flowgraph: &Flowgraph,
        wiring: &Wiring,
        snapshot: &Snapshot,
        closed: &[ConnectionStatus],
        elapsed: Duration,
    ) -> Self {
        let block = |node: &Node| BlockStatus {
            name: node.name.clone(),
            block_type: node.block_type.clone(),
            statistics: block_statistics(snapshot, &node.name),
        };
        let connection =
            |link: &Link| match closed.iter().find(|closed| closed.from == link.from && closed.to == link.to)
            {
                Some(closed) => closed.clone(),
                None => connection_status(snapshot, &link.from, &link.to),
            };
        let is_known = |node: &&Node| snapshot.blocks.iter().any(|known| known.name == node.name);
        Self {
            elapsed,
            blocks: flowgraph.blocks.iter().filter(is_known).map(block).collect(),
            connections: wiring.links().iter().map(connection).collect(),
        }
    }
}

pub(super) fn block_statistics(snapshot: &Snapshot, block: &str) -> BlockStatistics {
    let info = snapshot.blocks.iter().find(|info| info.name == block);
    info.map(|info| BlockStatistics::from_counters(&info.counters)).unwrap_or_default()
}

pub(super) fn connection_status(snapshot: &Snapshot, from: &str, to: &str) -> ConnectionStatus {
    let info = snapshot.connections.iter().find(|info| info.from == from && info.to == to);
    let numbers = info.map(ConnectionStatus::from).unwrap_or_default();
    ConnectionStatus { from: from.to_owned(), to: to.to_owned(), ..numbers }
}

impl From<&ConnectionInfo> for ConnectionStatus {
    fn from(info: &ConnectionInfo) -> Self {
        Self {
            from: info.from.clone(),
            to: info.to.clone(),
            queued: info.queued,
            depth: info.depth,
            sent: info.published,
            taken: info.taken,
            dropped_newest: info.dropped_newest,
            dropped_oldest: info.dropped_oldest,
            lost_in_hand: info.lost_in_hand,
            left_behind: 0,
        }
    }
}
