//! Why no buffer was received.

/// Why no buffer was received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// Nothing waits.
    #[error("nothing is queued")]
    Empty,
    /// Nothing came within the time given.
    #[error("nothing came within the time given")]
    Timeout,
    /// Every connected sender has ended its stream, and all of it was received.
    #[error("the stream has ended")]
    EndOfStream,
    /// A sender has died (or left while panicking), and all that it had published was received. Told once for each death; the
    /// next call goes on with the other connections, or waits for the restart.
    #[error("the sender `{port}` has died")]
    SenderDied {
        /// The output port.
        port: String,
    },
    /// The port has no connection.
    #[error("the port is not connected")]
    NotConnected,
    /// The pond was asked to stop.
    #[error("the pond was asked to stop")]
    Stopped,
    /// The handle was inherited by `fork`.
    #[error("this handle belongs to the parent process")]
    Forked,
    /// A connection holds something impossible, or the registry cannot be reached. The connection is left alone from now on.
    #[error("{problem}")]
    Broken {
        /// What is wrong.
        problem: String,
    },
}
