//! Requests to end a run, from other threads and from signals, as something that can be waited for together with processes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millpond_shm::ForkMark;

use crate::error::{Context, Result};

/// The receiving side of requests to end a run: the first one ends it in order, the second stops everybody at once.
#[derive(Debug)]
pub struct Interrupts {
    arrivals: UnixStream,
    /// Kept, so that the other side never looks closed.
    interrupter: Interrupter,
}

/// Asks a run to end, from any thread.
#[derive(Clone, Debug)]
pub struct Interrupter {
    sent: Arc<UnixStream>,
    fork: ForkMark,
}

impl Interrupts {
    /// Both sides.
    ///
    /// # Errors
    /// If the system has no descriptors left.
    pub fn new() -> Result<Self> {
        let what = || "listen for requests to end";
        let (arrivals, sent) = UnixStream::pair().context(what)?;
        sent.set_nonblocking(true).context(what)?;
        let fork = ForkMark::here().context(what)?;
        Ok(Self { arrivals, interrupter: Interrupter { sent: Arc::new(sent), fork } })
    }

    /// The asking side.
    pub fn interrupter(&self) -> Interrupter {
        self.interrupter.clone()
    }

    /// A copy of the asking side's descriptor, for signal handlers.
    pub(crate) fn asking_end(&self) -> Result<UnixStream> {
        self.interrupter.sent.try_clone().context(|| "listen for requests to end")
    }

    /// Becomes readable when a request arrives.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.arrivals.as_fd()
    }

    /// How many have arrived since the last call; waits for one at most until the deadline.
    pub(crate) fn arrived(&self, deadline: Option<Instant>) -> Result<usize> {
        let what = || "listen for requests to end";
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // Zero would mean no time-out; a microsecond is the least that the kernel knows.
            let left = left.map(|left| left.max(Duration::from_micros(1)));
            self.arrivals.set_read_timeout(left).context(what)?;
            match (&self.arrivals).read(&mut [0; 16]) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Ok(0);
                    }
                }
                Err(error) => return Err(error).context(what),
            }
        }
    }
}

impl Interrupter {
    /// Asks. Never blocks; after the end of the run it does nothing, and nothing in a forked child: the run is its parent's.
    pub fn interrupt(&self) {
        if !self.is_forked() {
            // It fails when thousands of requests wait unread: one more says nothing new.
            let _ = (&*self.sent).write(&[0]);
        }
    }

    /// Whether this process was forked from the one whose run it is.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }
}
