//! `Output`: the sending end of a port.

use crate::cell::{Cell, Close};
use crate::error::{from_pond, from_send};
use crate::frame::Frame;
use crate::loan::{Loan, Sink};
use crate::numpy;
use crate::out::Description;
use crate::stamp::{self, Wish};
use crate::wait::{self, Step};
use millpond_shm::{
    Buffer, BufferMut, DType, Error, Output as Port, Pond, SendError, SendReason, StreamFormat, Timestamp,
};
use pyo3::exceptions::{PyTimeoutError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};
use std::sync::Arc;
use std::time::Duration;

/// The sending end and the number of the next frame.
pub(crate) struct Sender {
    port: Port,
    sequence: u64,
    pond: Pond,
}

/// The sending end of an output port; made by `Pond.output`.
///
/// `with port.loan(shape, dtype) as array:` lends shared memory to be filled and publishes it; `send` publishes a received
/// frame, a loan, or a copy of an array. Closing the port ends the stream.
#[pyclass(module = "millpond", frozen, weakref)]
pub(crate) struct Output {
    port: String,
    format: StreamFormat,
    cell: Arc<Cell<Sender>>,
}

impl Output {
    pub(crate) fn new(port: String, format: StreamFormat, output: Port, pond: Pond) -> PyResult<Output> {
        let cell =
            Cell::new(format!("the output port `{port}`"), Sender { port: output, sequence: 0, pond })?;
        Ok(Output { port, format, cell })
    }

    /// The stated dtype, for what has none of its own; `None`: none is stated.
    fn stated_dtype(&self) -> Option<DType> {
        Some(self.format.dtype).filter(|dtype| *dtype != DType::Bytes)
    }

    /// # Errors
    /// `TypeError` for what is not as stated.
    fn check(&self, dtype: DType, shape: &[u32]) -> PyResult<()> {
        if self.format.admits(dtype, shape) {
            return Ok(());
        }
        let found = StreamFormat { dtype, shape: shape.to_vec(), ..StreamFormat::default() };
        Err(PyTypeError::new_err(format!(
            "output `{}`: expected {}, as stated when it was opened, found {}",
            self.port,
            described(&self.format),
            described(&found)
        )))
    }

    pub(crate) fn closable(&self) -> std::sync::Weak<dyn Close> {
        let cell: Arc<dyn Close> = self.cell.clone();
        Arc::downgrade(&cell)
    }

    /// A buffer for an array, waiting for one while the pool is exhausted.
    fn allocate(
        &self,
        py: Python<'_>,
        dtype: DType,
        shape: &[u32],
        timeout: Option<Duration>,
    ) -> PyResult<BufferMut> {
        self.check(dtype, shape)?;
        let bytes = numpy::bytes_of(dtype, shape)?;
        let mut buffer = match self.cell.with(|sender| Ok(sender.port.allocate(bytes)))? {
            Ok(buffer) => buffer,
            Err(Error::PoolExhausted { .. }) => {
                let mut last = None;
                let got = wait::in_slices(py, timeout, |slice| {
                    match self.cell.with(|sender| Ok(sender.port.allocate_timeout(bytes, slice))) {
                        Ok(Err(_)) if self.cell.is_closed() => Step::Over(Err(self.cell.closed())),
                        Ok(Err(error @ Error::PoolExhausted { .. })) => {
                            last = Some(error);
                            Step::NotYet
                        }
                        Ok(result) => Step::Over(result.map_err(from_pond)),
                        Err(error) => Step::Over(Err(error)),
                    }
                })?;
                match (got, last) {
                    (Some(buffer), _) => buffer,
                    (None, Some(error)) => return Err(from_pond(error)),
                    (None, None) => return Err(PyTimeoutError::new_err("no buffer became free in time")),
                }
            }
            Err(error) => return Err(from_pond(error)),
        };
        buffer.set_array(dtype, shape).map_err(from_pond)?;
        Ok(buffer)
    }

    /// A frame's buffer, to be changed: the very same if nobody else can see it, else a copy. The frame is used up.
    fn make_mut(&self, py: Python<'_>, frame: &Frame, timeout: Option<Duration>) -> PyResult<BufferMut> {
        let (dtype, shape) = frame.dtype_and_shape()?;
        self.check(dtype, &shape)?;
        let shared = match frame.take(py)?.try_into_mut() {
            Ok(buffer) => return Ok(buffer),
            Err(shared) => shared,
        };
        match self.allocate(py, dtype, &shape, timeout) {
            Ok(mut copy) => {
                copy.as_bytes_mut().copy_from_slice(shared.as_bytes());
                copy.set_sequence(shared.sequence());
                copy.set_timestamp(shared.timestamp());
                copy.set_time_range(shared.time_range());
                Ok(copy)
            }
            Err(error) => {
                frame.restore(shared);
                Err(error)
            }
        }
    }

    /// For the memory that is lent.
    pub(crate) fn pond(&self) -> PyResult<Pond> {
        self.cell.with(|sender| Ok(sender.pond.clone()))
    }

    /// Number and timestamp of what is about to be published.
    pub(crate) fn describe(&self, wish: Option<Wish>) -> PyResult<Description> {
        self.cell.with(|sender| {
            sender.sequence += 1;
            let stamp = match wish {
                Some(Wish::Stamp(stamp)) => stamp,
                Some(Wish::AtPublishing) => Timestamp::now(),
                None => Timestamp::None,
            };
            Ok(Description { stamp, sequence: sender.sequence - 1 })
        })
    }

    /// Sends a buffer, waiting for room with the GIL released. On failure the buffer comes back if there still is one. `seal` is
    /// called before the GIL is released, or at the end.
    pub(crate) fn publish(
        &self,
        py: Python<'_>,
        buffer: Buffer,
        timeout: Option<Duration>,
        seal: impl FnOnce() -> PyResult<()>,
    ) -> Result<(), (PyErr, Option<Buffer>)> {
        if let Err(error) = self.check(buffer.dtype(), &buffer.shape()) {
            return Err((error, Some(buffer)));
        }
        let mut kept = Some(buffer);
        let mut attempt = |slice: Option<Duration>| {
            let sent = self.cell.with(|sender| {
                let Some(buffer) = kept.take() else { return Ok(Ok(())) };
                Ok(match slice {
                    None => sender.port.try_send(buffer),
                    Some(slice) => sender.port.send_timeout(buffer, slice),
                })
            })?;
            Ok(match sent {
                Ok(()) => None,
                Err(SendError { reason, buffer }) => {
                    kept = Some(buffer);
                    Some(reason)
                }
            })
        };
        let first = attempt(None);
        let result = match (first, seal()) {
            (Ok(None), Ok(())) => return Ok(()),
            (_, Err(error)) => Err(error),
            (Ok(Some(SendReason::Full)), Ok(())) => {
                wait::in_slices(py, timeout, |slice| match attempt(Some(slice)) {
                    Ok(Some(SendReason::Timeout)) if self.cell.is_closed() => {
                        Step::Over(Err(self.cell.closed()))
                    }
                    Ok(Some(SendReason::Timeout)) => Step::NotYet,
                    other => Step::Over(other),
                })
            }
            (other, Ok(())) => other.map(Some),
        };
        match result {
            Ok(Some(None)) => Ok(()),
            Ok(Some(Some(reason))) => Err((from_send(&self.port, &reason), kept)),
            Ok(None) => Err((from_send(&self.port, &SendReason::Timeout), kept)),
            Err(error) => Err((error, kept)),
        }
    }
}

/// As numpy says it: `float32 (None, 2)`.
fn described(format: &StreamFormat) -> String {
    let name = numpy::numpy_name(format.dtype);
    let extent = |extent: &u32| if *extent == 0 { "None".to_owned() } else { extent.to_string() };
    match &format.shape[..] {
        [] => name.to_owned(),
        [one] => format!("{name} ({},)", extent(one)),
        several => format!("{name} ({})", several.iter().map(extent).collect::<Vec<_>>().join(", ")),
    }
}

/// What is to be copied, as an array, and the dtype that it is sent with; `dtype` is for what is no array yet.
pub(crate) fn copied_as<'py>(
    item: &Bound<'py, PyAny>,
    dtype: Option<DType>,
) -> PyResult<(Bound<'py, PyAny>, DType)> {
    let py = item.py();
    if item.is_instance_of::<PyBytes>() || item.is_instance_of::<PyByteArray>() {
        return Ok((py.import("numpy")?.call_method1("frombuffer", (item, "u1"))?, DType::Bytes));
    }
    let wanted = match dtype {
        Some(dtype) if !numpy::is_array(item)? => Some(numpy::numpy_dtype(py, dtype)?),
        _ => None,
    };
    let array = numpy::asarray(item, wanted)?;
    let dtype = numpy::pond_dtype(&array.getattr("dtype")?)?;
    Ok((array, dtype))
}

/// Reads a `shape` argument: an `int` or a sequence of them.
pub(crate) fn shape_of(shape: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    if let Ok(one) = shape.extract::<u32>() {
        return Ok(vec![one]);
    }
    shape.extract::<Vec<u32>>().map_err(|_| {
        let found = shape.repr().map_or_else(|_| "something else".to_owned(), |r| r.to_string());
        PyTypeError::new_err(format!(
            "shape: expected an int or a tuple of ints from 0 to 2^32-1, found {found}"
        ))
    })
}

#[pymethods]
impl Output {
    /// Lends a buffer of shared memory to be filled: `with port.loan((480, 2), "float32", stamp="now") as array:`.
    ///
    /// `port.loan(frame)` lends the memory of a received frame with its contents, to be changed in place; the frame is used up, and
    /// its stamp and number stay. It is copied only if somebody else can still see it: another process, or a view of it here.
    ///
    /// Leaving the `with` block publishes it; an exception discards it. `stamp` is `None`, a `Timestamp`, an `int` of
    /// nanoseconds since the Unix epoch, or `"now"` for the moment of publishing. The contents are those of an earlier use of the
    /// memory until they are filled. Without `dtype` it is the stated one, else `uint8`. Waits with the GIL released while every buffer is in use, at most `timeout` seconds
    /// (`None`: without end), then raises `PoolExhaustedError`.
    #[pyo3(signature = (shape, dtype=None, *, stamp=None, timeout=None))]
    fn loan(
        slf: &Bound<'_, Self>,
        shape: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        stamp: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Loan> {
        let (py, this, timeout) = (slf.py(), slf.get(), wait::timeout(timeout)?);
        let sink = Sink::Port(slf.clone().unbind());
        if let Ok(frame) = shape.cast::<Frame>() {
            if dtype.is_some() {
                return Err(PyTypeError::new_err("dtype: a frame has its own"));
            }
            let wish = stamp.is_some().then(|| stamp::wish(stamp)).transpose()?;
            return Loan::new(py, sink, this.make_mut(py, frame.get(), timeout)?, wish, false);
        }
        let dtype = dtype.map_or_else(|| Ok(this.stated_dtype().unwrap_or(DType::U8)), numpy::pond_dtype)?;
        let (shape, wish) = (shape_of(shape)?, stamp::wish(stamp)?);
        let buffer = this.allocate(py, dtype, &shape, timeout)?;
        Loan::new(py, sink, buffer, Some(wish), true)
    }

    /// Publishes a frame, a loan or an array.
    ///
    /// A frame goes on without being copied, with its stamp and number, and is used up. A loan is published as by leaving its
    /// `with` block. Anything else is copied once into shared memory as `numpy.asarray` sees it. What has another dtype or shape than
    /// the port has stated raises `TypeError`. Waits with the GIL released
    /// while a receiver's queue is full, at most `timeout` seconds (`None`: without end), then raises `TimeoutError`; what
    /// was not sent stays with the caller.
    #[pyo3(signature = (item, *, stamp=None, timeout=None))]
    fn send(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        stamp: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let timeout = wait::timeout(timeout)?;
        if let Ok(frame) = item.cast::<Frame>() {
            if stamp.is_some() {
                return Err(stamp::of_a_frame());
            }
            let frame = frame.get();
            return this.publish(py, frame.take(py)?, timeout, || Ok(())).map_err(|(error, buffer)| {
                buffer.into_iter().for_each(|buffer| frame.restore(buffer));
                error
            });
        }
        if let Ok(loan) = item.cast::<Loan>() {
            let wish = stamp.is_some().then(|| stamp::wish(stamp)).transpose()?;
            return loan.get().publish(py, this, wish, timeout);
        }
        let wish = stamp::wish(stamp)?;
        let (array, dtype) = copied_as(item, this.stated_dtype())?;
        let shape = shape_of(&array.getattr("shape")?)?;
        let buffer = this.allocate(py, dtype, &shape, timeout)?;
        let loan = Loan::new(py, Sink::Port(slf.clone().unbind()), buffer, Some(wish), true)?;
        loan.fill(py, &array)?;
        loan.publish(py, this, None, timeout)
    }

    /// The port's full name: `block.port`.
    #[getter]
    fn name(&self) -> &str {
        &self.port
    }

    /// Number of connections now. What is sent without any is dropped, and counted by the pond.
    #[getter]
    fn connections(&self) -> PyResult<usize> {
        self.cell.with(|sender| Ok(sender.port.connections()))
    }

    /// Number that the next frame will carry.
    #[getter]
    fn next_sequence(&self) -> PyResult<u64> {
        self.cell.with(|sender| Ok(sender.sequence))
    }

    /// Promises that nothing earlier than `bound` will be sent, apart from the disorder that the stream may have: who puts streams
    /// together by time need not wait for this one. `bound` is as `stamp` in `send`, but not `None`. A promise outlives the process
    /// and is never taken back: an earlier one changes nothing.
    fn advance(&self, bound: &Bound<'_, PyAny>) -> PyResult<()> {
        let bound = stamp::bound(bound)?;
        self.cell.with(|sender| {
            sender.port.advance(bound);
            Ok(())
        })
    }

    /// Ends the stream: every receiver gets the end after the last frame. Sending afterwards goes on with the stream.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| {
            self.cell.with(|sender| {
                sender.port.finish();
                Ok(())
            })
        })
    }

    /// Ends the stream and gives the port back.
    fn close(&self, py: Python<'_>) {
        self.cell.close(py);
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// Ends the stream; on an exception it is broken off instead: receivers are told that the sender has died.
    #[pyo3(signature = (exc_type=None, exc=None, traceback=None))]
    fn __exit__(
        &self,
        py: Python<'_>,
        exc_type: Option<Bound<'_, PyAny>>,
        exc: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) {
        let _ = (exc, traceback);
        let (sender, failed) = (self.cell.take(py), exc_type.is_some());
        py.detach(|| match sender {
            Some(sender) if failed => sender.port.abandon(),
            sender => drop(sender),
        });
    }

    fn __repr__(&self) -> String {
        format!("<millpond.Output {}>", self.port)
    }
}
