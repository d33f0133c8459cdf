//! `skip`: leaves out the first frames of a stream.

use crate::frames::{keep, position};
use crate::prelude::*;

/// Drops the first frames and passes the rest on. Buffers go through without being copied; one may be cut in place.
pub(super) struct Skip {
    /// Frames taken so far, for streams that do not count their samples.
    taken: u64,
}

impl Block for Skip {
    fn spec() -> Spec {
        Spec::new("skip", "Leaves out the first frames of a stream")
            .details(
                "Stamps stay as they are, so the first frame that comes out keeps its sample index. In a stream that is \
                 stamped with sample indexes the index decides, so neither a restart nor lost buffers matter. In others the \
                 block counts what it takes, and a restart begins anew.",
            )
            .example(
                r#"
connect = ["song -> rest -> file"]
blocks.song = { type = "wav-source", path = "song.wav" }
blocks.rest = { type = "skip", frames = 480000 }
blocks.file = { type = "wav-sink", path = "without-intro.wav" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::new("out", "all behind its beginning").like("in").follows("in"))
            .param(Param::int("frames", "frames to leave out").range(0.0, f64::INFINITY))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self { taken: 0 })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let unwanted: u64 = io.param("frames");
        let next = io.peek("in")?;
        let frames = next.frames();
        let before = position(next.timestamp()).map_or(self.taken, |index| index.max(0) as u64);
        let dropped = unwanted.saturating_sub(before).min(frames.into()) as u32;
        if dropped > 0 && dropped < frames {
            let rate_hz = io.format("in").and_then(|format| format.rate_hz);
            let mut cut = io.take_mut("in")?;
            self.taken = before + u64::from(frames);
            keep(&mut cut, dropped..frames, rate_hz)?;
            return io.send("out", cut);
        }
        let whole = io.take("in")?;
        self.taken = before + u64::from(frames);
        if dropped > 0 { Ok(()) } else { io.send("out", whole) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, TEST_RATE_HZ};

    #[test]
    fn leaves_out_exactly_as_many_frames_whatever_the_chunks() {
        let items: Vec<f32> = (0..40).map(|i| i as f32).collect();
        for unwanted in [0, 1, 7, 8, 19, 20, 100] {
            for chunk in [1, 3, 8, 20] {
                let mut bench = Bench::of::<Skip>(&[("frames", unwanted.into())]).unwrap();
                let out: Vec<f32> = bench.run_through(2, chunk, &items).unwrap();
                assert_eq!(out, items[items.len().min(2 * unwanted as usize)..], "{unwanted}, {chunk}");
            }
        }
    }

    #[test]
    fn the_first_frame_keeps_its_index_and_what_others_see_stays() {
        let mut bench = Bench::of::<Skip>(&[("frames", 2.into())]).unwrap();
        let seen = bench.push_frames("in", 0, 1, &[0i32, 1, 2, 3]).unwrap();
        bench.run().unwrap();
        let out = bench.pull_buffer("out").unwrap().unwrap();
        assert_eq!(out.as_slice::<i32>().unwrap(), [2, 3]);
        assert_eq!(out.timestamp(), Timestamp::Sample { index: 2, rate_num: TEST_RATE_HZ, rate_den: 1 });
        assert_eq!(seen.as_slice::<i32>().unwrap(), [0, 1, 2, 3]);
    }
}
