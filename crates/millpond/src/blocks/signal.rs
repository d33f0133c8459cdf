//! `signal`: a source of test signals.

use std::f64::consts::TAU;

use crate::prelude::*;
use crate::samples::REAL_NAMES;

/// Computes a waveform sample by sample, as fast as it is taken.
pub(super) struct Signal {
    dtype: DType,
    rate_hz: u32,
    frames: u32,
    channels: u32,
    /// Frames in all; `None`: without end.
    limit: Option<u64>,
    seed: u64,
    next_frame: u64,
    /// Phase in cycles at frame `since`, from where on the frequency is the same.
    phase: f64,
    since: u64,
    freq_hz: f64,
    samples: Vec<f64>,
}

const WAVEFORMS: &[&str] = &["sine", "square", "saw", "noise", "chirp"];

impl Block for Signal {
    fn spec() -> Spec {
        Spec::new("signal", "Sends a test signal: sine, square, saw, noise or chirp")
            .details(
                "Samples come as fast as they are taken; put a `throttle` behind it for real time. Buffers are stamped with the \
                 index of their first frame. All channels are equal. A square is up in the first half of each period; a saw \
                 rises from -1 to 1; noise is white and even between -1 and 1, and always the same for the same seed; a chirp is a sine whose frequency \
                 goes from `freq_hz` to `end_freq_hz` in `sweep_s`, and again from the start. Frequency and amplitude can \
                 change while it runs, without a jump of the phase. Started again after its process was killed, it goes on \
                 behind the last buffer that it had sent.",
            )
            .example(
                r#"
connect = ["tone -> file"]
blocks.tone = { type = "signal", freq_hz = 440, amplitude = 0.5, duration_s = 2.0 }
blocks.file = { type = "wav-sink", path = "tone.wav" }
"#,
            )
            .output(Port::new("out", "the signal").dtypes(REAL).shape(["frames", "channels"]))
            .param(Param::one_of("waveform", "what it looks like", WAVEFORMS).default("sine"))
            .param(Param::float("freq_hz", "its frequency").default(440.0).range(0.0, 1e9).unit("Hz"))
            .param(Param::float("amplitude", "its largest value, in the numbers of the samples").default(1.0).range(-1e30, 1e30))
            .param(Param::float("end_freq_hz", "frequency at the end of a chirp").default(10_000.0).range(0.0, 1e9).unit("Hz"))
            .param(Param::float("sweep_s", "duration of a chirp").default(1.0).range(1e-6, 1e6).unit("s"))
            .param(Param::int("seed", "makes another noise").default(0).range(0.0, f64::INFINITY).fixed())
            .param(Param::int("rate_hz", "frames a second").default(48_000).range(1.0, 4e9).unit("Hz").fixed())
            .param(Param::one_of("dtype", "item type; integers are rounded and saturate", REAL_NAMES).default("f32").fixed())
            .param(Param::int("channels", "channels").default(1).range(1.0, 1e6).fixed())
            .param(Param::int("frames", "frames in a buffer").default(4096).range(1.0, 1e6).fixed())
            .param(Param::int("count", "buffers to send; without it and `duration_s`, until stopped").range(0.0, f64::INFINITY).optional().fixed())
            .param(Param::float("duration_s", "length of the signal").range(0.0, 1e9).unit("s").optional().fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let (rate_hz, frames): (u32, u32) = (params.get("rate_hz"), params.get("frames"));
        let by_count = params.get::<Option<u64>>("count").map(|count| count.saturating_mul(frames.into()));
        let by_duration = params
            .get::<Option<f64>>("duration_s")
            .map(|duration_s| (duration_s * f64::from(rate_hz)).round() as u64);
        let limit = by_count.into_iter().chain(by_duration).min();
        Ok(Self {
            dtype: params.get("dtype"),
            rate_hz,
            frames,
            channels: params.get("channels"),
            limit,
            seed: params.get("seed"),
            next_frame: 0,
            phase: 0.0,
            since: 0,
            freq_hz: params.get("freq_hz"),
            samples: Vec::new(),
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.next_frame = io.next_sequence("out").saturating_mul(self.frames.into());
        let (shape, rate_hz) = (vec![0, self.channels], Some((self.rate_hz, 1)));
        io.set_format("out", StreamFormat { dtype: self.dtype, shape, rate_hz, ..StreamFormat::default() })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let left = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.next_frame));
        let frames = left.min(self.frames.into()) as u32;
        if frames == 0 {
            return Err(Pause::Done);
        }
        let mut buffer = io.new_buffer("out", self.dtype, &[frames, self.channels])?;
        self.compute(io, frames);
        buffer.write_samples(&self.samples)?;
        let index = self.next_frame as i64;
        buffer.set_timestamp(Timestamp::Sample { index, rate_num: self.rate_hz, rate_den: 1 });
        self.next_frame += u64::from(frames);
        io.send("out", buffer)
    }
}

impl Signal {
    fn compute(&mut self, io: &Io, frames: u32) {
        let (waveform, amplitude): (String, f64) = (io.param("waveform"), io.param("amplitude"));
        let freq_hz: f64 = io.param("freq_hz");
        if freq_hz != self.freq_hz {
            self.phase = self.cycles(self.next_frame);
            (self.since, self.freq_hz) = (self.next_frame, freq_hz);
        }
        let (sweep_s, end_freq_hz): (f64, f64) = (io.param("sweep_s"), io.param("end_freq_hz"));
        let rate_hz = f64::from(self.rate_hz);
        self.samples.clear();
        for frame in self.next_frame..self.next_frame + u64::from(frames) {
            let value = match waveform.as_str() {
                "noise" => noise(self.seed, frame),
                "chirp" => {
                    let t = (frame as f64 / rate_hz) % sweep_s;
                    sine((freq_hz + (end_freq_hz - freq_hz) * t / (2.0 * sweep_s)) * t)
                }
                "square" => square(self.cycles(frame)),
                "saw" => saw(self.cycles(frame)),
                _ => sine(self.cycles(frame)),
            };
            self.samples.extend(std::iter::repeat_n(amplitude * value, self.channels as usize));
        }
    }

    /// The phase at a frame, in cycles from 0 to 1. Computed from the frame's number: errors do not add up.
    fn cycles(&self, frame: u64) -> f64 {
        let periods = (frame - self.since.min(frame)) as f64 * self.freq_hz / f64::from(self.rate_hz);
        (self.phase + periods).fract()
    }
}

fn sine(cycles: f64) -> f64 {
    (TAU * cycles).sin()
}

fn square(cycles: f64) -> f64 {
    if cycles < 0.5 { 1.0 } else { -1.0 }
}

fn saw(cycles: f64) -> f64 {
    2.0 * cycles - 1.0
}

/// White noise from -1 to 1 that depends on nothing but seed and frame: SplitMix64 (Steele, Lea and Flood, 2014).
fn noise(seed: u64, frame: u64) -> f64 {
    let mut z =
        frame.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed.wrapping_mul(0xd134_2543_de82_ef95);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use crate::blocks::reference::{assert_close, vector};
    use crate::frames::position;
    use crate::testing::{Bench, Item};

    fn signal<T: Item>(params: &[(&str, Value)]) -> Vec<T> {
        let mut bench = Bench::of::<Signal>(params).unwrap();
        bench.run().unwrap();
        assert!(bench.has_ended());
        bench.pull_all("out").unwrap()
    }

    #[test]
    fn a_sine_is_one_whatever_the_chunks() {
        for (frames, count) in [(1, 50), (50, 1), (7, 8)] {
            let params: [(&str, Value); 5] = [
                ("freq_hz", 1000.into()),
                ("amplitude", 0.5.into()),
                ("dtype", "f64".into()),
                ("frames", frames.into()),
                ("count", count.into()),
            ];
            assert_close(&signal::<f64>(&params)[..50], &vector("sine"), 1e-14);
        }
    }

    #[test]
    fn another_frequency_goes_on_with_the_phase() {
        let params: [(&str, Value); 4] = [
            ("freq_hz", 1000.into()),
            ("amplitude", 0.5.into()),
            ("dtype", "f64".into()),
            ("frames", 7.into()),
        ];
        let mut bench = Bench::of::<Signal>(&params).unwrap();
        // Until the queue is full, of what was computed before the change. Then with room for what comes after it.
        bench.run().unwrap();
        bench.set("freq_hz", 3456.7).unwrap();
        let before = bench.pull_all::<f64>("out").unwrap();
        bench.run().unwrap();
        let after = bench.pull_all::<f64>("out").unwrap();
        assert!(before.len() > 48 && after.len() > 48);
        // A running sum of the steps, which the block does not compute.
        let mut cycles = 0.0;
        let mut expected = Vec::new();
        for i in 0..before.len() + after.len() {
            expected.push(0.5 * (TAU * cycles).sin());
            cycles += if i < before.len() { 1000.0 } else { 3456.7 } / 48_000.0;
        }
        assert_close(&[before, after].concat(), &expected, 1e-10);
    }

    #[test]
    fn other_waveforms_are_those_of_scipy() {
        let at = |i: usize| ((i as f64 + 0.25) * 1000.0 / 48_000.0).fract();
        assert_close(&(0..50).map(|i| square(at(i))).collect::<Vec<_>>(), &vector("square"), 0.0);
        assert_close(&(0..50).map(|i| saw(at(i))).collect::<Vec<_>>(), &vector("saw"), 1e-14);
        let params: [(&str, Value); 6] = [
            ("waveform", "chirp".into()),
            ("freq_hz", 100.into()),
            ("end_freq_hz", 9000.into()),
            ("sweep_s", 0.001.into()),
            ("dtype", "f64".into()),
            ("duration_s", 0.001.into()),
        ];
        assert_close(&signal::<f64>(&params), &vector("chirp"), 1e-14);
    }

    #[test]
    fn noise_is_white_even_and_repeatable() {
        let params: [(&str, Value); 4] = [
            ("waveform", "noise".into()),
            ("dtype", "f64".into()),
            ("frames", 4096.into()),
            ("count", 4.into()),
        ];
        let noise: Vec<f64> = signal(&params);
        assert_eq!(noise, signal::<f64>(&params));
        let other = [&params[..], &[("seed", 1.into())]].concat();
        assert_ne!(noise, signal::<f64>(&other));
        assert!(noise.iter().all(|sample| (-1.0..1.0).contains(sample)));
        let count = noise.len() as f64;
        let mean = noise.iter().sum::<f64>() / count;
        let power = noise.iter().map(|sample| sample * sample).sum::<f64>() / count;
        let next = noise.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / count;
        // Four standard deviations of each: sqrt(1/3), sqrt(4/45) and 1/3, over sqrt(16384).
        assert!(mean.abs() < 0.018 && (power - 1.0 / 3.0).abs() < 0.0094 && next.abs() < 0.0105);
    }

    #[test]
    fn lengths_channels_and_integers() {
        let params: [(&str, Value); 6] = [
            ("dtype", "i16".into()),
            ("amplitude", 40_000.into()),
            ("freq_hz", 12_000.into()),
            ("channels", 2.into()),
            ("frames", 3.into()),
            ("duration_s", (5.0 / 48_000.0).into()),
        ];
        assert_eq!(signal::<i16>(&params), [0, 0, i16::MAX, i16::MAX, 0, 0, i16::MIN, i16::MIN, 0, 0]);
        assert!(signal::<f32>(&[("count", 0.into())]).is_empty());
        let mut bench = Bench::of::<Signal>(&params).unwrap();
        bench.run().unwrap();
        bench.pull_buffer("out").unwrap().unwrap();
        assert_eq!(position(bench.pull_buffer("out").unwrap().unwrap().timestamp()), Some(3));
    }
}
