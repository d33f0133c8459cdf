//! numpy without its C interface: arrays are made by calling `numpy.ndarray` on an object with the buffer protocol.

use millpond_shm::DType;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};
use std::ffi::CStr;

/// What is looked up in numpy once.
struct Numpy {
    ndarray: Py<PyAny>,
    asarray: Py<PyAny>,
    copyto: Py<PyAny>,
    empty: Py<PyAny>,
    dtype: Py<PyAny>,
    /// numpy's dtypes, in the order of `DType::ALL`.
    dtypes: Vec<Py<PyAny>>,
    /// Dtype arguments seen so far, with their place in `DType::ALL`.
    known: Py<PyDict>,
}

static NUMPY: PyOnceLock<Numpy> = PyOnceLock::new();

/// numpy's name of a dtype. Bytes and records are seen as `uint8`.
pub(crate) fn numpy_name(dtype: DType) -> &'static str {
    match dtype {
        DType::I8 => "int8",
        DType::U16 => "uint16",
        DType::I16 => "int16",
        DType::U32 => "uint32",
        DType::I32 => "int32",
        DType::U64 => "uint64",
        DType::I64 => "int64",
        DType::F32 => "float32",
        DType::F64 => "float64",
        DType::C32 => "complex64",
        DType::C64 => "complex128",
        _ => "uint8",
    }
}

/// The buffer protocol's name of a dtype.
pub(crate) fn format(dtype: DType) -> &'static CStr {
    match dtype {
        DType::I8 => c"b",
        DType::U16 => c"H",
        DType::I16 => c"h",
        DType::U32 => c"I",
        DType::I32 => c"i",
        DType::U64 => c"L",
        DType::I64 => c"l",
        DType::F32 => c"f",
        DType::F64 => c"d",
        DType::C32 => c"Zf",
        DType::C64 => c"Zd",
        _ => c"B",
    }
}

fn numpy(py: Python<'_>) -> PyResult<&Numpy> {
    NUMPY.get_or_try_init(py, || {
        let module = py.import("numpy")?;
        let dtype = module.getattr("dtype")?;
        let dtypes = DType::ALL.iter().map(|d| Ok(dtype.call1((numpy_name(*d),))?.unbind()));
        Ok(Numpy {
            ndarray: module.getattr("ndarray")?.unbind(),
            asarray: module.getattr("asarray")?.unbind(),
            copyto: module.getattr("copyto")?.unbind(),
            empty: module.getattr("empty")?.unbind(),
            dtypes: dtypes.collect::<PyResult<_>>()?,
            dtype: dtype.unbind(),
            known: PyDict::new(py).unbind(),
        })
    })
}

/// An array over the memory of `buffer`, an object with the buffer protocol that the array keeps alive.
pub(crate) fn array<'py>(
    py: Python<'py>,
    dtype: DType,
    shape: &[u32],
    buffer: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let numpy = numpy(py)?;
    let shape = PyTuple::new(py, shape)?;
    numpy.ndarray.bind(py).call1((shape, numpy_dtype(py, dtype)?, buffer))
}

/// An array over memory of this process, with anything in it.
pub(crate) fn empty<'py>(py: Python<'py>, dtype: DType, shape: &[u32]) -> PyResult<Bound<'py, PyAny>> {
    let shape = PyTuple::new(py, shape)?;
    numpy(py)?.empty.bind(py).call1((shape, numpy_dtype(py, dtype)?))
}

/// As `numpy.asarray`.
pub(crate) fn asarray<'py>(
    item: &Bound<'py, PyAny>,
    dtype: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    numpy(item.py())?.asarray.bind(item.py()).call1((item, dtype))
}

/// As `numpy.copyto`.
pub(crate) fn copy(to: &Bound<'_, PyAny>, from: &Bound<'_, PyAny>) -> PyResult<()> {
    numpy(to.py())?.copyto.bind(to.py()).call1((to, from)).map(drop)
}

/// Whether it is an array.
pub(crate) fn is_array(item: &Bound<'_, PyAny>) -> PyResult<bool> {
    item.is_instance(numpy(item.py())?.ndarray.bind(item.py()))
}

/// Bytes of an array.
pub(crate) fn bytes_of(dtype: DType, shape: &[u32]) -> PyResult<usize> {
    let bytes = shape.iter().try_fold(dtype.size_bytes(), |n, &extent| n.checked_mul(extent as usize));
    bytes.ok_or_else(|| PyValueError::new_err(format!("shape: {shape:?} is too large")))
}

/// The pond's name of what `numpy.dtype` takes.
#[pyfunction]
pub(crate) fn _dtype_name(dtype: &Bound<'_, PyAny>) -> PyResult<&'static str> {
    pond_dtype(dtype).map(DType::name)
}

/// numpy's dtype object.
pub(crate) fn numpy_dtype<'py>(py: Python<'py>, dtype: DType) -> PyResult<&'py Bound<'py, PyAny>> {
    let place = DType::ALL.iter().position(|d| *d == dtype).unwrap_or(0);
    Ok(numpy(py)?.dtypes[place].bind(py))
}

/// The pond's dtype for whatever `numpy.dtype` takes.
///
/// # Errors
/// `TypeError` for a dtype that has no like, with those that have one.
pub(crate) fn pond_dtype(dtype: &Bound<'_, PyAny>) -> PyResult<DType> {
    let py = dtype.py();
    let numpy = numpy(py)?;
    let known = numpy.known.bind(py);
    // What cannot be hashed cannot be remembered, but may still be a dtype.
    if let Ok(Some(place)) = known.get_item(dtype) {
        return Ok(DType::ALL[place.extract::<usize>()?]);
    }
    let wanted = numpy.dtype.bind(py).call1((dtype,))?;
    // From the second on: the first is `bytes`, which is not what somebody who asks for `uint8` means.
    for (place, found) in numpy.dtypes.iter().enumerate().skip(1) {
        if wanted.eq(found.bind(py))? {
            let _ = known.set_item(dtype, place);
            return Ok(DType::ALL[place]);
        }
    }
    let names: Vec<_> = DType::ALL[1..DType::ALL.len() - 1].iter().map(|d| numpy_name(*d)).collect();
    Err(PyTypeError::new_err(format!(
        "dtype: expected one of {} in native byte order, found {}",
        names.join(", "),
        wanted.repr()?
    )))
}
