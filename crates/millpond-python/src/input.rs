//! `Input`: the receiving end of a port.

use crate::cell::{Cell, Close};
use crate::error::{from_pond, from_receive};
use crate::format::Format;
use crate::frame::Frame;
use crate::stamp::Timestamp;
use crate::wait::{self, Step};
use millpond_shm::{Buffer, Input as Port, Pond, ReceiveError, Waiter};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::time::Duration;

/// The receiving end of an input port; made by `Pond.input`.
///
/// Iterating over it yields frames and waits for them with the GIL released, until the streams of all senders have ended or
/// the pond is asked to stop. The death of a sender raises `SenderDiedError`, once, after all that it had published was
/// received; iterating again goes on with other senders, or waits for the restart of this one. `async for` does the same
/// in an event loop.
#[pyclass(module = "millpond", frozen, weakref)]
pub(crate) struct Input {
    port: String,
    cell: Arc<Cell<Receiver>>,
}

/// What is given back when the port is closed.
struct Receiver {
    port: Port,
    waiter: Waiter,
    pond: Pond,
}

impl Receiver {
    fn frame(&self, buffer: Buffer) -> Frame {
        Frame::new(buffer, Some(self.pond.clone()))
    }
}

impl Input {
    pub(crate) fn new(port: String, input: Port, waiter: Waiter, pond: Pond) -> PyResult<Input> {
        let cell = Cell::new(format!("the input port `{port}`"), Receiver { port: input, waiter, pond })?;
        Ok(Input { port, cell })
    }

    pub(crate) fn closable(&self) -> std::sync::Weak<dyn Close> {
        let cell: Arc<dyn Close> = self.cell.clone();
        Arc::downgrade(&cell)
    }

    fn try_take(&self) -> PyResult<Result<Frame, ReceiveError>> {
        self.cell.with(|receiver| Ok(receiver.port.try_receive().map(|buffer| receiver.frame(buffer))))
    }

    /// Waits for a frame; `None`: the timeout passed.
    fn wait(&self, py: Python<'_>, timeout: Option<Duration>) -> PyResult<Result<Frame, ReceiveError>> {
        // The usual case: something waits. Releasing the GIL would cost more than taking it.
        match self.try_take()? {
            Ok(frame) => return Ok(Ok(frame)),
            Err(ReceiveError::Empty | ReceiveError::NotConnected) => {}
            Err(error) => return Ok(Err(error)),
        }
        let received = wait::in_slices(py, timeout, |slice| {
            match self.cell.with(|receiver| {
                let received = receiver.port.receive_timeout(slice);
                Ok(received.map(|buffer| receiver.frame(buffer)))
            }) {
                Ok(Err(ReceiveError::Timeout)) if self.cell.is_closed() => {
                    Step::Over(Err(self.cell.closed()))
                }
                Ok(Err(ReceiveError::Timeout)) => Step::NotYet,
                result => Step::Over(result),
            }
        })?;
        Ok(received.unwrap_or(Err(ReceiveError::Timeout)))
    }
}

#[pymethods]
impl Input {
    /// Takes the next frame, waiting for it at most `timeout` seconds (`None`: without end) with the GIL released.
    ///
    /// Raises `TimeoutError`, `EndOfStreamError`, `SenderDiedError` or `StoppedError`.
    #[pyo3(signature = (timeout=None))]
    fn receive(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Frame> {
        let timeout = wait::timeout(timeout)?;
        self.wait(py, timeout)?.map_err(|error| match (error, timeout) {
            (ReceiveError::Timeout, Some(timeout)) => PyTimeoutError::new_err(format!(
                "nothing came on `{}` within {} s",
                self.port,
                timeout.as_secs_f64()
            )),
            (error, _) => from_receive(&self.port, &error),
        })
    }

    /// Takes the next frame if there is one, else `None`, without waiting.
    ///
    /// Raises as `receive`, except for `TimeoutError`.
    fn try_receive(&self) -> PyResult<Option<Frame>> {
        match self.try_take()? {
            Ok(frame) => Ok(Some(frame)),
            Err(ReceiveError::Empty | ReceiveError::NotConnected) => Ok(None),
            Err(error) => Err(from_receive(&self.port, &error)),
        }
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        match self.wait(py, None)? {
            Ok(frame) => Ok(Some(frame)),
            Err(ReceiveError::EndOfStream | ReceiveError::Stopped) => Ok(None),
            Err(error) => Err(from_receive(&self.port, &error)),
        }
    }

    /// Takes frames in an event loop: `async for frame in port`.
    fn __aiter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("millpond._asyncio")?.call_method1("frames", (slf,))
    }

    /// A file descriptor that becomes readable when something may have changed, for `select` and event loops: read its 8
    /// bytes, then call `try_receive` until it gives `None`. The caller closes it. Get one for each port.
    fn event_fd(&self) -> PyResult<i32> {
        self.cell.with(|receiver| Ok(receiver.waiter.event_fd().map_err(from_pond)?.into_raw_fd()))
    }

    /// Says that a descriptor which `event_fd` gave is to be closed.
    fn _forget_event_fd(&self, fd: i32) {
        // A port that cannot be used (closed, or its parent's) has nothing to forget; one that another thread uses just now keeps a
        // descriptor until it is closed.
        let _ = self.cell.with(|receiver| {
            receiver.waiter.forget_event_fd(fd);
            Ok(())
        });
    }

    /// The port's full name: `block.port`.
    #[getter]
    fn name(&self) -> &str {
        &self.port
    }

    /// Frames that wait.
    #[getter]
    fn queued(&self) -> PyResult<u64> {
        self.cell.with(|receiver| Ok(receiver.port.queued()))
    }

    /// How far the stream has come as its senders promise, when everything sent before has been received: nothing earlier will
    /// come, apart from the stream's disorder. `None`: unknown.
    #[getter]
    fn bound(&self) -> PyResult<Option<Timestamp>> {
        self.cell.with(|receiver| Ok(receiver.port.bound().and_then(Timestamp::from_stamp)))
    }

    /// Number of connections now.
    #[getter]
    fn connections(&self) -> PyResult<usize> {
        self.cell.with(|receiver| Ok(receiver.port.connections()))
    }

    /// What the connected stream carries, once its sender has said so, else `None`.
    #[getter]
    fn format(&self) -> PyResult<Option<Format>> {
        self.cell.with(|receiver| Ok(receiver.port.format().map(Format::new)))
    }

    /// Gives the port back. Frames stay valid. A thread or an `async for` that waits for a frame gets `ClosedError`.
    fn close(&self, py: Python<'_>) {
        self.cell.close(py);
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (exc_type=None, exc=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<Bound<'_, PyAny>>,
        exc: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) {
        let _ = (exc_type, exc, traceback);
        self.cell.close(py);
    }

    fn __repr__(&self) -> String {
        format!("<millpond.Input {}>", self.port)
    }
}
