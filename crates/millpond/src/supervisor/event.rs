//! What a supervisor tells: what happens while it runs a flowgraph, and how that ended.

use std::fmt;
use std::time::Duration;

use super::{Death, Stall, Status};

/// What happens while a flowgraph runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A process runs the block.
    Started {
        /// The block.
        block: &'a str,
        /// Its process.
        pid: u32,
    },
    /// The block has something to tell.
    Note {
        /// The block.
        block: &'a str,
        /// What it tells.
        note: &'a str,
    },
    /// The block's process wrote a line to its standard error.
    Line {
        /// The block.
        block: &'a str,
        /// The line.
        line: &'a str,
    },
    /// The process died before its blocks were done.
    Died {
        /// The process's name: that of its block, or of the process that several share.
        process: &'a str,
        /// The blocks that it ran and that were not done.
        blocks: &'a [&'a str],
        /// The dead process.
        pid: u32,
        /// How it died.
        death: &'a Death,
        /// They are started again after this time; `None`: they are given up.
        restart_in: Option<Duration>,
    },
    /// The process lives but does not get on.
    Stalled {
        /// The process's name.
        process: &'a str,
        /// The stalled process.
        pid: u32,
        /// What it is stuck with.
        stall: &'a Stall,
        /// For how long.
        since: Duration,
        /// It is killed now, as `kill_stalled` asks; otherwise it is left alone.
        killed: bool,
    },
    /// Everything is brought to its end now, for this reason.
    Ending {
        /// Why.
        reason: &'a EndReason,
    },
    /// Some time has passed.
    Progress(&'a Status),
}

/// Why a flowgraph is brought to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// Its duration is over.
    DurationOver,
    /// A signal asked for it.
    Interrupted,
    /// A block, or a process of several, was given up.
    Failed {
        /// The name of the process: that of its block, or of the process that several share.
        process: String,
        /// How it died last.
        death: Death,
    },
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndReason::DurationOver => f.write_str("its time is over"),
            EndReason::Interrupted => f.write_str("a signal asked for it"),
            EndReason::Failed { process, death } => write!(f, "`{process}` {death}"),
        }
    }
}

/// How a flowgraph ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// All blocks were done, by themselves or after being asked to end; nothing was left behind.
    Done {
        /// What they were asked for; `None`: all sources ended by themselves.
        reason: Option<EndReason>,
    },
    /// A second signal stopped everybody at once.
    Stopped,
    /// A block, or a process of several, was given up.
    Failed {
        /// The name of the process: that of its block, or of the process that several share.
        process: String,
        /// How it died last.
        death: Death,
    },
}

/// What there is to say about a flowgraph that has ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How it ended.
    pub outcome: Outcome,
    /// The final numbers.
    pub status: Status,
}
