//! What `add` and `multiply` have in common: streams of numbers joined sample by sample.

use std::marker::PhantomData;

use super::lockstep::{Lockstep, same_format};
use crate::prelude::*;
use crate::samples::fold_samples;

/// What becomes of the samples of several streams.
pub(super) trait Operation: Send + 'static {
    /// The block's type.
    const NAME: &str;
    /// What the block does, in a line.
    const SUMMARY: &str;
    /// What comes out.
    const RESULT: &str;
    /// A pipeline with such a block.
    const EXAMPLE: &str;
    /// What changes nothing.
    const NEUTRAL: f64;
    /// The result so far, and the next stream's sample.
    fn apply(result: f64, sample: f64) -> f64;
}

/// Joins streams, sample by sample, by position. The result is written over the first input's buffer where nobody else needs it.
pub(super) struct Combine<O> {
    inputs: Vec<String>,
    lockstep: Lockstep,
    result: Vec<f64>,
    operation: PhantomData<O>,
}

impl<O: Operation> Block for Combine<O> {
    fn spec() -> Spec {
        Spec::new(O::NAME, O::SUMMARY)
            .details(
                "Streams are joined by position, not by time: the first frame of one with the first frames of the others. All \
                 need the same item type, channels and rate; buffers may be of any size. The result is computed in f64 and \
                 rounded once. Stamps are those of the first input. The stream ends with the shortest input.",
            )
            .example(O::EXAMPLE)
            .input(Port::one_for_each("inputs", "samples").dtypes(REAL))
            .output(Port::new("out", O::RESULT).dtypes(REAL))
            .param(Param::names("inputs", "names of the inputs"))
    }

    fn new(params: &Params) -> Result<Self> {
        let inputs: Vec<String> = params.get("inputs");
        Ok(Self {
            lockstep: Lockstep::new(inputs.clone()),
            inputs,
            result: Vec::new(),
            operation: PhantomData,
        })
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
                self.result.resize(bytes.len() / dtype.size_bytes(), O::NEUTRAL);
            }
            fold_samples(dtype, bytes, &mut self.result, O::apply)?;
        }
        let mut out = self.lockstep.result_buffer(io, frames)?;
        out.write_samples(&self.result)?;
        out.set_timestamp(stamp);
        self.lockstep.advance(frames);
        io.send("out", out)
    }
}
