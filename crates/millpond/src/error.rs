//! Every way a flowgraph or a block can fail.

use std::path::PathBuf;

use crate::flowgraph::Diagnostics;

/// Result of the operations of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. The text names the object, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shared memory refused something.
    #[error(transparent)]
    Pond(#[from] millpond_shm::Error),
    /// The message bus refused something.
    #[error(transparent)]
    Bus(#[from] crate::bus::BusError),
    /// A parameter cannot be changed while the block runs.
    #[error(
        "parameter `{name}` of block `{block}` cannot be changed while it runs: change the pipeline file, or start the block anew"
    )]
    FixedParameter {
        /// The block.
        block: String,
        /// The parameter.
        name: String,
    },
    /// A pipeline file has mistakes; all of them are listed.
    #[error("{0}")]
    Flowgraph(Diagnostics),
    /// A pipeline file cannot be read.
    #[error("cannot read the pipeline file {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// No block type has that name.
    #[error("there is no block type `{name}`{}; known: {}", did_you_mean(nearest.as_deref()), known.join(", "))]
    UnknownBlockType {
        /// The name looked for.
        name: String,
        /// The most similar name.
        nearest: Option<String>,
        /// All names.
        known: Vec<String>,
    },
    /// A block type has no such parameter.
    #[error("`{block_type}` has no parameter `{name}`{}", did_you_mean(nearest.as_deref()))]
    UnknownParameter {
        /// The block type.
        block_type: String,
        /// The name looked for.
        name: String,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// A parameter that has no default was not given.
    #[error("`{block_type}` needs the parameter `{name}`: {doc}")]
    MissingParameter {
        /// The block type.
        block_type: String,
        /// The parameter.
        name: String,
        /// What it means.
        doc: String,
    },
    /// A parameter's value is of the wrong type or out of range.
    #[error("parameter `{name}`: expected {expected}, found {found}")]
    BadParameter {
        /// The parameter.
        name: String,
        /// Type and range.
        expected: String,
        /// The value given.
        found: String,
    },
    /// A stream is not what a port takes or promises.
    #[error("port `{port}`: expected {expected}, found {found}")]
    StreamMismatch {
        /// `block.port`
        port: String,
        /// What the port states.
        expected: String,
        /// What the stream is.
        found: String,
    },
    /// A process of a block cannot be started.
    #[error("cannot start a process for block `{block}`: {cause}")]
    Start {
        /// The block.
        block: String,
        /// What the system said.
        cause: std::io::Error,
    },
    /// Something that a block or the runtime wanted to do failed.
    #[error("{doing}: {cause}")]
    Failed {
        /// What was tried, on what.
        doing: String,
        /// Why it failed.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A block says in its own words why it cannot go on.
    #[error("{0}")]
    Refused(String),
    /// A block panicked.
    #[error("panicked: {0}")]
    Panicked(String),
}

/// Adds what was being done to an error: the way from any error to this crate's [`Error`].
pub trait Context<T> {
    /// `doing` completes "could not ...": `open song.wav`.
    ///
    /// # Errors
    /// The error of `self`, with the context in front.
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn context<S: Into<String>>(self, doing: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::Failed { doing: doing().into(), cause: cause.into() })
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}
