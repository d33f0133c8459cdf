//! The programs of the two sides.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use millpond_compare::runner::{Object, Runner};

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Ours,
    Peer,
}

/// Runs the programs of both sides.
#[derive(Debug)]
pub struct Sides {
    millpond: PathBuf,
    peer: PathBuf,
    runner: Runner,
}

impl Sides {
    /// Sides with these two programs.
    pub fn new(millpond: PathBuf, peer: PathBuf) -> Result<Self> {
        Ok(Self { millpond, peer, runner: Runner::new()? })
    }

    /// The command line for `arguments`, as printed and as run.
    pub fn command_line(&self, side: Side, arguments: &[String], time: Option<Duration>) -> Vec<String> {
        let mut line = vec![self.program(side).display().to_string()];
        line.extend_from_slice(arguments);
        if let Some(time) = time {
            line.extend(["--seconds".into(), time.as_secs_f64().to_string()]);
        }
        line.push("--json".into());
        line
    }

    /// Runs a program and gives the object it printed.
    pub fn run(&mut self, side: Side, arguments: &[String], time: Option<Duration>) -> Result<Object> {
        self.runner.run(&self.command_line(side, arguments, time), time)
    }

    fn program(&self, side: Side) -> &Path {
        match side {
            Side::Ours => &self.millpond,
            Side::Peer => &self.peer,
        }
    }
}
