//! `deinterleave`: takes a stream apart into its channels.

use super::interleave::copy_frames;
use crate::prelude::*;

/// Sends each channel of a stream on an output of its own.
pub(super) struct Deinterleave {
    outputs: Vec<String>,
}

impl Block for Deinterleave {
    fn spec() -> Spec {
        Spec::new("deinterleave", "Takes a stream apart into its channels")
            .details("There must be as many outputs as channels. Stamps and rate stay the same.")
            .example(
                r#"
connect = ["song -> split", "split.left -> file", "split.right -> nothing"]
blocks.song = { type = "wav-source", path = "stereo.wav" }
blocks.split = { type = "deinterleave", outputs = ["left", "right"] }
blocks.file = { type = "wav-sink", path = "left.wav" }
blocks.nothing = { type = "null-sink" }
"#,
            )
            .input(Port::new("in", "a stream of several channels").shape(["frames", "channels"]))
            .output(Port::one_for_each("outputs", "one channel").shape(["frames", "1"]))
            .param(Param::names("outputs", "names of the outputs, in the order of the channels"))
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { outputs: params.get("outputs") })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let format = io.format("in").cloned().unwrap_or_default();
        self.check(crate::frames::channels(&format))?;
        for output in &self.outputs {
            io.set_format(output, StreamFormat { shape: vec![0, 1], ..format.clone() })?;
        }
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let next = io.peek("in")?;
        let (dtype, frames, channels) = (next.dtype(), next.frames(), next.channels());
        self.check(channels)?;
        let mut parts = Vec::with_capacity(channels);
        for output in &self.outputs {
            parts.push(io.new_buffer(output, dtype, &[frames, 1])?);
        }
        let whole = io.take("in")?;
        let item = dtype.size_bytes();
        for (channel, (output, mut part)) in self.outputs.iter().zip(parts).enumerate() {
            if let Some(from) = whole.as_bytes().get(channel * item..) {
                copy_frames(from, channels * item, part.as_bytes_mut(), item, item);
            }
            part.set_timestamp(whole.timestamp());
            part.set_time_range(whole.time_range());
            io.send(output, part)?;
        }
        Ok(())
    }
}

impl Deinterleave {
    fn check(&self, channels: usize) -> Result<()> {
        let outputs = self.outputs.len();
        if channels == outputs {
            return Ok(());
        }
        Err(Error::Refused(format!(
            "expected a stream of {outputs} channels, one for each output, found {channels}: name as many `outputs`"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    fn bench() -> Bench {
        Bench::of::<Deinterleave>(&[("outputs", vec!["l".to_owned(), "r".to_owned()].into())]).unwrap()
    }

    #[test]
    fn each_channel_has_its_output() {
        let mut bench = bench();
        bench.push_frames("in", 5, 2, &[1.0f32, -1.0, 2.0, -2.0]).unwrap();
        bench.push_frames::<f32>("in", 7, 2, &[]).unwrap();
        bench.push_frames("in", 7, 2, &[3.0f32, -3.0]).unwrap();
        bench.end("in");
        bench.run().unwrap();
        assert!(bench.has_ended());
        let first = bench.pull_buffer("r").unwrap().unwrap();
        assert_eq!(first.as_slice::<f32>().unwrap(), [-1.0, -2.0]);
        assert_eq!(crate::frames::position(first.timestamp()), Some(5));
        assert_eq!(bench.pull_all::<f32>("l").unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(bench.pull_all::<f32>("r").unwrap(), [-3.0]);
    }

    #[test]
    fn refuses_another_number_of_channels() {
        let mut bench = bench();
        bench.push_frames("in", 0, 3, &[1i16, 2, 3]).unwrap();
        assert_eq!(
            bench.run().expect_err("refused").to_string(),
            "expected a stream of 2 channels, one for each output, found 3: name as many `outputs`"
        );
    }
}
