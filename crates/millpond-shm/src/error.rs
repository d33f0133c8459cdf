//! Every way an operation on a pond can fail, each with the object, what was expected, what was found and what to do.

use std::io;
use std::time::Duration;

/// Result of the operations of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name cannot be used.
    #[error("the {what} name `{name}` cannot be used: {reason}")]
    InvalidName {
        /// What was to be named.
        what: &'static str,
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A configuration value cannot be used.
    #[error("{what}: expected {expected}, found {found}")]
    InvalidConfig {
        /// The object and its setting.
        what: String,
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A living pond has the name.
    #[error(
        "the pond `{name}` exists already (process {pid} is in it); attach to it, choose another name, or stop it"
    )]
    PondExists {
        /// The pond.
        name: String,
        /// One of its processes.
        pid: u32,
    },
    /// No living pond has the name.
    #[error("there is no pond `{name}` (looked in {directory}); `millpond ps` lists the ponds of this user")]
    PondNotFound {
        /// The name looked for.
        name: String,
        /// Where ponds are found.
        directory: String,
    },
    /// The rendezvous directory or file is not safe to use, or cannot be used.
    #[error("the rendezvous {path} cannot be used: {problem}")]
    Rendezvous {
        /// The directory or file.
        path: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The pond lives in another pid namespace, where this process could not tell who is alive.
    #[error(
        "the pond `{name}` lives in pid namespace {theirs}, this process in {ours}: run both in one pid namespace (containers: share it). Its file `{name}.pond` is left alone"
    )]
    PidNamespace {
        /// The pond.
        name: String,
        /// The pond's namespace.
        theirs: u64,
        /// This process's namespace.
        ours: u64,
    },
    /// The memory is not a pond, or one of another build.
    #[error("the memory of pond `{name}` cannot be used: {what}: expected {expected}, found {found}")]
    NotAPond {
        /// The pond.
        name: String,
        /// The field that differs.
        what: &'static str,
        /// Its expected value.
        expected: String,
        /// Its value.
        found: String,
    },
    /// Memory for a pond, a pool or a share of buffers cannot be had.
    #[error(
        "no memory for {what}: {problem}; make pools smaller or give the machine (or its cgroup) more memory"
    )]
    OutOfMemory {
        /// What it was for.
        what: String,
        /// How much was wanted and is there.
        problem: String,
    },
    /// A table of the pond is full.
    #[error("pond `{pond}`: no room for another {what}: all {limit} are in use; {advice}")]
    TableFull {
        /// The pond.
        pond: String,
        /// The table's entries.
        what: &'static str,
        /// How many there can be.
        limit: usize,
        /// What to do.
        advice: &'static str,
    },
    /// No pool has blocks of that size.
    #[error(
        "a buffer of {wanted} bytes is larger than the largest block of pond `{pond}` ({largest} bytes); add a pool with larger blocks"
    )]
    BufferTooLarge {
        /// The pond.
        pond: String,
        /// Bytes asked for.
        wanted: usize,
        /// Bytes of the largest block.
        largest: u64,
    },
    /// Every buffer of a fitting pool is in use.
    #[error("pond `{pond}`: no free buffer for {wanted} bytes: {details}")]
    PoolExhausted {
        /// The pond.
        pond: String,
        /// Bytes asked for.
        wanted: usize,
        /// Each pool that was tried: how many are held by whom, queued where, free in whose shares.
        details: String,
    },
    /// The end of a port belongs to another living process.
    #[error("the port `{port}` is in use by process {pid}: an {end} has one at a time")]
    PortInUse {
        /// The port.
        port: String,
        /// Who has it.
        pid: u32,
        /// Output or input.
        end: &'static str,
    },
    /// A port exists with the other direction.
    #[error("the port `{port}` is an {found}, expected an {expected}")]
    WrongDirection {
        /// The port.
        port: String,
        /// Direction asked for.
        expected: &'static str,
        /// Its direction.
        found: &'static str,
    },
    /// Nothing has that name.
    #[error("pond `{pond}` has no {what} `{name}`")]
    Unknown {
        /// The pond.
        pond: String,
        /// Block, port or connection.
        what: &'static str,
        /// The name looked for.
        name: String,
    },
    /// It exists already.
    #[error("pond `{pond}` already has the {what} `{name}`")]
    Exists {
        /// The pond.
        pond: String,
        /// Block, port or connection.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// Somebody holds the registry lock for too long (stopped by a signal or a debugger). Data goes on flowing.
    #[error(
        "pond `{pond}`: process {pid} has held the registry lock for {waited:?}; is it stopped? Continue or kill it"
    )]
    RegistryBusy {
        /// The pond.
        pond: String,
        /// Who holds it.
        pid: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The handle was inherited by `fork`.
    #[error("this handle belongs to the parent process: a forked child must attach to the pond itself")]
    Forked,
    /// Shared memory holds something impossible.
    #[error(
        "pond `{pond}`: {what} is corrupt: expected {expected}, found {found}; some process wrote where it must not"
    )]
    Corrupt {
        /// The pond.
        pond: String,
        /// The object.
        what: String,
        /// What would be valid.
        expected: String,
        /// What was there.
        found: String,
    },
    /// The bytes cannot be seen as the type asked for.
    #[error("a buffer of {found} cannot be seen as {expected}")]
    WrongType {
        /// The type asked for.
        expected: String,
        /// What the buffer holds.
        found: String,
    },
    /// The kernel refused something.
    #[error("{action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Names the action that a system call was part of.
pub(crate) trait Context<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::System { action: action(), source: e.into() })
    }
}
