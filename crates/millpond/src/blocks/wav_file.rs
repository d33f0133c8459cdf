//! WAV files, read and written many samples at a time. hound reads and makes the headers; the samples behind them, which it would
//! pass one by one, go between file and buffer here.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

use hound::{WavReader, WavSpec, WavWriter};

use super::files;
use super::wav_format::{Encoding, StoredAs};
use crate::prelude::*;

/// A WAV file tells its length in 32 bits; room is left for the header.
const MAX_DATA_BYTES: u64 = u32::MAX as u64 - 128;

/// A WAV file that is read from its beginning to its end.
pub(super) struct WavInput {
    path: String,
    spec: WavSpec,
    encoding: Encoding,
    /// What the header says, or what is there if that is more because the header was never completed.
    frames: u32,
    /// What the header says if it was never completed.
    behind: Option<u32>,
    /// What is there: less if the file is cut off. Of a pipe nobody knows, so it is what the header says.
    present: u32,
    next_frame: u32,
    reader: BufReader<File>,
    bytes: Vec<u8>,
}

impl WavInput {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// If there is no such file, or it is none that can be read.
    pub(super) fn open(path: String) -> Result<Self> {
        let header =
            Header::read(BufReader::new(files::open(&path)?)).map_err(|error| no_wav(&path, error))?;
        let Header { spec, mut frames, sample_bytes, data_bytes, mut reader } = header;
        let encoding = Encoding::of(spec, sample_bytes).context(|| format!("read {path}"))?;
        let frame_bytes = u64::from(spec.channels) * encoding.bytes as u64;
        let failed = |error| files::cannot_read(&path, error);
        let metadata = reader.get_ref().metadata().map_err(failed)?;
        let (mut present, mut behind) = (frames, None);
        if metadata.is_file() && frame_bytes > 0 {
            let data_start = reader.stream_position().map_err(failed)?;
            let there = metadata.len().saturating_sub(data_start) / frame_bytes;
            let data_end = data_start + u64::from(data_bytes);
            if there > u64::from(frames)
                && is_incomplete(reader.get_ref(), data_end, metadata.len()).map_err(failed)?
            {
                behind = Some(frames);
                frames = u32::try_from(there).unwrap_or(u32::MAX);
            }
            present = u64::from(frames).min(there) as u32;
        }
        Ok(Self { path, spec, encoding, frames, behind, present, next_frame: 0, reader, bytes: Vec::new() })
    }

    /// What is to be told about a header that was never completed.
    pub(super) fn warning(&self) -> Option<String> {
        let (path, frames) = (&self.path, self.frames);
        self.behind.map(|stated| {
            format!("{path} was never completed: its header says {stated} frames, but {frames} are there and are read")
        })
    }

    pub(super) fn spec(&self) -> WavSpec {
        self.spec
    }

    pub(super) fn stored(&self) -> StoredAs {
        self.encoding.stored
    }

    /// The next frame, and how many there are behind it.
    ///
    /// # Errors
    /// If it is none because the file is cut off.
    pub(super) fn position(&self) -> Result<(u32, u32)> {
        let left = self.present - self.next_frame;
        if left == 0 && self.present < self.frames {
            Err(self.cut_off())
        } else {
            Ok((self.next_frame, left))
        }
    }

    /// Leaves out the next frames, at most all.
    ///
    /// # Errors
    /// If the file is a pipe.
    pub(super) fn skip(&mut self, frames: u64) -> Result<()> {
        let frames = frames.min((self.present - self.next_frame).into()) as u32;
        if frames > 0 {
            let bytes = i64::from(frames) * i64::from(self.spec.channels) * self.encoding.bytes as i64;
            self.reader.seek_relative(bytes).context(|| format!("skip what was sent of {}", self.path))?;
            self.next_frame += frames;
        }
        Ok(())
    }

    /// Fills a buffer with the next samples.
    ///
    /// # Errors
    /// If the file ends before its header says, or cannot be read.
    pub(super) fn read(&mut self, buffer: &mut BufferMut) -> Result<()> {
        let frames = buffer.frames();
        let read = match self.encoding.stored {
            // As they are in memory.
            StoredAs::F32 | StoredAs::I32 => self.reader.read_exact(buffer.as_bytes_mut()),
            _ => {
                let samples = buffer.as_mut_slice::<f32>()?;
                self.bytes.resize(samples.len() * self.encoding.bytes, 0);
                let read = self.reader.read_exact(&mut self.bytes);
                self.encoding.decode(&self.bytes, samples);
                read
            }
        };
        read.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => self.cut_off(),
            _ => files::cannot_read(&self.path, error),
        })?;
        self.next_frame += frames;
        Ok(())
    }

    fn cut_off(&self) -> Error {
        let (path, frames) = (&self.path, self.frames);
        let found = match self.present {
            present if present < frames => present.to_string(),
            // Of a pipe, only this is known.
            _ => format!("{} and less than a buffer more", self.next_frame),
        };
        Error::Refused(format!(
            "{path} is cut off: expected {frames} frames, as its header says, found {found}: copy it anew, or read what is there with \
             `file-source`"
        ))
    }
}

/// Whether the header was never completed: it says that the file ends with the samples, but something follows that is no chunk.
fn is_incomplete(file: &File, data_end: u64, file_end: u64) -> io::Result<bool> {
    let mut riff_bytes = [0; 4];
    file.read_exact_at(&mut riff_bytes, 4)?;
    // A chunk of odd length is followed by a byte that does not count.
    let mut at = data_end + data_end % 2;
    if u64::from(u32::from_le_bytes(riff_bytes)) + 8 > at || file_end <= at {
        return Ok(false);
    }
    // Some programs append chunks without counting them, or the 128 bytes of an ID3 tag.
    let mut head = [0; 8];
    while at + 8 <= file_end {
        file.read_exact_at(&mut head, at)?;
        let (name, bytes) = (&head[..4], u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        if name.starts_with(b"TAG") && file_end - at == 128 {
            return Ok(false);
        }
        if !name.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Ok(true);
        }
        at += 8 + u64::from(bytes) + u64::from(bytes % 2);
    }
    Ok(at != file_end)
}

/// What is wrong with a file whose header cannot be read.
fn no_wav(path: &str, error: hound::Error) -> Error {
    let problem = match error {
        hound::Error::IoError(error)
            if error.kind() != ErrorKind::Other && error.raw_os_error().is_some() =>
        {
            return files::cannot_read(path, error);
        }
        // hound has no kind of its own for the end of the file.
        hound::Error::IoError(_) => "its header is cut off".to_owned(),
        hound::Error::FormatError(problem) => problem.to_owned(),
        other => other.to_string(),
    };
    Error::Refused(format!(
        "read {path}: expected a WAV file: {problem}; `sox` or `ffmpeg` make one of other sound files"
    ))
}

/// What stands before the samples.
struct Header<R> {
    spec: WavSpec,
    frames: u32,
    /// Bytes that a sample takes, which may be more than its bits need.
    sample_bytes: usize,
    data_bytes: u32,
    /// Behind the header.
    reader: R,
}

impl<R: Read> Header<R> {
    fn read(reader: R) -> hound::Result<Self> {
        let reader = WavReader::new(LastRead { reader, latest: [0; 4] })?;
        let (spec, frames, samples) = (reader.spec(), reader.duration(), reader.len());
        // hound keeps to itself how many bytes a sample takes; but a header ends with the bytes of all.
        let LastRead { reader, latest } = reader.into_inner();
        let data_bytes = u32::from_le_bytes(latest);
        let sample_bytes = match data_bytes.checked_div(samples) {
            Some(bytes) => bytes as usize,
            None => usize::from(spec.bits_per_sample / 8),
        };
        Ok(Self { spec, frames, sample_bytes, data_bytes, reader })
    }
}

/// Remembers the last four bytes that were read.
struct LastRead<R> {
    reader: R,
    latest: [u8; 4],
}

impl<R: Read> Read for LastRead<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(bytes)?;
        for byte in &bytes[count.saturating_sub(4)..count] {
            self.latest.rotate_left(1);
            self.latest[3] = *byte;
        }
        Ok(count)
    }
}

/// A WAV file that grows. What was written is in the file at once; the header follows with [`checkpoint`](WavOutput::checkpoint), and when this
/// is dropped.
pub(super) struct WavOutput {
    path: String,
    spec: WavSpec,
    encoding: Encoding,
    file: File,
    /// Where the samples begin. The four bytes before it tell how many bytes of them there are.
    data_start: u64,
    data_bytes: u64,
    samples: Vec<f64>,
    bytes: Vec<u8>,
}

impl WavOutput {
    /// Makes a file without samples; one that exists is overwritten.
    ///
    /// # Errors
    /// If the file cannot be written, or the header is none that hound makes.
    pub(super) fn create(path: &str, stored: StoredAs, channels: u16, rate_hz: u32) -> Result<Self> {
        let spec = stored.spec(channels, rate_hz);
        let mut header = Vec::new();
        let made = WavWriter::new(io::Cursor::new(&mut header), spec).and_then(hound::WavWriter::finalize);
        made.context(|| format!("write {path}"))?;
        let failed = |error| files::cannot_write(path, error);
        let mut file = files::create(path)?;
        file.write_all(&header).map_err(failed)?;
        Ok(Self::new(path, spec, Encoding::packed(stored), file, header.len() as u64, 0))
    }

    /// Goes on behind the last whole frame of a file, if there is such a file, whatever its header says of the length.
    pub(super) fn go_on(path: &str) -> Option<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        let Header { spec, sample_bytes, mut reader, .. } = Header::read(BufReader::new(&file)).ok()?;
        let data_start = reader.stream_position().ok()?;
        let encoding = Encoding::of(spec, sample_bytes).ok()?;
        let mut output = Self::new(path, spec, encoding, file, data_start, 0);
        output.keep_whole_frames().ok()?;
        Some(output)
    }

    fn new(
        path: &str,
        spec: WavSpec,
        encoding: Encoding,
        file: File,
        data_start: u64,
        data_bytes: u64,
    ) -> Self {
        let (samples, bytes) = (Vec::new(), Vec::new());
        Self { path: path.to_owned(), spec, encoding, file, data_start, data_bytes, samples, bytes }
    }

    /// Appends the samples of a buffer: of floats, 1.0 is full scale.
    ///
    /// # Errors
    /// If the file is full or cannot be written.
    pub(super) fn write(&mut self, buffer: &Buffer) -> Result<()> {
        let (expected, found) = (usize::from(self.spec.channels), buffer.channels());
        if expected != found {
            let path = &self.path;
            return Err(Error::Refused(format!(
                "{path} has {expected} channels, but the buffer has {found}"
            )));
        }
        let is_unchanged = matches!(
            (self.encoding.stored, buffer.dtype()),
            (StoredAs::F32, DType::F32) | (StoredAs::I32, DType::I32) | (StoredAs::I16, DType::I16)
        );
        let bytes = if is_unchanged {
            // Not even the bits of a NaN change.
            buffer.as_bytes()
        } else {
            buffer.read_samples(&mut self.samples)?;
            let is_float = matches!(buffer.dtype(), DType::F32 | DType::F64);
            self.encoding.encode(&self.samples, is_float, &mut self.bytes);
            &self.bytes
        };
        let data_bytes = self.data_bytes + bytes.len() as u64;
        if data_bytes > MAX_DATA_BYTES {
            return Err(Error::Refused(format!("{} is full: a WAV file holds 4 GiB", self.path)));
        }
        if let Err(error) = self.file.write_all(bytes) {
            // On a full disk, some of it: the header can be made to fit without more room. What went wrong first is told.
            let _ = self.keep_whole_frames().and_then(|()| self.write_lengths());
            return Err(files::cannot_write(&self.path, error));
        }
        self.data_bytes = data_bytes;
        Ok(())
    }

    /// Finds the end of the whole frames that are in the file, and goes on there.
    fn keep_whole_frames(&mut self) -> io::Result<()> {
        let there = self.file.metadata()?.len().saturating_sub(self.data_start).min(MAX_DATA_BYTES);
        let frame_bytes = self.frame_bytes().max(1);
        let data_bytes = there / frame_bytes * frame_bytes;
        let end = self.data_start + data_bytes;
        self.file.set_len(end)?;
        self.file.seek(SeekFrom::Start(end))?;
        self.data_bytes = data_bytes;
        Ok(())
    }

    /// Completes the header on the way: the file can be played up to here.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(super) fn checkpoint(&self) -> Result<()> {
        self.write_lengths().map_err(|error| files::cannot_write(&self.path, error))
    }

    fn write_lengths(&self) -> io::Result<()> {
        // At most `MAX_DATA_BYTES` and the header.
        let riff_bytes = (self.data_start + self.data_bytes - 8) as u32;
        self.file.write_all_at(&riff_bytes.to_le_bytes(), 4)?;
        self.file.write_all_at(&(self.data_bytes as u32).to_le_bytes(), self.data_start - 4)
    }

    fn frame_bytes(&self) -> u64 {
        self.encoding.bytes as u64 * u64::from(self.spec.channels)
    }

    /// Frames that have been written.
    pub(super) fn frames(&self) -> u64 {
        self.data_bytes / self.frame_bytes()
    }
}

impl Drop for WavOutput {
    fn drop(&mut self) {
        // A block that was stopped at once does not finish.
        let _ = self.write_lengths();
    }
}
