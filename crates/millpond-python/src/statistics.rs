//! Numbers of blocks and connections, as the dataclasses of `millpond._statistics`.

use millpond::BlockStatistics;
use millpond::supervisor::{ConnectionStatus, Status};
use millpond_shm::Snapshot;
use pyo3::prelude::*;

/// The final numbers of a flowgraph.
pub(crate) fn of_status(py: Python<'_>, status: &Status) -> PyResult<Py<PyAny>> {
    let blocks =
        status.blocks.iter().map(|block| (&*block.name, &*block.block_type, None, &block.statistics));
    statistics(py, blocks, status.connections.iter())
}

/// The numbers of a pond at this moment.
pub(crate) fn of_snapshot(py: Python<'_>, snapshot: &Snapshot) -> PyResult<Py<PyAny>> {
    let read = |counters: &Vec<u64>| BlockStatistics::from_counters(counters);
    let numbers: Vec<_> = snapshot.blocks.iter().map(|block| read(&block.counters)).collect();
    let blocks = snapshot.blocks.iter().zip(&numbers);
    let blocks = blocks.map(|(block, numbers)| (&*block.name, &*block.block_type, block.pid, numbers));
    let connections: Vec<_> = snapshot.connections.iter().map(ConnectionStatus::from).collect();
    statistics(py, blocks, connections.iter())
}

fn statistics<'a>(
    py: Python<'_>,
    blocks: impl Iterator<Item = (&'a str, &'a str, Option<u32>, &'a BlockStatistics)>,
    connections: impl Iterator<Item = &'a ConnectionStatus>,
) -> PyResult<Py<PyAny>> {
    let module = py.import("millpond._statistics")?;
    let (of_block, of_connection) =
        (module.getattr("BlockStatistics")?, module.getattr("ConnectionStatistics")?);
    let of_latency = module.getattr("Latency")?;
    let mut all_blocks = Vec::new();
    for (name, block_type, pid, numbers) in blocks {
        let stage = format!("{:?}", numbers.stage).to_lowercase();
        let latency = numbers.latency.map(|latency| {
            of_latency.call1((
                latency.p50.as_secs_f64(),
                latency.p99.as_secs_f64(),
                latency.max.as_secs_f64(),
            ))
        });
        let numbers =
            (name, block_type, stage, pid, numbers.starts, numbers.taken, numbers.sent, latency.transpose()?);
        all_blocks.push(of_block.call1(numbers)?);
    }
    let mut all_connections = Vec::new();
    for c in connections {
        let numbers = (
            &c.from,
            &c.to,
            c.depth,
            c.queued,
            c.sent,
            c.taken,
            c.dropped_newest,
            c.dropped_oldest,
            c.lost_in_hand,
            c.left_behind,
        );
        all_connections.push(of_connection.call1(numbers)?);
    }
    Ok(module.getattr("Statistics")?.call1((all_blocks, all_connections))?.unbind())
}
