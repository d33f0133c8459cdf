//! `udp-sink`: sends a stream in UDP datagrams.

use std::net::{ToSocketAddrs as _, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::tcp::address_error;
use crate::prelude::*;

/// Sends each buffer in as few datagrams of whole frames as possible.
pub(super) struct UdpSink {
    socket: UdpSocket,
    fd: Arc<OwnedFd>,
    address: String,
    max_bytes: usize,
    buffer: Option<Buffer>,
    /// Bytes of `buffer` that are sent.
    done: usize,
    sent: u64,
    refused: u64,
}

impl Block for UdpSink {
    fn spec() -> Spec {
        Spec::new("udp-sink", "Sends a stream in UDP datagrams")
            .details(
                "A buffer goes in one datagram, or, if it is larger than `max_bytes`, in several of whole frames. UDP does not \
                 tell whether they arrive. Datagrams for which the other machine has said that nobody listens are counted, and \
                 their number is told at the end.",
            )
            .example(
                r#"
connect = ["tone -> real-time -> network"]
blocks.tone = { type = "signal", frames = 360, duration_s = 10.0 }
blocks.real-time = { type = "throttle" }
blocks.network = { type = "udp-sink", address = "127.0.0.1:7000" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .param(Param::text("address", "HOST:PORT to send to").fixed())
            .param(
                Param::int("max_bytes", "longest datagram; the default fits into an Ethernet frame")
                    .default(1472)
                    .range(1.0, 65_507.0)
                    .unit("bytes").fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let address: String = params.get("address");
        let open = || {
            let to = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
            let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
            socket.connect(to)?;
            socket.set_nonblocking(true)?;
            let fd = Arc::new(OwnedFd::from(socket.try_clone()?));
            std::io::Result::Ok((socket, fd))
        };
        let (socket, fd) =
            open().map_err(|error| address_error(&format!("send to udp {address}"), "HOST:PORT", error))?;
        let max_bytes = params.get("max_bytes");
        Ok(Self { socket, fd, address, max_bytes, buffer: None, done: 0, sent: 0, refused: 0 })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        if self.buffer.is_none() {
            (self.buffer, self.done) = (Some(io.take("in")?), 0);
        }
        let Some(buffer) = &self.buffer else { return Ok(()) };
        let frame_bytes = (buffer.channels() * buffer.dtype().size_bytes()).max(1);
        let piece_bytes = self.max_bytes / frame_bytes * frame_bytes;
        if piece_bytes == 0 {
            return Err(Error::Refused(format!(
                "expected frames of at most {} bytes, found {frame_bytes}: raise `max_bytes`",
                self.max_bytes
            ))
            .into());
        }
        while self.done < buffer.len() {
            let piece = &buffer.as_bytes()[self.done..buffer.len().min(self.done + piece_bytes)];
            match self.socket.send(piece) {
                Ok(_) => {
                    self.done += piece.len();
                    self.sent += 1;
                }
                // An answer to an earlier datagram; this one has not been sent.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => self.refused += 1,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(io.until_writable(&self.fd));
                }
                Err(error) => {
                    return Err(error)
                        .context(|| format!("send to udp {}", self.address))
                        .map_err(Pause::from);
                }
            }
        }
        self.buffer = None;
        Ok(())
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        if self.refused > 0 {
            io.note(&format!(
                "nobody listened at {} for at least {} of {} datagrams",
                self.address, self.refused, self.sent
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn datagrams_hold_whole_frames() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let address = receiver.local_addr().unwrap().to_string();
        let params = [("address", address.as_str().into()), ("max_bytes", 10.into())];
        let mut bench = Bench::of::<UdpSink>(&params).unwrap();
        bench.push_frames("in", 0, 2, &[1i16, 2, 3, 4, 5, 6]).unwrap();
        bench.end("in");
        bench.run().unwrap();
        assert!(bench.has_ended());
        let mut datagram = [0; 100];
        assert_eq!(receiver.recv(&mut datagram).unwrap(), 8);
        assert_eq!(datagram[..8], [1, 0, 2, 0, 3, 0, 4, 0]);
        assert_eq!(receiver.recv(&mut datagram).unwrap(), 4);
    }

    #[test]
    fn nobody_listening_is_no_failure_and_too_large_a_frame_is() {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut bench = Bench::of::<UdpSink>(&[("address", address.as_str().into())]).unwrap();
        (0..20).for_each(|_| drop(bench.push("in", &[1u8; 100]).unwrap()));
        bench.end("in");
        bench.run().unwrap();
        assert!(bench.has_ended());
        let params = [("address", address.as_str().into()), ("max_bytes", 3.into())];
        let mut bench = Bench::of::<UdpSink>(&params).unwrap();
        bench.push("in", &[1.0f32]).unwrap();
        let refusal = bench.run().expect_err("refused").to_string();
        assert_eq!(refusal, "expected frames of at most 3 bytes, found 4: raise `max_bytes`");
        let refusal = Bench::of::<UdpSink>(&[("address", "nonsense".into())]).err().unwrap().to_string();
        assert!(refusal.starts_with("send to udp nonsense: "), "{refusal}");
    }
}
