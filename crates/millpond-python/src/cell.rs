//! A thing that is open until it is closed, used by one thread at a time, and closed when the interpreter ends.
//!
//! A forked child can neither use nor close what it inherited: it is its parent's.

use crate::error::{ClosedError, PortInUseError, forked};
use millpond_shm::ForkMark;
use pyo3::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

/// See the module's text.
pub(crate) struct Cell<T> {
    /// What it is, for errors: "port `camera.out`".
    name: String,
    thing: Mutex<Option<T>>,
    /// Somebody wants to close it: who waits with it gives up.
    closing: AtomicBool,
    fork: ForkMark,
}

impl<T> Cell<T> {
    pub(crate) fn new(name: String, thing: T) -> PyResult<Arc<Cell<T>>> {
        let fork = ForkMark::here()?;
        Ok(Arc::new(Cell { name, thing: Mutex::new(Some(thing)), closing: AtomicBool::new(false), fork }))
    }

    /// Uses the thing.
    ///
    /// # Errors
    /// `ClosedError`; `PortInUseError` while another thread uses it; `ForkedError`.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> PyResult<R>) -> PyResult<R> {
        // First: a thread of the parent may have had the lock, and keeps it for ever here.
        if self.fork.is_forked() {
            return Err(forked());
        }
        let mut guard = match self.thing.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(PortInUseError::new_err(format!(
                    "{} is in use by another thread of this process: give each thread a port of its own",
                    self.name
                )));
            }
        };
        match &mut *guard {
            Some(thing) if !self.closing.load(Ordering::Relaxed) => work(thing),
            _ => Err(self.closed()),
        }
    }

    /// Takes the thing out, waiting for a thread that uses it. A forked child has nothing of it.
    pub(crate) fn take(&self, py: Python<'_>) -> Option<T>
    where
        T: Send,
    {
        if self.fork.is_forked() {
            return None;
        }
        self.closing.store(true, Ordering::Relaxed);
        py.detach(|| self.lock().take())
    }

    /// The error for who still wants to use it.
    pub(crate) fn closed(&self) -> PyErr {
        ClosedError::new_err(format!("{} has been closed", self.name))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.thing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that can be closed without knowing what it is.
pub(crate) trait Close: Send + Sync {
    /// Gives it back, in order.
    fn close(&self, py: Python<'_>);
}

impl<T: Send> Close for Cell<T> {
    fn close(&self, py: Python<'_>) {
        let thing = self.take(py);
        py.detach(|| drop(thing));
    }
}

/// What is open, in the order in which it was opened.
#[derive(Default)]
pub(crate) struct Open(Mutex<Vec<Weak<dyn Close>>>);

/// All that is open in this process.
pub(crate) static OPEN: Open = Open(Mutex::new(Vec::new()));

impl Open {
    /// Remembers something for as long as it is open.
    pub(crate) fn add(&self, thing: Weak<dyn Close>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|known| known.strong_count() > 0);
        open.push(thing);
    }

    /// Closes everything, the latest first.
    pub(crate) fn close_all(&self, py: Python<'_>) {
        let open = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for thing in open.iter().rev().filter_map(Weak::upgrade) {
            thing.close(py);
        }
    }
}
