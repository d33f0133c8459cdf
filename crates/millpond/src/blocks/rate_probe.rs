//! `rate-probe`: how fast a stream is.

use std::time::{Duration, Instant};

use crate::prelude::*;
use crate::stream::Description;

/// Passes a stream on and counts: buffers, frames and bytes a second.
pub(super) struct RateProbe {
    interval: Duration,
    start: Option<Instant>,
    since: Option<Instant>,
    last: Counts,
    total: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    buffers: u64,
    frames: u64,
    bytes: u64,
}

const COLUMNS: [&str; 3] = ["buffers_per_s", "frames_per_s", "bytes_per_s"];

impl Block for RateProbe {
    fn spec() -> Spec {
        Spec::new("rate-probe", "Passes a stream on and measures its rate: buffers, frames and bytes a second")
            .details(
                "Rows of rates come on `rates`, stamped with the time; it may be left unconnected. The averages over the whole \
                 run are told at the end.",
            )
            .example(
                r#"
connect = ["tone -> probe", "probe.out -> nothing", "probe.rates -> lines"]
blocks.tone = { type = "signal", duration_s = 1000.0 }
blocks.probe = { type = "rate-probe", interval_s = 0.5 }
blocks.nothing = { type = "null-sink" }
blocks.lines = { type = "print" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::new("out", "the same").like("in").follows("in"))
            .output(Port::new("rates", "buffers, frames and bytes a second").dtypes([DType::F64]).shape(["3"]))
            .param(Param::float("interval_s", "time between two rows").default(1.0).range(1e-3, 1e6).unit("s").fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let interval = Duration::from_secs_f64(params.get("interval_s"));
        Ok(Self { interval, start: None, since: None, last: Counts::default(), total: Counts::default() })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let columns = COLUMNS.map(str::to_owned).to_vec();
        let description = Description { columns, ..Description::default() }.to_text()?;
        io.set_format(
            "rates",
            StreamFormat { dtype: DType::F64, shape: vec![3], description, rate_hz: None },
        )?;
        let format = io.format("in").cloned().unwrap_or_default();
        io.set_format("out", format)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let now = Instant::now();
        let next_row = match self.row(now) {
            Ok(rates) => {
                let mut row = io.new_buffer("rates", DType::F64, &[3])?;
                row.as_mut_slice()?.copy_from_slice(&rates);
                row.set_timestamp(Timestamp::now());
                return io.send("rates", row);
            }
            Err(next_row) => next_row,
        };
        let buffer = match io.take("in") {
            // A stream that stands still has a rate, too.
            Err(Pause::NeedInput) => return Err(Pause::Until(next_row)),
            result => result?,
        };
        self.total.buffers += 1;
        self.total.frames += u64::from(buffer.frames());
        self.total.bytes += buffer.len() as u64;
        io.send("out", buffer)
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        let elapsed = self.start.map_or(Duration::ZERO, |start| start.elapsed());
        let [buffers, frames, bytes] = self.total.per_second(elapsed);
        io.note(&format!(
            "{} buffers in {:.3} s: {buffers:.1} buffers/s, {frames:.0} frames/s, {bytes:.0} bytes/s",
            self.total.buffers,
            elapsed.as_secs_f64()
        ));
        Ok(())
    }
}

impl RateProbe {
    /// The rates since the last row, if it is time for one; else when that will be.
    fn row(&mut self, now: Instant) -> Result<[f64; 3], Instant> {
        self.start.get_or_insert(now);
        let since = *self.since.get_or_insert(now);
        let elapsed = now - since;
        if elapsed < self.interval {
            return Err(since + self.interval);
        }
        let rates = self.total.since(self.last).per_second(elapsed);
        (self.since, self.last) = (Some(now), self.total);
        Ok(rates)
    }
}

impl Counts {
    fn since(self, earlier: Self) -> Self {
        Self {
            buffers: self.buffers - earlier.buffers,
            frames: self.frames - earlier.frames,
            bytes: self.bytes - earlier.bytes,
        }
    }

    fn per_second(self, elapsed: Duration) -> [f64; 3] {
        let elapsed_s = elapsed.as_secs_f64();
        [self.buffers, self.frames, self.bytes]
            .map(|count| if elapsed_s > 0.0 { count as f64 / elapsed_s } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn passes_everything() {
        let mut bench = Bench::of::<RateProbe>(&[]).unwrap();
        let pushed = bench.push_frames("in", 0, 2, &[1i16; 20]).unwrap();
        bench.end("in");
        bench.run().unwrap();
        assert!(bench.has_ended());
        assert_eq!(bench.pull_buffer("out").unwrap().unwrap().id(), pushed.id());
        assert_eq!(Description::of(&bench.output_format("rates").unwrap()).columns, COLUMNS);
    }

    #[test]
    fn a_bench_waits_for_one_row_and_not_until_no_more_fit() {
        let mut bench = Bench::of::<RateProbe>(&[("interval_s", 0.02.into())]).unwrap();
        bench.push_frames("in", 0, 1, &[1i16; 20]).unwrap();
        bench.run().unwrap();
        let rows = bench.pull_all::<f64>("rates").unwrap().len() / COLUMNS.len();
        assert!((1..10).contains(&rows), "{rows} rows");
    }

    #[test]
    fn a_row_for_each_interval() {
        let mut probe = RateProbe::new(&params(0.5)).unwrap();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(probe.row(start), Err(after(500)));
        probe.total = Counts { buffers: 10, frames: 1000, bytes: 4000 };
        assert_eq!(probe.row(after(499)), Err(after(500)));
        assert_eq!(probe.row(after(500)), Ok([20.0, 2000.0, 8000.0]));
        assert_eq!(probe.row(after(600)), Err(after(1000)));
        assert_eq!(probe.row(after(1500)), Ok([0.0; 3]));
    }

    fn params(interval_s: f64) -> Params {
        Params::new(&RateProbe::spec(), [("interval_s".to_owned(), interval_s.into())]).unwrap()
    }

    #[test]
    fn rates_are_counts_over_time() {
        let counts = Counts { buffers: 30, frames: 3000, bytes: 12_000 };
        let later = counts.since(Counts { buffers: 10, frames: 1000, bytes: 4000 });
        assert_eq!(later.per_second(Duration::from_millis(500)), [40.0, 4000.0, 16_000.0]);
        assert_eq!(later.per_second(Duration::ZERO), [0.0; 3]);
    }
}
