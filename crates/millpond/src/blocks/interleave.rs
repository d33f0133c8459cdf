//! `interleave`: joins streams into one with all their channels.

use super::lockstep::{Lockstep, same_format};
use crate::prelude::*;

/// Puts the channels of several streams beside each other, by position.
pub(super) struct Interleave {
    inputs: Vec<String>,
    lockstep: Lockstep,
    channels: u32,
}

impl Block for Interleave {
    fn spec() -> Spec {
        Spec::new("interleave", "Joins streams into one that has all their channels")
            .details(
                "Streams are joined by position, not by time. All need the same item type and rate; each may have any number \
                 of channels, and buffers of any size. Stamps are those of the first input. The stream ends with the shortest \
                 input.",
            )
            .example(
                r#"
connect = ["left -> stereo.left", "right -> stereo.right", "stereo -> file"]
blocks.left = { type = "signal", freq_hz = 440, duration_s = 1.0 }
blocks.right = { type = "signal", freq_hz = 445, duration_s = 1.0 }
blocks.stereo = { type = "interleave", inputs = ["left", "right"] }
blocks.file = { type = "wav-sink", path = "stereo.wav" }
"#,
            )
            .input(Port::one_for_each("inputs", "any stream"))
            .output(Port::new("out", "the channels of all inputs").shape(["frames", "channels"]))
            .param(Param::names("inputs", "names of the inputs, in the order of the channels"))
    }

    fn new(params: &Params) -> Result<Self> {
        let inputs: Vec<String> = params.get("inputs");
        Ok(Self { lockstep: Lockstep::new(inputs.clone()), inputs, channels: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let mut format = same_format(io, &self.inputs, false)?;
        let channels = |input: &String| io.format(input).map_or(1, crate::frames::channels);
        self.channels = self.inputs.iter().map(channels).sum::<usize>() as u32;
        format.shape = vec![0, self.channels];
        io.set_format("out", format)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let frames = self.lockstep.frames(io)?;
        let format = io.format(&self.inputs[0]);
        let (dtype, rate_hz) = format.map_or((DType::Bytes, None), |format| (format.dtype, format.rate_hz));
        let mut out = io.new_buffer("out", dtype, &[frames, self.channels])?;
        let item = dtype.size_bytes();
        let out_frame = self.channels as usize * item;
        let mut at = 0;
        for (bytes, channels) in self.lockstep.slices(frames) {
            let frame = channels * item;
            if at + frame > out_frame {
                return Err(Error::Refused("an input has changed its number of channels".to_owned()).into());
            }
            copy_frames(bytes, frame, &mut out.as_bytes_mut()[at..], out_frame, frame);
            at += frame;
        }
        out.set_timestamp(self.lockstep.stamp(rate_hz));
        self.lockstep.advance(frames);
        io.send("out", out)
    }
}

/// Copies the first `bytes` of each frame of `from` to the first ones of each frame of `to`.
pub(super) fn copy_frames(from: &[u8], from_frame: usize, to: &mut [u8], to_frame: usize, bytes: usize) {
    fn copy<const N: usize>(from: &[u8], from_frame: usize, to: &mut [u8], to_frame: usize) {
        for (from, to) in from.chunks(from_frame).zip(to.chunks_mut(to_frame)) {
            if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
                *to = *from;
            }
        }
    }
    // A copy whose size is known is one instruction.
    match bytes {
        0 => {}
        1 => copy::<1>(from, from_frame, to, to_frame),
        2 => copy::<2>(from, from_frame, to, to_frame),
        4 => copy::<4>(from, from_frame, to, to_frame),
        8 => copy::<8>(from, from_frame, to, to_frame),
        _ => {
            for (from, to) in from.chunks(from_frame).zip(to.chunks_mut(to_frame)) {
                if from.len() >= bytes && to.len() >= bytes {
                    to[..bytes].copy_from_slice(&from[..bytes]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    fn inputs() -> crate::Value {
        vec!["a".to_owned(), "b".to_owned()].into()
    }

    #[test]
    fn channels_stand_beside_each_other() {
        let mut bench = Bench::of::<Interleave>(&[("inputs", inputs())]).unwrap();
        bench.push_frames("a", 0, 1, &[1i32, 2, 3]).unwrap();
        bench.push_frames("b", 0, 2, &[10i32, 11, 20, 21]).unwrap();
        bench.push_frames("b", 2, 2, &[30i32, 31, 40, 41]).unwrap();
        bench.end("a");
        bench.run().unwrap();
        assert!(bench.has_ended());
        assert_eq!(bench.output_format("out").unwrap().shape, [0, 3]);
        assert_eq!(bench.pull_all::<i32>("out").unwrap(), [1, 10, 11, 2, 20, 21, 3, 30, 31]);
    }

    #[test]
    fn items_of_every_size_are_copied() {
        fn check<T: crate::testing::Item + From<u8> + PartialEq + std::fmt::Debug>() {
            let items: Vec<T> = (0..12u8).map(T::from).collect();
            let mut bench = Bench::of::<Interleave>(&[("inputs", inputs())]).unwrap();
            bench.push_frames("a", 0, 3, &items[..6]).unwrap();
            bench.push_frames("b", 0, 3, &items[6..]).unwrap();
            bench.run().unwrap();
            let expected = [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11u8].map(T::from);
            assert_eq!(bench.pull_all::<T>("out").unwrap(), expected);
        }
        check::<u8>();
        check::<i16>();
        check::<f32>();
        check::<f64>();
    }
}
