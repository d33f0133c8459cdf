//! Runs a flowgraph in this process, without a supervisor: for programs, tests, and measurements.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millpond_shm::{Monitor, Pond, PondConfig, Role};

use super::Flowgraph;
use super::wiring::Wiring;
use crate::catalog::Catalog;
use crate::error::{Context as _, Error, Result};
use crate::interrupt::Interrupts;
use crate::params::Params;
use crate::scheduler::{Failure, Job, Scheduler};
use crate::stop::Urgency;

impl Flowgraph {
    /// Runs all blocks on `threads` threads of this process, the calling one among them, to their ends.
    ///
    /// # Blocking
    /// Until all blocks are done: when the sources are, or the flowgraph's duration is over.
    ///
    /// # Errors
    /// What the first block that fails, or panics, fails with; the others are stopped then. Blocks of other programs cannot
    /// be run here.
    pub fn run_here(&self, catalog: &Catalog, threads: usize) -> Result<()> {
        self.run_in(&self.make_pond(Role::Worker)?, catalog, threads, &Interrupts::new()?)
    }

    /// As [`run_here`](Flowgraph::run_here), in a pond from [`make_pond`](Flowgraph::make_pond). The first interrupt ends the
    /// sources, the second stops all blocks at once.
    ///
    /// # Errors
    /// As [`run_here`](Flowgraph::run_here).
    pub fn run_in(
        &self,
        pond: &Pond,
        catalog: &Catalog,
        threads: usize,
        interrupts: &Interrupts,
    ) -> Result<()> {
        let mut jobs = Vec::new();
        for node in &self.blocks {
            if let Some(program) = &node.program {
                return Err(Error::Refused(format!(
                    "block `{}` needs the program {}: only processes can run it",
                    node.name,
                    program.display()
                )));
            }
            let block_type = catalog.find(&node.block_type)?;
            let params = Params::new(block_type.spec(), node.given.iter().cloned())?;
            jobs.push(Job { name: node.name.clone(), block_type, params });
        }
        let connections: Vec<_> =
            self.connections.iter().map(|c| (c.from.block.clone(), c.to.block.clone())).collect();
        let scheduler = Scheduler::new(pond, jobs, &connections, false).map_err(failed)?;
        let monitor = Monitor::open(pond.name())?;
        let known = Mutex::new((Wiring::new(self), Vec::new()));
        let ending = AtomicBool::new(false);
        // Asks those blocks to end that nobody sends to, or receives from, any more.
        let lead_to_the_end = |wiring: &Wiring, ended: &[String]| {
            let is_ending = ending.load(Ordering::Acquire);
            let has_ended = |block: &str| ended.iter().any(|known| known == block);
            let names = self.blocks.iter().map(|node| node.name.as_str());
            let left: Vec<&str> = names.filter(|block| !has_ended(block)).collect();
            let due = left.iter().filter(|block| wiring.is_due_to_end(block, is_ending, has_ended));
            let cycles = if is_ending { wiring.cycles_of(&left) } else { Vec::new() };
            for block in due.copied().chain(cycles) {
                scheduler.ask(block, Urgency::Drain);
            }
        };
        let has_ended = |block: &str| {
            let (wiring, ended) = &mut *known.lock().unwrap_or_else(PoisonError::into_inner);
            wiring.follow(&monitor.snapshot(), |block| ended.iter().any(|known| known == block));
            ended.push(block.to_owned());
            for link in wiring.links_to(block) {
                // Somebody may have been faster.
                let _ = pond.disconnect(&link.from, &link.to);
            }
            lead_to_the_end(wiring, ended);
        };
        let end = || {
            ending.store(true, Ordering::Release);
            let (wiring, ended) = &*known.lock().unwrap_or_else(PoisonError::into_inner);
            lead_to_the_end(wiring, ended);
        };
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| end_when_asked(self.duration, interrupts, &scheduler, &end, &is_over));
            let result = scheduler.run(threads, &has_ended);
            is_over.store(true, Ordering::Release);
            interrupts.interrupter().interrupt();
            result
        })
        .map(drop)
        .map_err(failed)
    }

    /// Makes the pond and declares blocks and connections. Nothing runs yet.
    ///
    /// # Errors
    /// [`Error::Pond`], for example when a pond of that name is running already.
    pub fn make_pond(&self, role: Role) -> Result<Pond> {
        let config = PondConfig { pools: self.pools_or_default(), ..PondConfig::default() };
        let pond = Pond::create(&self.name, &config, role)?;
        for node in &self.blocks {
            pond.declare_block(&node.name, &node.block_type)?;
        }
        for connection in &self.connections {
            let config = self.config_of(connection);
            pond.connect(&connection.from.to_string(), &connection.to.to_string(), &config)?;
        }
        Ok(pond)
    }
}

/// Passes on requests to end, the first one to `end`, until the run is over.
fn end_when_asked(
    duration: Option<Duration>,
    interrupts: &Interrupts,
    scheduler: &Scheduler,
    end: &(dyn Fn() + Sync),
    is_over: &AtomicBool,
) {
    let mut end_at = duration.and_then(|duration| Instant::now().checked_add(duration));
    let mut requests = 0;
    loop {
        // Without a way to be asked, the blocks still end by themselves.
        let Ok(arrived) = interrupts.arrived(end_at) else { return };
        if is_over.load(Ordering::Acquire) {
            return;
        }
        requests += arrived;
        end_at = None;
        if requests > 1 {
            scheduler.ask_all(Urgency::Now);
        } else {
            scheduler.ask_all(Urgency::EndOfStream);
            end();
        }
    }
}

fn failed(failure: Failure) -> Error {
    let block = failure.block;
    match Err::<(), _>(failure.error).context(|| format!("block `{block}`")) {
        Err(error) => error,
        Ok(()) => unreachable!("it was an error"),
    }
}
