//! Flowgraphs: which blocks there are and how their ports are connected, and the pipeline file that says so.
//!
//! ```toml
//! name = "loudness"            # of the pond; the file's name if left out
//! duration = "10s"             # then the sources stop; without it, the flowgraph runs until its sources end
//!
//! # A port can be left out where a block has only one. `depth` is how many buffers may wait, `policy` what happens
//! # when that many do: block (the default), drop-newest or drop-oldest.
//! connect = [
//!     "song -> louder -> copy",
//!     { from = "louder.out", to = "meter.in", depth = 4, policy = "drop-oldest" },
//! ]
//!
//! [[pool]]                     # instead of the default pools
//! block_bytes = 65536
//! count = 64
//!
//! [blocks.song]
//! type = "wav-source"          # all other keys are parameters of the type
//! path = "song.wav"
//!
//! [blocks.louder]
//! type = "gain"
//! k = 2.0
//! restart = "never"            # when it dies; on-failure is the default
//! # ...
//! ```

use std::fmt;
use std::path::Path;
use std::time::Duration;

use millpond_shm::{ConnectionConfig, PoolConfig};

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::param::Value;

mod check;
mod diagnostic;
mod picture;
mod reader;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use picture::{Picture, PictureBlock, PictureConnection};

/// Keys of a block's table in a pipeline file that are no parameters.
pub(crate) const RESERVED_KEYS: [&str; 2] = ["type", "restart"];

/// A flowgraph that has been checked against a catalog: names and types fit together.
#[derive(Clone, Debug)]
pub struct Flowgraph {
    /// Its name, and its pond's.
    pub name: String,
    /// After this time the sources are stopped.
    pub duration: Option<Duration>,
    /// The pond's pools; empty: the default ones.
    pub pools: Vec<PoolConfig>,
    /// The blocks, in the file's order.
    pub blocks: Vec<Node>,
    /// The connections, in the file's order.
    pub connections: Vec<Connection>,
}

/// A block of a flowgraph.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The name of its type.
    pub block_type: String,
    /// The parameters that were given; the others have their defaults.
    pub given: Vec<(String, Value)>,
    /// Whether it is started again when it dies.
    pub restart: Restart,
    /// Its process gets the program's standard input; at most one can.
    pub reads_stdin: bool,
}

/// Whether a block is started again when it dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// When it was killed or has failed.
    #[default]
    OnFailure,
    /// Its death ends the flowgraph.
    Never,
}

/// A connection from an output to an input port.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The output port.
    pub from: PortName,
    /// The input port.
    pub to: PortName,
    /// Depth and policy.
    pub config: ConnectionConfig,
}

/// A port of a flowgraph, written `block.port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortName {
    /// The block's name.
    pub block: String,
    /// The port's name within the block.
    pub port: String,
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.block, self.port)
    }
}

impl Flowgraph {
    /// Reads and checks a pipeline file.
    ///
    /// # Errors
    /// [`Error::Unreadable`], or [`Error::Flowgraph`] with everything that is wrong in the file.
    pub fn load(path: &Path, catalog: &Catalog) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| Error::Unreadable { path: path.to_owned(), cause })?;
        Self::parse(&path.display().to_string(), &text, catalog)
    }

    /// Checks the text of a pipeline file; `path` is how diagnostics call it.
    ///
    /// # Errors
    /// [`Error::Flowgraph`] with everything that is wrong.
    pub fn parse(path: &str, text: &str, catalog: &Catalog) -> Result<Self> {
        let mut diagnostics = Diagnostics::new(path, text);
        let draft = reader::read(text, &mut diagnostics);
        let file_stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let flowgraph = check::check(draft, file_stem, catalog, &mut diagnostics);
        if diagnostics.is_empty() { Ok(flowgraph) } else { Err(Error::Flowgraph(diagnostics)) }
    }

    /// The blocks that send to this one.
    pub fn senders(&self, block: &str) -> impl Iterator<Item = &str> {
        self.connections.iter().filter(move |c| c.to.block == block).map(|c| c.from.block.as_str())
    }

    /// The blocks that receive from this one.
    pub fn receivers(&self, block: &str) -> impl Iterator<Item = &str> {
        self.connections.iter().filter(move |c| c.from.block == block).map(|c| c.to.block.as_str())
    }
}

impl Node {
    /// The parameters as the block's process gets them.
    pub(crate) fn given_as_text(&self) -> impl Iterator<Item = (&str, String)> {
        self.given.iter().map(|(name, value)| (name.as_str(), value.to_string()))
    }
}
