//! The message bus from Python: values go over as JSON text, which Python's `json` reads and writes.

use crate::cell::{Cell, Close};
use crate::error::{MillpondError, NotAnsweredError, RefusedError, StoppedError, from_pond};
use crate::wait::{self, Step};
use millpond::bus::{Bus, BusError, Json, Message, Subscription as Queue};
use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

pub(crate) fn from_bus(error: BusError) -> PyErr {
    let text = error.to_string();
    match error {
        BusError::InvalidTopic { .. } | BusError::Unsendable { .. } => PyValueError::new_err(text),
        BusError::Absent { .. } | BusError::Gone { .. } => NotAnsweredError::new_err(text),
        BusError::Full { .. } | BusError::TimedOut { .. } => PyTimeoutError::new_err(text),
        BusError::Refused { .. } => RefusedError::new_err(text),
        BusError::Stopped => StoppedError::new_err(text),
        BusError::Pond(error) => from_pond(error),
        _ => MillpondError::new_err(text),
    }
}

/// A Python value as JSON.
pub(crate) fn json_of(value: &Bound<'_, PyAny>) -> PyResult<Json> {
    let text: String = value.py().import("json")?.call_method1("dumps", (value,))?.extract()?;
    serde_json::from_str(&text).map_err(|error| PyValueError::new_err(format!("value: {error}")))
}

/// JSON as a Python value.
pub(crate) fn python_of<'py>(py: Python<'py>, value: &Json) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (value.to_string(),))
}

/// Asks whoever answers the topic. The call is a thread's, so that signals are served meanwhile; one that is interrupted goes on to
/// its answer or the end of its time, which nobody hears.
pub(crate) fn call<'py>(
    py: Python<'py>,
    bus: &Bus,
    topic: &str,
    argument: &Json,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    // A call that is not answered within a century is not answered.
    let timeout = wait::timeout(timeout)?.unwrap_or(Duration::from_secs(100 * 365 * 86_400));
    let (bus, asked, argument) = (bus.clone(), topic.to_owned(), argument.clone());
    let (answered, answer) = channel();
    let thread = std::thread::Builder::new().name("millpond-call".to_owned());
    let spawned = thread.spawn(move || {
        let _ = answered.send(bus.call(&asked, &argument, timeout));
    });
    spawned.map_err(|error| MillpondError::new_err(format!("start a thread: {error}")))?;
    let answer = wait::in_slices(py, None, move |slice| match answer.recv_timeout(slice) {
        Ok(answer) => Step::Over(answer.map_err(from_bus)),
        Err(RecvTimeoutError::Timeout) => Step::NotYet,
        Err(RecvTimeoutError::Disconnected) => {
            Step::Over(Err(MillpondError::new_err(format!("the call of `{topic}` broke off"))))
        }
    })?;
    python_of(py, &answer.unwrap_or_default())
}

/// Receives what is published on topics that match a pattern; made by `Pond.subscribe`.
///
/// Iterating over it waits for messages with the GIL released, until the pond is asked to stop. At most 1024 messages wait;
/// beyond that the newest are dropped and counted.
#[pyclass(module = "millpond", frozen, weakref)]
pub(crate) struct Subscription {
    cell: Arc<Cell<Queue>>,
}

impl Subscription {
    pub(crate) fn new(pattern: &str, queue: Queue) -> PyResult<Self> {
        Ok(Self { cell: Cell::new(format!("the subscription to `{pattern}`"), queue)? })
    }

    pub(crate) fn closable(&self) -> std::sync::Weak<dyn Close> {
        let cell: Arc<dyn Close> = self.cell.clone();
        Arc::downgrade(&cell)
    }

    fn next(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Option<Result<Message, BusError>>> {
        wait::in_slices(py, timeout, |slice| match self.cell.with(|queue| Ok(queue.next(slice))) {
            Ok(Ok(None)) if self.cell.is_closed() => Step::Over(Err(self.cell.closed())),
            Ok(Ok(None)) => Step::NotYet,
            Ok(Ok(Some(message))) => Step::Over(Ok(Ok(message))),
            Ok(Err(error)) => Step::Over(Ok(Err(error))),
            Err(error) => Step::Over(Err(error)),
        })
    }
}

fn message(py: Python<'_>, message: Message) -> PyResult<Bound<'_, PyAny>> {
    let value = python_of(py, &message.value)?;
    let of_message = py.import("millpond._statistics")?.getattr("Message")?;
    of_message.call1((message.topic, value, message.sender_pid))
}

#[pymethods]
impl Subscription {
    /// The next message, waiting for it at most `timeout` seconds (`None`: without end) with the GIL released.
    ///
    /// Raises `TimeoutError` or `StoppedError`.
    #[pyo3(signature = (timeout=None))]
    fn receive<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        match self.next(py, wait::timeout(timeout)?)? {
            Some(received) => message(py, received.map_err(from_bus)?),
            None => Err(PyTimeoutError::new_err("no message came in time")),
        }
    }

    /// Messages that were dropped because too many waited.
    #[getter]
    fn dropped(&self) -> PyResult<u64> {
        self.cell.with(|queue| Ok(queue.dropped()))
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.next(py, None)? {
            Some(Ok(received)) => message(py, received).map(Some),
            Some(Err(BusError::Stopped)) | None => Ok(None),
            Some(Err(error)) => Err(from_bus(error)),
        }
    }

    /// Receives nothing from now on.
    fn close(&self, py: Python<'_>) {
        self.cell.close(py);
    }
}
