//! Streaming pipelines whose every block may be its own process.
//!
//! A *flowgraph* is made of [blocks](Block), whose ports are joined by connections. Buffers flow from output to input ports; they
//! lie in shared memory ([`millpond_shm`]), so a block hands them on without copying, and a block that is killed takes nothing with
//! it. This crate has the parts: the [`Block`] trait and what a block sees ([`Io`]), the blocks that come with Millpond
//! ([`Catalog::builtin`]), the pipeline file ([`flowgraph`]), and the [`supervisor`] that runs each block as its own process and
//! starts it again when it dies. Data never flows through the supervisor.
//!
//! ```no_run
//! use millpond::{Catalog, Flowgraph, supervisor::{Launcher, Supervisor}};
//!
//! let catalog = Catalog::builtin();
//! let flowgraph = Flowgraph::load("examples/telemetry.toml".as_ref(), &catalog)?;
//! // Each block is started as `this-program block TYPE NAME --pond ...`; see `BlockProcess`.
//! let supervisor = Supervisor::new(flowgraph, Launcher::this_program()?)?;
//! let summary = supervisor.run(&mut |event| println!("{event:?}"))?;
//! println!("{:?}", summary.outcome);
//! # Ok::<(), millpond::Error>(())
//! ```

pub mod align;
mod allocation;
mod block;
mod blocks;
pub mod bus;
mod catalog;
mod control;
mod duration;
mod error;
pub mod flowgraph;
pub mod frames;
mod interrupt;
mod io;
mod latency;
mod log;
mod nearest;
mod pace;
mod param;
mod params;
mod placement;
mod ports;
mod process;
mod program;
mod readiness;
mod reference;
mod report;
mod runner;
pub mod samples;
mod scheduler;
mod spec;
mod spec_json;
mod statistics;
mod stop;
pub mod stream;
pub mod supervisor;
#[cfg(test)]
mod temp_dir;
pub mod testing;

pub use allocation::SharedAllocator;
pub use block::{Block, Pause, WorkResult};
pub use catalog::{BlockType, Catalog};
pub use duration::parse_duration;
pub use error::{Context, Error, Result};
pub use flowgraph::Flowgraph;
pub use interrupt::{Interrupter, Interrupts};
pub use io::Io;
pub use pace::Pace;
pub use param::{FromValue, Param, Value};
pub use params::Params;
pub use placement::Placement;
pub use process::{BlockJob, BlockProcess};
pub use program::main;
pub use spec::{Port, Spec};
pub use statistics::{BlockStatistics, LatencySummary, Stage};

pub use tracing;

pub use millpond_shm::{
    Buffer, BufferMut, DType, Policy, StreamFormat, TimeRange, Timestamp, ns_to_sample, sample_to_ns,
};

/// What the author of a block needs.
pub mod prelude {
    pub use crate::bus::{Json, json};
    pub use crate::frames::Frames;
    pub use crate::samples::{MapSamples, REAL, ReadSamples, WriteSamples};
    pub use crate::{
        Block, Buffer, BufferMut, Context, DType, Error, Io, Pace, Param, Params, Pause, Port, Result, Spec,
        StreamFormat, Timestamp, WorkResult,
    };
}

/// Compiles the Rust of the pages.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../docs/bus.md")]
struct Pages;
