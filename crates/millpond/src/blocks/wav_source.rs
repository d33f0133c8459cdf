//! `wav-source`: the samples of a WAV file.

use super::wav_file::WavInput;
use crate::param::FileUse;
use crate::prelude::*;
use crate::stream::Description;

/// Reads a WAV file from its beginning to its end, in buffers of `[frames, channels]` that are stamped with the index of their first
/// frame. Started again after its process was killed, it goes on behind the last buffer that it had sent.
pub(super) struct WavSource {
    file: WavInput,
    frames_per_buffer: u32,
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
            .param(Param::text("path", "the file to read").fixed().file(FileUse::Reads))
            .param(Param::int("frames", "frames in a buffer").default(4096).range(1.0, 1e6).fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { file: WavInput::open(params.get("path"))?, frames_per_buffer: params.get("frames") })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let (spec, stored) = (self.file.spec(), self.file.stored());
        let description = Description { stored_as: Some(stored.name().to_owned()), ..Description::default() };
        io.set_format(
            "out",
            StreamFormat {
                dtype: stored.dtype(),
                shape: vec![0, spec.channels.into()],
                rate_hz: Some((spec.sample_rate, 1)),
                description: description.to_text()?,
            },
        )?;
        if let Some(warning) = self.file.warning() {
            io.note(&warning);
        }
        // Leaves out buffers that were sent before.
        self.file.skip(io.next_sequence("out").saturating_mul(self.frames_per_buffer.into()))
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let (index, left) = self.file.position()?;
        let frames = self.frames_per_buffer.min(left);
        if frames == 0 {
            return Err(Pause::Done);
        }
        let spec = self.file.spec();
        let mut buffer = io.new_buffer("out", self.file.stored().dtype(), &[frames, spec.channels.into()])?;
        self.file.read(&mut buffer)?;
        let index = i64::from(index);
        buffer.set_timestamp(Timestamp::Sample { index, rate_num: spec.sample_rate, rate_den: 1 });
        io.send("out", buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wav_format::StoredAs;
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
    fn integers_of_24_bits_in_four_bytes() {
        let directory = TempDir::new();
        let path = directory.path("padded.wav");
        let spec = hound::WavSpecEx { spec: StoredAs::I24.spec(2, 8000), bytes_per_sample: 4 };
        let file = std::fs::File::create(&path).unwrap();
        let mut writer = hound::WavWriter::new_with_spec_ex(file, spec).unwrap();
        [1, -1, 1 << 22, -(1 << 23)].iter().for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
        let mut bench = Bench::of::<WavSource>(&[("path", path.as_str().into())]).unwrap();
        bench.run().unwrap();
        let least = 1.0 / 8_388_608.0;
        assert_eq!(bench.pull::<f32>("out").unwrap(), Some(vec![least, -least, 0.5, -1.0]));
    }

    #[test]
    fn reads_on_behind_a_header_that_was_never_completed() {
        let directory = TempDir::new();
        let path = directory.path("killed.wav");
        write(&path, StoredAs::I16, &[1, 2, 3]);
        let whole = std::fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            let mut bench = Bench::of::<WavSource>(&[("path", path.as_str().into())]).unwrap();
            bench.run().unwrap();
            bench.pull_all::<f32>("out").unwrap().len()
        };
        let data_start = whole.len() - 6;
        for stated in [0u32, 2, 4] {
            let mut behind = whole.clone();
            behind[4..8].copy_from_slice(&(data_start as u32 + stated - 8).to_le_bytes());
            behind[data_start - 4..data_start].copy_from_slice(&stated.to_le_bytes());
            assert_eq!(read(&behind), 3, "{stated} bytes stated");
            // The last frame is cut off.
            assert_eq!(
                read(&behind[..behind.len() - 1]),
                2.max(stated as usize / 2),
                "{stated} bytes stated"
            );
            // As ffmpeg leaves it.
            behind[4..8].fill(0);
            assert_eq!(read(&behind), 3, "{stated} bytes stated");
        }
        // What others append is no sample: a chunk that is counted, one that is not, and a tag.
        let appended = [&whole[..], b"LIST\x02\0\0\0ab"].concat();
        assert_eq!(read(&appended), 3);
        let mut counted = appended.clone();
        counted[4..8].copy_from_slice(&(appended.len() as u32 - 8).to_le_bytes());
        assert_eq!(read(&counted), 3);
        assert_eq!(read(&[&whole[..], b"TAG", &[b' '; 125]].concat()), 3);
    }

    #[test]
    fn refuses_what_is_no_whole_wav_file() {
        let directory = TempDir::new();
        let path = directory.path("cut.wav");
        let open = |path: &str| Bench::of::<WavSource>(&[("path", path.into()), ("frames", 100.into())]);
        let refusal = open(&path).err().expect("refused").to_string();
        assert_eq!(
            refusal,
            format!("read {path}: No such file or directory (os error 2); is the path right?")
        );
        let advice = "`sox` or `ffmpeg` make one of other sound files";
        for (text, problem) in
            [("RIFF but not really", "no WAVE tag found"), ("RIFF", "its header is cut off")]
        {
            std::fs::write(&path, text).unwrap();
            let refusal = open(&path).err().expect("refused").to_string();
            assert_eq!(refusal, format!("read {path}: expected a WAV file: {problem}; {advice}"));
        }
        write(&path, StoredAs::I16, &[7; 1000]);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1001]).unwrap();
        let mut bench = open(&path).unwrap();
        let refusal = bench.run().expect_err("refused").to_string();
        assert_eq!(bench.pull_all::<f32>("out").unwrap().len(), 499, "what is there is sent");
        assert_eq!(
            refusal,
            format!(
                "{path} is cut off: expected 1000 frames, as its header says, found 499: copy it anew, or read what is there with \
                 `file-source`"
            )
        );
    }
}
