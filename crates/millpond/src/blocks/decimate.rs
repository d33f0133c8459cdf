//! `decimate`: lowers the rate of a stream by a whole factor.

use super::fir_design::Design;
use super::fir_filter::Filter;
use crate::frames::{divide_rate, divide_stamp, later, position};
use crate::prelude::*;

/// Filters out what the lower rate cannot carry and keeps every n-th frame, in place. Only what is kept is computed, in `f64`.
pub(super) struct Decimate {
    factor: u32,
    filter: Filter<f64>,
    samples: Vec<f64>,
    /// Frames taken so far, for streams that do not count their samples.
    taken: u64,
}

/// Half of the filter's length, in output samples: the filter of scipy's `decimate(ftype="fir")`.
const HALF_LENGTH: usize = 10;

impl Block for Decimate {
    fn spec() -> Spec {
        Spec::new("decimate", "Lowers the rate of a stream by a whole factor, without aliases")
            .details(
                "The filter is a low-pass of 20 x factor + 1 taps with a Hamming window, whose gain is one half at half the new \
                 rate; it delays the signal by 10 output samples, which the stamps do not show. Kept are the frames whose sample index is a multiple \
                 of the factor, so a restart or a lost buffer does not shift the choice; after a restart the filter begins with \
                 zeros again. Rate and sample indexes are divided by the factor.",
            )
            .example(
                r#"
connect = ["song -> lower -> file"]
blocks.song = { type = "wav-source", path = "song-48k.wav" }
blocks.lower = { type = "decimate", factor = 6 }
blocks.file = { type = "wav-sink", path = "song-8k.wav" }
"#,
            )
            .input(Port::new("in", "samples").dtypes(REAL))
            .output(Port::new("out", "samples at the lower rate").like("in"))
            .param(Param::int("factor", "by how much the rate is lowered").range(1.0, 10_000.0).fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let factor = params.get("factor");
        Ok(Self { factor, filter: Filter::new(&[1.0], 0), samples: Vec::new(), taken: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let mut format = io.format("in").cloned().unwrap_or_default();
        self.filter = Filter::new(&taps(self.factor)?, crate::frames::channels(&format));
        format.rate_hz = format.rate_hz.and_then(|rate| divide_rate(rate, self.factor));
        if let Some(frames) = format.shape.first_mut() {
            *frames = 0;
        }
        io.set_format("out", format)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let rate_hz = io.format("in").and_then(|format| format.rate_hz);
        let mut buffer = io.take_mut("in")?;
        let factor = u64::from(self.factor);
        let before = position(buffer.timestamp())
            .map_or(self.taken, |index| index.rem_euclid(self.factor.into()) as u64);
        self.taken += u64::from(buffer.frames());
        let first = ((factor - before % factor) % factor) as usize;
        buffer.read_samples(&mut self.samples)?;
        let kept = self.filter.run_decimating(&mut self.samples, first, self.factor as usize);
        if kept == 0 {
            return Ok(());
        }
        let (dtype, mut shape) = (buffer.dtype(), buffer.extents());
        shape[0] = kept as u32;
        self.samples.truncate(kept * buffer.channels());
        buffer.set_array(dtype, &shape)?;
        buffer.write_samples(&self.samples)?;
        buffer.set_timestamp(divide_stamp(later(buffer.timestamp(), first as i64, rate_hz), self.factor));
        buffer.set_time_range(None);
        io.send("out", buffer)
    }
}

fn taps(factor: u32) -> Result<Vec<f64>> {
    if factor == 1 {
        return Ok(vec![1.0]);
    }
    let design = Design {
        kind: "low-pass".to_owned(),
        cutoff_hz: 0.5 / f64::from(factor),
        high_cutoff_hz: None,
        length: 2 * HALF_LENGTH * factor as usize + 1,
        window: "hamming".to_owned(),
    };
    design.taps(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::reference::{assert_close, vector};
    use crate::testing::Bench;

    #[test]
    fn keeps_what_lfilter_and_slicing_give() {
        for factor in [2, 3, 7] {
            for chunk in [1, 6, 33, 100] {
                let mut bench = Bench::of::<Decimate>(&[("factor", factor.into())]).unwrap();
                let out: Vec<f64> = bench.run_through(1, chunk, &vector("input")).unwrap();
                assert_close(&out, &vector(&format!("decimated {factor}")), 1e-14);
            }
        }
        let mut bench = Bench::of::<Decimate>(&[("factor", 1.into())]).unwrap();
        assert_eq!(bench.run_through::<i16, i16>(3, 2, &[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap().len(), 9);
    }

    #[test]
    fn the_rate_and_the_indexes_are_divided() {
        let mut bench = Bench::of::<Decimate>(&[("factor", 4.into())]).unwrap();
        bench.push_frames("in", 6, 1, &[0.0f32; 7]).unwrap();
        bench.run().unwrap();
        let out = bench.pull_buffer("out").unwrap().unwrap();
        assert_eq!(out.frames(), 2);
        assert_eq!(out.timestamp(), Timestamp::Sample { index: 2, rate_num: 12_000, rate_den: 1 });
        assert_eq!(bench.output_format("out").unwrap().rate_hz, Some((12_000, 1)));
    }
}
