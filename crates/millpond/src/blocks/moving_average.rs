//! `moving-average`: the mean of the latest samples.

use std::collections::VecDeque;

use crate::prelude::*;

/// Replaces each sample by the mean of it and those before it, for each channel, in place.
pub(super) struct MovingAverage {
    /// For each channel, the latest samples, as many as the length; zeros at first.
    latest: Vec<VecDeque<f64>>,
    samples: Vec<f64>,
}

impl Block for MovingAverage {
    fn spec() -> Spec {
        Spec::new("moving-average", "Replaces each sample by the mean of the latest ones")
            .details(
                "Before the first sample there are zeros. One output sample for each input sample, with the same stamp; the \
                 signal is delayed by (length - 1) / 2 samples. The cost does not depend on the length. The length can change \
                 while it runs. After a restart it begins with zeros again.",
            )
            .example(
                r#"
connect = ["noise -> smooth -> file"]
blocks.noise = { type = "signal", waveform = "noise", duration_s = 1.0 }
blocks.smooth = { type = "moving-average", length = 16 }
blocks.file = { type = "wav-sink", path = "smooth.wav" }
"#,
            )
            .input(Port::new("in", "samples").dtypes(REAL))
            .output(Port::new("out", "the means").like("in"))
            .param(Param::int("length", "samples that the mean is taken of").default(8).range(1.0, 1e7))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self { latest: Vec::new(), samples: Vec::new() })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let channels = io.format("in").map_or(1, crate::frames::channels);
        self.latest = vec![VecDeque::new(); channels];
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let length: usize = io.param("length");
        let mut buffer = io.take_mut("in")?;
        buffer.read_samples(&mut self.samples)?;
        let channels = self.latest.len();
        for (channel, latest) in self.latest.iter_mut().enumerate() {
            while latest.len() < length {
                latest.push_front(0.0);
            }
            latest.drain(..latest.len() - length);
            // Summed up anew for each buffer, so that rounding errors, or a NaN that has passed, do not stay for ever.
            let mut sum: f64 = latest.iter().sum();
            for sample in self.samples.iter_mut().skip(channel).step_by(channels) {
                let oldest = latest.pop_front().unwrap_or(0.0);
                latest.push_back(*sample);
                sum = if oldest.is_finite() { sum - oldest + *sample } else { latest.iter().sum() };
                *sample = sum / length as f64;
            }
        }
        buffer.write_samples(&self.samples)?;
        io.send("out", buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::reference::{assert_close, vector};
    use crate::testing::Bench;

    #[test]
    fn means_are_those_of_lfilter() {
        for length in [1, 2, 5, 30] {
            for chunk in [1, 9, 100] {
                let mut bench = Bench::of::<MovingAverage>(&[("length", length.into())]).unwrap();
                let out: Vec<f64> = bench.run_through(1, chunk, &vector("input")).unwrap();
                assert_close(&out, &vector(&format!("moving average {length}")), 1e-14);
            }
        }
    }

    #[test]
    fn channels_are_apart_and_integers_round() {
        let mut bench = Bench::of::<MovingAverage>(&[("length", 2.into())]).unwrap();
        let out: Vec<i32> = bench.run_through(2, 1, &[2, 100, 4, 200, 7, 300]).unwrap();
        assert_eq!(out, [1, 50, 3, 150, 6, 250]);
    }

    #[test]
    fn what_is_no_number_passes() {
        let mut bench = Bench::of::<MovingAverage>(&[("length", 2.into())]).unwrap();
        let out: Vec<f64> =
            bench.run_through(1, 5, &[1.0, f64::NAN, 3.0, 5.0, f64::INFINITY, 1.0, 3.0]).unwrap();
        assert!(out[1].is_nan() && out[2].is_nan() && out[4].is_infinite() && out[5].is_infinite());
        assert_eq!([out[0], out[3], out[6]], [0.5, 4.0, 2.0]);
    }
}
