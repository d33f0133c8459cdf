//! `correlate`: how much later one stream is than another, and how alike they are.

use std::collections::VecDeque;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::frames::{divide_rate, later, time_of};
use crate::prelude::*;
use crate::stream::Description;

/// Pearson's correlation of a window of `a` with the same window of `b`, shifted by every lag up to a limit.
pub(super) struct Correlate {
    sides: [Side; 2],
    window: usize,
    hop: usize,
    correlation: Correlation,
}

/// The frames of one input that belong to a window yet to come.
struct Side {
    input: &'static str,
    waiting: Vec<f64>,
    /// Frames to leave out before those in `waiting`, if hops are longer than windows.
    skip: usize,
    /// Where in `waiting` buffers begin that are yet to be used, and their stamps.
    stamps: VecDeque<(usize, Timestamp)>,
    samples: Vec<f64>,
}

impl Block for Correlate {
    fn spec() -> Spec {
        Spec::new("correlate", "By how many frames a stream is later than another one, and how alike they are then")
            .details(
                "Takes both streams frame by frame, so they must have the same rate and begin together: align them first, with \
                 `sync-merge` or `interpolate`. For each window it finds the lag at which the correlation coefficient \
                 (Pearson's, of the frames that overlap) is largest: 1 if `b` is the same as `a` up to offset and scale, only later by the \
                 lag; the lag is negative if `b` is earlier. Of equally good lags it is the shortest. Where a stream does not vary there is \
                 none: NaN. Computed by FFT. A row is stamped like the first frame of its window in `a`. After a restart windows \
                 begin with the first frames that come.",
            )
            .example(
                r#"
connect = ["noise -> found.a", "noise -> echo -> found.b", "found -> lines"]
blocks.noise = { type = "signal", waveform = "noise", duration_s = 1.0 }
blocks.echo = { type = "delay", frames = 100 }
blocks.found = { type = "correlate", window = 4096, max_lag = 512 }
blocks.lines = { type = "print" }
"#,
            )
            .input(Port::new("a", "the stream to compare with, one channel").dtypes(REAL))
            .input(Port::new("b", "the stream that may be later, one channel").dtypes(REAL))
            .output(
                Port::new("out", "rows: lag in frames, lag in seconds (NaN without a rate), coefficient")
                    .dtypes([DType::F64])
                    .shape(["3"]),
            )
            .param(Param::int("window", "frames compared at a time").range(4.0, 16e6).default(4096).fixed())
            .param(Param::int("hop", "frames from one window to the next; without it, the window").range(1.0, 16e6).optional().fixed())
            .param(
                Param::int("max_lag", "the longest lag in frames either way, half a window at most; without it, a quarter")
                    .range(0.0, 8e6)
                    .optional()
                    .fixed(),
            )
    }

    fn new(params: &Params) -> Result<Self> {
        let window: usize = params.get("window");
        let max_lag = params.get::<Option<usize>>("max_lag").unwrap_or(window / 4);
        if max_lag > window / 2 {
            return Err(Error::BadParameter {
                name: "max_lag".to_owned(),
                expected: format!("at most half a window, {}", window / 2),
                found: max_lag.to_string(),
            });
        }
        let side = |input| Side {
            input,
            waiting: Vec::new(),
            skip: 0,
            stamps: VecDeque::new(),
            samples: Vec::new(),
        };
        Ok(Self {
            sides: ["a", "b"].map(side),
            window,
            hop: params.get::<Option<usize>>("hop").unwrap_or(window),
            correlation: Correlation::new(window, max_lag),
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        for side in &self.sides {
            io.format(side.input)
                .map_or(Ok(()), |format| one_channel(side.input, crate::frames::channels(format).max(1)))?;
        }
        let rate = |input: &str| io.format(input).and_then(|format| format.rate_hz);
        if let (Some(a), Some(b)) = (rate("a"), rate("b"))
            && u64::from(a.0) * u64::from(b.1) != u64::from(b.0) * u64::from(a.1)
        {
            return Err(Error::Refused(format!(
                "`a` has {}/{} frames a second and `b` {}/{}: bring them to one rate first",
                a.0, a.1, b.0, b.1
            )));
        }
        let rate_hz = rate("a").and_then(|rate| divide_rate(rate, self.hop as u32));
        let columns = ["lag_frames", "lag_s", "coefficient"].map(str::to_owned).to_vec();
        let description = Description { columns, ..Description::default() }.to_text()?;
        io.set_format("out", StreamFormat { dtype: DType::F64, shape: vec![3], rate_hz, description })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let mut missing = None;
        for side in &mut self.sides {
            if side.waiting.len() < side.skip + self.window {
                match side.take(io) {
                    Ok(()) => return Ok(()),
                    Err(Pause::Failed(error)) => return Err(error.into()),
                    // The other side may have something, and an end counts for both.
                    Err(Pause::Done) => return Err(Pause::Done),
                    Err(pause) => missing = Some(pause),
                }
            }
        }
        if let Some(pause) = missing {
            let a = &self.sides[0];
            let bound = match a.waiting.is_empty() {
                true => io.bound(a.input),
                false => time_of(a.stamp(io.format(a.input).and_then(|format| format.rate_hz))),
            };
            if let Some(bound) = bound {
                io.advance("out", bound);
            }
            return Err(pause);
        }
        let mut out = io.new_buffer("out", DType::F64, &[3])?;
        let rate_hz = io.format("a").and_then(|format| format.rate_hz);
        for side in &mut self.sides {
            side.drop_frames(side.skip);
            side.skip = 0;
        }
        let [a, b] = &self.sides;
        let (lag, coefficient) =
            self.correlation.best(&a.waiting[..self.window], &b.waiting[..self.window])?;
        let lag = lag.map_or(f64::NAN, |lag| lag as f64);
        let lag_s = rate_hz.map_or(f64::NAN, |(num, den)| lag * f64::from(den) / f64::from(num));
        out.as_mut_slice()?.copy_from_slice(&[lag, lag_s, coefficient]);
        out.set_timestamp(a.stamp(rate_hz));
        for side in &mut self.sides {
            let dropped = self.hop.min(side.waiting.len());
            side.drop_frames(dropped);
            side.skip = self.hop - dropped;
        }
        io.send("out", out)
    }
}

impl Side {
    fn take(&mut self, io: &mut Io) -> WorkResult {
        let buffer = io.take(self.input)?;
        one_channel(self.input, buffer.channels())?;
        buffer.read_samples(&mut self.samples)?;
        self.stamps.push_back((self.waiting.len(), buffer.timestamp()));
        self.waiting.extend_from_slice(&self.samples);
        Ok(())
    }

    /// The stamp of the first frame.
    fn stamp(&self, rate_hz: Option<(u32, u32)>) -> Timestamp {
        // The first buffer may have begun before the first frame that is left: then its place has gone below 0.
        self.stamps.front().map_or(Timestamp::None, |(behind, stamp)| later(*stamp, *behind as i64, rate_hz))
    }

    fn drop_frames(&mut self, frames: usize) {
        self.waiting.drain(..frames);
        // The first entry tells how far behind its buffer's beginning we are; the others, where they begin.
        let mut begun = self.stamps.pop_front();
        if let Some((behind, _)) = &mut begun {
            *behind += frames;
        }
        while let Some((place, stamp)) = self.stamps.front().copied()
            && place <= frames
        {
            begun = Some((frames - place, stamp));
            self.stamps.pop_front();
        }
        self.stamps.iter_mut().for_each(|(place, _)| *place -= frames);
        if let Some(begun) = begun {
            self.stamps.push_front(begun);
        }
    }
}

fn one_channel(input: &str, channels: usize) -> Result<()> {
    if channels == 1 {
        return Ok(());
    }
    Err(Error::StreamMismatch {
        port: input.to_owned(),
        expected: "one channel (`deinterleave` takes channels apart)".to_owned(),
        found: format!("{channels} channels"),
    })
}

/// Correlation coefficients of two windows at all lags.
struct Correlation {
    max_lag: usize,
    forward: Arc<dyn RealToComplex<f64>>,
    inverse: Arc<dyn ComplexToReal<f64>>,
    line: Vec<f64>,
    spectra: [Vec<Complex<f64>>; 2],
    /// Sums of the first values, and of their squares, of both windows.
    sums: [Vec<(f64, f64)>; 2],
}

impl Correlation {
    fn new(window: usize, max_lag: usize) -> Self {
        // No lag wraps around.
        let length = (window + max_lag).next_power_of_two();
        let mut planner = RealFftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(length), planner.plan_fft_inverse(length));
        let spectrum = forward.make_output_vec();
        Self {
            max_lag,
            line: forward.make_input_vec(),
            spectra: [spectrum.clone(), spectrum],
            sums: [Vec::new(), Vec::new()],
            forward,
            inverse,
        }
    }

    /// The lag with the largest coefficient, and that; none and NaN if there is no coefficient.
    fn best(&mut self, a: &[f64], b: &[f64]) -> Result<(Option<i64>, f64)> {
        for ((window, spectrum), sums) in [a, b].into_iter().zip(&mut self.spectra).zip(&mut self.sums) {
            let mean = window.iter().sum::<f64>() / window.len() as f64;
            self.line.fill(0.0);
            sums.clear();
            let mut sum = (0.0, 0.0);
            sums.push(sum);
            for (item, value) in self.line.iter_mut().zip(window) {
                *item = value - mean;
                sum = (sum.0 + *item, sum.1 + *item * *item);
                sums.push(sum);
            }
            self.forward.process(&mut self.line, spectrum).context(|| "transform")?;
        }
        let [of_a, of_b] = &mut self.spectra;
        for (b, a) in of_b.iter_mut().zip(of_a.iter()) {
            *b *= a.conj();
        }
        self.inverse.process(of_b, &mut self.line).context(|| "transform back")?;
        let (length, count) = (self.line.len(), a.len());
        let total = |side: usize| self.sums[side].last().map_or(0.0, |sum| sum.1);
        let mut best = (None, f64::NAN);
        for distance in 0..=self.max_lag {
            for lag in [distance as i64, -(distance as i64)] {
                let product = self.line[if lag < 0 { length - distance } else { distance }] / length as f64;
                let n = (count - distance) as f64;
                let part = |side: usize, from: usize| {
                    let (start, end) = (self.sums[side][from], self.sums[side][from + count - distance]);
                    let sum = end.0 - start.0;
                    (sum, end.1 - start.1 - sum * sum / n)
                };
                let (a, b) =
                    if lag < 0 { (part(0, distance), part(1, 0)) } else { (part(0, 0), part(1, distance)) };
                // Less than that is what rounding leaves of a constant.
                if a.1 <= 1e-12 * total(0) || b.1 <= 1e-12 * total(1) {
                    continue;
                }
                let coefficient = (product - a.0 * b.0 / n) / (a.1 * b.1).sqrt();
                // Computed by FFT, equal coefficients differ in their last digits; the shorter lag is not given up for that.
                if best.0.is_none() || coefficient > best.1 + 1e-12 {
                    best = (Some(lag), coefficient);
                }
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::Value;
    use crate::testing::{Bench, TEST_RATE_HZ};

    fn noise(count: usize) -> Vec<f64> {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// By its definition.
    fn pearson(a: &[f64], b: &[f64]) -> f64 {
        let n = a.len() as f64;
        let (mean_a, mean_b) = (a.iter().sum::<f64>() / n, b.iter().sum::<f64>() / n);
        let sum = |f: &dyn Fn(f64, f64) -> f64| {
            a.iter().zip(b).map(|(a, b)| f(a - mean_a, b - mean_b)).sum::<f64>()
        };
        sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
    }

    #[test]
    fn coefficients_are_those_of_the_definition() {
        for (window, max_lag) in [(4, 2), (7, 3), (64, 16), (100, 50)] {
            let (a, b) = (noise(window), noise(3 * window)[2 * window..].to_vec());
            let expected = (-(max_lag as i64)..=max_lag as i64).map(|lag| {
                let (distance, count) = (lag.unsigned_abs() as usize, window - lag.unsigned_abs() as usize);
                let (from_a, from_b) = if lag < 0 { (distance, 0) } else { (0, distance) };
                (lag, pearson(&a[from_a..from_a + count], &b[from_b..from_b + count]))
            });
            let expected = expected.max_by(|one, other| one.1.total_cmp(&other.1)).unwrap();
            let (lag, coefficient) = Correlation::new(window, max_lag).best(&a, &b).unwrap();
            assert_eq!(lag, Some(expected.0));
            assert!((coefficient - expected.1).abs() < 1e-10, "{coefficient} {}", expected.1);
        }
        let same = Correlation::new(16, 4).best(&[2.0; 16], &noise(16)).unwrap();
        assert!(same.0.is_none() && same.1.is_nan());
    }

    #[test]
    fn finds_the_lag_whatever_the_chunks() {
        let signal = noise(3000);
        for (lag, chunk, hop) in [(0, 100, 512), (37, 77, 512), (-100, 640, 300), (128, 31, 700)] {
            let params: [(&str, Value); 3] =
                [("window", 512.into()), ("max_lag", 128.into()), ("hop", hop.into())];
            let mut bench = Bench::of::<Correlate>(&params).unwrap();
            let mut rows = Vec::new();
            for start in (200..2700).step_by(chunk) {
                let frames: Vec<usize> = (start..(start + chunk).min(2700)).collect();
                let at = |shift: i64| -> Vec<f64> {
                    frames.iter().map(|i| signal[(*i as i64 - shift) as usize]).collect()
                };
                let scaled: Vec<f64> = at(lag).iter().map(|x| 100.0 + 3.0 * x).collect();
                bench.push_frames("a", start as i64 - 200, 1, &at(0)).unwrap();
                bench.push_frames("b", 0, 1, &scaled).unwrap();
                bench.run().unwrap();
                while let Some(row) = bench.pull_buffer("out").unwrap() {
                    let Timestamp::Sample { index, .. } = row.timestamp() else { panic!("no index") };
                    assert_eq!(index, rows.len() as i64 * i64::from(hop));
                    rows.push(row.as_slice::<f64>().unwrap().to_vec());
                }
            }
            assert_eq!(rows.len(), (2500 - 512) / hop as usize + 1);
            for row in rows {
                assert_eq!((row[0], row[1]), (lag as f64, lag as f64 / f64::from(TEST_RATE_HZ)));
                assert!((row[2] - 1.0).abs() < 1e-9, "{}", row[2]);
            }
        }
    }

    #[test]
    fn a_lag_needs_an_overlap() {
        let refusal =
            Bench::of::<Correlate>(&[("window", 100.into()), ("max_lag", 51.into())]).err().expect("refused");
        assert_eq!(refusal.to_string(), "parameter `max_lag`: expected at most half a window, 50, found 51");
    }

    #[test]
    fn receivers_learn_how_far_the_first_stream_has_come() {
        let mut bench = Bench::of::<Correlate>(&[("window", 4.into())]).unwrap();
        bench.push_frames("a", 0, 1, &noise(6)).unwrap();
        bench.push_frames("b", 0, 1, &noise(4)).unwrap();
        bench.run().unwrap();
        assert!(bench.pull_buffer("out").unwrap().is_some());
        // The next window begins with the fifth frame, 4 / 48000 s.
        assert_eq!(bench.bound("out"), Some(Timestamp::Relative(83_333)));
    }
}
