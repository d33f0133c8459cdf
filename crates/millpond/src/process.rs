//! The life of a process that runs blocks: by hand, or started by a supervisor.

use std::process::ExitCode;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use millpond_shm::{Monitor, Pond, Role, Snapshot};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::catalog::Catalog;
use crate::error::{Context, Error, Result};
use crate::log::ToPond;
use crate::param::Params;
use crate::placement::Placement;
use crate::report;
use crate::runner::Ending;
use crate::scheduler::{Failure, Job, Scheduler};
use crate::stop::Urgency;

/// Exit code of a process whose block was done by itself and has left its streams open (`EX_TEMPFAIL` of sysexits.h).
pub(crate) const EXIT_LEFT_OPEN: u8 = 75;
/// How long blocks may go on after their supervisor has died, so that the streams can end in order.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
/// How long a block may take to leave after it was told to stop at once.
const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// A block that a process is to run.
#[derive(Clone, Debug)]
pub struct BlockJob {
    /// Name of the block's type.
    pub block_type: String,
    /// The block's name in the flowgraph.
    pub name: String,
    /// Parameters as a command line gives them, by name.
    pub params: Vec<(String, String)>,
}

/// What a process is to run: one block, or several on the threads of one scheduler.
#[derive(Clone, Debug)]
pub struct BlockProcess {
    /// The blocks; at least one.
    pub blocks: Vec<BlockJob>,
    /// The pond to attach to.
    pub pond: String,
    /// Pid of the supervisor that started this process. Without it, a failure is this function's error, too.
    pub supervisor: Option<u32>,
    /// The blocks go on when the supervisor dies.
    pub goes_on_alone: bool,
    /// A block that is done by itself leaves its streams open, for its next start.
    pub stays_open: bool,
    /// Lines on standard input ask single blocks to end.
    pub obeys_stdin: bool,
    /// Threads, CPUs and niceness.
    pub placement: Placement,
}

impl BlockProcess {
    /// Runs the blocks in this process and returns its exit code: success, or failure after telling its supervisor why.
    ///
    /// The first SIGINT or SIGTERM lets them take what is queued and end their streams, the second stops them at once. A line
    /// `end BLOCK` on standard input lets one block end in order.
    ///
    /// # Blocking
    /// Until every block is done or stopped, or one fails. Then the process has to end: the streams of the others stay open for its
    /// restart.
    ///
    /// # Errors
    /// What is wrong with the types, the parameters or the pond: nothing has run then. Without a supervisor, why a block failed.
    pub fn run(&self, catalog: &Catalog) -> Result<ExitCode> {
        match self.run_blocks(catalog) {
            // Nobody but the supervisor sees how a process starts.
            Err(error) if self.supervisor.is_some() => {
                report::failed(None, &error);
                Ok(ExitCode::FAILURE)
            }
            result => result,
        }
    }

    fn run_blocks(&self, catalog: &Catalog) -> Result<ExitCode> {
        // First of all: a signal that arrives while the blocks are still being made must not kill them.
        let signals = Signals::new([SIGINT, SIGTERM]).context(|| "listen for signals")?;
        if let Some(supervisor) = self.supervisor.filter(|_| !self.goes_on_alone) {
            end_with(supervisor)?;
        }
        let mut jobs = self.blocks.iter().map(|block| block.resolve(catalog)).collect::<Result<Vec<_>>>()?;
        self.placement.apply()?;
        let is_shared = jobs.len() > 1;
        let pond = Pond::attach(&self.pond, if is_shared { Role::Worker } else { Role::Block })?;
        let _log = ToPond::new(&pond);
        let snapshot = Monitor::open(&self.pond)?.snapshot();
        if self.supervisor.is_some() {
            // Those that were removed while the supervisor started this process.
            jobs.retain(|job| snapshot.blocks.iter().any(|known| known.name == job.name));
        }
        if jobs.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let connections = if is_shared { connections(&snapshot) } else { Vec::new() };
        let scheduler = match Scheduler::new(&pond, jobs, &connections, self.stays_open) {
            Ok(scheduler) => Arc::new(scheduler),
            Err(failure) => return self.failed(is_shared, failure),
        };
        let _listener = SignalListener::new(signals, self.supervisor, Arc::clone(&scheduler))?;
        if self.obeys_stdin {
            obey_standard_input(Arc::downgrade(&scheduler))?;
        }
        let has_ended = |block: &str| {
            if is_shared {
                report::done(block);
            }
        };
        match scheduler.run(self.placement.threads, &has_ended) {
            Ok(Ending::LeftOpen) => Ok(ExitCode::from(EXIT_LEFT_OPEN)),
            Ok(Ending::Done | Ending::Stopped) => Ok(ExitCode::SUCCESS),
            Err(failure) => {
                // Dropping the ports would end the streams in order. Left alone they look like those of a killed process, and
                // receivers wait for the restart.
                scheduler.leave_open();
                self.failed(is_shared, failure)
            }
        }
    }

    /// A supervisor puts the words around it, and for a person the caller does.
    fn failed(&self, is_shared: bool, failure: Failure) -> Result<ExitCode> {
        let Failure { block, error } = failure;
        if self.supervisor.is_none() {
            return Err(error).context(|| format!("block `{block}` failed"));
        }
        report::failed(is_shared.then_some(block.as_str()), &error);
        Ok(ExitCode::FAILURE)
    }
}

impl BlockJob {
    fn resolve<'a>(&self, catalog: &'a Catalog) -> Result<Job<'a>> {
        let block_type = catalog.find(&self.block_type)?;
        let given = self.params.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let params = Params::parse(block_type.spec(), given)?;
        Ok(Job { name: self.name.clone(), block_type, params })
    }
}

/// Who sends to whom in a pond, by the names of the blocks.
fn connections(pond: &Snapshot) -> Vec<(String, String)> {
    let block = |port: &str| port.split_once('.').map_or(port, |(block, _)| block).to_owned();
    pond.connections.iter().map(|known| (block(&known.from), block(&known.to))).collect()
}

/// Makes the kernel send SIGTERM when the supervisor dies.
fn end_with(supervisor: u32) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .context(|| "ask to be told of the supervisor's death")?;
    if is_orphan(supervisor) {
        return Err(Error::Refused(format!("the supervisor (process {supervisor}) has died")));
    }
    Ok(())
}

fn is_orphan(supervisor: u32) -> bool {
    getppid().map(Pid::as_raw_pid).and_then(|pid| u32::try_from(pid).ok()) != Some(supervisor)
}

/// Starts the thread that reads what the supervisor asks for. It does not keep the process from ending.
fn obey_standard_input(scheduler: Weak<Scheduler>) -> Result<()> {
    let obey = move || {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            let Some(scheduler) = scheduler.upgrade() else { return };
            if let Some(block) = line.strip_prefix("end ") {
                scheduler.ask(block, Urgency::Drain);
            }
        }
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(obey).context(|| "start a thread")?;
    Ok(())
}

/// The thread that turns signals into requests to stop; ends when this is dropped.
struct SignalListener {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalListener {
    fn new(mut signals: Signals, supervisor: Option<u32>, scheduler: Arc<Scheduler>) -> Result<Self> {
        let handle = signals.handle();
        let listen = move || {
            let mut requests = 0;
            for _ in signals.forever() {
                requests += 1;
                let orphan = supervisor.is_some_and(is_orphan);
                let grace = match requests {
                    1 if orphan => {
                        scheduler.ask_all(Urgency::EndOfStream);
                        Some(ORPHAN_GRACE)
                    }
                    1 => {
                        scheduler.drain();
                        None
                    }
                    _ => {
                        scheduler.ask_all(Urgency::Now);
                        Some(Duration::ZERO)
                    }
                };
                if let Some(grace) = grace {
                    leave_in_any_case(grace, Arc::downgrade(&scheduler));
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(listen);
        Ok(Self { handle, thread: Some(thread.context(|| "start a thread")?) })
    }
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        // The thread holds the scheduler, and with it the pond: it has to end before the pond can be left.
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A block that does not come back from `work` must not keep its process alive for ever.
fn leave_in_any_case(grace: Duration, scheduler: Weak<Scheduler>) {
    std::thread::spawn(move || {
        std::thread::sleep(grace);
        if let Some(scheduler) = scheduler.upgrade() {
            scheduler.ask_all(Urgency::Now);
        }
        std::thread::sleep(LEAVE_GRACE);
        std::process::exit(1);
    });
}
