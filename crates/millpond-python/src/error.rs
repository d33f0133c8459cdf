//! The exceptions of the package, and which error of the Rust side becomes which.

use millpond_shm::{Error, ReceiveError, SendReason};
use pyo3::exceptions::{PyException, PyTimeoutError, PyValueError};
use pyo3::{PyErr, create_exception};

macro_rules! exceptions {
    ($($(#[doc = $doc:literal])* $name:ident: $base:ty;)*) => {
        $(create_exception!(millpond, $name, $base, concat!($($doc),*));)*

        /// Puts the exceptions into the module.
        pub(crate) fn add_to(module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
            use pyo3::types::PyModuleMethods as _;
            $(module.add(stringify!($name), module.py().get_type::<$name>())?;)*
            Ok(())
        }
    };
}

exceptions! {
    #[doc = "What every exception of this package is."]
    MillpondError: PyException;
    #[doc = "No living pond has that name."]
    PondNotFoundError: MillpondError;
    #[doc = "A living pond has that name already."]
    PondExistsError: MillpondError;
    #[doc = "The end of a port belongs to another living process, or to another thread right now."]
    PortInUseError: MillpondError;
    #[doc = "Every buffer of a fitting pool is in use; the text says by whom."]
    PoolExhaustedError: MillpondError;
    #[doc = "No pool has blocks of that size."]
    BufferTooLargeError: MillpondError;
    #[doc = "The object was inherited by `fork`: a forked child must attach to the pond itself."]
    ForkedError: MillpondError;
    #[doc = "The port, the pond, the loan or the frame has been closed, sent or discarded."]
    ClosedError: MillpondError;
    #[doc = "A frame or a loan has been sent already."]
    AlreadySentError: ClosedError;
    #[doc = "A loan cannot be sent because a writable view of it is still alive."]
    WritableViewError: MillpondError;
    #[doc = "Every connected sender has ended its stream, and all of it was received."]
    EndOfStreamError: MillpondError;
    #[doc = "A sender has died; all that it had published was received. Told once for each death."]
    SenderDiedError: MillpondError;
    #[doc = "The receiver of a connection that gives up then has died."]
    ReceiverDiedError: MillpondError;
    #[doc = "The pond was asked to stop."]
    StoppedError: MillpondError;
    #[doc = "A flowgraph that does not fit together; the text shows everything that is wrong, at the lines of its pipeline file."]
    FlowgraphError: MillpondError;
    #[doc = "Nobody in the pond answers that topic, or whoever did has left or died."]
    NotAnsweredError: MillpondError;
    #[doc = "Whoever was asked says no; the text is theirs."]
    RefusedError: MillpondError;
    #[doc = "A block could not go on; see its text for the block's own words."]
    BlockFailedError: MillpondError;
}

/// An error of a pond as an exception.
pub(crate) fn from_pond(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::PondNotFound { .. } => PondNotFoundError::new_err(text),
        Error::PondExists { .. } => PondExistsError::new_err(text),
        Error::PortInUse { .. } => PortInUseError::new_err(text),
        Error::PoolExhausted { .. } => PoolExhaustedError::new_err(text),
        Error::BufferTooLarge { .. } => BufferTooLargeError::new_err(text),
        Error::Forked => ForkedError::new_err(text),
        Error::InvalidName { .. } | Error::InvalidConfig { .. } | Error::WrongType { .. } => {
            PyValueError::new_err(text)
        }
        _ => MillpondError::new_err(text),
    }
}

/// An error of flowgraphs and blocks as an exception.
pub(crate) fn from_millpond(error: millpond::Error) -> PyErr {
    match error {
        millpond::Error::Pond(error) => from_pond(error),
        millpond::Error::Bus(error) => crate::bus::from_bus(error),
        millpond::Error::Flowgraph(diagnostics) => {
            FlowgraphError::new_err(diagnostics.to_string().trim_end().to_owned())
        }
        other => MillpondError::new_err(other.to_string()),
    }
}

/// Why nothing was received, as an exception that names the port.
pub(crate) fn from_receive(port: &str, error: &ReceiveError) -> PyErr {
    let text = format!("nothing received on `{port}`: {error}");
    match error {
        ReceiveError::Timeout | ReceiveError::Empty => PyTimeoutError::new_err(text),
        ReceiveError::EndOfStream => EndOfStreamError::new_err(text),
        ReceiveError::SenderDied { .. } => SenderDiedError::new_err(text),
        ReceiveError::Stopped => StoppedError::new_err(text),
        ReceiveError::Forked => forked(),
        _ => MillpondError::new_err(text),
    }
}

/// Why something was not sent, as an exception that names the port.
pub(crate) fn from_send(port: &str, reason: &SendReason) -> PyErr {
    let text = format!("not sent on `{port}`: {reason}");
    match reason {
        SendReason::Full | SendReason::Timeout => PyTimeoutError::new_err(text),
        SendReason::ReceiverDied { .. } => ReceiverDiedError::new_err(text),
        SendReason::Stopped => StoppedError::new_err(text),
        SendReason::Forked => forked(),
        _ => MillpondError::new_err(text),
    }
}

/// The object was inherited by a fork.
pub(crate) fn forked() -> PyErr {
    from_pond(Error::Forked)
}
