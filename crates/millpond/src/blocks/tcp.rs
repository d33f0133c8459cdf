//! The end of a TCP connection: called by another program, or calling it.

use std::net::{TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::prelude::*;

/// How long a program that is called may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection, now or when somebody calls.
pub(super) enum Endpoint {
    Listening { listener: TcpListener, fd: Arc<OwnedFd>, address: String },
    Connected { fd: Arc<OwnedFd>, name: String },
}

impl Endpoint {
    /// Adds the parameters that [`new`](Endpoint::new) reads.
    pub(super) fn params(spec: Spec) -> Spec {
        spec.param(Param::text("connect", "HOST:PORT of the program to call").optional().fixed())
            .param(Param::text("listen", "ADDRESS:PORT at which to wait for one call").optional().fixed())
    }

    /// Calls, or begins to listen.
    pub(super) fn new(params: &Params) -> Result<Self> {
        match (params.get::<Option<String>>("connect"), params.get::<Option<String>>("listen")) {
            (Some(address), None) => connect(&address),
            (None, Some(address)) => listen(&address),
            (found, _) => {
                let found = if found.is_some() { "both" } else { "none" };
                Err(Error::Refused(format!("expected one of `connect` and `listen`, found {found}")))
            }
        }
    }

    /// The connection and its name for messages.
    ///
    /// # Errors
    /// A pause until somebody calls.
    pub(super) fn connection(&mut self, io: &mut Io) -> Result<(Arc<OwnedFd>, String), Pause> {
        let (stream, from) = match self {
            Endpoint::Connected { fd, name } => return Ok((Arc::clone(fd), name.clone())),
            Endpoint::Listening { listener, fd, address } => match listener.accept() {
                Ok(call) => call,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(io.until_readable(fd));
                }
                Err(error) => {
                    let doing = format!("wait for a call at tcp {address}");
                    return Err(Error::Failed { doing, cause: error.into() }.into());
                }
            },
        };
        io.note(&format!("connected with {from}"));
        let name = format!("tcp {from}");
        let fd = own(stream).context(|| format!("set up {name}"))?;
        *self = Endpoint::Connected { fd: Arc::clone(&fd), name: name.clone() };
        Ok((fd, name))
    }
}

fn connect(address: &str) -> Result<Endpoint> {
    let name = format!("tcp {address}");
    let doing = || format!("connect to {name}");
    let mut last = std::io::ErrorKind::AddrNotAvailable.into();
    let candidates =
        address.to_socket_addrs().map_err(|error| address_error(&doing(), "HOST:PORT", error))?;
    for candidate in candidates {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(Endpoint::Connected { fd: own(stream).context(doing)?, name }),
            Err(error) => last = error,
        }
    }
    Err(address_error(&doing(), "HOST:PORT", last))
}

fn listen(address: &str) -> Result<Endpoint> {
    let bind = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let fd = Arc::new(OwnedFd::from(listener.try_clone()?));
        Ok(Endpoint::Listening { listener, fd, address: address.to_owned() })
    };
    bind().map_err(|error: std::io::Error| port_error("tcp", address, error))
}

/// Says what to do when a port is taken, or the address none of this machine.
pub(super) fn port_error(protocol: &str, address: &str, error: std::io::Error) -> Error {
    address_error(&format!("listen at {protocol} {address}"), "ADDRESS:PORT", error)
}

/// Says what to do when an address cannot be used; it should be of the form `expected`.
pub(super) fn address_error(doing: &str, expected: &str, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, ConnectionRefused, InvalidInput};
    let advice = match error.kind() {
        // The standard library's words for what is no address at all.
        InvalidInput => {
            return Error::Refused(format!("{doing}: expected {expected}, such as 127.0.0.1:7000"));
        }
        AddrInUse => "; another program uses it: end that or take another port",
        AddrNotAvailable => "; it is no address of this machine",
        ConnectionRefused => "; nobody listens there: start that program first",
        _ => "",
    };
    Error::Refused(format!("{doing}: {error}{advice}"))
}

fn own(stream: TcpStream) -> std::io::Result<Arc<OwnedFd>> {
    stream.set_nonblocking(true)?;
    // Buffers are written whole; waiting for more would only add latency.
    stream.set_nodelay(true)?;
    Ok(Arc::new(stream.into()))
}
