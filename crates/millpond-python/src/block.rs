//! Blocks written in Python, run by the Rust runtime: it gathers a frame of each input, calls Python, and sends what Python has
//! sent. So waiting, statistics, stopping, parameters and restarts are those of every other block.
//!
//! The Python side of each block is a `millpond._blocks._Worker`.

use crate::frame::{self, Frame};
use crate::numpy;
use crate::out::{Item, Out};
use millpond::bus::Json;
use millpond::{
    Block, BlockProcess, BlockType, Buffer, Catalog, Error, Io, Params, Pause, Result, Spec, StreamFormat,
    Value, WorkResult, tracing,
};
use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::io::Write as _;

/// A block whose work is done by a Python object.
struct PyBlock {
    object: Py<PyAny>,
    inputs: Vec<InPort>,
    outs: Vec<OutPort>,
    done: bool,
}

/// An input as its annotation says.
struct InPort {
    name: String,
    /// There is no call without a frame of it.
    waits: bool,
    /// Python gets the array, not the frame.
    as_array: bool,
}

/// An output.
struct OutPort {
    name: String,
    out: Py<Out>,
    /// As the block states it, with 0 for what varies; empty: any.
    shape: Vec<u32>,
}

impl PyBlock {
    fn new(object: Bound<'_, PyAny>) -> PyResult<Self> {
        let inputs: Vec<(String, bool, bool)> = object.getattr("inputs")?.extract()?;
        let outs: Vec<(String, Bound<'_, PyAny>, Vec<Option<u32>>)> = object.getattr("outs")?.extract()?;
        let out = |(name, out, shape): (String, Bound<'_, PyAny>, Vec<Option<u32>>)| {
            let shape = shape.into_iter().map(Option::unwrap_or_default).collect();
            Ok(OutPort { name, out: out.cast_into::<Out>()?.unbind(), shape })
        };
        Ok(Self {
            object: object.unbind(),
            inputs: inputs
                .into_iter()
                .map(|(name, waits, as_array)| InPort { name, waits, as_array })
                .collect(),
            outs: outs.into_iter().map(out).collect::<PyResult<_>>()?,
            done: false,
        })
    }

    /// Sends what Python has sent.
    fn flush(&self, io: &mut Io) -> WorkResult {
        for OutPort { name: port, out, .. } in &self.outs {
            while let Some(item) = out.get().next() {
                match item {
                    Item::Buffer(buffer) => io.send(port, buffer)?,
                    Item::Bound(bound) => io.advance(port, bound),
                    Item::Array(array, description) => {
                        let sent = Python::attach(|py| {
                            let mut buffer = buffer_for(py, io, port, array.bind(py))?;
                            buffer.set_timestamp(description.stamp);
                            buffer.set_sequence(description.sequence);
                            let filled = frame::filled(py, buffer, array.bind(py));
                            io.send(port, filled.map_err(|error| failure(py, &error))?)
                        });
                        if matches!(sent, Err(Pause::OutputFull)) {
                            out.get().put_back(Item::Array(array, description));
                        }
                        sent?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What is sent has the rate and the description of what comes, unless the block states another rate. Arrays have the annotated
    /// dtype and the stated shape, frames those of what comes.
    fn state_formats(&self, io: &mut Io) -> Result<()> {
        let stated = |of_input: &StreamFormat| {
            Python::attach(|py| {
                let object = self.object.bind(py);
                object.call_method1("rate_hz", (of_input.rate_hz,))?.extract()
            })
        };
        let like: Option<String> = Python::attach(|py| self.object.getattr(py, "like")?.extract(py))
            .map_err(|error| Python::attach(|py| failure(py, &error)))?;
        let known = like.and_then(|input| io.format(&input)).cloned();
        let mut format = known.clone().unwrap_or_default();
        format.rate_hz = stated(&format).map_err(|error| Python::attach(|py| failure(py, &error)))?;
        for OutPort { name, out, shape } in &self.outs {
            match out.get().dtype() {
                Some(dtype) => {
                    io.set_format(name, StreamFormat { dtype, shape: shape.clone(), ..format.clone() })?;
                }
                None if known.is_some() => io.set_format(name, format.clone())?,
                None => {}
            }
        }
        Ok(())
    }

    /// One frame of each input that has one.
    ///
    /// # Errors
    /// [`Pause`] if there is not enough for a call.
    fn gather(&self, io: &mut Io) -> std::result::Result<Vec<Option<Buffer>>, Pause> {
        for input in self.inputs.iter().filter(|input| input.waits) {
            io.peek(&input.name)?;
        }
        let taken: Vec<_> =
            self.inputs.iter().map(|input| io.try_take(&input.name)).collect::<Result<_>>()?;
        if taken.iter().any(Option::is_some) || self.inputs.is_empty() {
            Ok(taken)
        } else if self.inputs.iter().all(|input| io.ended(&input.name)) {
            Err(Pause::Done)
        } else {
            Err(Pause::NeedInput)
        }
    }
}

/// A buffer of an array's dtype and shape.
fn buffer_for(
    py: Python<'_>,
    io: &mut Io,
    port: &str,
    array: &Bound<'_, PyAny>,
) -> std::result::Result<millpond::BufferMut, Pause> {
    let read = || -> PyResult<_> {
        Ok((numpy::pond_dtype(&array.getattr("dtype")?)?, array.getattr("shape")?.extract::<Vec<u32>>()?))
    };
    let (dtype, shape) = read().map_err(|error| failure(py, &error))?;
    io.new_buffer(port, dtype, &shape)
}

/// What `work` is called with.
fn argument<'py>(py: Python<'py>, input: &InPort, buffer: Option<Buffer>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match buffer {
        None => py.None().into_bound(py),
        Some(buffer) if input.as_array => frame::array_of(py, buffer, None)?,
        Some(buffer) => Bound::new(py, Frame::new(buffer, None))?.into_any(),
    })
}

/// An exception as the block's failure; the traceback goes to the pond's log and to standard error.
fn failure(py: Python<'_>, error: &PyErr) -> Error {
    let traceback = || -> PyResult<String> {
        let parts = (error.get_type(py), error.value(py), error.traceback(py));
        let lines = py.import("traceback")?.call_method1("format_exception", parts)?;
        lines.extract::<Vec<String>>().map(|lines| lines.concat())
    };
    if let Ok(text) = traceback() {
        tracing::error!("{}", text.trim_end());
        let _ = std::io::stderr().write_all(text.as_bytes()); // whoever read it may be gone
    }
    Error::Refused(error.to_string())
}

impl Block for PyBlock {
    /// Never asked: the type is made with [`BlockType::new`].
    fn spec() -> Spec {
        Spec::new("python", "A block written in Python")
    }

    fn new(_: &Params) -> Result<Self> {
        Err(Error::Refused("a block written in Python is made by its program".to_owned()))
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.outs.iter().for_each(|port| port.out.get().open(io));
        self.state_formats(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        self.flush(io)?;
        if self.done {
            return Err(Pause::Done);
        }
        let taken = self.gather(io)?;
        if let Some(buffer) = taken.iter().flatten().next() {
            let stamp = buffer.timestamp();
            self.outs.iter().for_each(|port| port.out.get().set_stamp(stamp));
        }
        Python::attach(|py| {
            let arguments = self.inputs.iter().zip(taken).map(|(input, buffer)| argument(py, input, buffer));
            let goes_on = arguments
                .collect::<PyResult<Vec<_>>>()
                .and_then(|arguments| PyTuple::new(py, arguments))
                .and_then(|arguments| {
                    self.object.bind(py).call_method1("work", arguments)?.extract::<bool>()
                });
            self.done = !goes_on.map_err(|error| failure(py, &error))?;
            Ok::<_, Pause>(())
        })?;
        self.flush(io)
    }

    /// An exception is the refusal of the value.
    fn set_param(&mut self, name: &str, io: &mut Io) -> Result<()> {
        let value: Option<Value> = io.param(name);
        Python::attach(|py| {
            let value = value.map(|value| python_of(py, &value)).transpose();
            let set = value.and_then(|value| self.object.bind(py).call_method1("set_param", (name, value)));
            set.map(drop).map_err(|error| Error::Refused(error.value(py).to_string()))
        })
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        self.flush(io)?;
        Python::attach(|py| {
            self.object.bind(py).call_method0("finish").map(drop).map_err(|error| failure(py, &error))
        })?;
        self.flush(io)
    }
}

/// One type of block: its spec as JSON, and what makes the object that works.
pub(crate) type TypeText<'py> = (String, Bound<'py, PyAny>);

fn spec_of(text: &str) -> PyResult<Spec> {
    let json: Json = serde_json::from_str(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Spec::from_json(json).map_err(PyTypeError::new_err)
}

/// Raises `TypeError` if a spec is wrong.
#[pyfunction]
pub(crate) fn _check_spec(spec: &str) -> PyResult<()> {
    spec_of(spec).map(drop)
}

pub(crate) fn block_type(text: TypeText<'_>) -> PyResult<BlockType> {
    let (spec, make) = text;
    let make = make.unbind();
    let made = move |params: &Params| -> Result<Box<dyn Block>> {
        Python::attach(|py| {
            let block = keywords(py, params)
                .and_then(|given| make.bind(py).call((), Some(&given)))
                .and_then(PyBlock::new);
            Ok(Box::new(block.map_err(|error| failure(py, &error))?) as Box<_>)
        })
    };
    BlockType::new(spec_of(&spec)?, made).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn keywords<'py>(py: Python<'py>, params: &Params) -> PyResult<Bound<'py, PyDict>> {
    let given = PyDict::new(py);
    for (name, value) in params.iter() {
        given.set_item(name, python_of(py, value)?)?;
    }
    Ok(given)
}

fn python_of<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::Bool(value) => value.into_bound_py_any(py),
        Value::Int(value) => value.into_bound_py_any(py),
        Value::Float(value) => value.into_bound_py_any(py),
        Value::Text(value) => value.into_bound_py_any(py),
        Value::Names(value) => value.into_bound_py_any(py),
        Value::Numbers(value) => value.into_bound_py_any(py),
        other => other.to_string().into_bound_py_any(py),
    }
}
/// What a program with block types is asked to do by its command line; `docs/programs.md` has the contract. Returns the exit code.
#[pyfunction]
pub(crate) fn _main(
    py: Python<'_>,
    types: Vec<TypeText<'_>>,
    arguments: Vec<String>,
    with_builtin: bool,
) -> PyResult<u8> {
    let mut catalog = if with_builtin { Catalog::builtin() } else { Catalog::new() };
    for text in types {
        catalog.add_type(block_type(text)?);
    }
    let wrong = |problem: String| PyValueError::new_err(problem);
    let rest = arguments.get(1..).unwrap_or_default();
    let process = match (arguments.first().map(String::as_str), rest) {
        (Some("blocks"), []) => return print(py, &catalog.to_text()),
        (Some("blocks"), [json]) if json == "--json" => return print(py, &(catalog.to_json() + "\n")),
        (Some("block"), rest) => BlockProcess::of_block(rest).map_err(wrong)?,
        (Some("worker"), rest) => BlockProcess::of_worker(rest).map_err(wrong)?,
        _ => return Err(wrong(format!("expected a command, found `{}`", arguments.join(" ")))),
    };
    let code =
        py.detach(|| process.run(&catalog)).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    Ok(u8::from(code != std::process::ExitCode::SUCCESS))
}

fn print(py: Python<'_>, text: &str) -> PyResult<u8> {
    py.import("sys")?.getattr("stdout")?.call_method1("write", (text,)).map(|_| 0)
}

/// Puts a line of Python's `logging` into the pond's log.
#[pyfunction]
pub(crate) fn _log(level: u32, text: &str) {
    match level {
        40.. => tracing::error!("{text}"),
        30.. => tracing::warn!("{text}"),
        20.. => tracing::info!("{text}"),
        _ => tracing::debug!("{text}"),
    }
}
