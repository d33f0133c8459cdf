//! `tcp-sink`: writes a stream to a TCP connection.

use super::raw_stream::ByteWriter;
use super::tcp::Endpoint;
use crate::prelude::*;

/// Writes raw items to a TCP connection.
pub(super) struct TcpSink {
    endpoint: Endpoint,
    writer: Option<ByteWriter>,
}

impl Block for TcpSink {
    fn spec() -> Spec {
        let spec = Spec::new("tcp-sink", "Writes the items of a stream to a TCP connection, as they are")
            .details(
                "Calls another program, or waits for one to call before it takes anything. It fails when the other side closes \
                 the connection; started again, it calls, or waits, anew, and goes on with what is queued.",
            )
            .example(
                r#"
connect = ["tone -> network"]
blocks.tone = { type = "signal", duration_s = 10.0 }
blocks.network = { type = "tcp-sink", connect = "127.0.0.1:7000" }
"#,
            )
            .input(Port::new("in", "any stream"));
        Endpoint::params(spec)
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { endpoint: Endpoint::new(params)?, writer: None })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let (fd, name) = self.endpoint.connection(io)?;
                none.insert(ByteWriter::new(fd, name))
            }
        };
        writer.work(io)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::testing::Bench;

    #[test]
    fn writes_more_than_a_socket_holds() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut bench = Bench::of::<TcpSink>(&[("connect", address.as_str().into())]).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        // 40 MB: the block has to wait for the reader again and again.
        let items: Vec<u32> = (0..250_000).collect();
        let reader = std::thread::spawn(move || {
            let (mut sum, mut piece) = (0u64, vec![0; 1_000_000]);
            for _ in 0..40 {
                stream.read_exact(&mut piece).unwrap();
                sum +=
                    piece.chunks(4).map(|item| u64::from(item[0]) + (u64::from(item[3]) << 24)).sum::<u64>();
            }
            assert_eq!(stream.read(&mut piece).unwrap(), 0);
            sum
        });
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        for _ in 0..40 {
            while bench.push("in", &items).is_err() {
                assert!(std::time::Instant::now() < deadline, "nothing moves");
                bench.run().unwrap();
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
        bench.end("in");
        while !bench.has_ended() {
            assert!(std::time::Instant::now() < deadline, "the block does not end");
            bench.run().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        drop(bench);
        let expected: u64 =
            items.iter().map(|item| u64::from(item & 0xff) + (u64::from(item >> 24) << 24)).sum();
        assert_eq!(reader.join().unwrap(), 40 * expected);
    }

    #[test]
    fn a_reader_that_goes_away_is_a_failure() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut bench = Bench::of::<TcpSink>(&[("listen", address.as_str().into())]).unwrap();
        bench.push("in", &[1u8; 4]).unwrap();
        bench.run().unwrap();
        drop(TcpStream::connect(&address).unwrap());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let refusal = loop {
            assert!(std::time::Instant::now() < deadline, "nobody notices");
            let _ = bench.push("in", &[1u8; 4]);
            if let Err(refusal) = bench.run() {
                break refusal.to_string();
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert!(refusal.starts_with("write to tcp 127.0.0.1:"), "{refusal}");
    }
}
