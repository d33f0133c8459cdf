//! Ctrl-C and its relatives, turned into an orderly stop of a pond.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use millpond_shm::Pond;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// Only a flag, ordered with nothing: whoever acts on it has been woken by the stop that follows.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A signal has asked this process to stop.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// While this lives, the first SIGINT, SIGTERM or SIGHUP asks the pond to stop: every call of this and of every other
/// process that waits in the pond returns. A second signal ends this process at once.
pub struct StopOnSignal {
    handle: Handle,
    listener: Option<JoinHandle<()>>,
}

impl StopOnSignal {
    /// Starts the thread that listens.
    ///
    /// # Errors
    /// If the signal handlers cannot be installed.
    pub fn new(pond: &Pond) -> std::io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let pond = pond.clone();
        let listener = std::thread::spawn(move || {
            for _ in signals.forever() {
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    std::process::exit(1);
                }
                pond.request_stop();
            }
        });
        Ok(Self { handle, listener: Some(listener) })
    }
}

impl Drop for StopOnSignal {
    fn drop(&mut self) {
        // The listener holds the pond; it has to let go before the pond can be left.
        self.handle.close();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}
