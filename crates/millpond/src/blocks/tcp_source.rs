//! `tcp-source`: what comes on a TCP connection.

use super::raw_stream::{ByteReader, RawFormat};
use super::tcp::Endpoint;
use crate::prelude::*;

/// Reads raw items from a TCP connection until the other side closes it.
pub(super) struct TcpSource {
    raw: RawFormat,
    endpoint: Endpoint,
    reader: Option<ByteReader>,
}

impl Block for TcpSource {
    fn spec() -> Spec {
        let spec = Spec::new("tcp-source", "Reads raw items from a TCP connection")
            .details(
                "Calls another program, or waits for one to call; the stream ends when that closes the connection. Sends what \
                 has come as soon as nothing more is there. After a restart it calls, or waits, again.",
            )
            .example(
                r#"
connect = ["network -> file"]
blocks.network = { type = "tcp-source", listen = "0.0.0.0:7000", dtype = "f32", rate_hz = 48000 }
blocks.file = { type = "wav-sink", path = "received.wav" }
"#,
            )
            .output(Port::new("out", "what comes").shape(["frames", "channels"]));
        RawFormat::params(Endpoint::params(spec))
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { raw: RawFormat::new(params), endpoint: Endpoint::new(params)?, reader: None })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.raw.state(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => {
                let (fd, name) = self.endpoint.connection(io)?;
                none.insert(ByteReader::new(self.raw.clone(), fd, name))
            }
        };
        reader.work(io)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::testing::Bench;

    /// Runs the block until it has ended, and returns all it has sent.
    fn read_all(bench: &mut Bench) -> Vec<u16> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut all = Vec::new();
        while !bench.has_ended() {
            assert!(std::time::Instant::now() < deadline, "the stream does not end");
            bench.run().unwrap();
            all.extend(bench.pull_all::<u16>("out").unwrap());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        all
    }

    fn bytes(items: &[u16]) -> Vec<u8> {
        items.iter().flat_map(|item| item.to_le_bytes()).collect()
    }

    #[test]
    fn reads_what_a_program_sends_that_it_calls() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let params = [("connect", address.as_str().into()), ("dtype", "u16".into()), ("frames", 100.into())];
        let mut bench = Bench::of::<TcpSource>(&params).unwrap();
        let items: Vec<u16> = (0..50_000).collect();
        let to_send = bytes(&items);
        let sender = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Odd pieces: items are cut in two.
            to_send.chunks(777).for_each(|piece| stream.write_all(piece).unwrap());
        });
        assert_eq!(read_all(&mut bench), items);
        sender.join().unwrap();
    }

    #[test]
    fn waits_for_a_call() {
        // Bound and released: the port stays free for a moment, and nobody else asks for it.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let params = [("listen", address.as_str().into()), ("dtype", "u16".into())];
        let mut bench = Bench::of::<TcpSource>(&params).unwrap();
        bench.run().unwrap();
        assert!(!bench.has_ended());
        let taken = Bench::of::<TcpSource>(&params).err().expect("refused").to_string();
        assert_eq!(
            taken,
            format!(
                "listen at tcp {address}: Address already in use (os error 98); another program uses it: end that or take \
                 another port"
            )
        );
        let mut caller = TcpStream::connect(&address).unwrap();
        caller.write_all(&bytes(&[1, 2, 3])).unwrap();
        drop(caller);
        assert_eq!(read_all(&mut bench), [1, 2, 3]);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let refusal =
            |params: &[(&str, crate::Value)]| Bench::of::<TcpSource>(params).err().unwrap().to_string();
        assert_eq!(
            refusal(&[("connect", address.as_str().into())]),
            format!(
                "connect to tcp {address}: Connection refused (os error 111); nobody listens there: start that program first"
            )
        );
        assert_eq!(refusal(&[]), "expected one of `connect` and `listen`, found none");
        assert_eq!(
            refusal(&[("listen", "nonsense".into())]),
            "listen at tcp nonsense: expected ADDRESS:PORT, such as 127.0.0.1:7000"
        );
    }
}
