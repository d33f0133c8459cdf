//! Blocks written in Python, run by the Rust runtime: it gathers a frame of each input, calls Python, and sends what comes back.
//! So waiting, statistics, stopping and restarts are those of every other block.
//!
//! The Python side of each block is an object of `millpond._blocks`: `work(frames)` and `finish()` return a list of pairs of output
//! port and item, `work` returns `None` when it is done.

use crate::frame::{Frame, Memory};
use crate::numpy;
use millpond::{
    Block, BlockProcess, BlockType, BufferMut, Catalog, DType, Error, Io, Param, Params, Pause, Port, Result,
    Spec, Timestamp, Value, WorkResult, tracing,
};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::collections::VecDeque;

/// A block whose work is done by a Python object.
struct PyBlock {
    object: Py<PyAny>,
    inputs: Vec<String>,
    /// What Python has sent and there was no room for.
    outbox: VecDeque<(String, Py<PyAny>)>,
    /// That of the first input's frame: arrays sent in answer to it carry it on.
    stamp: Option<Timestamp>,
    done: bool,
}

impl PyBlock {
    /// Sends what is in the outbox.
    fn flush(&mut self, io: &mut Io) -> WorkResult {
        while let Some((port, item)) = self.outbox.pop_front() {
            if let Err(pause) = self.send(io, &port, &item) {
                if matches!(pause, Pause::OutputFull) {
                    self.outbox.push_front((port, item));
                }
                return Err(pause);
            }
        }
        Ok(())
    }

    fn send(&self, io: &mut Io, port: &str, item: &Py<PyAny>) -> WorkResult {
        Python::attach(|py| {
            let item = item.bind(py);
            if let Ok(frame) = item.cast::<Frame>() {
                let buffer = frame.get().take(py).map_err(|error| failure(py, &error))?;
                return io.send(port, buffer);
            }
            let read = || -> PyResult<(DType, Vec<u32>)> {
                let dtype = numpy::pond_dtype(&item.getattr("dtype")?)?;
                Ok((dtype, item.getattr("shape")?.extract()?))
            };
            let (dtype, shape) = read().map_err(|error| failure(py, &error))?;
            let mut buffer = io.new_buffer(port, dtype, &shape)?;
            buffer.set_timestamp(self.stamp.unwrap_or_else(Timestamp::now));
            let buffer = filled(py, buffer, dtype, &shape, item).map_err(|error| failure(py, &error))?;
            io.send(port, buffer)
        })
    }
}

/// The buffer with a copy of the array in it.
fn filled(
    py: Python<'_>,
    buffer: BufferMut,
    dtype: DType,
    shape: &[u32],
    from: &Bound<'_, PyAny>,
) -> PyResult<millpond::Buffer> {
    let memory = Py::new(py, Memory::writable(buffer, None))?;
    let array = numpy::array(py, dtype, shape, memory.bind(py))?;
    py.import("numpy")?.call_method1("copyto", (&array, from))?;
    drop(array);
    Memory::take(memory, py).ok_or_else(|| PyValueError::new_err("the memory of an output is gone"))
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
        eprint!("{text}");
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

    fn work(&mut self, io: &mut Io) -> WorkResult {
        self.flush(io)?;
        if self.done {
            return Err(Pause::Done);
        }
        for input in &self.inputs {
            io.peek(input)?;
        }
        let mut frames = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let buffer = io.take(input)?;
            if frames.is_empty() {
                self.stamp = Some(buffer.timestamp());
            }
            frames.push(Frame::new(buffer, None));
        }
        Python::attach(|py| {
            let called = PyList::empty(py);
            let sent = frames
                .into_iter()
                .try_for_each(|frame| called.append(Py::new(py, frame)?))
                .and_then(|()| self.object.bind(py).call_method1("work", (called,))?.extract());
            let sent: Option<Vec<(String, Py<PyAny>)>> = sent.map_err(|error| failure(py, &error))?;
            self.done = sent.is_none();
            self.outbox.extend(sent.into_iter().flatten());
            Ok::<_, Pause>(())
        })?;
        self.flush(io)
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        self.flush(io)?;
        let last: Vec<(String, Py<PyAny>)> = Python::attach(|py| {
            let last = self.object.bind(py).call_method0("finish").and_then(|last| last.extract());
            last.map_err(|error| failure(py, &error))
        })?;
        self.outbox.extend(last);
        self.flush(io)
    }
}

type PortText = (String, String, Option<String>, Option<String>);
type ParamText<'py> = (String, String, String, Option<Bound<'py, PyAny>>);

/// One type of block: name, doc, inputs and outputs (name, doc, dtype, like), parameters (name, doc, kind, default), and what makes
/// the object that works.
pub(crate) type TypeText<'py> =
    (String, String, Vec<PortText>, Vec<PortText>, Vec<ParamText<'py>>, Bound<'py, PyAny>);

pub(crate) fn block_type(py: Python<'_>, text: TypeText<'_>) -> PyResult<BlockType> {
    let (name, doc, inputs, outputs, params, make) = text;
    let mut spec = Spec::new(&name, &doc);
    let port = |(name, doc, dtype, like): &PortText| -> PyResult<Port> {
        let mut port = Port::new(name, doc);
        if let Some(dtype) = dtype {
            port = port.dtypes([numpy::pond_dtype(pyo3::types::PyString::new(py, dtype).as_any())?]);
        }
        Ok(match like {
            Some(input) => port.like(input),
            None => port,
        })
    };
    for input in &inputs {
        spec = spec.input(port(input)?);
    }
    for output in &outputs {
        spec = spec.output(port(output)?);
    }
    for (name, doc, kind, default) in &params {
        let mut param = match kind.as_str() {
            "bool" => Param::bool(name, doc),
            "int" => Param::int(name, doc),
            "float" => Param::float(name, doc),
            "text" => Param::text(name, doc),
            _ => Param::names(name, doc),
        };
        if let Some(default) = default {
            let value: Value = match kind.as_str() {
                "bool" => default.extract::<bool>()?.into(),
                "int" => default.extract::<i64>()?.into(),
                "float" => default.extract::<f64>()?.into(),
                "text" => default.extract::<String>()?.into(),
                _ => default.extract::<Vec<String>>()?.into(),
            };
            param = param.default(value);
        }
        spec = spec.param(param.fixed());
    }
    let inputs: Vec<String> = inputs.into_iter().map(|(name, ..)| name).collect();
    let make = make.unbind();
    let made = move |params: &Params| -> Result<Box<dyn Block>> {
        Python::attach(|py| {
            let object = keywords(py, params)
                .and_then(|given| make.bind(py).call((), Some(&given)))
                .map_err(|error| failure(py, &error))?;
            let (inputs, outbox) = (inputs.clone(), VecDeque::new());
            Ok(Box::new(PyBlock { object: object.unbind(), inputs, outbox, stamp: None, done: false })
                as Box<_>)
        })
    };
    BlockType::new(spec, made).map_err(|error| PyValueError::new_err(error.to_string()))
}

fn keywords<'py>(py: Python<'py>, params: &Params) -> PyResult<Bound<'py, PyDict>> {
    let given = PyDict::new(py);
    for (name, value) in params.iter() {
        match value {
            Value::Bool(value) => given.set_item(name, value)?,
            Value::Int(value) => given.set_item(name, value)?,
            Value::Float(value) => given.set_item(name, value)?,
            Value::Text(value) => given.set_item(name, value)?,
            Value::Names(value) => given.set_item(name, value)?,
            other => given.set_item(name, other.to_string())?,
        }
    }
    Ok(given)
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
        catalog.add_type(block_type(py, text)?);
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
