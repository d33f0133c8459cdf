//! Frames and the memory under them: the only file of this crate that handles addresses.
//!
//! A [`Memory`] owns one handle of a buffer and lends it out by the buffer protocol. Every numpy array over shared memory has a
//! `Memory` as its base, so the buffer is given back when the last view dies, whatever became of the [`Frame`] by then. A
//! `Memory` that is not writable refuses writable views; below that, its pages are mapped read-only.

#![allow(unsafe_code)]

use crate::error::{AlreadySentError, from_pond};
use crate::numpy;
use crate::stamp::Timestamp;
use millpond_shm::layout::MAX_DIMENSIONS;
use millpond_shm::{Buffer, BufferMut, DType, Pond, Shape};
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::ffi::{CStr, c_int};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a `Memory` owns.
enum Owned {
    Writable(BufferMut),
    Shared(Buffer),
    /// Taken out again, when nothing else referred to the `Memory`.
    Gone,
}

/// Shared memory that lives as long as something refers to it: the `base` of arrays. Of no use by itself.
#[pyclass(module = "millpond", frozen)]
pub(crate) struct Memory {
    owned: Mutex<Owned>,
    layout: Layout,
    /// Below `owned`, so that it is dropped after it: the process leaves the pond once its last buffer is given
    /// back. `None` in blocks, whose process is in the pond until it ends.
    _pond: Option<Pond>,
}

/// How an array lies in memory, in the words of the buffer protocol; C order.
struct Layout {
    format: &'static CStr,
    itemsize: ffi::Py_ssize_t,
    dimensions: usize,
    shape: [ffi::Py_ssize_t; MAX_DIMENSIONS],
    strides: [ffi::Py_ssize_t; MAX_DIMENSIONS],
}

impl Layout {
    fn new(dtype: DType, shape: &[u32]) -> Layout {
        let itemsize = dtype.size_bytes() as ffi::Py_ssize_t;
        let mut layout = Layout {
            format: numpy::format(dtype),
            itemsize,
            dimensions: shape.len().min(MAX_DIMENSIONS),
            shape: [0; MAX_DIMENSIONS],
            strides: [0; MAX_DIMENSIONS],
        };
        let mut stride = itemsize;
        for i in (0..layout.dimensions).rev() {
            layout.shape[i] = shape[i] as ffi::Py_ssize_t;
            layout.strides[i] = stride;
            // Wrapping: what shared memory says about a shape may be anything; it is used only if it agrees with the length.
            stride = stride.wrapping_mul(layout.shape[i]);
        }
        layout
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// References to a Python object.
pub(crate) fn references<T>(object: &Py<T>, _: Python<'_>) -> isize {
    // SAFETY: `object` is alive, and the GIL is held.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

impl Memory {
    pub(crate) fn writable(buffer: BufferMut, pond: Option<Pond>) -> Memory {
        let layout = Layout::new(buffer.dtype(), &buffer.shape());
        Memory { owned: Mutex::new(Owned::Writable(buffer)), layout, _pond: pond }
    }

    fn shared(buffer: Buffer, pond: Option<Pond>) -> Memory {
        let layout = Layout::new(buffer.dtype(), &buffer.shape());
        Memory { owned: Mutex::new(Owned::Shared(buffer)), layout, _pond: pond }
    }

    /// Works on the buffer while it is writable; `None` afterwards.
    pub(crate) fn with_writable<R>(&self, work: impl FnOnce(&mut BufferMut) -> R) -> Option<R> {
        if let Owned::Writable(buffer) = &mut *lock(&self.owned) { Some(work(buffer)) } else { None }
    }

    /// Another handle of the buffer, which is read-only from now on.
    pub(crate) fn share(&self) -> Option<Buffer> {
        let mut owned = lock(&self.owned);
        let buffer = match std::mem::replace(&mut *owned, Owned::Gone) {
            Owned::Writable(buffer) => buffer.freeze(),
            Owned::Shared(buffer) => buffer,
            Owned::Gone => return None,
        };
        let handle = buffer.clone();
        *owned = Owned::Shared(buffer);
        Some(handle)
    }

    /// The buffer itself if nothing else refers to `memory`, so that no view can see it; else another handle.
    pub(crate) fn take(memory: Py<Memory>, py: Python<'_>) -> Option<Buffer> {
        if references(&memory, py) > 1 {
            return memory.get().share();
        }
        match std::mem::replace(&mut *lock(&memory.get().owned), Owned::Gone) {
            Owned::Writable(buffer) => Some(buffer.freeze()),
            Owned::Shared(buffer) => Some(buffer),
            Owned::Gone => None,
        }
    }

    fn with_shared<R>(&self, work: impl FnOnce(&Buffer) -> R) -> Option<R> {
        if let Owned::Shared(buffer) = &*lock(&self.owned) { Some(work(buffer)) } else { None }
    }

    /// Start, length and whether it may be written to.
    fn extent(&self) -> PyResult<(*mut u8, usize, bool)> {
        match &mut *lock(&self.owned) {
            Owned::Writable(buffer) => {
                let bytes = buffer.as_mut_slice::<u8>().map_err(from_pond)?;
                Ok((bytes.as_mut_ptr(), bytes.len(), true))
            }
            Owned::Shared(buffer) => {
                let bytes = buffer.as_slice::<u8>().map_err(from_pond)?;
                Ok((bytes.as_ptr().cast_mut(), bytes.len(), false))
            }
            Owned::Gone => Err(PyBufferError::new_err("the memory has been given away")),
        }
    }
}

#[pymethods]
impl Memory {
    /// # Safety
    /// As the buffer protocol says: `view` is the caller's to be filled.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Memory>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let (start, length, writable) = slf.get().extent()?;
        let layout = &slf.get().layout;
        // SAFETY: `start` is valid for `length` bytes as long as the handle in `slf` is held. The view refers to `slf`, and so
        // does an array that is made of it; the handle leaves `slf` only in `take`, when nothing else refers to it. If
        // `writable` is false, PyBuffer_FillInfo refuses writable views. A writable view may outlive `writable` only as an
        // array, which `Loan` makes read-only or refuses to send. The layout lies in `slf`, never changes, and consumers only
        // read it, so that the pointers to it are valid for as long as the view.
        let filled = unsafe {
            let size = length as ffi::Py_ssize_t;
            let filled =
                ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.cast(), size, c_int::from(!writable), flags);
            // What shared memory says about the shape is used only if it agrees with the length, and not by wrapping around.
            let mut extents = layout.shape[..layout.dimensions].iter();
            let said = extents.try_fold(layout.itemsize, |n, extent| n.checked_mul(*extent));
            if filled == 0 && flags & ffi::PyBUF_ND == ffi::PyBUF_ND && said == Some(size) {
                (*view).itemsize = layout.itemsize;
                (*view).ndim = layout.dimensions as c_int;
                (*view).shape = layout.shape.as_ptr().cast_mut();
                if flags & ffi::PyBUF_STRIDES == ffi::PyBUF_STRIDES {
                    (*view).strides = layout.strides.as_ptr().cast_mut();
                }
                if flags & ffi::PyBUF_FORMAT == ffi::PyBUF_FORMAT {
                    (*view).format = layout.format.as_ptr().cast_mut();
                }
            }
            filled
        };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// A read-only view of a buffer, which it keeps.
pub(crate) fn array_of<'py>(
    py: Python<'py>,
    buffer: Buffer,
    pond: Option<Pond>,
) -> PyResult<Bound<'py, PyAny>> {
    let (dtype, shape) = (buffer.dtype(), buffer.shape());
    let memory = Bound::new(py, Memory::shared(buffer, pond))?;
    numpy::array(py, dtype, &shape, memory.as_any())
}

/// The buffer with a copy of an array of its dtype and shape in it.
pub(crate) fn filled(py: Python<'_>, buffer: BufferMut, from: &Bound<'_, PyAny>) -> PyResult<Buffer> {
    let (dtype, shape) = (buffer.dtype(), buffer.shape());
    let memory = Py::new(py, Memory::writable(buffer, None))?;
    numpy::copy(&numpy::array(py, dtype, &shape, memory.bind(py))?, from)?;
    Memory::take(memory, py).ok_or_else(sent)
}

/// What a `Frame` has of its buffer.
enum Held {
    /// The buffer, which no view has seen yet.
    Alone(Buffer),
    /// Views may be alive.
    Viewed(Py<Memory>),
    /// Sent; the memory is kept if somebody may see it through this very object.
    Sent(#[allow(dead_code, reason = "held, never looked at")] Option<Py<Memory>>),
}

/// A received buffer: its contents as a read-only numpy view of shared memory, and what its sender said about them.
///
/// The buffer is given back when the frame and every view of it are gone. Sending a frame gives it away without copying;
/// `clone()` makes a second frame of the same buffer first. A frame supports the buffer protocol, `numpy.asarray`
/// and DLPack.
#[pyclass(module = "millpond", frozen)]
pub(crate) struct Frame {
    held: Mutex<Held>,
    /// The buffer protocol was used on the frame itself; numpy then refers to the frame instead of the memory.
    exported: std::sync::atomic::AtomicBool,
    /// Dropped after `held`, as in `Memory`.
    pond: Option<Pond>,
}

impl Frame {
    pub(crate) fn new(buffer: Buffer, pond: Option<Pond>) -> Frame {
        Frame { held: Mutex::new(Held::Alone(buffer)), exported: false.into(), pond }
    }

    fn with<R>(&self, work: impl FnOnce(&Buffer) -> R) -> PyResult<R> {
        let checked = |buffer: &Buffer| {
            buffer.as_slice::<u8>().map_err(from_pond)?; // tells a forked child
            Ok(work(buffer))
        };
        match &*lock(&self.held) {
            Held::Alone(buffer) => checked(buffer),
            Held::Viewed(memory) => memory.get().with_shared(checked).unwrap_or_else(|| Err(sent())),
            Held::Sent(_) => Err(sent()),
        }
    }

    pub(crate) fn dtype_and_shape(&self) -> PyResult<(DType, Shape)> {
        self.with(|buffer| (buffer.dtype(), buffer.shape()))
    }

    fn memory(&self, py: Python<'_>) -> PyResult<Py<Memory>> {
        let mut held = lock(&self.held);
        match std::mem::replace(&mut *held, Held::Sent(None)) {
            Held::Alone(buffer) => {
                let memory = Py::new(py, Memory::shared(buffer, self.pond.clone()))?;
                *held = Held::Viewed(memory.clone_ref(py));
                Ok(memory)
            }
            Held::Viewed(memory) => {
                *held = Held::Viewed(memory.clone_ref(py));
                Ok(memory)
            }
            sent_before @ Held::Sent(_) => {
                *held = sent_before;
                Err(sent())
            }
        }
    }

    /// The buffer, to be sent: the frame is used up.
    pub(crate) fn take(&self, py: Python<'_>) -> PyResult<Buffer> {
        self.with(|_| ())?; // a forked child keeps what it cannot send
        let mut held = lock(&self.held);
        let kept = |memory: &Py<Memory>| {
            self.exported.load(std::sync::atomic::Ordering::Relaxed).then(|| memory.clone_ref(py))
        };
        match std::mem::replace(&mut *held, Held::Sent(None)) {
            Held::Alone(buffer) => Ok(buffer),
            Held::Viewed(memory) => {
                *held = Held::Sent(kept(&memory));
                Memory::take(memory, py).ok_or_else(sent)
            }
            sent_before @ Held::Sent(_) => {
                *held = sent_before;
                Err(sent())
            }
        }
    }

    /// Gives back what could not be sent.
    pub(crate) fn restore(&self, buffer: Buffer) {
        let mut held = lock(&self.held);
        *held = match std::mem::replace(&mut *held, Held::Sent(None)) {
            // Whoever sees the memory through this object goes on to: it has to be kept at the next try as well.
            Held::Sent(Some(memory)) => Held::Viewed(memory),
            _ => Held::Alone(buffer),
        };
    }
}

#[cold]
fn sent() -> PyErr {
    AlreadySentError::new_err("the frame has been sent already; send `frame.clone()` first to keep one")
}

#[pymethods]
impl Frame {
    /// The contents: a read-only numpy view of shared memory, with the dtype and shape that the sender gave it.
    ///
    /// It stays valid as long as it lives, also after the frame is gone or sent.
    #[getter]
    fn array<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (dtype, shape) = self.dtype_and_shape()?;
        numpy::array(py, dtype, &shape, self.memory(py)?.into_bound(py).as_any())
    }

    /// For `numpy.asarray(frame)`: the view itself, unless `copy=True` or another dtype is wanted.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let array = self.array(py)?;
        let options = PyDict::new(py);
        options.set_item("dtype", dtype)?;
        options.set_item("copy", copy)?;
        py.import("numpy")?.call_method("array", (array,), Some(&options))
    }

    /// For `torch.from_dlpack(frame)`, `numpy.from_dlpack(frame)` and their like: no copy; read-only, which only a consumer that
    /// knows DLPack 1.0 can be told.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if max_version.is_none_or(|(major, _)| major < 1) && copy != Some(true) {
            return Err(PyBufferError::new_err(
                "a frame is read-only, which this consumer cannot be told: expected DLPack 1.0 or later (`max_version`), found an \
                 earlier one. Without a copy jax takes it by `jax.device_put(frame.array, may_alias=True)`; a copy anybody takes: \
                 `frame.array.copy()`",
            ));
        }
        let options = PyDict::new(py);
        options.set_item("stream", stream)?;
        options.set_item("max_version", max_version)?;
        options.set_item("dl_device", dl_device)?;
        options.set_item("copy", copy)?;
        self.array(py)?.call_method("__dlpack__", (), Some(&options))
    }

    /// The memory is the CPU's.
    fn __dlpack_device__(&self) -> (i32, i32) {
        (1, 0)
    }

    /// # Safety
    /// As the buffer protocol says: `view` is the caller's to be filled.
    unsafe fn __getbuffer__(slf: &Bound<'_, Frame>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let frame = slf.get();
        // numpy keeps a reference to the frame only, and none to the view's own object.
        frame.exported.store(true, std::sync::atomic::Ordering::Relaxed);
        let memory = frame.memory(slf.py())?.into_bound(slf.py());
        // SAFETY: as for `Memory`, whose view it becomes; and a frame that was exported keeps its `Memory` for life.
        unsafe { Memory::__getbuffer__(&memory, view, flags) }
    }

    /// Number of bytes.
    #[getter]
    fn nbytes(&self) -> PyResult<usize> {
        self.with(Buffer::len)
    }

    /// Element type, as numpy names it.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let dtype = self.with(Buffer::dtype)?;
        Ok(numpy::numpy_dtype(py, dtype)?.clone())
    }

    /// Dimensions, slowest first.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let shape = self.with(Buffer::shape)?;
        PyTuple::new(py, &*shape)
    }

    /// When the contents were taken, if the sender said so.
    #[getter]
    fn stamp(&self) -> PyResult<Option<Timestamp>> {
        self.with(|buffer| Timestamp::from_stamp(buffer.timestamp()))
    }

    /// The span of time that the contents cover: start and end in the timestamp's unit, if the sender said so.
    #[getter]
    fn time_range(&self) -> PyResult<Option<(i64, i64)>> {
        self.with(Buffer::time_range)
    }

    /// The frame's number within its stream.
    #[getter]
    fn sequence(&self) -> PyResult<u64> {
        self.with(Buffer::sequence)
    }

    /// Whether it may have been delivered before, to a process that was killed before it was done with it.
    #[getter]
    fn redelivered(&self) -> PyResult<bool> {
        self.with(Buffer::redelivered)
    }

    /// References to the buffer in all processes and queues, now. For people: it may change at any moment.
    #[getter]
    fn references(&self) -> PyResult<u32> {
        self.with(Buffer::references)
    }

    /// Another frame of the same buffer: nothing is copied.
    fn clone(&self) -> PyResult<Frame> {
        Ok(Frame::new(self.with(Buffer::clone)?, self.pond.clone()))
    }

    fn __len__(&self) -> PyResult<usize> {
        self.with(|buffer| buffer.shape().first().map_or(0, |extent| *extent as usize))
    }

    fn __repr__(&self) -> String {
        let text = |buffer: &Buffer| {
            let stamp = Timestamp::from_stamp(buffer.timestamp());
            let stamp = stamp.map_or_else(String::new, |stamp| format!(" {}", stamp.text()));
            let dtype = if buffer.dtype() == DType::Bytes { "bytes" } else { buffer.dtype().name() };
            format!("<millpond.Frame {} {dtype} {:?}{stamp}>", buffer.id(), buffer.shape())
        };
        self.with(text).unwrap_or_else(|_| "<millpond.Frame (sent, or of the parent process)>".to_owned())
    }
}
