//! `wav-sink`: writes a WAV file.

use std::time::{Duration, Instant};

use super::wav_file::WavOutput;
use super::wav_format::StoredAs;
use crate::param::FileUse;
use crate::prelude::*;
use crate::stream::{Description, columns};

/// How often the header is completed on the way, so that others can play the file after a kill.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(200);

/// Writes buffers of `[frames, channels]` to a WAV file, in the sample format that the stream's source had: what `wav-source` read
/// is written bit for bit. Samples from elsewhere are stored as their item type says, `f64` as `f32`.
///
/// Started again after its process was killed, it goes on behind the last whole frame.
pub(super) struct WavSink {
    path: String,
    file: Option<WavOutput>,
    checkpoint: Instant,
}

impl Block for WavSink {
    fn spec() -> Spec {
        let dtypes = [DType::F32, DType::F64, DType::I8, DType::I16, DType::I32];
        Spec::new("wav-sink", "Writes a WAV file in the sample format of the stream's source")
            .details(
                "Every buffer is written at once, so nothing that was taken is lost when the process is killed but the buffer \
                 at hand. The length in the header follows every 0.2 s and at the end, also on a full disk. Started again, it goes on \
                 behind the last whole frame.",
            )
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
            .param(Param::text("path", "the file to write").fixed().file(FileUse::Overwrites))
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { path: params.get("path"), file: None, checkpoint: Instant::now() })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let format = io.format("in").cloned().unwrap_or_default();
        let stated = Description::of(&format).stored_as.and_then(|name| StoredAs::from_name(&name));
        // What the source's file was like tells nothing once the samples are of another type.
        let fits = |stored: &StoredAs| stored.dtype() == format.dtype;
        let stored = stated.filter(fits).unwrap_or(StoredAs::for_dtype(format.dtype));
        let columns = columns(&format);
        let Some(channels) = u16::try_from(columns).ok().filter(|channels| *channels > 0) else {
            let problem = format!("a WAV file has 1 to 65535 channels; the stream at `in` has {columns}");
            return Err(Error::Refused(problem));
        };
        let rate_hz = format.rate_hz.filter(|(num, den)| num % den == 0).map(|(num, den)| num / den);
        let Some(rate_hz) = rate_hz else {
            let found =
                format.rate_hz.map_or_else(|| "none".to_owned(), |(num, den)| format!("{num}/{den} Hz"));
            return Err(Error::Refused(format!(
                "a WAV file needs a stream with a rate of whole Hz, found {found}: give its source a `rate_hz`, or use a `resampler`"
            )));
        };
        let known = if io.has_worked_before() { WavOutput::go_on(&self.path) } else { None };
        let file = match known {
            Some(file) => file,
            None => WavOutput::create(&self.path, stored, channels, rate_hz)?,
        };
        // What was cut off is no longer announced.
        file.checkpoint()?;
        self.file = Some(file);
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let Some(file) = &mut self.file else { return Ok(()) };
        // Taken when it is written: what fails is counted as lost in hand.
        file.write(io.peek("in")?)?;
        io.take("in")?;
        if self.checkpoint.elapsed() >= CHECKPOINT_EVERY {
            self.checkpoint = Instant::now();
            file.checkpoint()?;
        }
        Ok(())
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        if let Some(file) = self.file.take() {
            file.checkpoint()?;
            io.note(&format!("wrote {} frames to {}", file.frames(), self.path));
        }
        Ok(())
    }
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
        hound::WavReader::open(path).unwrap().samples().map(Result::unwrap).collect()
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
    fn goes_on_behind_the_last_whole_frame() {
        let directory = TempDir::new();
        let path = directory.path("killed.wav");
        assert!(WavOutput::go_on(&path).is_none());
        let mut bench = bench(&path, DType::I16, None);
        bench.push("in", &[1i16]).unwrap();
        bench.end("in");
        bench.run().unwrap();
        // Killed while it wrote on: the header is behind, and the last frame is cut off.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend([9; 7]);
        std::fs::write(&path, bytes).unwrap();
        let file = WavOutput::go_on(&path).expect("a file to go on with");
        assert_eq!(file.frames(), 4);
        drop(file);
        assert_eq!(integers(&path), [1, 0x0909, 0x0909, 0x0909]);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 44 + 8);
    }

    #[test]
    fn what_no_wav_file_can_hold_is_refused() {
        let directory = TempDir::new();
        let path = directory.path("odd.wav");
        let refusal = |format: StreamFormat| {
            let mut bench = Bench::of::<WavSink>(&[("path", path.as_str().into())]).unwrap();
            bench.set_format("in", format).unwrap();
            bench.run().expect_err("refused").to_string()
        };
        let format = StreamFormat { dtype: DType::F32, shape: vec![0, 2], ..StreamFormat::default() };
        assert_eq!(
            refusal(format.clone()),
            "a WAV file needs a stream with a rate of whole Hz, found none: give its source a `rate_hz`, or use a `resampler`"
        );
        let wide = StreamFormat { shape: vec![0, 70_000], ..format.clone() };
        assert_eq!(refusal(wide), "a WAV file has 1 to 65535 channels; the stream at `in` has 70000");
        let mut bench = Bench::of::<WavSink>(&[("path", path.as_str().into())]).unwrap();
        bench.set_format("in", StreamFormat { rate_hz: Some((8000, 1)), ..format }).unwrap();
        bench.push("in", &[0.5f32]).unwrap();
        let refusal = bench.run().expect_err("refused").to_string();
        assert_eq!(refusal, format!("{path} has 2 channels, but the buffer has 1"));
    }
}
