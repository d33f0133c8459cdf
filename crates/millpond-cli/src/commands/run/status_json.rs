//! How a flowgraph went, for programs.

use std::collections::VecDeque;

use millpond::supervisor::{BlockStatus, ConnectionStatus, EndReason, Outcome, Summary};
use serde_json::{Value, json};

/// Block and text of each.
type Notes = VecDeque<(String, String)>;

/// One JSON object, on lines of its own. Times are seconds; counts are buffers.
pub fn summary(name: &str, summary: &Summary, notes: &Notes, notes_left_out: u64) -> String {
    let (outcome, cause) = match &summary.outcome {
        Outcome::Done { reason: None } => ("done", None),
        Outcome::Done { reason: Some(EndReason::Interrupted) } => ("interrupted", None),
        Outcome::Done { .. } => ("duration over", None),
        Outcome::Stopped => ("stopped", None),
        Outcome::Failed { process, death } => ("failed", Some(format!("`{process}` {death}"))),
        other => ("failed", Some(format!("{other:?}"))),
    };
    let status = &summary.status;
    let object = json!({
        "name": name,
        "outcome": outcome,
        "cause": cause,
        "notes_left_out": notes_left_out,
        "seconds": status.elapsed.as_secs_f64(),
        "blocks": status.blocks.iter().map(|of| block(of, notes)).collect::<Vec<_>>(),
        "connections": status.connections.iter().map(connection).collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

fn block(block: &BlockStatus, notes: &Notes) -> Value {
    let statistics = &block.statistics;
    let latency = statistics
        .latency
        .map(|latency| json!({ "p50_s": latency.p50.as_secs_f64(), "p99_s": latency.p99.as_secs_f64() }));
    let notes = notes.iter().filter(|(of, _)| *of == block.name).map(|(_, note)| note);
    json!({
        "name": block.name,
        "type": block.block_type,
        "taken": statistics.taken,
        "sent": statistics.sent,
        "restarts": statistics.starts.saturating_sub(1),
        "failures": statistics.failures,
        "latency": latency,
        "notes": notes.collect::<Vec<_>>(),
    })
}

fn connection(connection: &ConnectionStatus) -> Value {
    json!({
        "from": connection.from,
        "to": connection.to,
        "sent": connection.sent,
        "taken": connection.taken,
        "dropped_newest": connection.dropped_newest,
        "dropped_oldest": connection.dropped_oldest,
        "lost_in_hand": connection.lost_in_hand,
        "left_behind": connection.left_behind + connection.queued,
    })
}
