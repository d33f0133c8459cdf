//! `multiply`: multiplies streams, sample by sample.

use super::lockstep::{Lockstep, same_format};
use crate::prelude::*;
use crate::samples::fold_samples;

/// Multiplies streams, sample by sample, by position. The result is written over the first input's buffer where nobody else needs it.
pub(super) struct Multiply {
    inputs: Vec<String>,
    lockstep: Lockstep,
    result: Vec<f64>,
}

impl Block for Multiply {
    fn spec() -> Spec {
        Spec::new("multiply", "Multiplies streams, sample by sample; integers saturate")
            .details(
                "Streams are joined by position, not by time: the first frame of one with the first frames of the others. All \
                 need the same item type, channels and rate; buffers may be of any size. The result is computed in f64 and \
                 rounded once. Stamps are those of the first input. The stream ends with the shortest input.",
            )
            .example(
                r#"
connect = ["tone -> tremolo.tone", "slow -> tremolo.slow", "tremolo -> file"]
blocks.tone = { type = "signal", freq_hz = 440, duration_s = 1.0 }
blocks.slow = { type = "signal", freq_hz = 5, duration_s = 1.0 }
blocks.tremolo = { type = "multiply", inputs = ["tone", "slow"] }
blocks.file = { type = "wav-sink", path = "tremolo.wav" }
"#,
            )
            .input(Port::one_for_each("inputs", "samples").dtypes(REAL))
            .output(Port::new("out", "the product of all").dtypes(REAL))
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
                self.result.resize(bytes.len() / dtype.size_bytes(), 1.0);
            }
            fold_samples(dtype, bytes, &mut self.result, |product, sample| product * sample)?;
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
    use crate::testing::Bench;

    #[test]
    fn multiplies_three_streams() {
        let inputs = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut bench = Bench::of::<Multiply>(&[("inputs", inputs.into())]).unwrap();
        bench.push("a", &[1.5f64, 2.0, -1.0]).unwrap();
        bench.push("b", &[2.0f64]).unwrap();
        bench.push("b", &[0.5f64, f64::NAN]).unwrap();
        bench.push("c", &[-1.0f64, 3.0, 1.0, 9.0]).unwrap();
        bench.end("a");
        bench.run().unwrap();
        assert!(bench.has_ended());
        let out = bench.pull_all::<f64>("out").unwrap();
        assert_eq!(out[..2], [-3.0, 3.0]);
        assert!(out[2].is_nan() && out.len() == 3);
    }
}
