//! `gain`: multiplies every sample by a factor.

use crate::prelude::*;

/// Multiplies every sample by `k`, in place.
pub(super) struct Gain;

impl Block for Gain {
    fn spec() -> Spec {
        Spec::new("gain", "Multiplies every sample by a factor; integers are rounded and saturate")
            .example(
                r#"
connect = ["song -> louder -> file"]
blocks.song = { type = "wav-source", path = "song.wav" }
blocks.louder = { type = "gain", k = 2.0 }
blocks.file = { type = "wav-sink", path = "louder.wav" }
"#,
            )
            .input(Port::new("in", "samples").dtypes(REAL))
            .output(Port::new("out", "the samples times k").like("in").follows("in"))
            .param(Param::float("k", "the factor").default(1.0).range(-1e9, 1e9))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let k: f64 = io.param("k");
        let mut buffer = io.take_mut("in")?;
        // Not only for speed: not even the bits of a NaN change at a gain of 1.
        if k != 1.0 {
            buffer.map_samples(|sample| k * sample)?;
        }
        io.send("out", buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn scales_floats() {
        let mut bench = Bench::of::<Gain>(&[("k", 0.5.into())]).unwrap();
        bench.push("in", &[2.0f32, -1.0, 0.0]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull::<f32>("out").unwrap(), Some(vec![1.0, -0.5, 0.0]));
        assert_eq!(bench.pull::<f32>("out").unwrap(), None);
    }

    #[test]
    fn integers_round_and_saturate() {
        let mut bench = Bench::of::<Gain>(&[("k", 1.5.into())]).unwrap();
        bench.push("in", &[1i16, -3, i16::MAX, i16::MIN]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull::<i16>("out").unwrap(), Some(vec![2, -5, i16::MAX, i16::MIN]));
    }

    #[test]
    fn another_factor_counts_from_the_next_buffer_on() {
        let mut bench = Bench::of::<Gain>(&[("k", 0.5.into())]).unwrap();
        for k in [None, Some(-2.0), Some(1.0), Some(0.0)] {
            if let Some(k) = k {
                bench.set("k", k).unwrap();
            }
            bench.push("in", &[3.0, -8.0]).unwrap();
            bench.run().unwrap();
        }
        let out = bench.pull_all::<f64>("out").unwrap();
        assert_eq!(out, [1.5, -4.0, -6.0, 16.0, 3.0, -8.0, 0.0, 0.0]);
    }

    #[test]
    fn nothing_changes_at_one() {
        let mut bench = Bench::of::<Gain>(&[]).unwrap();
        let samples = [i32::MIN, -1, 0, 1, i32::MAX];
        bench.push("in", &samples).unwrap();
        bench.end("in");
        bench.run().unwrap();
        assert_eq!(bench.pull::<i32>("out").unwrap(), Some(samples.to_vec()));
    }

    #[test]
    fn a_buffer_that_others_see_is_not_changed() {
        let mut bench = Bench::of::<Gain>(&[("k", 2.0.into())]).unwrap();
        let seen = bench.push("in", &[1.0f64]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull::<f64>("out").unwrap(), Some(vec![2.0]));
        assert_eq!(seen.as_slice::<f64>().unwrap(), [1.0]);
    }
}
