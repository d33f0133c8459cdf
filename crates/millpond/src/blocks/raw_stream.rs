//! Streams as plain bytes outside: files, pipes and sockets. What their sources and sinks have in common.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::prelude::*;

/// Item types, for parameters.
const DTYPES: &[&str] =
    &["bytes", "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "c32", "c64"];

/// How bytes from outside become frames.
#[derive(Clone, Debug)]
pub(super) struct RawFormat {
    dtype: DType,
    channels: u32,
    frames: u32,
    rate_hz: Option<u32>,
}

impl RawFormat {
    /// Adds the parameters that [`new`](RawFormat::new) reads.
    pub(super) fn params(spec: Spec) -> Spec {
        spec.param(Param::one_of("dtype", "item type, little-endian", DTYPES).default("bytes").fixed())
            .param(Param::int("channels", "items in a frame").default(1).range(1.0, 1e6).fixed())
            .param(Param::int("frames", "frames in a buffer, at most").default(4096).range(1.0, 1e6).fixed())
            .param(
                Param::int("rate_hz", "frames a second; with it, buffers are stamped with sample indexes")
                    .range(1.0, 4e9)
                    .unit("Hz")
                    .optional()
                    .fixed(),
            )
    }

    pub(super) fn new(params: &Params) -> Self {
        Self {
            dtype: params.get("dtype"),
            channels: params.get("channels"),
            frames: params.get("frames"),
            rate_hz: params.get("rate_hz"),
        }
    }

    pub(super) fn state(&self, io: &mut Io) -> Result<()> {
        let (dtype, shape) = (self.dtype, vec![0, self.channels]);
        let rate_hz = self.rate_hz.map(|rate_hz| (rate_hz, 1));
        io.set_format("out", StreamFormat { dtype, shape, rate_hz, ..StreamFormat::default() })
    }

    pub(super) fn frame_bytes(&self) -> usize {
        self.channels as usize * self.dtype.size_bytes()
    }

    /// Frames in a buffer.
    pub(super) fn frames(&self) -> u32 {
        self.frames
    }

    /// A new buffer of so many frames.
    pub(super) fn buffer(&self, io: &mut Io, frames: u32) -> Result<BufferMut, Pause> {
        io.new_buffer("out", self.dtype, &[frames, self.channels])
    }

    /// Cuts a buffer to the frames that are filled, stamps and sends it.
    pub(super) fn send(&self, io: &mut Io, mut buffer: BufferMut, frames: u32, first: u64) -> WorkResult {
        buffer.set_array(self.dtype, &[frames, self.channels])?;
        if let Some(rate_num) = self.rate_hz {
            buffer.set_timestamp(Timestamp::Sample { index: first as i64, rate_num, rate_den: 1 });
        }
        io.send("out", buffer)
    }
}

/// Makes buffers of the bytes of a descriptor. Bytes are read right into the buffer that is sent.
pub(super) struct ByteReader {
    raw: RawFormat,
    fd: Arc<OwnedFd>,
    /// What is read, for messages.
    name: String,
    buffer: Option<BufferMut>,
    /// Bytes in `buffer` so far.
    filled: usize,
    /// Bytes of a frame that is not complete yet, for the next buffer.
    rest: Vec<u8>,
    next_frame: u64,
}

impl ByteReader {
    pub(super) fn new(raw: RawFormat, fd: Arc<OwnedFd>, name: String) -> Self {
        Self { raw, fd, name, buffer: None, filled: 0, rest: Vec::new(), next_frame: 0 }
    }

    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Goes on with another frame.
    pub(super) fn set_next_frame(&mut self, frame: u64) {
        self.next_frame = frame;
    }

    /// Sends the next buffer: a full one, or what there is if nothing more has come yet.
    ///
    /// # Errors
    /// [`Pause::Done`] at the end; a failure if that is in the middle of a frame.
    pub(super) fn work(&mut self, io: &mut Io) -> WorkResult {
        if self.read(io)? { Ok(()) } else { Err(io.until_readable(&self.fd)) }
    }

    /// As [`work`](ByteReader::work), but returns whether it has sent something instead of waiting.
    pub(super) fn read(&mut self, io: &mut Io) -> Result<bool, Pause> {
        let mut buffer = match self.buffer.take() {
            Some(buffer) => buffer,
            None => {
                let mut buffer = self.raw.buffer(io, self.raw.frames)?;
                buffer.as_bytes_mut()[..self.rest.len()].copy_from_slice(&self.rest);
                self.filled = self.rest.len();
                self.rest.clear();
                buffer
            }
        };
        let mut ended = false;
        while self.filled < buffer.len() {
            // Others may use the same pipe or terminal, so it is not made non-blocking: it is asked first.
            if !is_ready(&self.fd, PollFlags::IN) {
                break;
            }
            match rustix::io::read(&self.fd, &mut buffer.as_bytes_mut()[self.filled..]) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(bytes) => self.filled += bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    let error = std::io::Error::from(error);
                    return Err(
                        Error::Failed { doing: format!("read {}", self.name), cause: error.into() }.into()
                    );
                }
            }
        }
        let frame_bytes = self.raw.frame_bytes();
        let (frames, cut) = (self.filled / frame_bytes, self.filled % frame_bytes);
        if frames > 0 {
            self.rest.extend_from_slice(&buffer.as_bytes()[frames * frame_bytes..self.filled]);
            self.raw.send(io, buffer, frames as u32, self.next_frame)?;
            self.next_frame += frames as u64;
            return Ok(true);
        }
        if ended && cut > 0 {
            return Err(Error::Refused(format!(
                "{} ends in the middle of a frame: expected {frame_bytes} bytes, found {cut}; do `dtype` and `channels` fit?",
                self.name
            ))
            .into());
        }
        self.buffer = Some(buffer);
        if ended { Err(Pause::Done) } else { Ok(false) }
    }
}

/// Writes the bytes of buffers to a descriptor that does not block.
pub(super) struct ByteWriter {
    fd: Arc<OwnedFd>,
    name: String,
    buffer: Option<Buffer>,
    /// Bytes of `buffer` that are written.
    done: usize,
    /// Bytes written in all.
    pub(super) written: u64,
}

impl ByteWriter {
    pub(super) fn new(fd: Arc<OwnedFd>, name: String) -> Self {
        Self { fd, name, buffer: None, done: 0, written: 0 }
    }

    pub(super) fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// There is nothing left to write.
    pub(super) fn is_idle(&self) -> bool {
        self.buffer.is_none()
    }

    /// Takes a buffer to write.
    pub(super) fn put(&mut self, buffer: Buffer) {
        (self.buffer, self.done) = (Some(buffer), 0);
    }

    /// Takes the next buffer of `in` and writes it, as far as there is room.
    ///
    /// # Errors
    /// As [`Io::take`] and [`write`](ByteWriter::write); a pause while there is no room.
    pub(super) fn work(&mut self, io: &mut Io) -> WorkResult {
        if self.is_idle() {
            let buffer = io.take("in")?;
            self.put(buffer);
        }
        match self.write() {
            Ok(true) => Ok(()),
            Ok(false) => Err(io.until_writable(&self.fd)),
            Err(error) => {
                let error = std::io::Error::from(error);
                Err(Error::Failed { doing: format!("write to {}", self.name), cause: error.into() }.into())
            }
        }
    }

    /// Writes what there is room for; true if nothing is left.
    ///
    /// # Errors
    /// What the system says: `EPIPE` if nobody reads any more.
    pub(super) fn write(&mut self) -> Result<bool, Errno> {
        let Some(buffer) = &self.buffer else { return Ok(true) };
        while self.done < buffer.len() {
            match rustix::io::write(&self.fd, &buffer.as_bytes()[self.done..]) {
                Ok(bytes) => {
                    self.done += bytes;
                    self.written += bytes as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.buffer = None;
        Ok(true)
    }
}

/// Whether a descriptor is ready now. Errors and hang-ups count: reading or writing tells them.
fn is_ready(fd: &OwnedFd, flags: PollFlags) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, flags)], Some(&now)).is_ok_and(|ready| ready > 0)
}
