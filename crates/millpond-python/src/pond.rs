//! `Pond`: made by name, attached to by name, left.

use crate::bus::{self, Subscription, from_bus};
use crate::cell::{Cell, Close, OPEN, Open};
use crate::error::from_pond;
use crate::format::stream_format;
use crate::input::Input;
use crate::output::Output;
use crate::statistics;
use crate::wait;
use millpond::bus::{Bus, Json, json};
use millpond::flowgraph::{Picture, PictureBlock, PictureConnection};
use millpond_shm::{
    ConnectionConfig, InputConfig, Monitor, OnReceiverDeath, OutputConfig, Policy, Pond as Attachment,
    PondConfig, PoolConfig, Role, Snapshot, Wait,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// This process's attachment to a pond: one running instance, found by its name.
///
/// `Pond.create(name)` makes one, `Pond.attach(name)` joins one. Its memory belongs to no file and vanishes with its last process.
/// As a context manager it closes all its ports and leaves; so does the end of the program.
///
/// >>> import millpond, numpy as np, os
/// >>> with millpond.Pond.create(f"doc-{os.getpid()}") as pond:
/// ...     pond.connect("camera.out", "viewer.in")
/// ...     out = pond.output("camera.out")
/// ...     with out.loan((2, 3), "float32", stamp=millpond.Timestamp.absolute(7)) as array:
/// ...         array[:] = 1.5
/// ...     # usually in another process, after Pond.attach:
/// ...     frame = pond.input("viewer.in").receive(timeout=10)
/// ...     print(frame.array.sum(), frame.array.shape, frame.stamp)
/// 9.0 (2, 3) Timestamp.absolute(7)
#[pyclass(module = "millpond", frozen, weakref)]
pub(crate) struct Pond {
    name: String,
    cell: Arc<Cell<Attachment>>,
    ports: Open,
    /// Once it was used.
    bus: Mutex<Option<Bus>>,
}

impl Pond {
    fn new(pond: Attachment) -> PyResult<Pond> {
        let name = pond.name().to_owned();
        let cell = Cell::new(format!("the pond `{name}`"), pond)?;
        let closable: Arc<dyn Close> = cell.clone();
        OPEN.add(Arc::downgrade(&closable));
        Ok(Pond { name, cell, ports: Open::default(), bus: Mutex::new(None) })
    }

    /// The attachment, to work on without the GIL and beside other threads.
    fn attachment(&self) -> PyResult<Attachment> {
        self.cell.with(|pond| Ok(pond.clone()))
    }

    fn bus(&self, py: Python<'_>) -> PyResult<Bus> {
        let pond = self.attachment()?;
        py.detach(|| {
            let mut bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner);
            match &*bus {
                Some(bus) => Ok(bus.clone()),
                None => Ok(bus.insert(Bus::open(&pond).map_err(from_bus)?).clone()),
            }
        })
    }

    fn snapshot(&self, py: Python<'_>) -> PyResult<Snapshot> {
        py.detach(|| Monitor::open(&self.name).map(|monitor| monitor.snapshot())).map_err(from_pond)
    }

    fn remember(&self, port: std::sync::Weak<dyn Close>) {
        self.ports.add(port.clone());
        OPEN.add(port);
    }
}

fn choice<T: Copy>(what: &str, choices: &[(&str, T)], found: &str) -> PyResult<T> {
    choices.iter().find(|(name, _)| *name == found).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        PyValueError::new_err(format!("{what}: expected {}, found \"{found}\"", names.join(", ")))
    })
}

fn wait_of(wait: &str) -> PyResult<Wait> {
    choice("wait", &[("adaptive", Wait::Adaptive), ("block", Wait::Block), ("spin", Wait::Spin)], wait)
}

pub(crate) fn policy_of(policy: &str) -> PyResult<Policy> {
    let policies =
        [("block", Policy::Block), ("drop-newest", Policy::DropNewest), ("drop-oldest", Policy::DropOldest)];
    choice("policy", &policies, policy)
}

fn role_of(role: &str) -> PyResult<Role> {
    let choices =
        [("block", Role::Block), ("worker", Role::Worker), ("server", Role::Server), ("tool", Role::Tool)];
    choice("role", &choices, role)
}

#[pymethods]
impl Pond {
    /// Makes a pond and attaches to it.
    ///
    /// `pools` are pairs of block size in bytes and number of blocks; by default 4 KiB x 1024, 64 KiB x 512 and 1 MiB x 128. Raises
    /// `PondExistsError` if a living pond has the name.
    #[staticmethod]
    #[pyo3(signature = (name, *, pools=None, role="worker"))]
    fn create(py: Python<'_>, name: &str, pools: Option<Vec<(u64, u32)>>, role: &str) -> PyResult<Pond> {
        let role = role_of(role)?;
        let mut config = PondConfig::default();
        if let Some(pools) = pools {
            config.pools = pools.into_iter().map(|(bytes, count)| PoolConfig::new(bytes, count)).collect();
        }
        py.detach(|| Attachment::create(name, &config, role)).map_err(from_pond).and_then(Pond::new)
    }

    /// Attaches to a pond that exists. Raises `PondNotFoundError` if there is none of that name.
    #[staticmethod]
    #[pyo3(signature = (name, *, role="block"))]
    fn attach(py: Python<'_>, name: &str, role: &str) -> PyResult<Pond> {
        let role = role_of(role)?;
        py.detach(|| Attachment::attach(name, role)).map_err(from_pond).and_then(Pond::new)
    }

    /// Takes the sending end of `block.port`, made if need be, with its connections.
    ///
    /// `dtype`, `shape` (an extent of `None` varies), `rate_hz` (numerator and denominator) and `description` tell receivers what
    /// the stream carries. `wait` is how it waits for room: `"adaptive"` (spins a little when that has paid off lately),
    /// `"block"` (sleeps at once) or `"spin"` (never sleeps: one core). Raises `PortInUseError` while a living process has the
    /// port.
    #[pyo3(signature = (port, *, dtype=None, shape=None, rate_hz=None, description="", wait="adaptive"))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments")]
    fn output(
        &self,
        py: Python<'_>,
        port: &str,
        dtype: Option<&Bound<'_, PyAny>>,
        shape: Option<Vec<Option<u32>>>,
        rate_hz: Option<(u32, u32)>,
        description: &str,
        wait: &str,
    ) -> PyResult<Output> {
        let format = stream_format(dtype, shape, rate_hz, description.to_owned())?;
        let config = OutputConfig { format: format.clone(), waiter: None, wait: wait_of(wait)? };
        let pond = self.attachment()?;
        let output = py.detach(|| pond.output(port, &config)).map_err(from_pond)?;
        let output = Output::new(port.to_owned(), format, output, pond)?;
        self.remember(output.closable());
        Ok(output)
    }

    /// Takes a receiving end of `block.port`, made if need be, with its connections and what they have queued.
    ///
    /// With `shared`, up to 8 processes share the port and each frame goes to exactly one of them. With `redeliver`, a frame that a
    /// killed process had taken but not yet dropped is delivered again, marked so. `wait` is as for `output`.
    #[pyo3(signature = (port, *, shared=false, redeliver=false, wait="adaptive"))]
    fn input(
        &self,
        py: Python<'_>,
        port: &str,
        shared: bool,
        redeliver: bool,
        wait: &str,
    ) -> PyResult<Input> {
        let wait = wait_of(wait)?;
        let pond = self.attachment()?;
        let (input, waiter) = py
            .detach(|| {
                let waiter = pond.waiter(wait)?;
                let config = InputConfig { waiter: Some(waiter.clone()), wait, shared, redeliver };
                Ok((pond.input(port, &config)?, waiter))
            })
            .map_err(from_pond)?;
        let input = Input::new(port.to_owned(), input, waiter, pond)?;
        self.remember(input.closable());
        Ok(input)
    }

    /// Connects an output port to an input port, both made if need be. Works while both run.
    ///
    /// `depth` frames may wait (256 by default), and their timestamps may be `max_time` seconds apart; then `policy` says what happens: `"block"` (the sender waits), `"drop-newest"` or
    /// `"drop-oldest"` (counted). `on_receiver_death`: `"wait"` for its restart, or `"give-up"` with an error.
    #[pyo3(signature = (from_port, to_port, *, depth=None, max_time=None, policy="block", on_receiver_death="wait"))]
    #[allow(clippy::too_many_arguments, reason = "keywords, to a caller")]
    fn connect(
        &self,
        py: Python<'_>,
        from_port: &str,
        to_port: &str,
        depth: Option<u32>,
        max_time: Option<f64>,
        policy: &str,
        on_receiver_death: &str,
    ) -> PyResult<()> {
        let deaths = [("wait", OnReceiverDeath::Wait), ("give-up", OnReceiverDeath::GiveUp)];
        let config = ConnectionConfig {
            depth,
            max_time: wait::timeout(max_time)?,
            policy: Some(policy_of(policy)?),
            on_receiver_death: choice("on_receiver_death", &deaths, on_receiver_death)?,
        };
        let pond = self.attachment()?;
        py.detach(|| pond.connect(from_port, to_port, &config)).map_err(from_pond)
    }

    /// Removes a connection. What it has queued is still received, if somebody receives.
    fn disconnect(&self, py: Python<'_>, from_port: &str, to_port: &str) -> PyResult<()> {
        let pond = self.attachment()?;
        py.detach(|| pond.disconnect(from_port, to_port)).map_err(from_pond)
    }

    /// Adds a pool of `count` blocks of `block_bytes`; every process finds it.
    fn add_pool(&self, py: Python<'_>, block_bytes: u64, count: u32) -> PyResult<()> {
        let pond = self.attachment()?;
        py.detach(|| pond.add_pool(PoolConfig::new(block_bytes, count))).map_err(from_pond)
    }

    /// Asks everybody in the pond to stop: every wait returns, now and from now on.
    fn request_stop(&self, py: Python<'_>) -> PyResult<()> {
        let pond = self.attachment()?;
        py.detach(|| pond.request_stop());
        Ok(())
    }

    /// Whether somebody asked everybody in the pond to stop.
    #[getter]
    fn stop_requested(&self) -> PyResult<bool> {
        Ok(self.attachment()?.stop_requested())
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Everything that the pond's tables say now, as JSON text; `Pond.inspect` gives it as objects.
    fn inspect_json(&self, py: Python<'_>) -> PyResult<String> {
        let snapshot = self.snapshot(py)?;
        serde_json::to_string(&snapshot).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    /// Everything that the pond's tables say now: processes, pools, ports, connections, buffers in use.
    fn inspect<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("json")?.call_method1("loads", (self.inspect_json(py)?,))
    }

    /// The numbers of all blocks and connections now.
    fn statistics(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        statistics::of_snapshot(py, &self.snapshot(py)?)
    }

    /// The lines of the pond's log, oldest first: what blocks and their supervisor have to say; with `block`, only what is about
    /// that one. A pond keeps its latest 1024 lines.
    #[pyo3(signature = (block=None))]
    fn logs<'py>(&self, py: Python<'py>, block: Option<&str>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let log = py.detach(|| Monitor::open(&self.name).map(|monitor| monitor.log(0))).map_err(from_pond)?;
        let of_line = py.import("millpond._statistics")?.getattr("LogLine")?;
        let wanted = log.lines.into_iter().filter(|line| block.is_none_or(|block| line.block == block));
        let line = |line: millpond_shm::LogLine| {
            let level = format!("{:?}", line.level).to_lowercase();
            of_line.call1((line.unix_ns, level, line.pid, line.block, line.text))
        };
        wanted.map(line).collect()
    }

    /// The parameters of a block that runs, each as a dictionary: name, value (as text), unit, expected, fixed, doc.
    ///
    /// Raises `NotAnsweredError`, `RefusedError`, or `TimeoutError` after `timeout` seconds.
    #[pyo3(signature = (block, *, timeout=5.0))]
    fn params<'py>(&self, py: Python<'py>, block: &str, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        bus::call(py, &self.bus(py)?, &format!("{block}/get"), &Json::Null, timeout)
    }

    /// Sets a parameter of a block that runs, in whatever process. It counts from the block's next work on, and for its restarts.
    /// Gives the parameter as `params` does. Raises as `params`.
    #[pyo3(signature = (block, name, value, *, timeout=5.0))]
    fn set_param<'py>(
        &self,
        py: Python<'py>,
        block: &str,
        name: &str,
        value: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let argument = json!({ "param": name, "value": bus::json_of(value)? });
        bus::call(py, &self.bus(py)?, &format!("{block}/set"), &argument, timeout)
    }

    /// Asks a block (`BLOCK/NAME`), or whoever answers the topic, and gives the answer. Raises as `params`.
    #[pyo3(signature = (topic, argument=None, *, timeout=5.0))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        argument: Option<&Bound<'py, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let argument = argument.map_or(Ok(Json::Null), bus::json_of)?;
        bus::call(py, &self.bus(py)?, topic, &argument, timeout)
    }

    /// Publishes a value (anything that `json` can write) on a topic. Never waits. Gives the number of subscribers that got it.
    fn publish(&self, py: Python<'_>, topic: &str, value: &Bound<'_, PyAny>) -> PyResult<u32> {
        let (bus, value) = (self.bus(py)?, bus::json_of(value)?);
        let delivery = py.detach(|| bus.publish(topic, &value)).map_err(from_bus)?;
        Ok(delivery.delivered)
    }

    /// From now on, receives what is published on topics that match the pattern: `*` stands for one segment, `**` for the rest.
    fn subscribe(&self, py: Python<'_>, pattern: &str) -> PyResult<Subscription> {
        let bus = self.bus(py)?;
        let queue = py.detach(|| bus.subscribe(pattern)).map_err(from_bus)?;
        let subscription = Subscription::new(pattern, queue)?;
        self.remember(subscription.closable());
        Ok(subscription)
    }

    /// The blocks and connections as a picture, for notebooks.
    fn _repr_svg_(&self, py: Python<'_>) -> PyResult<String> {
        let snapshot = self.snapshot(py)?;
        let port = |name: &str| {
            let (block, port) = name.split_once('.').unwrap_or((name, ""));
            (block.to_owned(), port.to_owned())
        };
        let mut picture = Picture::default();
        for block in &snapshot.blocks {
            let (name, detail) = (block.name.clone(), block.block_type.clone());
            picture.blocks.push(PictureBlock { name, detail });
        }
        for connection in &snapshot.connections {
            let (from, to) = (port(&connection.from), port(&connection.to));
            for (name, _) in [&from, &to] {
                if !picture.blocks.iter().any(|block| block.name == *name) {
                    picture.blocks.push(PictureBlock { name: name.clone(), detail: String::new() });
                }
            }
            let label = format!("{} of {}", connection.queued, connection.depth);
            picture.connections.push(PictureConnection { from, to, label });
        }
        Ok(picture.to_svg())
    }

    /// Closes the ports made from it. The process leaves the pond when the last port, frame and view of it is gone.
    fn close(&self, py: Python<'_>) {
        self.ports.close_all(py);
        let bus = self.bus.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(bus));
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
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("<millpond.Pond {}>", self.name)
    }
}

/// Every pond of this user that has a living process: names and pids.
#[pyfunction]
pub(crate) fn ponds(py: Python<'_>) -> PyResult<Vec<(String, Vec<u32>)>> {
    let listed = py.detach(millpond_shm::list).map_err(from_pond)?;
    Ok(listed.into_iter().map(|pond| (pond.name, pond.members)).collect())
}

/// Closes everything that is open; called when the interpreter ends.
#[pyfunction]
pub(crate) fn _close_all(py: Python<'_>) {
    OPEN.close_all(py);
}
