//! The life of a process that runs blocks: by hand, or started by a supervisor.

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millpond_shm::{Monitor, Pond, Role, Snapshot};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};

use crate::catalog::Catalog;
use crate::error::{Context, Result};
use crate::log::ToPond;
use crate::params::Params;
use crate::placement::Placement;
use crate::report;
use crate::runner::Ending;
use crate::scheduler::{Failure, Job, Scheduler};
use crate::stop::Urgency;

/// Exit code of a process whose block was done by itself and has left its streams open (`EX_TEMPFAIL` of sysexits.h).
pub(crate) const EXIT_LEFT_OPEN: u8 = 75;
/// After their supervisor has died the streams end in order. A block whose stream cannot, because its sender or receiver has died as well
/// and nobody starts it again, leaves when nothing has moved in the pond for so long.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
/// In any case it leaves after so long: who was started by hand may send for ever.
const LONGEST_ORPHAN: Duration = Duration::from_secs(60);
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
        // A file that may not grow any more is the failure of the sink that writes to it, which names it: not the end of the process.
        flag::register(SIGXFSZ, Arc::default()).context(|| "listen for signals")?;
        let supervisor = self.supervisor.filter(|_| !self.goes_on_alone).map(watch).transpose()?;
        let mut jobs = self.blocks.iter().map(|block| block.resolve(catalog)).collect::<Result<Vec<_>>>()?;
        self.placement.apply()?;
        let is_shared = jobs.len() > 1;
        let pond = Pond::attach(&self.pond, if is_shared { Role::Worker } else { Role::Block })?;
        let _log = ToPond::new(&pond);
        let monitor = Monitor::open(&self.pond)?;
        let snapshot = monitor.snapshot();
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
        let _listener = SignalListener::new(signals, Arc::clone(&scheduler))?;
        if let Some(supervisor) = supervisor {
            end_with(supervisor, monitor, Arc::downgrade(&scheduler))?;
        }
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

/// What becomes readable when the supervisor has died; `None` if it has. That is its whole process: a parent's death signal would come with
/// the end of the thread that has started this process, again with that of the next one, and look like anybody's SIGTERM.
fn watch(supervisor: u32) -> Result<Option<OwnedFd>> {
    let pid = i32::try_from(supervisor).ok().and_then(Pid::from_raw);
    let opened = match pid.ok_or(Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty())) {
        Err(Errno::SRCH) => return Ok(None),
        opened => opened.map_err(std::io::Error::from).context(|| "watch the supervisor")?,
    };
    // If that is still the parent, it was no other process with the same pid that was opened.
    Ok((getppid() == pid).then_some(opened))
}

/// Starts the thread that ends the blocks in order when the supervisor has died. It does not keep the process from ending.
fn end_with(supervisor: Option<OwnedFd>, pond: Monitor, scheduler: Weak<Scheduler>) -> Result<()> {
    let end = move || {
        let death = |fd: &OwnedFd| retry_on_intr(|| poll(&mut [PollFd::new(fd, PollFlags::IN)], None));
        if supervisor.as_ref().is_some_and(|fd| death(fd).is_err()) {
            return;
        }
        if let Some(scheduler) = scheduler.upgrade() {
            scheduler.ask_all(Urgency::EndOfStream);
        }
        let died = Instant::now();
        let mut moved = moved_in(&pond);
        while died.elapsed() < LONGEST_ORPHAN {
            std::thread::sleep(ORPHAN_GRACE);
            let before = std::mem::replace(&mut moved, moved_in(&pond));
            if moved == before {
                break;
            }
        }
        leave_in_any_case(Duration::ZERO, scheduler);
    };
    std::thread::Builder::new().name("supervisor".to_owned()).spawn(end).context(|| "start a thread")?;
    Ok(())
}

/// Buffers that were ever sent and taken.
fn moved_in(pond: &Monitor) -> u64 {
    pond.snapshot().connections.iter().map(|connection| connection.published + connection.taken).sum()
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
    fn new(mut signals: Signals, scheduler: Arc<Scheduler>) -> Result<Self> {
        let handle = signals.handle();
        let listen = move || {
            for (request, _) in signals.forever().enumerate() {
                if request == 0 {
                    scheduler.drain();
                } else {
                    scheduler.ask_all(Urgency::Now);
                    leave_in_any_case(Duration::ZERO, Arc::downgrade(&scheduler));
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
