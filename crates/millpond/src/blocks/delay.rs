//! `delay`: moves the samples of a stream back by a number of frames.

use crate::frames::later;
use crate::prelude::*;

/// Puts frames of zeros in front of a stream. What follows is the input's own buffers, with new stamps and without copying.
pub(super) struct Delay {
    /// Frames of zeros that are still to be sent.
    zeros: u64,
    frames: i64,
    /// Buffers of zeros in all: by so much the numbers of the buffers behind them grow.
    zero_buffers: u64,
}

/// Frames of zeros in one buffer, at most.
const CHUNK_FRAMES: u64 = 1024;

impl Block for Delay {
    fn spec() -> Spec {
        Spec::new("delay", "Delays a stream by a number of frames; zeros come first")
            .details(
                "The output is longer than the input by the delay: nothing is cut off at the end. Each frame's sample index, \
                 or its time if the stream has a rate, is later by the delay. Started again after its process was killed, it \
                 goes on without sending the zeros a second time.",
            )
            .example(
                r#"
connect = ["voice -> mix.dry", "voice -> echo -> mix.wet", "mix -> file"]
blocks.voice = { type = "wav-source", path = "voice.wav" }
blocks.echo = { type = "delay", frames = 12000 }
blocks.mix = { type = "add", inputs = ["dry", "wet"] }
blocks.file = { type = "wav-sink", path = "echo.wav" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::new("out", "the same, later").like("in"))
            .param(Param::int("frames", "the delay in frames").range(0.0, 1e12).fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let frames: i64 = params.get("frames");
        Ok(Self { zeros: frames as u64, frames, zero_buffers: (frames as u64).div_ceil(CHUNK_FRAMES) })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        // A restart may leave out zeros that were not sent any more; what was sent is never sent twice.
        self.zeros = self.zeros.saturating_sub(io.next_sequence("out").saturating_mul(CHUNK_FRAMES));
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let rate_hz = io.format("in").and_then(|format| format.rate_hz);
        if self.zeros > 0 {
            let first = io.peek("in")?;
            let (stamp, dtype, mut shape) = (first.timestamp(), first.dtype(), first.extents());
            let frames = self.zeros.min(CHUNK_FRAMES);
            match shape.first_mut() {
                Some(extent) => *extent = frames as u32,
                None => shape.push(frames as u32),
            }
            let mut buffer = io.new_buffer("out", dtype, &shape)?;
            buffer.as_bytes_mut().fill(0);
            buffer.set_timestamp(later(stamp, self.frames - self.zeros as i64, rate_hz));
            self.zeros -= frames;
            return io.send("out", buffer);
        }
        let mut buffer = io.take_mut("in")?;
        buffer.set_timestamp(later(buffer.timestamp(), self.frames, rate_hz));
        buffer.set_time_range(None);
        buffer.set_sequence(buffer.sequence().wrapping_add(self.zero_buffers));
        io.send("out", buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::position;
    use crate::testing::Bench;

    #[test]
    fn zeros_come_first_whatever_the_chunks() {
        let items: Vec<i16> = (1..=40).collect();
        for frames in [0, 1, 5, 1024, 2500] {
            for chunk in [1, 7, 20] {
                let mut bench = Bench::of::<Delay>(&[("frames", frames.into())]).unwrap();
                let out: Vec<i16> = bench.run_through(2, chunk, &items).unwrap();
                let expected = [vec![0; 2 * frames as usize], items.clone()].concat();
                assert!(out == expected, "{frames}, {chunk}");
            }
        }
    }

    #[test]
    fn indexes_go_on_without_a_gap() {
        let mut bench = Bench::of::<Delay>(&[("frames", 1500.into())]).unwrap();
        // Two buffers of zeros, and the two of the input; their numbers, here 0, grow by two.
        bench.push_frames("in", 100, 1, &[1.0f64, 2.0]).unwrap();
        bench.push_frames("in", 102, 1, &[3.0f64]).unwrap();
        bench.run().unwrap();
        let (mut next, mut numbers) = (100, Vec::new());
        while let Some(buffer) = bench.pull_buffer("out").unwrap() {
            assert_eq!(position(buffer.timestamp()), Some(next));
            numbers.push(buffer.sequence());
            next += i64::from(buffer.frames());
        }
        assert_eq!((next, numbers), (100 + 1500 + 3, vec![0, 1, 2, 2]));
    }
}
