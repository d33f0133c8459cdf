//! Signals that ask the program to stop, turned into ordinary events.
//!
//! Both programs start child processes and one of them owns files in shared memory. A signal that
//! simply killed the parent would leave both behind. So a thread waits for the signal and posts it
//! to the channel the main thread already listens on: the main thread returns an error, and the
//! destructors clean up the same way as after any other error.

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The error a program ends with when a signal asked it to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted {
    /// The number of the signal.
    pub signal: i32,
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped by signal {}", self.signal)
    }
}

impl std::error::Error for Interrupted {}

/// From now on sends SIGINT, SIGTERM and SIGHUP to `events`, as `wrap` makes events of them.
///
/// # Errors
///
/// Fails when the handlers cannot be installed or the thread cannot be started.
pub fn forward<E: Send + 'static>(events: Sender<E>, wrap: fn(Interrupted) -> E) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if events.send(wrap(Interrupted { signal })).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// Prints `error` with its causes and gives the exit status for it: 128 + signal after a signal,
/// as shells do, and 1 otherwise.
#[must_use]
pub fn report_failure(program: &str, error: &anyhow::Error) -> ExitCode {
    eprintln!("{program}: {error:#}");
    let status = error
        .downcast_ref::<Interrupted>()
        .and_then(|stop| u8::try_from(128 + stop.signal).ok())
        .unwrap_or(1);
    ExitCode::from(status)
}
