//! Flowgraphs: built, checked, drawn and run. `millpond._flowgraph` is what users see of it.

use crate::block::{TypeText, block_type};
use crate::cell::{Close, OPEN};
use crate::error::{BlockFailedError, MillpondError, forked, from_millpond, from_pond};
use crate::statistics;
use crate::wait::{self, Step};
use millpond::flowgraph::{Builder, Picture};
use millpond::supervisor::{EndReason, Event, Launcher, Outcome, Supervisor};
use millpond::{Catalog, Flowgraph, Interrupter, Interrupts, Placement, Value};
use millpond_shm::{ConnectionConfig, Monitor, PoolConfig, Role, Snapshot};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A flowgraph in the making.
#[pyclass(module = "millpond._millpond", frozen)]
pub(crate) struct _Builder(Mutex<Builder>);

impl _Builder {
    fn change(&self, change: impl FnOnce(Builder) -> Builder) {
        let mut builder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *builder = change(builder.clone());
    }
}

#[pymethods]
impl _Builder {
    #[new]
    fn new(name: &str) -> Self {
        Self(Mutex::new(Flowgraph::builder(name)))
    }

    /// Adds a block; `keys` are those of its table in a pipeline file.
    fn block(&self, name: &str, block_type: &str, keys: Vec<(String, Bound<'_, PyAny>)>) -> PyResult<()> {
        let read = |(key, value): &(String, Bound<'_, PyAny>)| Ok((key.clone(), value_of(name, key, value)?));
        let keys: Vec<(String, Value)> = keys.iter().map(read).collect::<PyResult<_>>()?;
        let keys: Vec<(&str, Value)> =
            keys.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        self.change(|builder| builder.block(name, block_type, &keys));
        Ok(())
    }

    fn connect(&self, chain: &str) {
        self.change(|builder| builder.connect(chain));
    }

    fn connect_with(
        &self,
        from_port: &str,
        to: &str,
        depth: Option<u32>,
        max_time: Option<f64>,
        policy: Option<&str>,
    ) -> PyResult<()> {
        let policy = policy.map(crate::pond::policy_of).transpose()?;
        let max_time = wait::timeout(max_time)?;
        let config = ConnectionConfig { depth, max_time, policy, ..ConnectionConfig::default() };
        self.change(|builder| builder.connect_with(from_port, to, &config));
        Ok(())
    }

    fn process(&self, name: &str, blocks: Vec<String>, threads: usize, cpus: Vec<usize>, nice: Option<i32>) {
        let placement = Placement { threads, cpus, nice };
        let blocks: Vec<&str> = blocks.iter().map(String::as_str).collect();
        self.change(|builder| builder.process(name, &placement, &blocks));
    }

    fn pool(&self, block_bytes: u64, count: u32) {
        self.change(|builder| builder.pool(PoolConfig::new(block_bytes, count)));
    }

    fn duration(&self, seconds: f64) -> PyResult<()> {
        let duration = wait::timeout(Some(seconds))?.unwrap_or_default();
        self.change(|builder| builder.duration(duration));
        Ok(())
    }

    fn to_toml(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).to_toml()
    }
}

fn value_of(block: &str, key: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    // `bool` first: a Python `bool` is an `int`, too.
    if let Ok(value) = value.extract::<bool>() {
        return Ok(value.into());
    }
    if let Ok(value) = value.extract::<i64>() {
        return Ok(value.into());
    }
    if let Ok(value) = value.extract::<f64>() {
        return Ok(value.into());
    }
    if let Ok(value) = value.extract::<String>() {
        return Ok(value.into());
    }
    if let Ok(value) = value.extract::<Vec<String>>() {
        return Ok(Value::Names(value));
    }
    if let Ok(value) = value.extract::<Vec<f64>>() {
        return Ok(Value::Numbers(value));
    }
    let expected = "bool, int, float, str or a list of numbers or str";
    Err(PyTypeError::new_err(format!(
        "block `{block}`, `{key}`: expected {expected}, found {}",
        value.repr()?
    )))
}

/// A checked flowgraph and the block types that it may use.
#[pyclass(module = "millpond._millpond", frozen)]
pub(crate) struct _Graph {
    flowgraph: Flowgraph,
    catalog: Catalog,
}

#[pymethods]
impl _Graph {
    /// Checks the text of a pipeline file; `path` is how diagnostics call it.
    #[new]
    fn new(py: Python<'_>, path: &str, text: &str, types: Vec<TypeText<'_>>) -> PyResult<Self> {
        let mut catalog = Catalog::builtin();
        for text in types {
            catalog.add_type(block_type(text)?);
        }
        let flowgraph = py.detach(|| Flowgraph::parse(path, text, &catalog)).map_err(from_millpond)?;
        Ok(Self { flowgraph, catalog })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.flowgraph.name
    }

    /// Names and types of its blocks.
    #[getter]
    fn blocks(&self) -> Vec<(String, String)> {
        self.flowgraph.blocks.iter().map(|node| (node.name.clone(), node.block_type.clone())).collect()
    }

    /// Its connections: from, to.
    #[getter]
    fn connections(&self) -> Vec<(String, String)> {
        self.flowgraph.connections.iter().map(|c| (c.from.to_string(), c.to.to_string())).collect()
    }

    fn svg(&self) -> String {
        Picture::of(&self.flowgraph).to_svg()
    }

    fn dot(&self) -> String {
        Picture::of(&self.flowgraph).to_dot()
    }

    /// Starts it by processes; `command` is the program that runs blocks of this interpreter's types, with its first arguments.
    fn start(&self, py: Python<'_>, command: Vec<String>) -> PyResult<_Run> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| PyValueError::new_err("no program"))?;
        let launcher = Launcher::program(program).arguments(arguments);
        let flowgraph = self.flowgraph.clone();
        let supervisor = py.detach(|| Supervisor::new(flowgraph, launcher)).map_err(from_millpond)?;
        _Run::start(&self.flowgraph.name, move |interrupts| {
            // What the processes write to their standard error, since each was last started: the traceback of what it died of.
            let mut said: Vec<(String, String)> = Vec::new();
            let summary = supervisor.run_until(interrupts, &mut |event| match event {
                Event::Started { block, .. } => said.retain(|(of, _)| of != block),
                Event::Line { block, line } => {
                    // A standard error that nobody reads any more is no reason to end the run.
                    let _ = writeln!(std::io::stderr(), "{block}: {line}");
                    said.push(((*block).to_owned(), (*line).to_owned()));
                    if said.len() > MAX_LINES {
                        said.remove(0);
                    }
                }
                _ => {}
            })?;
            let reason = match &summary.outcome {
                Outcome::Done { reason: None } => "its sources ended".to_owned(),
                Outcome::Done { reason: Some(EndReason::Interrupted) } => "it was asked to end".to_owned(),
                Outcome::Done { reason: Some(reason) } => reason.to_string(),
                Outcome::Stopped => "it was stopped at once".to_owned(),
                Outcome::Failed { process, death } => {
                    let of = said.iter().filter(|(block, _)| block == process);
                    let lines: Vec<&str> = of.map(|(_, line)| line.as_str()).collect();
                    return Ok(Err(Failure { text: format!("`{process}` {death}"), said: lines.join("\n") }));
                }
                other => format!("{other:?}"),
            };
            Ok(Ok(End { reason, numbers: Numbers::OfProcesses(summary.status) }))
        })
    }

    /// Starts it on `threads` threads of this process.
    fn start_here(&self, py: Python<'_>, threads: usize) -> PyResult<_Run> {
        if threads == 0 {
            return Err(PyValueError::new_err("threads: expected 1 or more, found 0"));
        }
        let pond = py.detach(|| self.flowgraph.make_pond(Role::Worker)).map_err(from_millpond)?;
        let (flowgraph, catalog) = (self.flowgraph.clone(), self.catalog.clone());
        _Run::start(&self.flowgraph.name, move |interrupts| {
            flowgraph.run_in(&pond, &catalog, threads, interrupts)?;
            let numbers = Numbers::Here(Monitor::open(pond.name())?.snapshot());
            Ok(Ok(End { reason: "its blocks ended".to_owned(), numbers }))
        })
    }
}

struct End {
    reason: String,
    numbers: Numbers,
}

/// The final numbers, as who ran it knows them.
enum Numbers {
    OfProcesses(millpond::supervisor::Status),
    Here(Snapshot),
}

/// How a block failed, and what its process had written to its standard error.
struct Failure {
    text: String,
    said: String,
}

/// How it ended: an error of the runtime, the failure of a block, or well.
type Ended = millpond::Result<Result<End, Failure>>;

/// As many lines of standard error are kept: the tracebacks of the latest.
const MAX_LINES: usize = 256;

/// A flowgraph that runs.
#[pyclass(module = "millpond._millpond", frozen)]
pub(crate) struct _Run(Arc<Running>);

struct Running {
    name: String,
    interrupter: Interrupter,
    ended: Mutex<Receiver<Ended>>,
}

/// How long a run that is left alone may take to end in order, and then to stop.
const GRACE: Duration = Duration::from_secs(5);

impl Close for Running {
    /// Ends the run, when the interpreter does: blocks of this process must not outlive it.
    fn close(&self, py: Python<'_>) {
        if self.interrupter.is_forked() {
            return; // it is the parent's
        }
        py.detach(|| {
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            for _ in 0..2 {
                self.interrupter.interrupt();
                if !matches!(ended.recv_timeout(GRACE), Err(RecvTimeoutError::Timeout)) {
                    return;
                }
            }
        });
    }
}

impl _Run {
    fn start(name: &str, run: impl FnOnce(&Interrupts) -> Ended + Send + 'static) -> PyResult<Self> {
        let interrupts = Interrupts::new().map_err(from_millpond)?;
        let interrupter = interrupts.interrupter();
        let (end, ended) = channel();
        let running = Arc::new(Running { name: name.to_owned(), interrupter, ended: Mutex::new(ended) });
        // Else a run whose object nobody keeps could not be ended with the interpreter.
        let kept = Arc::clone(&running);
        // One thread for all of the run: the kernel takes its end for the death of the supervisor.
        let thread = std::thread::Builder::new().name("millpond-run".to_owned());
        let spawned = thread.spawn(move || {
            let _ = end.send(run(&interrupts));
            drop(kept);
        });
        spawned.map_err(|error| MillpondError::new_err(format!("start a thread: {error}")))?;
        let closable: Arc<dyn Close> = running.clone();
        OPEN.add(Arc::downgrade(&closable));
        Ok(Self(running))
    }
}

#[pymethods]
impl _Run {
    /// Waits for the end; `None`: not within the time. The reason and the final numbers.
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<(String, Py<PyAny>)>> {
        if self.is_forked() {
            return Err(forked());
        }
        let ended = wait::in_slices(py, wait::timeout(timeout)?, |slice| {
            let ended = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner);
            match ended.recv_timeout(slice.max(Duration::from_millis(1))) {
                Ok(ended) => Step::Over(Ok(ended)),
                Err(RecvTimeoutError::Timeout) => Step::NotYet,
                Err(RecvTimeoutError::Disconnected) => {
                    Step::Over(Err(MillpondError::new_err(format!("the run of `{}` broke off", self.0.name))))
                }
            }
        })?;
        let Some(ended) = ended else { return Ok(None) };
        match ended {
            Err(millpond::Error::Pond(error)) => Err(from_pond(error)),
            Err(error) => Err(BlockFailedError::new_err(error.to_string())),
            Ok(Err(Failure { text, said })) => {
                let error = BlockFailedError::new_err(text);
                if !said.is_empty() {
                    error.value(py).call_method1("add_note", (said,))?;
                }
                Err(error)
            }
            Ok(Ok(End { reason, numbers })) => {
                let numbers = match numbers {
                    Numbers::OfProcesses(status) => statistics::of_status(py, &status)?,
                    Numbers::Here(snapshot) => statistics::of_snapshot(py, &snapshot)?,
                };
                Ok(Some((reason, numbers)))
            }
        }
    }

    /// Asks it to end: the first time in order, the second at once.
    fn interrupt(&self) -> PyResult<()> {
        if self.is_forked() {
            return Err(forked());
        }
        self.0.interrupter.interrupt();
        Ok(())
    }

    /// Whether it is the run of this process's parent.
    fn is_forked(&self) -> bool {
        self.0.interrupter.is_forked()
    }
}
