//! `wav-source`: the samples of a WAV file.

use std::fs::File;
use std::io::BufReader;

use hound::WavReader;

use super::wav_format::StoredAs;
use crate::prelude::*;
use crate::stream::Description;

/// Reads a WAV file from its beginning to its end, in buffers of `[frames, channels]` that are stamped with the index of their first
/// frame. Started again after its process was killed, it goes on behind the last buffer that it had sent.
pub(super) struct WavSource {
    path: String,
    reader: WavReader<BufReader<File>>,
    stored: StoredAs,
    frames_per_buffer: u32,
    next_frame: u32,
}

impl Block for WavSource {
    fn spec() -> Spec {
        let out = Port::new("out", "f32 from -1 to 1; of 32-bit integers, the integers")
            .dtypes([DType::F32, DType::I32]);
        Spec::new("wav-source", "Reads a WAV file of 8, 16, 24 or 32-bit integers or 32-bit floats")
            .example(
                r#"
connect = ["song -> copy"]
blocks.song = { type = "wav-source", path = "song.wav" }
blocks.copy = { type = "wav-sink", path = "copy.wav" }
"#,
            )
            .output(out.shape(["frames", "channels"]))
            .param(Param::text("path", "the file to read").fixed())
            .param(Param::int("frames", "frames in a buffer").default(4096).range(1.0, 1e6).fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let path: String = params.get("path");
        let reader = WavReader::open(&path).context(|| format!("read {path}"))?;
        let stored = StoredAs::of(reader.spec()).context(|| format!("read {path}"))?;
        Ok(Self { path, reader, stored, frames_per_buffer: params.get("frames"), next_frame: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let spec = self.reader.spec();
        let description =
            Description { stored_as: Some(self.stored.name().to_owned()), ..Description::default() };
        io.set_format(
            "out",
            StreamFormat {
                dtype: self.stored.dtype(),
                shape: vec![0, spec.channels.into()],
                rate_hz: Some((spec.sample_rate, 1)),
                description: description.to_text()?,
            },
        )?;
        self.skip(io.next_sequence("out"))
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let spec = self.reader.spec();
        let frames = self.frames_per_buffer.min(self.reader.duration() - self.next_frame);
        if frames == 0 {
            return Err(Pause::Done);
        }
        let mut buffer = io.new_buffer("out", self.stored.dtype(), &[frames, spec.channels.into()])?;
        self.fill(&mut buffer)?;
        let index = i64::from(self.next_frame);
        buffer.set_timestamp(Timestamp::Sample { index, rate_num: spec.sample_rate, rate_den: 1 });
        self.next_frame += frames;
        io.send("out", buffer)
    }
}

impl WavSource {
    /// Leaves out buffers that were sent before.
    fn skip(&mut self, buffers: u64) -> Result<()> {
        let frames = buffers.saturating_mul(self.frames_per_buffer.into()).min(self.reader.duration().into());
        let samples = frames * u64::from(self.reader.spec().channels);
        self.next_frame = frames as u32;
        if let Some(last) = (samples as usize).checked_sub(1) {
            // Reading is slower than seeking, but right for samples in wider containers, too.
            let skipped = match self.stored {
                StoredAs::F32 => self.reader.samples::<f32>().nth(last).map(|sample| sample.map(drop)),
                _ => self.reader.samples::<i32>().nth(last).map(|sample| sample.map(drop)),
            };
            skipped.unwrap_or(Ok(())).map_err(|error| self.cut_off(error))?;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut BufferMut) -> Result<()> {
        let read = match (self.stored, self.stored.full_scale()) {
            (StoredAs::I32, _) => {
                read_into(self.reader.samples(), buffer.as_mut_slice::<i32>()?, |sample| sample)
            }
            (_, None) => read_into(self.reader.samples(), buffer.as_mut_slice::<f32>()?, |sample| sample),
            (_, Some(scale)) => {
                // Up to 24 bits: the division by a power of two loses nothing.
                let to_f32 = |sample: i32| sample as f32 / scale as f32;
                read_into(self.reader.samples(), buffer.as_mut_slice::<f32>()?, to_f32)
            }
        };
        read.map_err(|error| self.cut_off(error))
    }

    fn cut_off(&self, error: hound::Error) -> Error {
        // How hound says that the file ends before the header says.
        if matches!(&error, hound::Error::IoError(io) if io.kind() == std::io::ErrorKind::Other) {
            let (path, frames, near) = (&self.path, self.reader.duration(), self.next_frame);
            return Error::Refused(format!(
                "{path} is cut off: it should have {frames} frames, but ends soon after frame {near}"
            ));
        }
        Error::Failed { doing: format!("read {}", self.path), cause: error.into() }
    }
}

fn read_into<S, T>(
    samples: impl Iterator<Item = hound::Result<S>>,
    items: &mut [T],
    convert: impl Fn(S) -> T,
) -> hound::Result<()> {
    // Zipped this way round, no sample is read that has no place.
    for (item, sample) in items.iter_mut().zip(samples) {
        *item = convert(sample?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp_dir::TempDir;
    use crate::testing::Bench;

    fn write(path: &str, stored: StoredAs, samples: &[i32]) {
        let mut writer = hound::WavWriter::create(path, stored.spec(1, 8000)).unwrap();
        samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
    }

    #[test]
    fn sends_the_file_in_numbered_buffers() {
        let directory = TempDir::new();
        let path = directory.path("five.wav");
        write(&path, StoredAs::I16, &[0, 16384, -32768, 1, 2]);
        let mut bench =
            Bench::of::<WavSource>(&[("path", path.as_str().into()), ("frames", 3.into())]).unwrap();
        bench.run().unwrap();
        let first = bench.pull_buffer("out").unwrap().unwrap();
        assert_eq!(first.as_slice::<f32>().unwrap(), [0.0, 0.5, -1.0]);
        assert_eq!(*first.shape(), [3, 1]);
        let second = bench.pull_buffer("out").unwrap().unwrap();
        assert_eq!(second.as_slice::<f32>().unwrap(), [1.0 / 32768.0, 2.0 / 32768.0]);
        assert_eq!(second.timestamp(), Timestamp::Sample { index: 3, rate_num: 8000, rate_den: 1 });
        assert!(bench.pull_buffer("out").unwrap().is_none() && bench.has_ended());
        let format = bench.output_format("out").unwrap();
        assert_eq!((format.shape, format.rate_hz), (vec![0, 1], Some((8000, 1))));
    }

    #[test]
    fn integers_of_32_bits_stay_integers() {
        let directory = TempDir::new();
        let path = directory.path("wide.wav");
        let samples = [i32::MIN, -1, i32::MAX];
        write(&path, StoredAs::I32, &samples);
        let mut bench = Bench::of::<WavSource>(&[("path", path.as_str().into())]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull::<i32>("out").unwrap(), Some(samples.to_vec()));
    }

    #[test]
    fn refuses_what_is_no_whole_wav_file() {
        let directory = TempDir::new();
        let path = directory.path("cut.wav");
        let open = |path: &str| Bench::of::<WavSource>(&[("path", path.into()), ("frames", 100.into())]);
        let refusal = open(&path).err().expect("refused").to_string();
        assert_eq!(refusal, format!("read {path}: No such file or directory (os error 2)"));
        std::fs::write(&path, "RIFF but not really").unwrap();
        assert!(open(&path).err().expect("refused").to_string().starts_with(&format!("read {path}: ")));
        write(&path, StoredAs::I16, &[7; 1000]);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1001]).unwrap();
        let refusal = open(&path).unwrap().run().expect_err("refused").to_string();
        assert_eq!(
            refusal,
            format!("{path} is cut off: it should have 1000 frames, but ends soon after frame 400")
        );
    }
}
