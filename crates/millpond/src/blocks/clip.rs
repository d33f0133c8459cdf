//! `clip`: keeps samples within limits.

use crate::prelude::*;

/// Limits every sample, in place.
pub(super) struct Clip {
    min: f64,
    max: f64,
}

impl Block for Clip {
    fn spec() -> Spec {
        Spec::new("clip", "Keeps every sample between a smallest and a largest value")
            .details("Works in place. NaN stays NaN. Both limits can change while it runs.")
            .example(
                r#"
connect = ["tone -> limit -> file"]
blocks.tone = { type = "signal", amplitude = 2.0, duration_s = 1.0 }
blocks.limit = { type = "clip", min = -1.0, max = 1.0 }
blocks.file = { type = "wav-sink", path = "clipped.wav" }
"#,
            )
            .input(Port::new("in", "samples").dtypes(REAL))
            .output(Port::new("out", "the samples, limited").like("in").follows("in"))
            .param(Param::float("min", "the smallest value").default(-1.0))
            .param(Param::float("max", "the largest value").default(1.0))
    }

    fn new(params: &Params) -> Result<Self> {
        let (min, max) = (params.get("min"), params.get("max"));
        check(min, max)?;
        Ok(Self { min, max })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let (min, max) = (self.min, self.max);
        let mut buffer = io.take_mut("in")?;
        buffer.map_samples(|sample| sample.clamp(min, max))?;
        io.send("out", buffer)
    }

    fn set_param(&mut self, _: &str, io: &mut Io) -> Result<()> {
        let (min, max) = (io.param("min"), io.param("max"));
        check(min, max)?;
        (self.min, self.max) = (min, max);
        Ok(())
    }
}

fn check(min: f64, max: f64) -> Result<()> {
    if min <= max {
        return Ok(());
    }
    Err(Error::Refused(format!("expected `min` to be at most `max`, found {min} and {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn limits_floats_and_integers() {
        let mut bench = Bench::of::<Clip>(&[("min", (-0.5).into())]).unwrap();
        bench.push("in", &[-1.0f32, -0.5, 0.25, 1.0, f32::INFINITY, f32::NAN]).unwrap();
        bench.run().unwrap();
        let out = bench.pull::<f32>("out").unwrap().unwrap();
        assert_eq!(out[..5], [-0.5, -0.5, 0.25, 1.0, 1.0]);
        assert!(out[5].is_nan());
        let mut bench = Bench::of::<Clip>(&[("min", 3.into()), ("max", 1000.into())]).unwrap();
        bench.push("in", &[u32::MAX, 0, 7]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull::<u32>("out").unwrap(), Some(vec![1000, 3, 7]));
    }

    #[test]
    fn refuses_limits_the_wrong_way_round() {
        let refusal = Bench::of::<Clip>(&[("min", 2.0.into())]).err().unwrap().to_string();
        assert_eq!(refusal, "expected `min` to be at most `max`, found 2 and 1");
        // While it runs, too, and the present limits stay.
        let mut bench = Bench::of::<Clip>(&[]).unwrap();
        bench.push("in", &[-20.0, 20.0]).unwrap();
        bench.run().unwrap();
        bench.set("min", -10).unwrap();
        assert!(bench.set("max", -11).expect_err("refused").to_string().contains("found -10 and -11"));
        bench.push("in", &[-20.0, 20.0]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull_all::<f64>("out").unwrap(), [-1.0, 1.0, -10.0, 1.0]);
    }
}
