//! What the supervisor writes to the pond's log, beside what the blocks write themselves.

use std::time::Duration;

use millpond_shm::{Level, Pond};

use super::Event;

/// Logs what happens, except for progress.
pub(super) fn log(pond: &Pond, event: &Event<'_>) {
    match event {
        Event::Started { block, pid } => pond.log(block, Level::Info, &format!("started as process {pid}")),
        Event::Note { block, note } => pond.log(block, Level::Info, note),
        Event::Line { block, line } => pond.log(block, Level::Warn, line),
        Event::Died { process, blocks, pid, death, restart_in } => {
            let next = match restart_in {
                Some(Duration::ZERO) => "started again at once".to_owned(),
                Some(pause) => format!("started again in {pause:?}"),
                None => "not started again".to_owned(),
            };
            let shared = if blocks.contains(process) { String::new() } else { format!(" `{process}`") };
            for block in *blocks {
                pond.log(block, Level::Error, &format!("process{shared} {pid} {death}: {next}"));
            }
        }
        Event::Stalled { process, pid, stall, since, killed } => {
            let then = if *killed { ": killed" } else { "" };
            let text = format!("process {pid} {stall} for {:.1} s{then}", since.as_secs_f64());
            pond.log(process, Level::Warn, &text);
        }
        Event::Ending { reason } => pond.log("", Level::Info, &format!("ending: {reason}")),
        Event::Progress(_) => {}
    }
}
