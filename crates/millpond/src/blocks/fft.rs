//! `fft`: spectra of a stream.

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{FftNum, RealFftPlanner, RealToComplex};

use super::window::{WINDOWS, periodic};
use crate::frames::{divide_rate, later};
use crate::prelude::*;
use crate::samples::Sample;

/// Transforms windows of `size` frames, one every `hop` frames, each channel by itself. `f32` is computed in `f32`, everything else in
/// `f64`.
pub(super) struct Fft {
    engine: Engine,
    channels: usize,
    size: usize,
    hop: usize,
    window: Vec<f64>,
    output: String,
    /// Frames that are part of a spectrum yet to come, one channel after the other within a frame.
    waiting: Vec<f64>,
    /// Frames to leave out before those in `waiting`, if hops are longer than windows.
    skip: usize,
    /// The stamp of the first frame in `waiting`.
    stamp: Timestamp,
    samples: Vec<f64>,
}

enum Engine {
    F32(Transform<f32>),
    F64(Transform<f64>),
}

struct Transform<T> {
    plan: Arc<dyn RealToComplex<T>>,
    line: Vec<T>,
    spectrum: Vec<Complex<T>>,
}

impl Block for Fft {
    fn spec() -> Spec {
        Spec::new("fft", "Spectra of a stream of real samples, by fast Fourier transform")
            .details(
                "Each spectrum has size / 2 + 1 bins, from 0 Hz to half the rate. Values are not scaled, as in numpy.fft.rfft: \
                 a sine of amplitude 1 has a magnitude of half the sum of the window. Windows are periodic. A spectrum is one \
                 frame of the output, sent in a buffer of [1, bins], or [1, channels, bins]; it is stamped like the first frame of its \
                 window, with the input's sample index and rate, while the rate of the stream is that of the spectra. \
                 What is left at the end and does not fill a window is dropped. After a restart windows begin with the first \
                 frame that comes.",
            )
            .example(
                r#"
connect = ["tone -> spectrum -> table"]
blocks.tone = { type = "signal", freq_hz = 1000, duration_s = 1.0 }
blocks.spectrum = { type = "fft", size = 256, window = "hann" }
blocks.table = { type = "csv-sink", path = "spectra.csv" }
"#,
            )
            .input(Port::new("in", "samples").dtypes(REAL))
            .output(
                Port::new("out", "spectra; complex ones are pairs of real and imaginary part")
                    .dtypes([DType::F32, DType::F64, DType::C32, DType::C64]),
            )
            .param(Param::int("size", "frames of a window; products of small primes are fastest").default(1024).range(1.0, 16e6).fixed())
            .param(Param::int("hop", "frames from one window to the next; without it, the size").range(1.0, 16e6).optional().fixed())
            .param(Param::one_of("window", "what the frames are weighted with", WINDOWS).default("hann").fixed())
            .param(
                Param::one_of("output", "magnitudes, their squares, or complex values", &["magnitude", "power", "complex"])
                    .default("magnitude").fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let size = params.get("size");
        Ok(Self {
            engine: Engine::F64(Transform::new(1)),
            channels: 1,
            size,
            hop: params.get::<Option<usize>>("hop").unwrap_or(size),
            window: periodic(&params.get::<String>("window"), size),
            output: params.get("output"),
            waiting: Vec::new(),
            skip: 0,
            stamp: Timestamp::None,
            samples: Vec::new(),
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let format = io.format("in").cloned().unwrap_or_default();
        self.channels = crate::frames::channels(&format);
        self.engine = match format.dtype {
            DType::F32 => Engine::F32(Transform::new(self.size)),
            _ => Engine::F64(Transform::new(self.size)),
        };
        let rate_hz = format.rate_hz.and_then(|rate| divide_rate(rate, self.hop as u32));
        let (dtype, shape) = (self.dtype(), self.shape());
        io.set_format("out", StreamFormat { dtype, shape, rate_hz, description: String::new() })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let needed = (self.skip + self.size) * self.channels;
        if self.waiting.len() < needed {
            let buffer = io.take("in")?;
            if self.waiting.is_empty() {
                self.stamp = buffer.timestamp();
            }
            buffer.read_samples(&mut self.samples)?;
            self.waiting.extend_from_slice(&self.samples);
            return Ok(());
        }
        let mut out = io.new_buffer("out", self.dtype(), &self.shape())?;
        let rate_hz = io.format("in").and_then(|format| format.rate_hz);
        self.drop_waiting(self.skip, rate_hz);
        match &mut self.engine {
            Engine::F32(transform) => {
                transform.run(
                    &self.waiting,
                    self.channels,
                    &self.window,
                    &self.output,
                    out.as_mut_slice()?,
                )?;
            }
            Engine::F64(transform) => {
                transform.run(
                    &self.waiting,
                    self.channels,
                    &self.window,
                    &self.output,
                    out.as_mut_slice()?,
                )?;
            }
        }
        out.set_timestamp(self.stamp);
        let dropped = self.hop.min(self.waiting.len() / self.channels.max(1));
        self.drop_waiting(dropped, rate_hz);
        self.skip = self.hop - dropped;
        io.send("out", out)
    }
}

impl Fft {
    fn dtype(&self) -> DType {
        match (&self.engine, self.output == "complex") {
            (Engine::F32(_), false) => DType::F32,
            (Engine::F32(_), true) => DType::C32,
            (Engine::F64(_), false) => DType::F64,
            (Engine::F64(_), true) => DType::C64,
        }
    }

    fn shape(&self) -> Vec<u32> {
        let bins = (self.size / 2 + 1) as u32;
        if self.channels == 1 { vec![1, bins] } else { vec![1, self.channels as u32, bins] }
    }

    fn drop_waiting(&mut self, frames: usize, rate_hz: Option<(u32, u32)>) {
        self.waiting.drain(..frames * self.channels);
        self.stamp = later(self.stamp, frames as i64, rate_hz);
        self.skip = 0;
    }
}

impl<T: FftNum + Sample> Transform<T> {
    fn new(size: usize) -> Self {
        let plan = RealFftPlanner::new().plan_fft_forward(size);
        Self { line: plan.make_input_vec(), spectrum: plan.make_output_vec(), plan }
    }

    /// Transforms the first window of each channel into the items of one spectrum after the other.
    fn run(
        &mut self,
        frames: &[f64],
        channels: usize,
        window: &[f64],
        output: &str,
        items: &mut [T],
    ) -> Result<()> {
        let items_each = (items.len() / channels.max(1)).max(1);
        for (channel, items) in items.chunks_mut(items_each).enumerate() {
            let samples = frames.iter().skip(channel).step_by(channels);
            for ((item, sample), weight) in self.line.iter_mut().zip(samples).zip(window) {
                *item = <T as Sample>::from_f64(sample * weight);
            }
            self.plan.process(&mut self.line, &mut self.spectrum).context(|| "transform")?;
            match output {
                "complex" => {
                    let parts = self.spectrum.iter().flat_map(|bin| [bin.re, bin.im]);
                    items.iter_mut().zip(parts).for_each(|(item, part)| *item = part);
                }
                output => {
                    for (item, bin) in items.iter_mut().zip(&self.spectrum) {
                        let power = bin.norm_sqr();
                        *item = match output {
                            "power" => power,
                            _ => <T as Sample>::from_f64(Sample::to_f64(power).sqrt()),
                        };
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use crate::blocks::reference::{assert_close, vector};
    use crate::frames::position;
    use crate::testing::Bench;

    fn bench(size: i32, window: &str, output: &str, hop: Option<i32>) -> Bench {
        let mut params: Vec<(&str, Value)> =
            vec![("size", size.into()), ("window", window.into()), ("output", output.into())];
        params.extend(hop.map(|hop| ("hop", hop.into())));
        Bench::of::<Fft>(&params).unwrap()
    }

    /// The numbers of the next spectrum, pairs of complex ones after each other.
    fn pull(bench: &mut Bench) -> Option<Vec<f64>> {
        let buffer = bench.pull_buffer("out").unwrap()?;
        Some(match buffer.dtype() {
            DType::F32 | DType::C32 => {
                buffer.as_slice::<f32>().unwrap().iter().map(|x| f64::from(*x)).collect()
            }
            _ => buffer.as_slice::<f64>().unwrap().to_vec(),
        })
    }

    #[test]
    fn spectra_are_those_of_numpy() {
        for window in WINDOWS {
            for size in [16, 15] {
                let expected = vector(&format!("spectrum {window} {size}"));
                let power: Vec<f64> =
                    expected.chunks(2).map(|bin| bin[0] * bin[0] + bin[1] * bin[1]).collect();
                let magnitude: Vec<f64> = power.iter().map(|power| power.sqrt()).collect();
                for (output, expected) in
                    [("complex", &expected), ("power", &power), ("magnitude", &magnitude)]
                {
                    for chunk in [1, 5, 100] {
                        let mut bench = bench(size, window, output, None);
                        for (i, items) in vector("input")[..30].chunks(chunk).enumerate() {
                            bench.push_frames("in", (i * chunk) as i64, 1, items).unwrap();
                        }
                        bench.run().unwrap();
                        assert_close(&pull(&mut bench).expect("a spectrum"), expected, 1e-13);
                    }
                    let mut bench = bench(size, window, output, None);
                    let input: Vec<f32> = vector("input").iter().map(|x| *x as f32).collect();
                    bench.push_frames("in", 0, 1, &input).unwrap();
                    bench.run().unwrap();
                    assert_close(&pull(&mut bench).expect("a spectrum"), expected, 2e-5);
                }
            }
        }
    }

    #[test]
    fn hops_channels_and_stamps() {
        for (hop, expected) in
            [(2, vec![3.0, 7.0, 11.0, 15.0]), (1, vec![3.0, 5.0, 7.0]), (3, vec![3.0, 9.0])]
        {
            let mut bench = bench(2, "rectangular", "magnitude", Some(hop));
            // The first channel counts, the second one is twice that; bin 0 is the sum of the window.
            let items: Vec<f64> = (1..=8).flat_map(|i| [f64::from(i), 2.0 * f64::from(i)]).collect();
            for (i, items) in items.chunks(6).enumerate() {
                bench.push_frames("in", 10 + 3 * i as i64, 2, items).unwrap();
            }
            bench.end("in");
            bench.run().unwrap();
            assert!(bench.has_ended());
            for (i, sum) in expected.into_iter().enumerate() {
                let buffer = bench.pull_buffer("out").unwrap().expect("a spectrum");
                assert_eq!(buffer.extents(), [1, 2, 2]);
                let bins = buffer.as_slice::<f64>().unwrap();
                assert_eq!((bins[0], bins[2]), (sum, 2.0 * sum), "{hop}, {i}");
                assert_eq!(position(buffer.timestamp()), Some(10 + i as i64 * i64::from(hop)));
            }
            assert_eq!(bench.output_format("out").unwrap().rate_hz, divide_rate((48_000, 1), hop as u32));
        }
    }

    #[test]
    fn too_little_for_a_window_is_dropped() {
        let mut bench = bench(8, "hann", "power", None);
        bench.push("in", &[1i16; 7]).unwrap();
        bench.end("in");
        bench.run().unwrap();
        assert!(bench.has_ended() && bench.pull_buffer("out").unwrap().is_none());
    }
}
