//! `udp-source`: a buffer for each UDP datagram.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::raw_stream::RawFormat;
use super::tcp::port_error;
use crate::prelude::*;

/// Receives datagrams; each becomes a buffer that is stamped with the time of its arrival.
pub(super) struct UdpSource {
    raw: RawFormat,
    socket: UdpSocket,
    fd: Arc<OwnedFd>,
    datagram: Vec<u8>,
    /// Length of the datagram that is still to be sent.
    waiting: Option<usize>,
    count: Option<u64>,
    unfit: u64,
}

/// No datagram is longer.
const MAX_DATAGRAM_BYTES: usize = 65_535;

impl Block for UdpSource {
    fn spec() -> Spec {
        let spec = Spec::new("udp-source", "Receives UDP datagrams, a buffer for each")
            .details(
                "Buffers are stamped with the time of arrival. A datagram that is no whole number of frames is dropped, and \
                 their number is told at the end. Datagrams are lost, as UDP has it, while nobody receives them, so after a \
                 kill as well; what the kernel drops because the stream behind is too slow is not counted here.",
            )
            .example(
                r#"
connect = ["network -> file"]
blocks.network = { type = "udp-source", listen = "0.0.0.0:7000", dtype = "f32", count = 1000 }
blocks.file = { type = "file-sink", path = "received.f32" }
"#,
            )
            .output(Port::new("out", "what the datagrams hold").shape(["frames", "channels"]))
            .param(Param::text("listen", "ADDRESS:PORT at which to receive").fixed())
            .param(
                Param::int("count", "buffers to send; without it, until stopped").range(0.0, f64::INFINITY).optional().fixed());
        RawFormat::params(spec)
    }

    fn new(params: &Params) -> Result<Self> {
        let address: String = params.get("listen");
        let bind = || {
            let socket = UdpSocket::bind(&address)?;
            socket.set_nonblocking(true)?;
            let fd = Arc::new(OwnedFd::from(socket.try_clone()?));
            Ok((socket, fd))
        };
        let (socket, fd) = bind().map_err(|error| port_error("udp", &address, error))?;
        Ok(Self {
            raw: RawFormat::new(params),
            socket,
            fd,
            datagram: vec![0; MAX_DATAGRAM_BYTES],
            waiting: None,
            count: params.get("count"),
            unfit: 0,
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.raw.state(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        if self.waiting.is_none() && self.count.is_some_and(|count| io.next_sequence("out") >= count) {
            return Err(Pause::Done);
        }
        let bytes = match self.waiting {
            Some(bytes) => bytes,
            None => match self.socket.recv(&mut self.datagram) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(io.until_readable(&self.fd));
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
                Err(error) => return Err(error).context(|| "receive from udp").map_err(Pause::from),
            },
        };
        let frame_bytes = self.raw.frame_bytes();
        if !bytes.is_multiple_of(frame_bytes) {
            if self.unfit == 0 {
                io.note(&format!(
                    "expected datagrams of whole frames of {frame_bytes} bytes, found one of {bytes} bytes: it is dropped"
                ));
            }
            self.unfit += 1;
            return Ok(());
        }
        self.waiting = Some(bytes);
        let mut buffer = self.raw.buffer(io, (bytes / frame_bytes) as u32)?;
        buffer.as_bytes_mut().copy_from_slice(&self.datagram[..bytes]);
        buffer.set_timestamp(Timestamp::now());
        self.waiting = None;
        io.send("out", buffer)
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        if self.unfit > 0 {
            io.note(&format!("dropped {} datagrams that were no whole frames", self.unfit));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn each_datagram_is_a_buffer() {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let params = [("listen", address.as_str().into()), ("dtype", "i16".into()), ("count", 3.into())];
        let mut bench = Bench::of::<UdpSource>(&params).unwrap();
        bench.run().unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for datagram in [&[1u8, 0, 2, 0][..], &[1, 2, 3], &[], &[5, 0]] {
            sender.send_to(datagram, &address).unwrap();
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !bench.has_ended() {
            assert!(std::time::Instant::now() < deadline, "datagrams are missing");
            bench.run().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let first = bench.pull_buffer("out").unwrap().unwrap();
        assert!(matches!(first.timestamp(), Timestamp::Absolute(ns) if ns > 0));
        assert_eq!(first.as_slice::<i16>().unwrap(), [1, 2]);
        assert_eq!(bench.pull::<i16>("out").unwrap(), Some(vec![]));
        assert_eq!(bench.pull::<i16>("out").unwrap(), Some(vec![5]));
        let taken = Bench::of::<UdpSource>(&params).err().expect("refused").to_string();
        assert!(taken.starts_with(&format!("listen at udp {address}: Address already in use")), "{taken}");
    }
}
