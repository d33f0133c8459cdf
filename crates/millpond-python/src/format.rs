//! `Format`: what a stream carries.

use crate::numpy;
use millpond_shm::StreamFormat;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What a stream carries, as its sender states it for receivers that join late.
#[pyclass(module = "millpond", frozen)]
pub(crate) struct Format(StreamFormat);

impl Format {
    pub(crate) fn new(format: StreamFormat) -> Format {
        Format(format)
    }
}

/// Reads what a sender says about its stream.
pub(crate) fn stream_format(
    dtype: Option<&Bound<'_, PyAny>>,
    shape: Option<Vec<Option<u32>>>,
    rate_hz: Option<(u32, u32)>,
    description: String,
) -> PyResult<StreamFormat> {
    Ok(StreamFormat {
        dtype: dtype.map(numpy::pond_dtype).transpose()?.unwrap_or_default(),
        shape: shape.unwrap_or_default().into_iter().map(|extent| extent.unwrap_or(0)).collect(),
        rate_hz,
        description,
    })
}

#[pymethods]
impl Format {
    /// Element type; `uint8` for streams of plain bytes.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(numpy::numpy_dtype(py, self.0.dtype)?.clone())
    }

    /// Dimensions of every frame, slowest first; an extent of `None` varies; empty: the shape varies.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.shape.iter().map(|extent| (*extent != 0).then_some(*extent)))
    }

    /// Samples per second as numerator and denominator, if stated.
    #[getter]
    fn rate_hz(&self) -> Option<(u32, u32)> {
        self.0.rate_hz
    }

    /// Whatever else the sender says; blocks use TOML.
    #[getter]
    fn description(&self) -> &str {
        &self.0.description
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let rate = self.0.rate_hz.map_or_else(String::new, |(n, d)| format!(" at {n}/{d} Hz"));
        Ok(format!("<millpond.Format {} {}{rate}>", self.0.dtype, self.shape(py)?.repr()?))
    }
}
