//! `Out`: an output of a block, as the block's work sees it.
//!
//! What is sent here waits until the call of `work` is over, and then for room, as everything does that a block sends. A loan is
//! shared memory; where no buffer is free it is memory of this process and copied once there is one, so that work never
//! waits in the middle.

use crate::error::from_pond;
use crate::frame::{self, Frame};
use crate::loan::{Loan, Sink};
use crate::numpy;
use crate::output::{copied_as, shape_of};
use crate::stamp::{self, Wish};
use millpond::{Io, SharedAllocator};
use millpond_shm::{Buffer, BufferMut, DType, Error, Timestamp};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What waits to be sent.
pub(crate) enum Item {
    Buffer(Buffer),
    /// Memory of this process, for want of a buffer.
    Array(Py<PyAny>, Description),
    /// A promise about what comes behind it.
    Bound(Timestamp),
}

/// What a sender says about what it sends.
#[derive(Clone, Copy)]
pub(crate) struct Description {
    pub(crate) stamp: Timestamp,
    pub(crate) sequence: u64,
}

#[derive(Default)]
struct State {
    /// `None` outside of a flowgraph.
    allocator: Option<SharedAllocator>,
    next_sequence: u64,
    /// That of the first input's frame.
    stamp: Option<Timestamp>,
    items: VecDeque<Item>,
}

/// An output of a block: what `work` has for an argument annotated `Out[np.float32]`.
///
/// It has the words of `Output`: `with out.loan(shape) as array:` lends shared memory to be filled, `out.send(item)` sends a frame
/// or a copy of an array. Arrays and loans carry on the timestamp of the first input's frame if none is given, or that of
/// their sending. In a test, `Out()` stands for one and `sent` shows what was sent.
///
/// >>> import millpond, numpy as np
/// >>> def ramp(out: millpond.Out[np.float32], *, count: int) -> None:
/// ...     with out.loan(count, "float32") as array:
/// ...         array[:] = np.arange(count)
/// >>> out = millpond.Out()
/// >>> ramp(out, count=3)
/// >>> out.sent
/// [array([0., 1., 2.], dtype=float32)]
#[pyclass(module = "millpond", frozen)]
pub(crate) struct Out {
    name: String,
    dtype: Option<DType>,
    state: Mutex<State>,
}

impl Out {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it is an output of a block that runs.
    pub(crate) fn open(&self, io: &Io) {
        let mut state = self.state();
        state.allocator = Some(io.allocator());
        state.next_sequence = io.next_sequence(&self.name);
    }

    /// As annotated; `None`: any.
    pub(crate) fn dtype(&self) -> Option<DType> {
        self.dtype
    }

    /// The timestamp of what the block works on.
    pub(crate) fn set_stamp(&self, stamp: Timestamp) {
        self.state().stamp = Some(stamp);
    }

    /// What is to be sent next.
    pub(crate) fn next(&self) -> Option<Item> {
        self.state().items.pop_front()
    }

    /// Gives back what there was no room for.
    pub(crate) fn put_back(&self, item: Item) {
        self.state().items.push_front(item);
    }

    pub(crate) fn push(&self, item: Item) {
        self.state().items.push_back(item);
    }

    /// Number and timestamp of what is sent now.
    pub(crate) fn describe(&self, wish: Option<Wish>) -> Description {
        let mut state = self.state();
        state.next_sequence += 1;
        let stamp = match wish {
            Some(Wish::Stamp(stamp)) => stamp,
            Some(Wish::AtPublishing) => Timestamp::now(),
            None => state.stamp.unwrap_or_else(Timestamp::now),
        };
        Description { stamp, sequence: state.next_sequence - 1 }
    }

    fn checked(&self, found: DType) -> PyResult<DType> {
        match self.dtype.filter(|annotated| *annotated != found) {
            None => Ok(found),
            Some(annotated) => Err(PyTypeError::new_err(format!(
                "output `{}`: expected {} as annotated, found {}",
                self.name,
                numpy::numpy_name(annotated),
                numpy::numpy_name(found)
            ))),
        }
    }

    /// A buffer; `None`: none is free, or this is a test.
    fn allocate(&self, dtype: DType, shape: &[u32]) -> PyResult<Option<BufferMut>> {
        let Some(allocator) = self.state().allocator.clone() else { return Ok(None) };
        let bytes = numpy::bytes_of(dtype, shape)?;
        let Some(mut buffer) = allocator.try_allocate(bytes).map_err(from_pond)? else { return Ok(None) };
        buffer.set_array(dtype, shape).map_err(from_pond)?;
        Ok(Some(buffer))
    }

    fn lend(slf: &Bound<'_, Self>, dtype: DType, shape: &[u32], wish: Option<Wish>) -> PyResult<Loan> {
        let (py, sink) = (slf.py(), Sink::Block(slf.clone().unbind()));
        match slf.get().allocate(dtype, shape)? {
            Some(buffer) => Loan::new(py, sink, buffer, wish, true),
            None => Ok(Loan::private(sink, numpy::empty(py, dtype, shape)?, wish)),
        }
    }

    /// A loan with the contents of a frame, which is used up.
    fn lend_frame(slf: &Bound<'_, Self>, frame: &Frame, wish: Option<Wish>) -> PyResult<Loan> {
        let (py, sink) = (slf.py(), Sink::Block(slf.clone().unbind()));
        frame.dtype_and_shape().and_then(|(dtype, _)| slf.get().checked(dtype))?;
        let shared = match frame.take(py)?.try_into_mut() {
            Ok(buffer) => return Loan::new(py, sink, buffer, wish, false),
            Err(shared) => shared,
        };
        let allocator = slf.get().state().allocator.clone();
        if let Some(allocator) = allocator {
            match allocator.make_mut(shared.clone()) {
                Ok(copy) => return Loan::new(py, sink, copy, wish, false),
                Err(Error::PoolExhausted { .. }) => {}
                Err(error) => return Err(from_pond(error)),
            }
        }
        let wish = wish.unwrap_or(Wish::Stamp(shared.timestamp()));
        let copy = frame::array_of(py, shared, None)?.call_method0("copy")?;
        Ok(Loan::private(sink, copy, Some(wish)))
    }
}

#[pymethods]
impl Out {
    /// For tests that call a block's work themselves.
    #[new]
    #[pyo3(signature = (dtype=None, *, name="out"))]
    fn new(dtype: Option<&Bound<'_, PyAny>>, name: &str) -> PyResult<Self> {
        let dtype = dtype.map(numpy::pond_dtype).transpose()?;
        Ok(Self { name: name.to_owned(), dtype, state: Mutex::default() })
    }

    /// `Out[np.float32]`, for annotations.
    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        class.py().import("types")?.getattr("GenericAlias")?.call1((class, item))
    }

    /// Lends memory to be filled, of the annotated dtype if none is given: `with out.loan(480) as array:`. Leaving the `with`
    /// block sends it; an exception discards it. Never waits.
    ///
    /// `out.loan(frame)` lends the memory of a received frame with its contents, to be changed in place; the frame is used
    /// up. It is copied only if somebody else can still see it: another process, or a view of it here.
    #[pyo3(signature = (shape, dtype=None, *, stamp=None))]
    fn loan(
        slf: &Bound<'_, Self>,
        shape: &Bound<'_, PyAny>,
        dtype: Option<&Bound<'_, PyAny>>,
        stamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Loan> {
        let wish = stamp.is_some().then(|| stamp::wish(stamp)).transpose()?;
        if let Ok(frame) = shape.cast::<Frame>() {
            if dtype.is_some() {
                return Err(PyTypeError::new_err("dtype: a frame has its own"));
            }
            return Self::lend_frame(slf, frame.get(), wish);
        }
        let this = slf.get();
        let dtype = match dtype {
            Some(dtype) => this.checked(numpy::pond_dtype(dtype)?)?,
            None => this.dtype.unwrap_or(DType::U8),
        };
        Self::lend(slf, dtype, &shape_of(shape)?, wish)
    }

    /// Sends a frame or a loan as it is, or a copy of an array. Never waits: what there is no room for goes when there is.
    #[pyo3(signature = (item, *, stamp=None))]
    fn send(
        slf: &Bound<'_, Self>,
        item: &Bound<'_, PyAny>,
        stamp: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        if let Ok(frame) = item.cast::<Frame>() {
            if stamp.is_some() {
                return Err(stamp::of_a_frame());
            }
            frame.get().dtype_and_shape().and_then(|(dtype, _)| this.checked(dtype))?;
            this.push(Item::Buffer(frame.get().take(py)?));
            return Ok(());
        }
        let wish = stamp.is_some().then(|| stamp::wish(stamp)).transpose()?;
        if let Ok(loan) = item.cast::<Loan>() {
            return loan.get().send_in(py, this, wish);
        }
        let (array, dtype) = copied_as(item, this.dtype)?;
        let shape = shape_of(&array.getattr("shape")?)?;
        let loan = Self::lend(slf, this.checked(dtype)?, &shape, wish)?;
        loan.fill(py, &array)?;
        loan.send_in(py, this, None)
    }

    /// Promises that nothing earlier than `bound` will be sent here any more, as `Output.advance` does: who puts streams together by
    /// time need not wait for this one.
    fn advance(&self, bound: &Bound<'_, PyAny>) -> PyResult<()> {
        self.push(Item::Bound(stamp::bound(bound)?));
        Ok(())
    }

    /// What was sent and not taken by a flowgraph, as arrays: for tests that call a block's work themselves.
    #[getter]
    fn sent<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let state = self.state();
        let array = |item: &Item| match item {
            Item::Buffer(buffer) => Some(frame::array_of(py, buffer.clone(), None)),
            Item::Array(array, _) => Some(Ok(array.bind(py).clone())),
            Item::Bound(_) => None,
        };
        let arrays: Vec<_> = state.items.iter().filter_map(array).collect::<PyResult<_>>()?;
        PyList::new(py, arrays)
    }

    fn __repr__(&self) -> String {
        format!("<millpond.Out {}>", self.name)
    }
}
