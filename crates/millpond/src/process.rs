//! The life of a process that runs one block: `millpond block` by hand, or started by a supervisor.

use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::Duration;

use millpond_shm::{Pond, Role, Wait, Waiter};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::catalog::Catalog;
use crate::error::{Context, Error, Result};
use crate::log::ToPond;
use crate::param::Params;
use crate::runner::{Ending, Runner};
use crate::stop::{StopRequest, Urgency};

/// Starts the line on a block process's standard error that says why it failed; the supervisor tells it with the death.
pub(crate) const FAILED_PREFIX: &str = "failed: ";
/// Starts a line with which a block tells the user something; see [`Io::note`](crate::Io::note).
pub(crate) const NOTE_PREFIX: &str = "note: ";
/// How long blocks may go on after their supervisor has died, so that the streams can end in order.
const ORPHAN_GRACE: Duration = Duration::from_secs(5);
/// How long a block may take to leave after it was told to stop at once.
const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// What a block process is to run.
#[derive(Clone, Debug)]
pub struct BlockProcess {
    /// Name of the block's type.
    pub block_type: String,
    /// The block's name in the flowgraph.
    pub name: String,
    /// The pond to attach to.
    pub pond: String,
    /// Parameters as a command line gives them, by name.
    pub params: Vec<(String, String)>,
    /// Pid of the supervisor that started this process; without it, the block ends in order.
    pub supervisor: Option<u32>,
}

impl BlockProcess {
    /// Runs the block in this process and returns the process's exit code: success, or failure after saying why on standard error.
    ///
    /// The first SIGINT or SIGTERM lets it take what is queued and end its streams, the second stops it at once.
    ///
    /// # Blocking
    /// Until the block is done, fails or is stopped.
    ///
    /// # Errors
    /// What is wrong with the type, the parameters or the pond: nothing has run then.
    pub fn run(&self, catalog: &Catalog) -> Result<ExitCode> {
        match self.run_block(catalog) {
            // Nobody but the supervisor sees how a process starts.
            Err(error) if self.supervisor.is_some() => {
                report_failure(&error);
                Ok(ExitCode::FAILURE)
            }
            result => result,
        }
    }

    fn run_block(&self, catalog: &Catalog) -> Result<ExitCode> {
        // First of all: a signal that arrives while the block is still being made must not kill it.
        let signals = Signals::new([SIGINT, SIGTERM]).context(|| "listen for signals")?;
        if let Some(supervisor) = self.supervisor {
            end_with(supervisor)?;
        }
        let block_type = catalog.find(&self.block_type)?;
        let given = self.params.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        let params = Params::parse(block_type.spec(), given)?;
        let pond = Pond::attach(&self.pond, Role::Block)?;
        let _log = ToPond::new(&pond);
        let waiter = pond.waiter(Wait::Adaptive)?;
        let stop = StopRequest::default();
        let _listener = SignalListener::new(signals, self.supervisor, stop.clone(), waiter.clone())?;
        let runner = Runner::new(block_type, &pond, &self.name, params, waiter, stop);
        let ended = runner.and_then(|mut runner| {
            let ending = runner.run();
            if ending.is_err() {
                // Dropping its ports would end the streams in order. Left alone they look like those of a killed process, and
                // receivers wait for the restart.
                std::mem::forget(runner);
            }
            ending
        });
        match ended {
            Ok(Ending::Done | Ending::Stopped) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                report_failure(&error);
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

fn report_failure(error: &Error) {
    use std::io::Write as _;
    let text = error.to_string().replace('\n', " ");
    // Nobody may be listening any more; the exit code says it as well.
    let _ = writeln!(std::io::stderr(), "{FAILED_PREFIX}{text}");
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

/// The thread that turns signals into requests to stop; ends when this is dropped.
struct SignalListener {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalListener {
    fn new(mut signals: Signals, supervisor: Option<u32>, stop: StopRequest, waiter: Waiter) -> Result<Self> {
        let handle = signals.handle();
        let listen = move || {
            let mut requests = 0;
            for _ in signals.forever() {
                requests += 1;
                let orphan = supervisor.is_some_and(is_orphan);
                let (urgency, grace) = match requests {
                    1 if orphan => (Urgency::EndOfStream, Some(ORPHAN_GRACE)),
                    1 => (Urgency::Drain, None),
                    _ => (Urgency::Now, Some(Duration::ZERO)),
                };
                stop.raise_to(urgency);
                waiter.ring();
                if let Some(grace) = grace {
                    leave_in_any_case(grace, stop.clone(), waiter.clone());
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(listen);
        Ok(Self { handle, thread: Some(thread.context(|| "start a thread")?) })
    }
}

impl Drop for SignalListener {
    fn drop(&mut self) {
        // The thread holds a waiter, and with it the pond: it has to end before the pond can be left.
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A block that does not come back from `work` must not keep its process alive for ever.
fn leave_in_any_case(grace: Duration, stop: StopRequest, waiter: Waiter) {
    std::thread::spawn(move || {
        std::thread::sleep(grace);
        stop.raise_to(Urgency::Now);
        waiter.ring();
        std::thread::sleep(LEAVE_GRACE);
        std::process::exit(1);
    });
}
