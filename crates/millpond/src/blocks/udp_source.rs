//! `udp-source`: a buffer for each UDP datagram.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    kernel_drops: KernelDrops,
}

/// No datagram is longer.
const MAX_DATAGRAM_BYTES: usize = 65_535;

impl Block for UdpSource {
    fn spec() -> Spec {
        let spec = Spec::new("udp-source", "Receives UDP datagrams, a buffer for each")
            .details(
                "Buffers are stamped with the time of arrival. A datagram that is no whole number of frames is dropped, and \
                 their number is told at the end. So is the number of those that the kernel dropped because the stream behind was too \
                 slow; each time it has grown, the log says so, at most once a second. Datagrams are lost, as UDP has it, while \
                 nobody receives them, so after a kill as well: nobody counts those.",
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
            let kernel_drops = KernelDrops::of(&socket)?;
            Ok((socket, fd, kernel_drops))
        };
        let (socket, fd, kernel_drops) = bind().map_err(|error| port_error("udp", &address, error))?;
        Ok(Self {
            raw: RawFormat::new(params),
            socket,
            fd,
            datagram: vec![0; MAX_DATAGRAM_BYTES],
            waiting: None,
            count: params.get("count"),
            unfit: 0,
            kernel_drops,
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.raw.state(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        if self.waiting.is_none() && self.count.is_some_and(|count| io.next_sequence("out") >= count) {
            return Err(Pause::Done);
        }
        self.kernel_drops.look_if_due();
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
        self.kernel_drops.look();
        if self.kernel_drops.count > 0 {
            io.note(&format!(
                "the kernel dropped {} datagrams that were not received in time",
                self.kernel_drops.count
            ));
        }
        Ok(())
    }
}

/// What the kernel drops of a socket, because nobody has received it in time. It is told of the socket as long as that is open.
struct KernelDrops {
    table: &'static str,
    inode: String,
    /// As of the latest look.
    count: u64,
    next_look: Instant,
}

/// How often the kernel is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl KernelDrops {
    fn of(socket: &UdpSocket) -> std::io::Result<Self> {
        let table = if socket.local_addr()?.is_ipv4() { "/proc/self/net/udp" } else { "/proc/self/net/udp6" };
        let inode = rustix::fs::fstat(socket)?.st_ino.to_string();
        Ok(Self { table, inode, count: 0, next_look: Instant::now() })
    }

    fn look_if_due(&mut self) {
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.look();
        }
    }

    fn look(&mut self) {
        // Without /proc there is nothing to be told.
        let table = std::fs::read_to_string(self.table).unwrap_or_default();
        // The columns of a line: ... inode, ref, pointer, drops.
        let drops = table.lines().skip(1).find_map(|line| {
            let mut columns = line.split_ascii_whitespace().skip(9);
            columns.next().filter(|inode| *inode == self.inode)?;
            columns.nth(2)?.parse().ok()
        });
        if let Some(count) = drops.filter(|count| *count > self.count) {
            tracing::warn!("the kernel dropped {} datagrams: the stream is too slow", count - self.count);
            self.count = count;
        }
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

    #[test]
    fn what_the_kernel_drops_is_counted() {
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(local) else { continue }; // no IPv6 here
            let mut drops = KernelDrops::of(&socket).unwrap();
            drops.look();
            assert_eq!(drops.count, 0);
            let sender = UdpSocket::bind(local).unwrap();
            // Nobody receives: some fit into the socket's memory, and the rest is dropped.
            let (mut sent, address) = (0u64, socket.local_addr().unwrap());
            while drops.count == 0 {
                assert!(sent < 1_000_000, "nothing is dropped");
                (0..100).for_each(|_| sent += u64::from(sender.send_to(&[0; 1000], address).is_ok()));
                drops.look();
            }
            socket.set_nonblocking(true).unwrap();
            let mut received = 0;
            while socket.recv(&mut [0; 1000]).is_ok() {
                received += 1;
            }
            drops.look();
            assert_eq!(received + drops.count, sent, "{local}");
        }
    }
}
