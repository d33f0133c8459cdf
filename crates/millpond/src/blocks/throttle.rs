//! `throttle`: lets a stream pass no faster than its rate.

use std::time::{Duration, Instant};

use crate::prelude::*;

/// Holds each buffer back until the frames before it have had their time. Nothing is copied.
pub(super) struct Throttle {
    rate_hz: f64,
    /// From here on `frames` have passed.
    since: Option<Instant>,
    frames: u64,
}

impl Block for Throttle {
    fn spec() -> Spec {
        Spec::new("throttle", "Lets a stream pass no faster than its rate")
            .details(
                "The average rate is held: after a pause of its input the block catches up. Use one for each path that has no \
                 real clock, such as a sound card, of its own.",
            )
            .example(
                r#"
connect = ["tone -> real-time -> lines"]
blocks.tone = { type = "signal", freq_hz = 1.0, rate_hz = 100, frames = 10 }
blocks.real-time = { type = "throttle" }
blocks.lines = { type = "print" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::new("out", "the same, in time").like("in").follows("in"))
            .param(
                Param::float("rate_hz", "frames a second; without it, the stream's own rate")
                    .range(1e-3, 1e12)
                    .unit("Hz")
                    .optional(),
            )
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self { rate_hz: 0.0, since: None, frames: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.rate_hz = rate(io)?;
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let frames = io.peek("in")?.frames();
        let now = Instant::now();
        let rate_hz = rate(io)?;
        if rate_hz != self.rate_hz {
            // A new rate counts from here on.
            (self.rate_hz, self.since, self.frames) = (rate_hz, None, 0);
        }
        let since = *self.since.get_or_insert(now);
        let due = Duration::try_from_secs_f64(self.frames as f64 / rate_hz).unwrap_or(Duration::MAX);
        match since.checked_add(due) {
            Some(due) if due <= now => {}
            Some(due) => return Err(Pause::Until(due)),
            None => return Err(Error::Refused(format!("{rate_hz} Hz is too slow to wait for")).into()),
        }
        let buffer = io.take("in")?;
        self.frames += u64::from(frames);
        io.send("out", buffer)
    }
}

fn rate(io: &Io) -> Result<f64> {
    let stated = io.param::<Option<f64>>("rate_hz");
    let own = io.format("in").and_then(|format| format.rate_hz).filter(|(num, den)| *num > 0 && *den > 0);
    stated.or(own.map(|(num, den)| f64::from(num) / f64::from(den))).ok_or_else(|| {
        Error::Refused("the stream at `in` has no rate: set `rate_hz` to the frames a second".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn frames_take_their_time() {
        let mut bench = Bench::of::<Throttle>(&[("rate_hz", 1000.0.into())]).unwrap();
        let start = Instant::now();
        for _ in 0..4 {
            bench.push("in", &[0u8; 20]).unwrap();
        }
        bench.run().unwrap();
        // The first buffer goes at once, each of the others when the one before has had its 20 ms.
        assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
        assert_eq!(bench.pull_all::<u8>("out").unwrap().len(), 80);
    }

    #[test]
    fn follows_the_rate_of_the_stream_and_asks_for_one() {
        let mut bench = Bench::of::<Throttle>(&[]).unwrap();
        let start = Instant::now();
        let out: Vec<f32> = bench.run_through(1, 480, &[0.5f32; 960]).unwrap();
        assert_eq!(out, [0.5; 960]);
        assert!(start.elapsed() >= Duration::from_millis(10), "{:?}", start.elapsed());
        let mut bench = Bench::of::<Throttle>(&[]).unwrap();
        bench.push("in", &[0u8]).unwrap();
        let refusal = bench.run().expect_err("refused").to_string();
        assert_eq!(refusal, "the stream at `in` has no rate: set `rate_hz` to the frames a second");
    }
}
