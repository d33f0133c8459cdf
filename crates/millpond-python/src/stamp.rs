//! `Timestamp`: when the contents of a frame were taken.

use millpond_shm::Timestamp as Stamp;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};

/// When the contents of a frame were taken.
///
/// Three kinds: `Timestamp.absolute(ns)` counts nanoseconds since the Unix epoch, `Timestamp.relative(ns)` nanoseconds since
/// the stream's own start, `Timestamp.sample(index, rate_hz)` samples.
///
/// >>> from millpond import Timestamp
/// >>> Timestamp.absolute(1_700_000_000_000_000_000)
/// Timestamp.absolute(1700000000000000000)
/// >>> Timestamp.sample(480, 48000).seconds
/// 0.01
/// >>> Timestamp.relative(5) < Timestamp.relative(6)
/// True
#[pyclass(module = "millpond", frozen)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Timestamp {
    kind: Kind,
    value: i64,
    rate: (u32, u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Absolute,
    Relative,
    Sample,
}

impl Timestamp {
    pub(crate) fn from_stamp(stamp: Stamp) -> Option<Timestamp> {
        let (kind, value, rate) = match stamp {
            Stamp::None => return None,
            Stamp::Absolute(ns) => (Kind::Absolute, ns, (1, 1)),
            Stamp::Relative(ns) => (Kind::Relative, ns, (1, 1)),
            Stamp::Sample { index, rate_num, rate_den } => (Kind::Sample, index, (rate_num, rate_den)),
        };
        Some(Timestamp { kind, value, rate })
    }

    /// As Python code.
    pub(crate) fn text(&self) -> String {
        match self.kind {
            Kind::Sample if self.rate.1 != 1 => {
                format!("Timestamp.sample({}, {}, {})", self.value, self.rate.0, self.rate.1)
            }
            Kind::Sample => format!("Timestamp.sample({}, {})", self.value, self.rate.0),
            _ => format!("Timestamp.{}({})", self.kind(), self.value),
        }
    }

    fn to_stamp(self) -> Stamp {
        match self.kind {
            Kind::Absolute => Stamp::Absolute(self.value),
            Kind::Relative => Stamp::Relative(self.value),
            Kind::Sample => Stamp::Sample { index: self.value, rate_num: self.rate.0, rate_den: self.rate.1 },
        }
    }
}

#[pymethods]
impl Timestamp {
    /// Nanoseconds since the Unix epoch.
    #[staticmethod]
    fn absolute(ns: i64) -> Timestamp {
        Timestamp { kind: Kind::Absolute, value: ns, rate: (1, 1) }
    }

    /// Nanoseconds since the stream's own start.
    #[staticmethod]
    fn relative(ns: i64) -> Timestamp {
        Timestamp { kind: Kind::Relative, value: ns, rate: (1, 1) }
    }

    /// Index of the first sample, at `rate_hz / rate_den` samples a second.
    #[staticmethod]
    #[pyo3(signature = (index, rate_hz, rate_den=1))]
    fn sample(index: i64, rate_hz: u32, rate_den: u32) -> PyResult<Timestamp> {
        if rate_hz == 0 || rate_den == 0 {
            return Err(PyValueError::new_err(format!(
                "sample rate: expected a positive fraction, found {rate_hz}/{rate_den}"
            )));
        }
        Ok(Timestamp { kind: Kind::Sample, value: index, rate: (rate_hz, rate_den) })
    }

    /// The wall clock now, as an absolute timestamp.
    #[staticmethod]
    fn now() -> Timestamp {
        let ns = if let Stamp::Absolute(ns) = Stamp::now() { ns } else { 0 };
        Timestamp::absolute(ns)
    }

    /// `"absolute"`, `"relative"` or `"sample"`.
    #[getter]
    fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Absolute => "absolute",
            Kind::Relative => "relative",
            Kind::Sample => "sample",
        }
    }

    /// Nanoseconds, or the index of the sample.
    #[getter]
    fn value(&self) -> i64 {
        self.value
    }

    /// Samples per second as numerator and denominator; `None` unless the kind is `"sample"`.
    #[getter]
    fn rate_hz(&self) -> Option<(u32, u32)> {
        matches!(self.kind, Kind::Sample).then_some(self.rate)
    }

    /// Seconds since the epoch or the stream's start.
    #[getter]
    fn seconds(&self) -> f64 {
        match self.kind {
            Kind::Absolute | Kind::Relative => self.value as f64 / 1e9,
            Kind::Sample => self.value as f64 * f64::from(self.rate.1) / f64::from(self.rate.0),
        }
    }

    fn __richcmp__(&self, other: &Timestamp, op: pyo3::basic::CompareOp) -> PyResult<bool> {
        use pyo3::basic::CompareOp;
        if matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return Ok((self == other) == matches!(op, CompareOp::Eq));
        }
        if self.kind != other.kind || self.rate != other.rate {
            return Err(PyTypeError::new_err(format!(
                "cannot order {} and {}: they count differently",
                self.text(),
                other.text()
            )));
        }
        Ok(op.matches(self.value.cmp(&other.value)))
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        self.text()
    }
}

/// What a `stamp` argument asks for.
#[derive(Clone, Copy)]
pub(crate) enum Wish {
    /// This stamp.
    Stamp(Stamp),
    /// The wall clock at the moment of publishing.
    AtPublishing,
}

/// Reads a `stamp` argument: `None`, a `Timestamp`, an `int` of nanoseconds since the Unix epoch, or `"now"`.
pub(crate) fn wish(stamp: Option<&Bound<'_, PyAny>>) -> PyResult<Wish> {
    match stamp {
        Some(stamp) => read(stamp, "stamp: expected None, "),
        None => Ok(Wish::Stamp(Stamp::None)),
    }
}

/// Reads a `bound` argument: as `stamp`, but never `None`.
pub(crate) fn bound(bound: &Bound<'_, PyAny>) -> PyResult<Stamp> {
    Ok(match read(bound, "bound: expected ")? {
        Wish::Stamp(stamp) => stamp,
        Wish::AtPublishing => Stamp::now(),
    })
}

/// Reads a `Timestamp`, an `int` of nanoseconds since the Unix epoch, or `"now"`; `expected` is how the error of who gives
/// something else begins.
fn read(stamp: &Bound<'_, PyAny>, expected: &str) -> PyResult<Wish> {
    if let Ok(stamp) = stamp.cast::<Timestamp>() {
        return Ok(Wish::Stamp(stamp.get().to_stamp()));
    }
    if let Ok(ns) = stamp.cast::<PyInt>() {
        return Ok(Wish::Stamp(Stamp::Absolute(ns.extract()?)));
    }
    if stamp.cast::<PyString>().is_ok_and(|text| text == "now") {
        return Ok(Wish::AtPublishing);
    }
    Err(PyTypeError::new_err(format!(
        "{expected}a Timestamp, an int (nanoseconds since the Unix epoch) or \"now\", found {}",
        stamp.repr()?
    )))
}

/// The error for who gives a stamp to a frame.
pub(crate) fn of_a_frame() -> PyErr {
    PyTypeError::new_err("stamp: a frame keeps its own; others may see it, too")
}
