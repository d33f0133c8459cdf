//! Blocks that were started by hand in the supervisor's pond: it does not look after them, but brings them to their end with its own.

use std::collections::HashSet;

use millpond_shm::{BlockInfo, Monitor, Snapshot};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::flowgraph::Flowgraph;
use crate::statistics::{BlockStatistics, Stage};

/// A block that was started by hand, and runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) block: String,
    pid: u32,
}

/// Those that run now.
pub(super) fn guests(flowgraph: &Flowgraph, pond: &Snapshot) -> Vec<Guest> {
    let runs = |block: &&BlockInfo| BlockStatistics::from_counters(&block.counters).stage != Stage::Done;
    let is_own = |block: &BlockInfo| flowgraph.blocks.iter().any(|node| node.name == block.name);
    let guests = pond.blocks.iter().filter(|block| !is_own(block)).filter(runs);
    guests.filter_map(|block| Some(Guest { block: block.name.clone(), pid: block.pid? })).collect()
}

impl Guest {
    /// Asks its process to take what is queued and to end its streams, once: the second request would mean "at once".
    pub(super) fn tell_to_end(&self, monitor: &Monitor, told: &mut HashSet<u32>) {
        let pidfd = Pid::from_raw(self.pid.cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let Some(Ok(pidfd)) = pidfd else { return };
        // Looked at after it was opened: still the process that is meant, whoever had the pid before.
        let runs_it = |block: &BlockInfo| block.name == self.block && block.pid == Some(self.pid);
        if monitor.snapshot().blocks.iter().any(runs_it) && told.insert(self.pid) {
            let _ = pidfd_send_signal(&pidfd, Signal::TERM);
        }
    }
}
