//! `head`: the first frames of a stream.

use crate::frames::{keep, position};
use crate::prelude::*;

/// Passes the first frames on and ends the stream. Buffers go through without being copied; the last one is cut in place.
pub(super) struct Head {
    /// Frames taken so far, for streams that do not count their samples.
    taken: u64,
}

impl Block for Head {
    fn spec() -> Spec {
        Spec::new("head", "Passes the first frames of a stream and ends it")
            .details(
                "In a stream that is stamped with sample indexes the index decides, so neither a restart nor lost buffers \
                 matter. In others the block counts what it takes, and a restart begins anew.",
            )
            .example(
                r#"
connect = ["song -> intro -> file"]
blocks.song = { type = "wav-source", path = "song.wav" }
blocks.intro = { type = "head", frames = 480000 }
blocks.file = { type = "wav-sink", path = "intro.wav" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::new("out", "its beginning").like("in").follows("in"))
            .param(Param::int("frames", "frames to pass").range(0.0, f64::INFINITY))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self { taken: 0 })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let wanted: u64 = io.param("frames");
        let next = match io.peek("in") {
            Ok(next) => next,
            // The last frame may have gone in an earlier call.
            Err(Pause::NeedInput) if self.taken >= wanted => return Err(Pause::Done),
            Err(pause) => return Err(pause),
        };
        let frames = next.frames();
        let before = position(next.timestamp()).map_or(self.taken, |index| index.max(0) as u64);
        let passing = wanted.saturating_sub(before).min(frames.into()) as u32;
        if passing == 0 && before >= wanted {
            return Err(Pause::Done);
        }
        if passing == frames {
            let whole = io.take("in")?;
            self.taken = before + u64::from(frames);
            return io.send("out", whole);
        }
        let rate_hz = io.format("in").and_then(|format| format.rate_hz);
        let mut cut = io.take_mut("in")?;
        keep(&mut cut, 0..passing, rate_hz)?;
        self.taken = wanted;
        io.send("out", cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn passes_exactly_as_many_frames_whatever_the_chunks() {
        let items: Vec<i16> = (0..40).collect();
        for wanted in [0, 1, 7, 8, 19, 20, 100] {
            for chunk in [1, 3, 8, 20] {
                let mut bench = Bench::of::<Head>(&[("frames", wanted.into())]).unwrap();
                let out: Vec<i16> = bench.run_through(2, chunk, &items).unwrap();
                assert_eq!(
                    out,
                    items[..items.len().min(2 * wanted as usize)],
                    "{wanted} of chunks of {chunk}"
                );
            }
        }
    }

    #[test]
    fn ends_before_its_input_does() {
        let mut bench = Bench::of::<Head>(&[("frames", 3.into())]).unwrap();
        bench.push("in", &[1u8, 2]).unwrap();
        bench.push("in", &[3u8, 4]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull_all::<u8>("out").unwrap(), [1, 2, 3]);
        assert!(bench.has_ended());
    }

    #[test]
    fn a_buffer_that_comes_after_a_restart_is_judged_by_its_stamp() {
        let mut bench = Bench::of::<Head>(&[("frames", 6.into())]).unwrap();
        bench.push_frames("in", 4, 1, &[4i32, 5, 6, 7]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull_all::<i32>("out").unwrap(), [4, 5]);
        assert!(bench.has_ended());
    }
}
