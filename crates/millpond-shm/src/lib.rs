//! Crash-proof buffers, references and queues in shared memory, passed between processes by id.
//!
//! Any process may be killed at any instruction: nothing leaks, nobody else stalls, nothing published is lost.
//!
//! ```
//! use millpond_shm::{ConnectionConfig, InputConfig, OutputConfig, Pond, PondConfig, Role, Timestamp};
//!
//! # let name = format!("doc-{}", std::process::id());
//! let pond = Pond::create(&name, &PondConfig::default(), Role::Worker)?;
//! pond.connect("camera.out", "viewer.in", &ConnectionConfig::default())?;
//! let mut out = pond.output("camera.out", &OutputConfig::default())?;
//! let mut frame = out.allocate(4096)?;
//! frame.as_bytes_mut().fill(7);
//! frame.set_timestamp(Timestamp::now());
//! out.send(frame)?;
//!
//! // Usually in another process, after `Pond::attach(&name, Role::Block)`:
//! let mut viewer = pond.input("viewer.in", &InputConfig::default())?;
//! let frame = viewer.receive()?; // the same bytes, not a copy of them
//! assert_eq!(frame.as_bytes(), [7; 4096]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The map of the modules, from the kernel upwards; none imports one further down:
//! `sys`, `sync` -> `token`, `layout` -> `references`, `lane`, `mail`, `doorbell` (the protocol; `models` checks these under
//! `--cfg loom`) -> `control`, `rendezvous`, `registry_lock` ->
//! `pools`, `registry`, `recovery` -> `attachment`, `allocator`, `buffer`, `waiter`, `output`, `input`, `mailbox`, `settings` -> `pond`, `monitor`.

#![cfg_attr(
    loom,
    allow(dead_code, unused_imports, reason = "the models use a part of the protocol's modules")
)]

#[macro_use]
pub mod crash_point;
mod sync;
mod token;

mod doorbell;
mod lane;
mod mail;
mod prefetch;
mod references;

#[cfg(all(test, loom))]
mod models;

#[cfg(not(loom))]
mod allocator;
#[cfg(not(loom))]
mod attachment;
#[cfg(not(loom))]
mod buffer;
#[cfg(not(loom))]
mod control;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
pub mod floor;
#[cfg(not(loom))]
mod following;
#[cfg(not(loom))]
mod input;
#[cfg(not(loom))]
pub mod layout;
#[cfg(not(loom))]
mod log;
#[cfg(not(loom))]
mod mailbox;
#[cfg(not(loom))]
mod monitor;
#[cfg(not(loom))]
mod output;
#[cfg(not(loom))]
mod pond;
#[cfg(not(loom))]
mod pools;
#[cfg(not(loom))]
mod ports;
#[cfg(not(loom))]
mod recovery;
#[cfg(not(loom))]
mod redelivery;
#[cfg(not(loom))]
mod registry;
#[cfg(not(loom))]
mod registry_lock;
#[cfg(not(loom))]
mod rendezvous;
#[cfg(not(loom))]
mod sent;
#[cfg(not(loom))]
mod settings;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod timestamp;
#[cfg(not(loom))]
mod types;
#[cfg(not(loom))]
mod waiter;
#[cfg(not(loom))]
mod watcher;

#[cfg(not(loom))]
pub use self::{
    allocator::Allocator,
    attachment::Role,
    buffer::{Buffer, BufferId, BufferMut},
    error::{Error, Result},
    input::{Input, ReceiveError},
    log::{Level, LogLine, LogLines},
    mailbox::{
        Mail, MailClass, Mailbox, MailboxAddress, MailboxEntry, PostError, Received,
        account::{MailboxInfo, MessageTotals},
    },
    monitor::{
        BlockInfo, CheckReport, ConnectionInfo, HeldBy, Monitor, PoolInfo, PortInfo, ProcessInfo, ShareInfo,
        Snapshot,
    },
    output::{Output, SendError, SendReason},
    pond::{BlockCounters, Pond, PondConfig, PondEntry, clean, list},
    pools::PoolConfig,
    ports::{ConnectionConfig, InputConfig, OnReceiverDeath, OutputConfig, Policy, StreamFormat},
    registry::Direction,
    sys::fork::ForkMark,
    timestamp::{TimeRange, Timestamp, ns_to_sample, sample_to_ns},
    types::{DType, Shape},
    waiter::{Wait, Waiter, Woken},
};
