//! Tables that `ps` and `inspect` share.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use millpond_shm::{BlockInfo, ConnectionInfo, PortInfo, Snapshot};
use serde::Serialize;

use crate::table::Column::{Left, Right};
use crate::table::Table;
use crate::units;

/// One row a process: who it is, how it is, what it holds, what runs in it.
pub fn processes(pond: &Snapshot) -> Table {
    let mut table = Table::new(&[
        Right("SLOT"),
        Right("PID"),
        Left("NAME"),
        Left("ROLE"),
        Left("STATE"),
        Right("AGE"),
        Right("HELD"),
        Left("BLOCKS"),
    ]);
    for process in &pond.processes {
        let blocks = pond.blocks.iter().filter(|block| running(pond, block).contains(&process.pid));
        let blocks: Vec<&str> = blocks.map(|block| block.name.as_str()).collect();
        table.row([
            process.slot.to_string(),
            process.pid.to_string(),
            process.name.clone(),
            word(&process.role),
            process.state.to_owned(),
            units::age(since(process.attached_unix_ns)),
            process.held_buffers.to_string(),
            or_dash(blocks.join(" ")),
        ]);
    }
    table
}

/// One row a connection: how full its queue is, and who is at its ends.
pub fn connections(pond: &Snapshot) -> Table {
    let mut table = Table::new(&[
        Left("FROM"),
        Left("TO"),
        Right("QUEUED"),
        Left("WHEN FULL"),
        Left("STATE"),
        Left("SENDER"),
        Left("RECEIVERS"),
    ]);
    for connection in &pond.connections {
        table.row([
            connection.from.clone(),
            connection.to.clone(),
            format!("{}/{}", connection.queued, connection.depth),
            word(&connection.policy),
            state(connection),
            pids(connection.sender_pid.as_slice()),
            pids(&connection.receiver_pids),
        ]);
    }
    table
}

/// One row a connection: what has gone through it, and what was lost where.
pub fn positions(pond: &Snapshot) -> Table {
    let mut table = Table::new(&[
        Left("FROM"),
        Left("TO"),
        Right("PUBLISHED"),
        Right("TAKEN"),
        Right("DROPPED NEWEST"),
        Right("DROPPED OLDEST"),
        Right("LOST IN HAND"),
        Right("REDELIVERED"),
    ]);
    for connection in &pond.connections {
        table.row([
            connection.from.clone(),
            connection.to.clone(),
            connection.published.to_string(),
            connection.taken.to_string(),
            connection.dropped_newest.to_string(),
            connection.dropped_oldest.to_string(),
            connection.lost_in_hand.to_string(),
            connection.redelivered.to_string(),
        ]);
    }
    table
}

/// One row a pool.
pub fn pools(pond: &Snapshot) -> Table {
    let mut table = Table::new(&[
        Right("POOL"),
        Right("BLOCK SIZE"),
        Right("BLOCKS"),
        Right("FREE"),
        Right("USED"),
        Right("SHARES"),
        Right("EXHAUSTED"),
    ]);
    for pool in &pond.pools {
        table.row([
            pool.index.to_string(),
            units::bytes(pool.block_bytes),
            pool.blocks.to_string(),
            pool.free.to_string(),
            pool.used.to_string(),
            pool.shares.len().to_string(),
            pool.exhausted.to_string(),
        ]);
    }
    table
}

/// One row for all shares of a pool that have the same owner.
pub fn shares(pond: &Snapshot) -> Table {
    let mut table =
        Table::new(&[Right("POOL"), Left("OWNER"), Right("SHARES"), Right("BLOCKS"), Right("FREE")]);
    for pool in &pond.pools {
        let mut owners: Vec<(String, [u32; 3])> = Vec::new();
        for share in &pool.shares {
            let owner = match (share.owner_pid, share.open) {
                (Some(pid), _) => format!("pid {pid}"),
                (None, true) => "everybody".to_owned(),
                (None, false) if share.committed => "nobody now".to_owned(),
                (None, false) => "nobody yet".to_owned(),
            };
            let at = owners.iter().position(|(known, _)| *known == owner).unwrap_or_else(|| {
                owners.push((owner, [0; 3]));
                owners.len() - 1
            });
            for (sum, count) in owners[at].1.iter_mut().zip([1, share.blocks, share.free]) {
                *sum += count;
            }
        }
        for (owner, [shares, blocks, free]) in owners {
            table.row([
                pool.index.to_string(),
                owner,
                shares.to_string(),
                blocks.to_string(),
                free.to_string(),
            ]);
        }
    }
    table
}

/// One row a block.
pub fn blocks(pond: &Snapshot) -> Table {
    let mut table = Table::new(&[Left("BLOCK"), Left("TYPE"), Left("PROCESSES")]);
    for block in &pond.blocks {
        let running: Vec<u32> = running(pond, block).into_iter().collect();
        table.row([block.name.clone(), or_dash(block.block_type.clone()), pids(&running)]);
    }
    table
}

/// One row a port.
pub fn ports(pond: &Snapshot) -> Table {
    let mut table = Table::new(&[
        Left("PORT"),
        Left("DIRECTION"),
        Left("PROCESSES"),
        Left("FORMAT"),
        Left("OPTIONS"),
        Right("UNCONNECTED"),
        Right("DROPPED"),
    ]);
    for port in &pond.ports {
        let format = port.format.as_ref().map_or(String::new(), |format| {
            let shape: Vec<String> = format.shape.iter().map(u32::to_string).collect();
            let rate = format
                .rate_hz
                .map_or(String::new(), |(num, den)| format!(" at {} Hz", f64::from(num) / f64::from(den)));
            format!("{}[{}]{rate}", word(&format.dtype), shape.join(","))
        });
        let options = [(port.shared, "shared"), (port.redeliver, "redeliver")];
        let options: Vec<&str> = options.into_iter().filter_map(|(set, name)| set.then_some(name)).collect();
        table.row([
            port.name.clone(),
            word(&port.direction),
            pids(&port.pids),
            or_dash(format),
            or_dash(options.join(" ")),
            port.unconnected.to_string(),
            port.dropped_at_disconnect.to_string(),
        ]);
    }
    table
}

/// One row a mailbox of the message bus: who has it, what became of the messages to it.
pub fn mailboxes(pond: &Snapshot) -> Table {
    let mut table = Table::new(&[
        Left("MAILBOX"),
        Right("PID"),
        Left("STATE"),
        Right("WAITING"),
        Right("RECEIVED"),
        Right("LOST"),
        Right("REFUSED FULL"),
        Right("ABANDONED"),
        Right("OVERFLOWED"),
        Left("FOUND BY"),
    ]);
    for mailbox in &pond.mailboxes {
        table.row([
            mailbox.name.clone(),
            mailbox.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            mailbox.state.to_owned(),
            mailbox.waiting.to_string(),
            mailbox.received.to_string(),
            mailbox.lost.to_string(),
            mailbox.refused_full.to_string(),
            mailbox.abandoned.to_string(),
            mailbox.overflowed.to_string(),
            or_dash(mailbox.labels.join(", ")),
        ]);
    }
    table
}

/// Processes that run a block: the one that says so, and those that have one of its ports.
fn running(pond: &Snapshot, block: &BlockInfo) -> BTreeSet<u32> {
    let has_port = |port: &&PortInfo| port.name.rsplit_once('.').is_some_and(|(name, _)| name == block.name);
    let at_ports = pond.ports.iter().filter(has_port).flat_map(|port| port.pids.iter().copied());
    block.pid.into_iter().chain(at_ports).collect()
}

fn state(connection: &ConnectionInfo) -> String {
    match (connection.sender_died, connection.receiver_died) {
        (true, true) => "both ends died".to_owned(),
        (true, false) => "sender died".to_owned(),
        (false, true) => "receiver died".to_owned(),
        (false, false) => connection.state.to_owned(),
    }
}

fn since(unix_ns: u64) -> Duration {
    (UNIX_EPOCH + Duration::from_nanos(unix_ns)).elapsed().unwrap_or_default()
}

/// The word that stands for it in JSON.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

fn pids(pids: &[u32]) -> String {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    or_dash(pids.join(" "))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
