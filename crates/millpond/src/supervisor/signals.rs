//! Signals that ask to end, as something that can be waited for together with processes.

use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level;

use crate::error::{Context, Result};

/// Counts the signals that ask to end, for as long as it lives.
pub(super) struct SignalPipe {
    arrivals: UnixStream,
    registered: Vec<SigId>,
}

impl SignalPipe {
    pub(super) fn new() -> Result<Self> {
        let what = || "listen for signals";
        let (arrivals, handler_end) = UnixStream::pair().context(what)?;
        arrivals.set_nonblocking(true).context(what)?;
        let mut pipe = Self { arrivals, registered: Vec::new() };
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let end = handler_end.try_clone().context(what)?;
            pipe.registered.push(low_level::pipe::register(signal, end).context(what)?);
        }
        Ok(pipe)
    }

    /// Becomes readable when a signal arrives.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.arrivals.as_fd()
    }

    /// How many have arrived since the last call.
    pub(super) fn arrived(&mut self) -> usize {
        let mut bytes = [0; 16];
        self.arrivals.read(&mut bytes).unwrap_or(0)
    }
}

impl Drop for SignalPipe {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            low_level::unregister(id);
        }
    }
}
