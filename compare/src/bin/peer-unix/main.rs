//! Benchmarks Unix stream sockets between processes: the plainest way there is, for the comparison with Millpond.
//!
//! A stream socket and not a datagram one: its documented way to hand over many small messages is one large `write`, and it
//! takes messages larger than the socket's buffer. A receiver with nothing to do asks with `MSG_DONTWAIT` when it is to spin.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use millpond_compare::harness;
use millpond_compare::library::{self, Directory, Library, Message, Shape, Wait, poll};

/// Words of a receiver's buffer, if a message is not larger: as many small messages as one `read` brings.
const BUFFER_WORDS: usize = 8192;

fn main() -> ExitCode {
    harness::main::<Unix>()
}

/// The directory in which the sockets are.
struct Unix(PathBuf);

impl Library for Unix {
    const NAME: &'static str = "unix";
    const COPIES: bool = true;
    const WAIT: Wait = Wait::Block;
    const CROWDED: Wait = Wait::Block;
    type Place = Directory;
    type Sender = Sender;
    type Receiver = Receiver;

    fn version() -> String {
        format!("Linux {}", rustix::system::uname().release().to_string_lossy())
    }

    fn place(_shape: &Shape, _topics: usize) -> Result<(Directory, String)> {
        let directory = Directory::create("mpux")?;
        let text = directory.text()?;
        Ok((directory, text))
    }

    fn join(place: &str) -> Result<Self> {
        Ok(Self(place.into()))
    }

    fn sender(&self, topic: &str, shape: &Shape) -> Result<Sender> {
        let paths = (0..shape.receivers).map(|index| self.path(topic, index)).collect();
        Ok(Sender { paths, streams: Vec::new(), words: shape.words, outgoing: Vec::new() })
    }

    fn receiver(&self, topic: &str, index: usize, shape: &Shape) -> Result<Receiver> {
        let path = self.path(topic, index);
        // That of a killed receiver, whose place this one takes.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
        let buffer = vec![0; shape.words.max(BUFFER_WORDS)];
        Ok(Receiver {
            listener,
            stream: None,
            words: shape.words,
            wait: shape.wait,
            buffer,
            from: 0,
            to: 0,
            held: Vec::new(),
        })
    }
}

impl Unix {
    fn path(&self, topic: &str, index: usize) -> PathBuf {
        self.0.join(format!("{topic}.{index}"))
    }
}

/// A stream to each receiver.
struct Sender {
    paths: Vec<PathBuf>,
    streams: Vec<UnixStream>,
    words: usize,
    outgoing: Vec<u64>,
}

impl Sender {
    /// Room for so many messages.
    #[inline(always)]
    fn outgoing(&mut self, count: usize) -> &mut [u64] {
        let words = count * self.words;
        if self.outgoing.len() < words {
            self.outgoing.resize(words, 0);
        }
        &mut self.outgoing[..words]
    }

    #[inline(always)]
    fn deliver(&mut self, count: usize) -> Result<()> {
        let bytes = bytemuck::cast_slice(&self.outgoing[..count * self.words]);
        for stream in &mut self.streams {
            if let Err(error) = stream.write_all(bytes) {
                self.streams.clear();
                return Err(error).context("cannot write to the socket");
            }
        }
        ensure!(!self.streams.is_empty(), "there is no connection");
        Ok(())
    }
}

impl library::Sender for Sender {
    #[inline(always)]
    fn send(&mut self, message: Message) -> Result<()> {
        message.write(self.outgoing(1));
        self.deliver(1)
    }

    #[inline(always)]
    fn send_many(&mut self, first: u64, count: u64, fill: bool) -> Result<()> {
        let words = self.words;
        for (message, sequence) in self.outgoing(count as usize).chunks_exact_mut(words).zip(first..) {
            Message { sequence, fill }.write(message);
        }
        self.deliver(count as usize)
    }

    fn settle(&mut self) -> Result<()> {
        if self.streams.is_empty() {
            let connect = |path: &PathBuf| {
                UnixStream::connect(path).context(format!("cannot connect to {}", path.display()))
            };
            self.streams = self.paths.iter().map(connect).collect::<Result<_>>()?;
        }
        Ok(())
    }
}

/// The other end of a stream.
struct Receiver {
    listener: UnixListener,
    stream: Option<UnixStream>,
    words: usize,
    wait: Wait,
    buffer: Vec<u64>,
    /// Bytes of `buffer` that were read from the stream and not yet used: from `from`, the beginning of a message, to `to`.
    from: usize,
    to: usize,
    held: Vec<Vec<u64>>,
}

impl Receiver {
    fn has_message(&self) -> bool {
        self.to - self.from >= self.words * size_of::<u64>()
    }

    /// Reads until there is a message.
    #[inline(always)]
    fn fetch(&mut self) -> Result<()> {
        if self.has_message() {
            return Ok(());
        }
        if self.stream.is_none() {
            library::Receiver::settle(self)?;
        }
        let Some(stream) = &mut self.stream else { bail!("there is no connection") };
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.buffer);
        bytes.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        while self.to < self.words * size_of::<u64>() {
            let read = poll(self.wait, || match stream.read(&mut bytes[self.to..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error).context("cannot read from the socket"),
                Ok(read) => Ok(Some(read)),
            });
            match read {
                Ok(read) if read > 0 => self.to += read,
                end => {
                    (self.stream, self.from, self.to) = (None, 0, 0);
                    return end.and_then(|_| bail!("the sender has closed the connection"));
                }
            }
        }
        Ok(())
    }

    /// The first message that is there.
    #[inline(always)]
    fn next(&mut self) -> &[u64] {
        let at = self.from / size_of::<u64>();
        self.from += self.words * size_of::<u64>();
        &self.buffer[at..at + self.words]
    }
}

impl library::Receiver for Receiver {
    type Sender = Sender;

    #[inline(always)]
    fn receive<R>(&mut self, read: impl FnOnce(&[u64]) -> R) -> Result<R> {
        self.fetch()?;
        Ok(read(self.next()))
    }

    #[inline(always)]
    fn receive_some(&mut self, mut read: impl FnMut(&[u64]) -> Result<()>) -> Result<()> {
        self.fetch()?;
        while self.has_message() {
            read(self.next())?;
        }
        Ok(())
    }

    /// What was read is written as it is.
    fn forward(&mut self, to: &mut Sender) -> Result<u64> {
        self.fetch()?;
        let message = self.next();
        for stream in &mut to.streams {
            stream.write_all(bytemuck::cast_slice(message)).context("cannot write to the socket")?;
        }
        message.first().copied().context("an empty message came")
    }

    fn hold(&mut self) -> Result<()> {
        let copy = self.receive(<[u64]>::to_vec)?;
        self.held.push(copy);
        Ok(())
    }

    fn settle(&mut self) -> Result<()> {
        let (stream, _) = self.listener.accept().context("cannot accept a connection")?;
        stream.set_nonblocking(matches!(self.wait, Wait::Spin | Wait::Yield))?;
        self.stream = Some(stream);
        Ok(())
    }
}
