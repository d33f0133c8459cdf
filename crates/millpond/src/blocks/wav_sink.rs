//! `wav-sink`: writes a WAV file.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek as _};
use std::time::{Duration, Instant};

use hound::{WavReader, WavWriter};

use super::wav_format::StoredAs;
use crate::prelude::*;
use crate::stream::{Description, columns};

/// How often the file is completed on the way, so that it can be played after a kill and gone on with.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(200);
/// A WAV file tells its length in 32 bits; room is left for the header.
const MAX_DATA_BYTES: u64 = u32::MAX as u64 - 128;

/// Writes buffers of `[frames, channels]` to a WAV file, in the sample format that the stream's source had: what `wav-source` read
/// is written bit for bit. Samples from elsewhere are stored as their item type says, `f64` as `f32`.
///
/// Started again after its process was killed, it goes on behind the last 0.2 s at most.
pub(super) struct WavSink {
    path: String,
    stored: StoredAs,
    writer: Option<WavWriter<BufWriter<File>>>,
    samples: Vec<f64>,
    data_bytes: u64,
    checkpoint: Instant,
}

impl Block for WavSink {
    fn spec() -> Spec {
        let dtypes = [DType::F32, DType::F64, DType::I8, DType::I16, DType::I32];
        Spec::new("wav-sink", "Writes a WAV file in the sample format of the stream's source")
            .example(
                r#"
connect = ["tone -> file"]
blocks.tone = { type = "signal", duration_s = 1.0 }
blocks.file = { type = "wav-sink", path = "tone.wav" }
"#,
            )
            .input(
                Port::new("in", "floats from -1 to 1, or integers")
                    .dtypes(dtypes)
                    .shape(["frames", "channels"]),
            )
            .param(Param::text("path", "the file to write").fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self {
            path: params.get("path"),
            stored: StoredAs::F32,
            writer: None,
            samples: Vec::new(),
            data_bytes: 0,
            checkpoint: Instant::now(),
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let format = io.format("in").cloned().unwrap_or_default();
        let stated = Description::of(&format).stored_as.and_then(|name| StoredAs::from_name(&name));
        // What the source's file was like tells nothing once the samples are of another type.
        let fits = |stored: &StoredAs| stored.dtype() == format.dtype;
        self.stored = stated.filter(fits).unwrap_or(StoredAs::for_dtype(format.dtype));
        let channels = u16::try_from(columns(&format)).context(|| format!("write {}", self.path))?;
        let rate_hz = format.rate_hz.filter(|(num, den)| num % den == 0).map(|(num, den)| num / den);
        let Some(rate_hz) = rate_hz else {
            return Err(Error::Refused("a WAV file needs a stream with a rate of whole Hz".to_owned()));
        };
        let known = if io.starts() > 1 { go_on(&self.path) } else { None };
        let writer = match known {
            Some(writer) => Ok(writer),
            None => WavWriter::create(&self.path, self.stored.spec(channels, rate_hz)),
        };
        let mut writer = writer.context(|| format!("write {}", self.path))?;
        self.data_bytes = u64::from(writer.len()) * self.sample_bytes();
        writer.flush().context(|| format!("write {}", self.path))?;
        self.writer = Some(writer);
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let buffer = io.take("in")?;
        self.write(&buffer)?;
        if self.checkpoint.elapsed() >= CHECKPOINT_EVERY {
            self.checkpoint = Instant::now();
            if let Some(writer) = &mut self.writer {
                writer.flush().context(|| format!("write {}", self.path))?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        if let Some(writer) = self.writer.take() {
            let frames = writer.duration();
            writer.finalize().context(|| format!("write {}", self.path))?;
            io.note(&format!("wrote {frames} frames to {}", self.path));
        }
        Ok(())
    }
}

impl WavSink {
    fn write(&mut self, buffer: &Buffer) -> Result<()> {
        let bytes = (buffer.len() / buffer.dtype().size_bytes()) as u64 * self.sample_bytes();
        self.data_bytes += bytes;
        if self.data_bytes > MAX_DATA_BYTES {
            return Err(Error::Refused(format!("{} is full: a WAV file holds 4 GiB", self.path)));
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let is_float = matches!(buffer.dtype(), DType::F32 | DType::F64);
        let written = match self.stored.full_scale() {
            // Directly, so that not even the bits of a NaN change.
            None if buffer.dtype() == DType::F32 => {
                buffer.as_slice::<f32>()?.iter().try_for_each(|sample| writer.write_sample(*sample))
            }
            None => {
                buffer.read_samples(&mut self.samples)?;
                self.samples.iter().try_for_each(|sample| writer.write_sample(*sample as f32))
            }
            Some(full_scale) => {
                buffer.read_samples(&mut self.samples)?;
                let scale = if is_float { full_scale } else { 1.0 };
                let to_integer =
                    |sample: f64| (scale * sample).round().clamp(-full_scale, full_scale - 1.0) as i32;
                self.samples.iter().try_for_each(|sample| writer.write_sample(to_integer(*sample)))
            }
        };
        written.context(|| format!("write {}", self.path))
    }

    fn sample_bytes(&self) -> u64 {
        u64::from(self.stored.spec(1, 1).bits_per_sample / 8)
    }
}

/// A writer behind the last completed sample of a file, if there is such a file. What was written behind it is cut off.
fn go_on(path: &str) -> Option<WavWriter<BufWriter<File>>> {
    let reader = WavReader::open(path).ok()?;
    let data_bytes = u64::from(reader.len()) * u64::from(reader.spec().bits_per_sample / 8);
    // The header has been read: the samples begin here.
    let end = reader.into_inner().stream_position().ok()? + data_bytes;
    OpenOptions::new().write(true).open(path).ok()?.set_len(end).ok()?;
    WavWriter::append(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp_dir::TempDir;
    use crate::testing::Bench;

    fn bench(path: &str, dtype: DType, stored_as: Option<&str>) -> Bench {
        let mut bench = Bench::of::<WavSink>(&[("path", path.into())]).unwrap();
        let stored_as = stored_as.map(str::to_owned);
        let description = Description { stored_as, ..Description::default() }.to_text().unwrap();
        let format = StreamFormat { dtype, shape: vec![0, 1], rate_hz: Some((8000, 1)), description };
        bench.set_format("in", format).unwrap();
        bench
    }

    fn integers(path: &str) -> Vec<i32> {
        WavReader::open(path).unwrap().samples().map(Result::unwrap).collect()
    }

    #[test]
    fn floats_become_what_their_source_was() {
        let directory = TempDir::new();
        let path = directory.path("sixteen.wav");
        let mut bench = bench(&path, DType::F32, Some("i16"));
        bench.push("in", &[0.0f32, 0.5, -1.0, 1.0, -7.0, f32::NAN]).unwrap();
        bench.end("in");
        bench.run().unwrap();
        assert_eq!(integers(&path), [0, 16384, -32768, 32767, -32768, 0]);
    }

    #[test]
    fn integers_of_a_stream_are_stored_as_they_are() {
        let directory = TempDir::new();
        let path = directory.path("integers.wav");
        for samples in [vec![], vec![i16::MIN, -1, 0, i16::MAX]] {
            let mut bench = bench(&path, DType::I16, None);
            bench.push("in", &samples).unwrap();
            bench.end("in");
            bench.run().unwrap();
            assert_eq!(integers(&path), samples.iter().map(|sample| i32::from(*sample)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn goes_on_behind_the_last_checkpoint() {
        let directory = TempDir::new();
        let path = directory.path("killed.wav");
        assert!(go_on(&path).is_none());
        let mut writer = WavWriter::create(&path, StoredAs::I16.spec(1, 8000)).unwrap();
        writer.write_sample(1i16).unwrap();
        writer.flush().unwrap();
        // Killed while it wrote on: neither these samples nor the header are complete.
        writer.write_sample(2i16).unwrap();
        std::mem::forget(writer);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend([9; 7]);
        std::fs::write(&path, bytes).unwrap();
        let mut writer = go_on(&path).expect("a file to go on with");
        writer.write_sample(3i16).unwrap();
        writer.finalize().unwrap();
        assert_eq!(integers(&path), [1, 3]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 44 + 4);
    }
}
