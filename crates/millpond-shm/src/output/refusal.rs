//! Why a buffer was not sent.

use crate::buffer::Buffer;
use std::fmt;

/// Why a buffer was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendReason {
    /// A blocking connection has no room.
    Full,
    /// No room came within the time given.
    Timeout,
    /// The receiver of this connection has died, and the connection gives up then.
    ReceiverDied {
        /// The input port.
        port: String,
    },
    /// The buffer has as many references as it can have.
    TooManyReferences,
    /// The pond was asked to stop.
    Stopped,
    /// The handle was inherited by `fork`.
    Forked,
    /// The buffer is of another pond.
    OtherPond,
    /// The registry cannot be reached, or a connection is corrupt.
    Broken {
        /// What is wrong.
        problem: String,
    },
}

impl fmt::Display for SendReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendReason::Full => write!(f, "a connection's queue is full"),
            SendReason::Timeout => write!(f, "a connection's queue stayed full for the time given"),
            SendReason::ReceiverDied { port } => write!(f, "the receiver `{port}` has died"),
            SendReason::TooManyReferences => write!(f, "the buffer has as many references as it can have"),
            SendReason::Stopped => write!(f, "the pond was asked to stop"),
            SendReason::Forked => write!(f, "this handle belongs to the parent process"),
            SendReason::OtherPond => write!(f, "the buffer belongs to another pond"),
            SendReason::Broken { problem } => write!(f, "{problem}"),
        }
    }
}

impl std::error::Error for SendReason {}

/// A buffer that was not sent, handed back, and why. As long as it is kept, the process stays in the pond: who only passes on the
/// error passes on its `reason`.
#[derive(Debug, thiserror::Error)]
#[error("not sent: {reason}")]
pub struct SendError {
    /// Why.
    pub reason: SendReason,
    /// The buffer.
    pub buffer: Buffer,
}
