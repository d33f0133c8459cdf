//! `keep-one-in-n`: keeps every n-th frame or buffer.

use crate::frames::{divide_rate, divide_stamp, later, position};
use crate::prelude::*;

/// Keeps every n-th frame, in place, or every n-th buffer as it is.
pub(super) struct KeepOneInN {
    n: u32,
    whole_buffers: bool,
    /// Frames or buffers taken so far.
    taken: u64,
}

impl Block for KeepOneInN {
    fn spec() -> Spec {
        Spec::new("keep-one-in-n", "Keeps every n-th frame or buffer and drops the others")
            .details(
                "Frames are dropped without filtering; `decimate` filters first. Kept are the frames whose sample index is a \
                 multiple of n, so neither a restart nor lost buffers shift the choice; in streams that are not stamped so, the \
                 first frame and every n-th after it. The rate of the stream and its sample indexes are divided by n. Whole \
                 buffers keep their stamps.",
            )
            .example(
                r#"
connect = ["cpu -> seldom -> table"]
blocks.cpu = { type = "proc-cpu", rate_hz = 100, count = 500 }
blocks.seldom = { type = "keep-one-in-n", n = 10, unit = "buffers" }
blocks.table = { type = "csv-sink", path = "cpu.csv" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::new("out", "every n-th").like("in").follows("in"))
            .param(Param::int("n", "one of how many is kept").range(1.0, 1e9).fixed())
            .param(Param::one_of("unit", "what is counted", &["frames", "buffers"]).default("frames").fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let whole_buffers = params.get::<String>("unit") == "buffers";
        Ok(Self { n: params.get("n"), whole_buffers, taken: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let mut format = io.format("in").cloned().unwrap_or_default();
        if self.whole_buffers {
            self.taken = io.next_sequence("out").saturating_mul(self.n.into());
        } else {
            format.rate_hz = format.rate_hz.and_then(|rate| divide_rate(rate, self.n));
            if let Some(frames) = format.shape.first_mut() {
                *frames = 0;
            }
        }
        io.set_format("out", format)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let n = u64::from(self.n);
        if self.whole_buffers {
            let buffer = io.take("in")?;
            self.taken += 1;
            return if (self.taken - 1).is_multiple_of(n) { io.send("out", buffer) } else { Ok(()) };
        }
        let rate_hz = io.format("in").and_then(|format| format.rate_hz);
        let mut buffer = io.take_mut("in")?;
        let frames = u64::from(buffer.frames());
        let before =
            position(buffer.timestamp()).map_or(self.taken, |index| index.rem_euclid(n as i64) as u64);
        self.taken += frames;
        let first = (n - before % n) % n;
        let kept = frames.saturating_sub(first).div_ceil(n);
        if kept == 0 {
            return Ok(());
        }
        let frame_bytes = buffer.channels() * buffer.dtype().size_bytes();
        let bytes = buffer.as_bytes_mut();
        for i in 0..kept as usize {
            let from = (first as usize + i * n as usize) * frame_bytes;
            bytes.copy_within(from..from + frame_bytes, i * frame_bytes);
        }
        let (dtype, mut shape) = (buffer.dtype(), buffer.extents());
        shape[0] = kept as u32;
        buffer.set_array(dtype, &shape)?;
        buffer.set_timestamp(divide_stamp(later(buffer.timestamp(), first as i64, rate_hz), self.n));
        buffer.set_time_range(None);
        io.send("out", buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_gone_by_all_the_same() {
        let mut bench = Bench::of::<KeepOneInN>(&[("n", 10.into()), ("unit", "buffers".into())]).unwrap();
        bench.push_at("in", 100, &[0.0]).unwrap();
        bench.run().unwrap();
        assert!(bench.pull_buffer("out").unwrap().is_some());
        // The buffer itself has told that.
        assert_eq!(bench.bound("out"), None);
        bench.push_at("in", 200, &[0.0]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.bound("out"), Some(Timestamp::Absolute(201)));
        // A stream that is out of order does not take its promise back.
        bench.push_at("in", 150, &[0.0]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.bound("out"), Some(Timestamp::Absolute(201)));
        // What the sender promises is carried on, too.
        bench.advance("in", Timestamp::Absolute(500));
        bench.run().unwrap();
        assert_eq!(bench.bound("out"), Some(Timestamp::Absolute(500)));
    }
    use crate::testing::Bench;

    #[test]
    fn keeps_every_nth_frame_whatever_the_chunks() {
        let items: Vec<u16> = (0..60).collect();
        for n in [1, 2, 3, 7, 29, 100] {
            for chunk in [1, 4, 10, 30] {
                let mut bench = Bench::of::<KeepOneInN>(&[("n", n.into())]).unwrap();
                let out: Vec<u16> = bench.run_through(2, chunk, &items).unwrap();
                let expected: Vec<u16> = items.chunks(2).step_by(n as usize).flatten().copied().collect();
                assert_eq!(out, expected, "{n}, {chunk}");
            }
        }
    }

    #[test]
    fn the_rate_and_the_indexes_are_divided() {
        let mut bench = Bench::of::<KeepOneInN>(&[("n", 4.into())]).unwrap();
        // As after a restart in the middle: frame 8 is the first one to be kept.
        bench.push_frames("in", 6, 1, &[6i8, 7, 8, 9]).unwrap();
        bench.run().unwrap();
        let out = bench.pull_buffer("out").unwrap().unwrap();
        assert_eq!(out.as_slice::<i8>().unwrap(), [8]);
        assert_eq!(out.timestamp(), Timestamp::Sample { index: 2, rate_num: 12_000, rate_den: 1 });
        assert_eq!(bench.output_format("out").unwrap().rate_hz, Some((12_000, 1)));
    }

    #[test]
    fn streams_without_indexes_are_counted() {
        let mut bench = Bench::of::<KeepOneInN>(&[("n", 3.into())]).unwrap();
        for buffer in [&[0u8, 1][..], &[], &[2, 3, 4], &[5, 6]] {
            bench.push("in", buffer).unwrap();
        }
        bench.run().unwrap();
        assert_eq!(bench.pull_all::<u8>("out").unwrap(), [0, 3, 6]);
    }

    #[test]
    fn whole_buffers_are_kept_as_they_are() {
        let mut bench = Bench::of::<KeepOneInN>(&[("n", 2.into()), ("unit", "buffers".into())]).unwrap();
        (0..5).for_each(|i| drop(bench.push_at("in", i, &[i as f64, 0.5]).unwrap()));
        bench.run().unwrap();
        assert_eq!(bench.pull_all::<f64>("out").unwrap(), [0.0, 0.5, 2.0, 0.5, 4.0, 0.5]);
    }
}
