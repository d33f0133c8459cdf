//! The pond a benchmark runs in.

use std::ops::Deref;

use anyhow::{Context as _, ensure};
use millpond_shm::{ConnectionConfig, Pond, PondConfig, PoolConfig, Role};

use crate::signals::StopOnSignal;

/// A pond of its own for one benchmark, stopped by Ctrl-C and gone when dropped.
pub struct BenchPond {
    // Dropped in this order: the listener holds the pond as well.
    _stop_on_signal: StopOnSignal,
    pond: Pond,
}

impl BenchPond {
    /// Creates a pond with one pool of `blocks` blocks that hold `size_bytes` each.
    ///
    /// # Errors
    /// If there is not enough memory, or the pond cannot be created.
    pub fn create(bench: &str, size_bytes: usize, blocks: u32) -> anyhow::Result<Self> {
        let pools = vec![PoolConfig::new(size_bytes as u64, blocks)];
        let name = format!("bench-{bench}-{}", std::process::id());
        let pond = Pond::create(&name, &PondConfig { pools, table_slots: blocks }, Role::Tool)
            .context("cannot create the pond to measure in")?;
        Ok(Self { _stop_on_signal: StopOnSignal::new(&pond)?, pond })
    }

    /// Connects two ports without loss.
    ///
    /// # Errors
    /// If the pond refuses.
    pub fn connect_lossless(&self, from: &str, to: &str, depth: u32) -> anyhow::Result<()> {
        let config = ConnectionConfig { depth: Some(depth), ..ConnectionConfig::default() };
        self.pond.connect(from, to, &config).with_context(|| format!("cannot connect {from} to {to}"))
    }

    /// Nobody has asked the pond to stop; for loops that do not wait in it.
    ///
    /// # Errors
    /// If somebody has.
    pub fn check_running(&self) -> anyhow::Result<()> {
        ensure!(!self.pond.stop_requested(), "stopped");
        Ok(())
    }
}

impl Deref for BenchPond {
    type Target = Pond;

    fn deref(&self) -> &Pond {
        &self.pond
    }
}
