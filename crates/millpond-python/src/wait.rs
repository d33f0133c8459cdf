//! Waiting with the GIL released, in slices, so that Ctrl-C and other signals are served.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::time::{Duration, Instant};

/// How long a signal may wait for its Python handler.
const SLICE: Duration = Duration::from_millis(100);

/// Reads a `timeout` argument in seconds; `None`: without end.
pub(crate) fn timeout(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    let read = |s: f64| {
        Duration::try_from_secs_f64(s).map_err(|_| {
            PyValueError::new_err(format!("timeout: expected None or seconds from 0 on, found {s}"))
        })
    };
    seconds.map(read).transpose()
}

/// What came of one slice.
pub(crate) enum Step<T> {
    /// It is over, well or not.
    Over(PyResult<T>),
    /// Nothing yet.
    NotYet,
}

/// Repeats `slice`, which waits at most the time given to it, without the GIL. `None`: the timeout passed.
pub(crate) fn in_slices<T: Send>(
    py: Python<'_>,
    timeout: Option<Duration>,
    mut slice: impl FnMut(Duration) -> Step<T> + Send,
) -> PyResult<Option<T>> {
    let start = Instant::now();
    loop {
        let left = timeout.map_or(SLICE, |t| t.saturating_sub(start.elapsed()).min(SLICE));
        if let Step::Over(result) = py.detach(|| slice(left)) {
            return result.map(Some);
        }
        py.check_signals()?;
        if timeout.is_some_and(|t| start.elapsed() >= t) {
            return Ok(None);
        }
    }
}
