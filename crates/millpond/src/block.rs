//! What the author of a block writes: the [`Block`] trait and what `work` says when it stops.

use std::time::Instant;

use crate::bus::Json;
use crate::error::{Error, Result};
use crate::io::Io;
use crate::params::Params;
use crate::spec::Spec;

/// One step of a flowgraph: takes buffers from its input ports, sends buffers on its output ports.
///
/// The runtime makes a block with [`new`](Block::new), calls [`start`](Block::start) when the formats of its inputs are known,
/// then [`work`](Block::work) again and again, and [`finish`](Block::finish) after its last work. All calls come from one
/// thread at a time. Blocks never see processes or shared memory; the same code runs alone in a test, as a thread, or as a
/// process that is killed and restarted.
///
/// ```
/// use millpond::prelude::*;
///
/// /// Multiplies every sample by `k`.
/// struct Gain;
///
/// impl Block for Gain {
///     fn spec() -> Spec {
///         Spec::new("gain", "Multiplies every sample by a factor")
///             .input(Port::new("in", "samples").dtypes(REAL))
///             .output(Port::new("out", "the same, scaled").like("in"))
///             .param(Param::float("k", "the factor").default(1.0))
///     }
///
///     fn new(_: &Params) -> Result<Self> {
///         Ok(Gain)
///     }
///
///     fn work(&mut self, io: &mut Io) -> WorkResult {
///         let k: f64 = io.param("k");
///         let mut buffer = io.take_mut("in")?;
///         buffer.map_samples(|x| k * x)?;
///         io.send("out", buffer)
///     }
/// }
///
/// let mut bench = millpond::testing::Bench::of::<Gain>(&[("k", 2.0.into())])?;
/// bench.push("in", &[1.0f32, -0.5])?;
/// bench.run()?;
/// assert_eq!(bench.pull::<f32>("out")?, Some(vec![2.0, -1.0]));
/// # Ok::<(), millpond::Error>(())
/// ```
pub trait Block: Send + 'static {
    /// Name, ports and parameters of this type of block; the same at every call.
    fn spec() -> Spec
    where
        Self: Sized;

    /// Makes a block. The parameters have been checked against [`spec`](Block::spec).
    ///
    /// # Errors
    /// What keeps the block from ever working: a file that does not exist, parameters that do not fit together.
    fn new(params: &Params) -> Result<Self>
    where
        Self: Sized;

    /// Called once, when the formats of all required inputs are known: the place to look at [`Io::format`] and to state the
    /// formats of outputs with [`Io::set_format`]. An output that is left alone has the format of the input that it is
    /// [`like`](crate::Port::like), or the one dtype that its port states.
    ///
    /// # Errors
    /// Inputs that the block cannot work with.
    fn start(&mut self, io: &mut Io) -> Result<()> {
        let _ = io;
        Ok(())
    }

    /// Does one piece of work, usually one buffer, and returns; must not sleep.
    ///
    /// `Ok` means "call me again". It is called only while every output has room, so one send per call and output never
    /// waits; what is sent beyond that is kept until there is room, and `work` is not called before it has gone.
    ///
    /// # Errors
    /// Why the block cannot go on now; see [`Pause`].
    fn work(&mut self, io: &mut Io) -> WorkResult;

    /// Answers a call from outside, between two calls of `work`: `millpond call POND BLOCK/NAME`, or
    /// [`Bus::call`](crate::bus::Bus::call) in any process. `get`, `set` and `remove` never come here.
    ///
    /// # Errors
    /// Why not, for the caller; the block goes on. To give the block up, fail in the next `work`.
    fn call(&mut self, name: &str, argument: Json, io: &mut Io) -> Result<Json> {
        let _ = argument;
        Err(Error::Refused(format!("block `{}` has no call `{name}`", io.block())))
    }

    /// Told that a parameter is being set while the block runs, between two calls of `work`; [`Io::param`] gives the new value and
    /// those of all others. Only for blocks that prepare something of them (the taps of a filter); the rest just read them in
    /// `work`. A restarted block is told, before its `start`, of each that had been set earlier.
    ///
    /// # Errors
    /// Why the block cannot work with this value; whoever sets it is told so, the value before it stays, and the block must go on
    /// as it did.
    fn set_param(&mut self, name: &str, io: &mut Io) -> Result<()> {
        let _ = (name, io);
        Ok(())
    }

    /// Called after the last [`work`](Block::work), unless that failed: the place to send what is left and to complete files.
    ///
    /// # Errors
    /// [`Pause::OutputFull`]: call again when there is room; [`Pause::Until`] and [`Pause::Event`]: call again then. A failure counts as
    /// the block's failure.
    fn finish(&mut self, io: &mut Io) -> WorkResult {
        let _ = io;
        Ok(())
    }
}

/// What [`Block::work`] returns.
pub type WorkResult = std::result::Result<(), Pause>;

/// Why a block cannot go on now. [`Io`] returns the fitting one from `take` and `send`, so `?` is usually all a block needs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Pause {
    /// Call again when an input that was found empty has something.
    NeedInput,
    /// Call again when every output has room and a buffer is free.
    OutputFull,
    /// Call again at this moment, or when an input that was found empty has something.
    Until(Instant),
    /// Call again when the descriptor that [`Io::until_readable`] or [`Io::until_writable`] was given is ready, or when an
    /// input that was found empty has something.
    Event,
    /// The block's last work is done. Its receivers are told that the stream has ended.
    Done,
    /// The block cannot go on. The supervisor may start it anew.
    Failed(Error),
}

impl From<Error> for Pause {
    fn from(error: Error) -> Self {
        Pause::Failed(error)
    }
}

impl From<millpond_shm::Error> for Pause {
    fn from(error: millpond_shm::Error) -> Self {
        Pause::Failed(error.into())
    }
}
