//! Flowgraphs: which blocks there are and how their ports are connected, and the pipeline file that says so.
//!
//! ```toml
//! name = "loudness"            # of the pond; the file's name if left out
//! duration = "10s"             # then the sources stop; without it, the flowgraph runs until its sources end
//! detach = true                # blocks go on if the program that runs the flowgraph is killed; they end without it
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
//! kill_stalled = "5s"          # when it is stuck for so long
//! process = "dsp"              # shares a process with the other blocks that say so; its own is the default
//! # ...
//!
//! [process.dsp]                # what there is to say about that process
//! threads = 2                  # that run its blocks; 1 is the default
//! cpus = [0, 1]                # on which they may run; all is the default
//! nice = 5                     # -20 (first served) to 19
//! ```

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millpond_shm::{ConnectionConfig, PoolConfig};

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::param::Value;
use crate::placement::Placement;

mod builder;
mod check;
pub(crate) mod cycles;
mod diagnostic;
mod files;
mod here;
mod one_line;
mod picture;
pub(crate) mod programs;
mod reader;
pub(crate) mod wiring;

pub use builder::Builder;
pub use diagnostic::{Diagnostic, Diagnostics};
pub use picture::{Picture, PictureBlock, PictureConnection};

/// Keys of a block's table in a pipeline file that are no parameters.
pub(crate) const RESERVED_KEYS: [&str; 5] = ["type", "restart", "kill_stalled", "process", "program"];

/// Bytes and numbers of buffers. Memory is taken when it is used, so plenty of them cost nothing.
const DEFAULT_POOLS: [(u64, u32); 3] = [(4 << 10, 1024), (64 << 10, 1024), (1 << 20, 512)];
/// Enough to keep a sender and a receiver in different processes busy; with more, data would only be older.
const MAX_DEFAULT_DEPTH: u32 = 64;
/// With fewer, every hand-over would wait for the next.
const MIN_DEFAULT_DEPTH: u32 = 2;
/// The process into which [`Flowgraph::fuse`] puts all blocks.
const FUSED: &str = "fused";

/// A flowgraph that has been checked against a catalog: names and types fit together.
#[derive(Clone, Debug)]
pub struct Flowgraph {
    /// Its name, and its pond's.
    pub name: String,
    /// After this time the sources are stopped.
    pub duration: Option<Duration>,
    /// The blocks go on when their supervisor is killed, instead of ending in order.
    pub detach: bool,
    /// The pond's pools; empty: the default ones.
    pub pools: Vec<PoolConfig>,
    /// The blocks, in the file's order.
    pub blocks: Vec<Node>,
    /// The connections, in the file's order.
    pub connections: Vec<Connection>,
    /// The processes about which there is something to say, by name.
    pub processes: Vec<(String, Placement)>,
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
    /// When it is started again.
    pub restart: Restart,
    /// Its process is killed, and then started again like after any other death, when it has stalled for so long: stopped, or
    /// inside one call of the block.
    pub kill_stalled: Option<Duration>,
    /// Its process gets the program's standard input; at most one can.
    pub reads_stdin: bool,
    /// The process that it shares with other blocks; `None`: it has its own.
    pub process: Option<String>,
    /// The program that has its type; `None`: the one that runs the flowgraph.
    pub program: Option<PathBuf>,
}

/// The blocks of one process.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// The name of the process that the blocks share, or of the block that has its own.
    pub(crate) name: String,
    /// Places of the blocks in the flowgraph.
    pub(crate) blocks: Vec<usize>,
    pub(crate) program: Option<PathBuf>,
    shared: bool,
    pub(crate) placement: Placement,
}

impl Group {
    /// The flowgraph names the process: it runs as a worker, even if there is only one block in it.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }
}

/// When and how often a block is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// After which ends.
    pub when: RestartWhen,
    /// More restarts than this within [`within`](Restart::within) mean that restarting does not help: the block is given up.
    pub limit: u32,
    /// The time over which restarts are counted.
    pub within: Duration,
}

/// After which ends a block is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartWhen {
    /// When its process was killed or has failed.
    #[default]
    OnFailure,
    /// Also when the block was done by itself: a program that ended, a connection that was closed. Its streams stay open.
    Always,
    /// Never: its death ends the flowgraph.
    Never,
}

impl Default for Restart {
    fn default() -> Self {
        Self { when: RestartWhen::default(), limit: 5, within: Duration::from_secs(60) }
    }
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
    /// Starts a flowgraph in code instead of a file.
    ///
    /// ```
    /// use millpond::{Catalog, Flowgraph};
    ///
    /// let catalog = Catalog::builtin();
    /// let flowgraph = Flowgraph::builder("zeros-doc")
    ///     .block("zeros", "null-source", &[("count", 100.into()), ("items", 64.into())])
    ///     .block("copy", "copy", &[])
    ///     .block("nothing", "null-sink", &[])
    ///     .connect("zeros -> copy -> nothing")
    ///     .build(&catalog)?;
    /// // On two threads of this process; `Supervisor` runs it by processes.
    /// flowgraph.run_here(&catalog, 2)?;
    /// # Ok::<(), millpond::Error>(())
    /// ```
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }

    /// Reads and checks a pipeline file.
    ///
    /// # Errors
    /// [`Error::Unreadable`], or [`Error::Flowgraph`] with everything that is wrong in the file.
    pub fn load(path: &Path, catalog: &Catalog) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| match cause.kind() {
                ErrorKind::InvalidData => std::io::Error::new(
                    ErrorKind::InvalidData,
                    "expected a pipeline file, found something that is not text",
                ),
                _ => cause,
            })
            .map_err(|cause| Error::Unreadable { path: path.to_owned(), cause })?;
        Self::parse(&path.display().to_string(), &text, catalog)
    }

    /// Checks the text of a pipeline file; `path` is how diagnostics call it.
    ///
    /// # Errors
    /// [`Error::Flowgraph`] with everything that is wrong.
    pub fn parse(path: &str, text: &str, catalog: &Catalog) -> Result<Self> {
        let mut diagnostics = Diagnostics::new(path, text);
        let Some(draft) = reader::read(text, &mut diagnostics) else {
            return Err(Error::Flowgraph(diagnostics));
        };
        let file_stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let flowgraph = check::check(draft, file_stem, catalog, &mut diagnostics);
        if diagnostics.is_empty() { Ok(flowgraph) } else { Err(Error::Flowgraph(diagnostics)) }
    }

    /// Puts all blocks of this program into one process with so many threads, whatever the file says. Blocks of other programs
    /// stay where they are, and one that reads the standard input has a process of its own: the supervisor speaks to the others
    /// through theirs.
    pub fn fuse(&mut self, threads: usize) {
        for node in self.blocks.iter_mut().filter(|node| node.program.is_none() && !node.reads_stdin) {
            node.process = Some(FUSED.to_owned());
        }
        self.processes.retain(|(name, _)| name != FUSED);
        self.processes.push((FUSED.to_owned(), Placement { threads, ..Placement::default() }));
    }

    /// The processes, in the order of their first blocks.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for (index, node) in self.blocks.iter().enumerate() {
            let shared = node.process.is_some();
            let name = node.process.as_ref().unwrap_or(&node.name);
            if let Some(group) = groups.iter_mut().find(|group| group.shared && shared && group.name == *name)
            {
                group.blocks.push(index);
                continue;
            }
            let placement = self.processes.iter().find(|(known, _)| shared && known == name);
            groups.push(Group {
                name: name.clone(),
                blocks: vec![index],
                program: node.program.clone(),
                shared,
                placement: placement.map(|(_, placement)| placement.clone()).unwrap_or_default(),
            });
        }
        groups
    }

    /// How many buffers may wait at a connection that does not say: so few that no pool can be queued up completely, which would leave
    /// blocks without a buffer to go on with, however many there are.
    pub fn default_depth(&self) -> u32 {
        let fewest = self.pools_or_default().into_iter().map(|pool| pool.blocks as usize).min().unwrap_or(0);
        let holders = (self.connections.len() + self.blocks.len()).max(1);
        ((fewest / holders) as u32).clamp(MIN_DEFAULT_DEPTH, MAX_DEFAULT_DEPTH)
    }

    /// Says so if the connections together can queue up all buffers of a pool: then blocks that need one of it may wait for ever.
    ///
    /// Receivers of one output share its buffers, so only the deepest of its connections counts.
    pub fn pool_warning(&self) -> Option<String> {
        let mut deepest: Vec<(&PortName, u64)> = Vec::new();
        for connection in &self.connections {
            let depth = u64::from(self.config_of(connection).depth.unwrap_or(0));
            match deepest.iter_mut().find(|(from, _)| **from == connection.from) {
                Some((_, known)) => *known = depth.max(*known),
                None => deepest.push((&connection.from, depth)),
            }
        }
        let queued: u64 = deepest.into_iter().map(|(_, depth)| depth).sum();
        let pools = self.pools_or_default();
        let small: Vec<String> = pools
            .iter()
            .filter(|pool| u64::from(pool.blocks) <= queued)
            .map(|pool| format!("{} of {} bytes", pool.blocks, pool.block_bytes))
            .collect();
        (!small.is_empty()).then(|| {
            format!(
                "all connections together can queue {queued} buffers, but a pool has no more ({}): blocks that need one may wait for \
                 ever; make a `depth` smaller or the [[pool]] larger",
                small.join(", ")
            )
        })
    }

    /// The pools that the flowgraph states, or the default ones.
    pub(crate) fn pools_or_default(&self) -> Vec<PoolConfig> {
        match self.pools.as_slice() {
            [] => DEFAULT_POOLS.map(|(block_bytes, blocks)| PoolConfig::new(block_bytes, blocks)).to_vec(),
            pools => pools.to_vec(),
        }
    }

    /// A connection's settings, complete.
    pub(crate) fn config_of(&self, connection: &Connection) -> ConnectionConfig {
        let depth = connection.config.depth.or_else(|| Some(self.default_depth()));
        ConnectionConfig { depth, ..connection.config }
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
