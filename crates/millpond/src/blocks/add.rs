//! `add`: adds streams, sample by sample.

use super::lockstep::{Lockstep, same_format};
use crate::prelude::*;
use crate::samples::fold_samples;

/// Adds streams, sample by sample, by position. The result is written over the first input's buffer where nobody else needs it.
pub(super) struct Add {
    inputs: Vec<String>,
    lockstep: Lockstep,
    result: Vec<f64>,
}

impl Block for Add {
    fn spec() -> Spec {
        Spec::new("add", "Adds streams, sample by sample; integers saturate")
            .details(
                "Streams are joined by position, not by time: the first frame of one with the first frames of the others. All \
                 need the same item type, channels and rate; buffers may be of any size. The result is computed in f64 and \
                 rounded once. Stamps are those of the first input. The stream ends with the shortest input.",
            )
            .example(
                r#"
connect = ["low -> mix.a", "high -> mix.b", "mix -> file"]
blocks.low = { type = "signal", freq_hz = 440, amplitude = 0.4, duration_s = 1.0 }
blocks.high = { type = "signal", freq_hz = 660, amplitude = 0.4, duration_s = 1.0 }
blocks.mix = { type = "add", inputs = ["a", "b"] }
blocks.file = { type = "wav-sink", path = "fifth.wav" }
"#,
            )
            .input(Port::one_for_each("inputs", "samples").dtypes(REAL))
            .output(Port::new("out", "the sum of all").dtypes(REAL))
            .param(Param::names("inputs", "names of the inputs"))
    }

    fn new(params: &Params) -> Result<Self> {
        let inputs: Vec<String> = params.get("inputs");
        Ok(Self { lockstep: Lockstep::new(inputs.clone()), inputs, result: Vec::new() })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let format = same_format(io, &self.inputs, true)?;
        io.set_format("out", format)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let frames = self.lockstep.frames(io)?;
        let rate_hz = io.format(&self.inputs[0]).and_then(|format| format.rate_hz);
        let stamp = self.lockstep.stamp(rate_hz);
        let dtype = io.format(&self.inputs[0]).map_or(DType::F32, |format| format.dtype);
        self.result.clear();
        for (bytes, _) in self.lockstep.slices(frames) {
            // The first one says how many there are.
            if self.result.is_empty() {
                self.result.resize(bytes.len() / dtype.size_bytes(), 0.0);
            }
            fold_samples(dtype, bytes, &mut self.result, |sum, sample| sum + sample)?;
        }
        let mut out = self.lockstep.result_buffer(io, frames)?;
        out.write_samples(&self.result)?;
        out.set_timestamp(stamp);
        self.lockstep.advance(frames);
        io.send("out", out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::position;
    use crate::testing::Bench;

    fn bench() -> Bench {
        Bench::of::<Add>(&[("inputs", vec!["a".to_owned(), "b".to_owned()].into())]).unwrap()
    }

    #[test]
    fn adds_whatever_the_buffers() {
        let a: Vec<f32> = (0..60).map(|i| (i as f32 * 0.3).sin()).collect();
        let b: Vec<f32> = (0..60).map(|i| (i as f32 * 0.7).cos()).collect();
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        for (chunk_a, chunk_b) in [(2, 2), (2, 6), (14, 4), (60, 1000), (20, 60)] {
            let mut bench = bench();
            for (input, items, chunk) in [("a", &a, chunk_a), ("b", &b, chunk_b)] {
                let mut index = 7;
                for items in items.chunks(chunk) {
                    bench.push_frames(input, index, 2, items).unwrap();
                    index += items.len() as i64 / 2;
                }
                bench.end(input);
            }
            bench.run().unwrap();
            assert!(bench.has_ended());
            let (mut out, mut next) = (Vec::new(), 7);
            while let Some(buffer) = bench.pull_buffer("out").unwrap() {
                assert_eq!(position(buffer.timestamp()), Some(next));
                next += i64::from(buffer.frames());
                out.extend_from_slice(buffer.as_slice::<f32>().unwrap());
            }
            assert_eq!(out, expected, "{chunk_a}, {chunk_b}");
        }
    }

    #[test]
    fn works_in_the_first_buffer_unless_others_see_it() {
        for seen in [false, true] {
            let mut bench = bench();
            let first = bench.push("a", &[1i16, i16::MAX]).unwrap();
            let id = first.id();
            let first = seen.then_some(first);
            bench.push("b", &[-2i16, 1]).unwrap();
            bench.push("b", &[] as &[i16]).unwrap();
            bench.end("b");
            bench.run().unwrap();
            let out = bench.pull_buffer("out").unwrap().unwrap();
            assert_eq!(out.as_slice::<i16>().unwrap(), [-1, i16::MAX]);
            assert_eq!(out.id() == id, !seen);
            assert!(first.is_none_or(|first| first.as_slice::<i16>().unwrap() == [1, i16::MAX]));
            assert!(bench.has_ended());
        }
    }

    #[test]
    fn refuses_streams_that_differ() {
        let mut bench = bench();
        bench.push_frames("a", 0, 2, &[1i16, 2]).unwrap();
        bench.push_frames("b", 0, 1, &[1i16]).unwrap();
        assert_eq!(
            bench.run().expect_err("refused").to_string(),
            "expected streams of the same kind, found i16 of 2 channels at 48000 Hz at `a` and i16 of 1 channel at \
             48000 Hz at `b`"
        );
    }
}
