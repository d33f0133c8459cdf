//! `resampler`: a stream at another rate.

use std::collections::VecDeque;

use super::rate_change::RateChange;
use crate::prelude::*;

/// Resamples each channel, in `f64`.
pub(super) struct Resampler {
    rate_hz: u32,
    input: InputRate,
    channels: usize,
    /// Extents of a frame.
    frame_shape: Vec<u32>,
    dtype: DType,
    /// `None` if the rate stays as it is.
    change: Option<RateChange>,
    state: State,
    /// Stamps of the latest buffers, by the number of their first frame.
    stamps: VecDeque<(i64, Timestamp)>,
    /// The samples of the latest buffer, the first `fed` of which have been fed.
    waiting: Vec<f64>,
    fed: usize,
    samples: Vec<f64>,
}

/// Frames a second of the input, `num / den`.
#[derive(Clone, Copy)]
struct InputRate {
    num: u32,
    den: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Nothing has been fed since the last end.
    Between,
    /// In the middle of frames that follow each other.
    Within,
    /// There are no more, or some are missing before the next: what has been fed comes out to its end.
    Ending,
}

/// An output buffer has at most so many bytes, and at least one frame.
const MAX_BUFFER_BYTES: usize = 64 << 10;

impl Block for Resampler {
    fn spec() -> Spec {
        Spec::new("resampler", "Changes the rate of a stream to any other, without aliases")
            .details(
                "Everything up to 0.48 of the lower rate passes and nothing from half of it on, with errors below -190 dB for f64 and \
                 below -145 dB for f32, which is computed in f64, too. Integers are rounded and saturate. Nothing is delayed: \
                 output frame k is the input at the time k / rate_hz, and its stamp says so: sample indexes count at the new rate, exactly; \
                 times are those of the input buffer plus an exact offset, rounded once. n frames become \
                 n x rate_hz / input rate, rounded up. Before the first and behind the last frame there are zeros. The work is done \
                 in blocks of at least 984 frames at the lower rate, so output comes up to one and a half blocks after its input. \
                 Where sample indexes jump, the stream ends and begins again; a NaN or an infinity spoils the two blocks around it. After \
                 a restart up to one and a half blocks are lost, and the stamps show it. Both rates are exact: a clock that \
                 drifts is not followed.",
            )
            .example(
                r#"
connect = ["song -> slower -> file"]
blocks.song = { type = "wav-source", path = "song-48k.wav" }
blocks.slower = { type = "resampler", rate_hz = 44100 }
blocks.file = { type = "wav-sink", path = "song-44k1.wav" }
"#,
            )
            .input(Port::new("in", "samples").dtypes(REAL))
            .output(Port::new("out", "the samples at the new rate").like("in"))
            .param(Param::int("rate_hz", "frames a second of the output").range(1.0, 4e9).unit("Hz").fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self {
            rate_hz: params.get("rate_hz"),
            input: InputRate { num: 1, den: 1 },
            channels: 1,
            frame_shape: Vec::new(),
            dtype: DType::F64,
            change: None,
            state: State::Between,
            stamps: VecDeque::new(),
            waiting: Vec::new(),
            fed: 0,
            samples: Vec::new(),
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let mut format = io.format("in").cloned().unwrap_or_default();
        let Some((num, den)) = format.rate_hz.filter(|(num, den)| *num > 0 && *den > 0) else {
            let problem = "the stream at `in` has no rate, without which it cannot be resampled: give its source a `rate_hz`";
            return Err(Error::Refused(problem.to_owned()));
        };
        let channels = crate::frames::channels(&format);
        if channels == 0 {
            let shape = &format.shape;
            return Err(Error::Refused(format!(
                "expected frames of a fixed number of samples at `in`, found a stream of shape {shape:?}"
            )));
        }
        self.input = InputRate { num, den };
        self.channels = channels;
        self.dtype = format.dtype;
        self.frame_shape = format.shape.iter().skip(1).copied().collect();
        let (from, to) = (u64::from(num), u64::from(self.rate_hz) * u64::from(den));
        self.change = if from == to { None } else { Some(RateChange::new(from, to, channels)?) };
        format.rate_hz = Some((self.rate_hz, 1));
        if let Some(frames) = format.shape.first_mut() {
            *frames = 0;
        }
        io.set_format("out", format)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let Some(change) = &mut self.change else {
            let buffer = io.take("in")?;
            return io.send("out", buffer);
        };
        if change.ready().1 > 0 {
            return self.send_ready(io);
        }
        if self.fed < self.waiting.len() {
            self.fed += change.feed(&self.waiting[self.fed..])? * self.channels;
            return Ok(());
        }
        if self.state == State::Ending {
            if !change.end()? {
                self.state = State::Between;
                self.stamps.clear();
            }
            return Ok(());
        }
        self.take(io)
    }
}

impl Resampler {
    /// Takes the next buffer, unless it does not follow on those before: then these come out first.
    fn take(&mut self, io: &mut Io) -> WorkResult {
        let Some(change) = &mut self.change else { return Ok(()) };
        let stamp = match io.peek("in") {
            Ok(buffer) => buffer.timestamp(),
            Err(Pause::Done) if self.state == State::Within => {
                self.state = State::Ending;
                return Ok(());
            }
            Err(pause) => return Err(pause),
        };
        let start = self.input.index(stamp).unwrap_or(change.next_in());
        if self.state == State::Within && start != change.next_in() {
            self.state = State::Ending;
            return Ok(());
        }
        let buffer = io.take("in")?;
        if buffer.channels() != self.channels {
            let (expected, found) = (self.channels, buffer.channels());
            let problem = format!("expected frames of {expected} samples at `in`, found frames of {found}");
            return Err(Error::Refused(problem).into());
        }
        if buffer.frames() == 0 {
            return Ok(());
        }
        if self.state == State::Between {
            change.begin(start)?;
            self.state = State::Within;
        }
        buffer.read_samples(&mut self.waiting)?;
        self.fed = 0;
        self.stamps.push_back((start, stamp));
        Ok(())
    }

    fn send_ready(&mut self, io: &mut Io) -> WorkResult {
        let Some(change) = &mut self.change else { return Ok(()) };
        let (first, frames) = change.ready();
        let frames = frames.min((MAX_BUFFER_BYTES / (self.channels * self.dtype.size_bytes())).max(1));
        let mut shape = self.frame_shape.clone();
        shape.insert(0, frames as u32);
        let mut buffer = io.new_buffer("out", self.dtype, &shape)?;
        change.take(frames, &mut self.samples);
        buffer.write_samples(&self.samples)?;
        // The latest buffer that does not begin after this frame.
        while self.stamps.get(1).is_some_and(|(start, _)| change.behind(first, *start).0 >= 0) {
            self.stamps.pop_front();
        }
        if let Some((start, stamp)) = self.stamps.front() {
            buffer.set_timestamp(match self.input.index(*stamp) {
                Some(_) => Timestamp::Sample { index: first, rate_num: self.rate_hz, rate_den: 1 },
                None => self.input.later(*stamp, change.behind(first, *start)),
            });
        }
        io.send("out", buffer)
    }
}

impl InputRate {
    /// Where in the stream a buffer with this stamp begins, if the stamp counts its samples.
    fn index(self, stamp: Timestamp) -> Option<i64> {
        match stamp {
            Timestamp::Sample { index, rate_num, rate_den } => {
                let is_same =
                    u64::from(rate_num) * u64::from(self.den) == u64::from(self.num) * u64::from(rate_den);
                is_same.then_some(index)
            }
            _ => None,
        }
    }

    /// The time a fraction of input frames behind a stamp that is one, to the nearest nanosecond.
    fn later(self, stamp: Timestamp, (frames, divisor): (i128, u64)) -> Timestamp {
        let period = i128::from(self.den) * 1_000_000_000;
        let rate = i128::from(self.num) * i128::from(divisor);
        // As `sample_to_ns` rounds.
        let ns = frames.checked_mul(2 * period).map(|exact| (exact + rate).div_euclid(2 * rate));
        let later = ns.and_then(|ns| i64::try_from(ns).ok()).and_then(|ns| match stamp {
            // Samples of another stream.
            Timestamp::Sample { .. } => Timestamp::Relative(stamp.to_ns(None)?).checked_add_ns(ns),
            stamp => stamp.checked_add_ns(ns),
        });
        later.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, Item, TEST_RATE_HZ};

    fn resampler(rate_hz: u32) -> Bench {
        Bench::of::<Resampler>(&[("rate_hz", rate_hz.into())]).unwrap()
    }

    /// Sines of these frequencies, sampled at a rate: known without any resampling.
    fn sines(freqs_hz: &[u64], rate_hz: u32, frames: usize) -> Vec<f64> {
        let rate_hz = u64::from(rate_hz);
        let sine = |freq_hz: u64, frame: usize| {
            // The phase is exact: whole turns are left out in integers. Each sine begins at another one.
            let turns = (freq_hz * frame as u64 % rate_hz) as f64 / rate_hz as f64;
            (std::f64::consts::TAU * turns + freq_hz as f64).sin() / freqs_hz.len() as f64
        };
        (0..frames).map(|frame| freqs_hz.iter().map(|freq_hz| sine(*freq_hz, frame)).sum()).collect()
    }

    /// Of two signals, without their ends, beyond which one of them has zeros.
    fn snr_db(found: &[f64], expected: &[f64]) -> f64 {
        assert_eq!(found.len(), expected.len());
        let inner = 3000..found.len() - 3000;
        let power =
            |samples: &mut dyn Iterator<Item = f64>| samples.map(|sample| sample * sample).sum::<f64>();
        let signal = power(&mut expected[inner.clone()].iter().copied());
        let noise = power(&mut inner.map(|i| found[i] - expected[i]));
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn sines_come_out_as_they_are_defined() {
        for (rate_hz, asked_db) in
            [(44_100, 140.0), (16_000, 130.0), (96_000, 140.0), (32_000, 140.0), (11_025, 140.0)]
        {
            let highest_hz = u64::from(rate_hz.min(TEST_RATE_HZ)) * 48 / 100;
            let freqs_hz = [20, 441, 1000, highest_hz / 3, highest_hz / 2, highest_hz - 1234, highest_hz - 1];
            let input = sines(&freqs_hz, TEST_RATE_HZ, 72_000);
            let expected =
                sines(&freqs_hz, rate_hz, (72_000 * rate_hz as usize).div_ceil(TEST_RATE_HZ as usize));
            let found = resampler(rate_hz).run_through::<f64, f64>(1, 5000, &input).unwrap();
            let f64_db = snr_db(&found, &expected);
            let narrow: Vec<f32> = input.iter().map(|sample| *sample as f32).collect();
            let found = resampler(rate_hz).run_through::<f32, f32>(1, 5000, &narrow).unwrap();
            let f32_db = snr_db(&found.into_iter().map(f64::from).collect::<Vec<_>>(), &expected);
            println!("48000 to {rate_hz} Hz: f64 {f64_db:.1} dB, f32 {f32_db:.1} dB");
            assert!(f64_db >= asked_db, "{rate_hz} Hz: {f64_db} dB");
            assert!(f32_db >= asked_db, "{rate_hz} Hz, f32: {f32_db} dB");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_gone() {
        for (rate_hz, freqs_hz) in [(44_100, [22_050, 23_000, 23_999]), (16_000, [8000, 12_345, 23_999])] {
            let input = sines(&freqs_hz, TEST_RATE_HZ, 48_000);
            let found = resampler(rate_hz).run_through::<f64, f64>(1, 4096, &input).unwrap();
            let inner = &found[3000..found.len() - 3000];
            let largest = inner.iter().fold(0f64, |largest, sample| largest.max(sample.abs()));
            println!("48000 to {rate_hz} Hz: aliases of {largest:e}");
            assert!(largest < 1e-7, "{rate_hz} Hz: {largest}");
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_same_as_the_whole() {
        let input = sines(&[997, 5000], TEST_RATE_HZ, 3 * 2401);
        let whole = resampler(44_100).run_through::<f64, f64>(3, 2401, &input).unwrap();
        for chunk in [1, 7, 1280, 1281] {
            let pieces = resampler(44_100).run_through::<f64, f64>(3, chunk, &input).unwrap();
            assert!(pieces == whole, "chunks of {chunk}");
        }
        // Each channel by itself.
        for channel in 0..3 {
            let one: Vec<f64> = input.iter().skip(channel).step_by(3).copied().collect();
            let alone = resampler(44_100).run_through::<f64, f64>(1, 100, &one).unwrap();
            assert!(whole.iter().skip(channel).step_by(3).eq(&alone), "channel {channel}");
        }
    }

    #[test]
    fn the_length_is_the_exact_one_rounded_up() {
        for frames in [0, 1, 2, 159, 160, 161, 639, 640, 641, 1279, 1280, 1281, 5001] {
            for rate_hz in [44_100, 16_000, 96_000, 48_000] {
                let out = resampler(rate_hz).run_through::<f32, f32>(1, 999, &vec![0.5; frames]).unwrap();
                let expected = (frames * rate_hz as usize).div_ceil(TEST_RATE_HZ as usize);
                assert_eq!(out.len(), expected, "{frames} frames to {rate_hz} Hz");
            }
        }
    }

    /// Lets the block run and collects its buffers: the first frame's stamp, and the frames.
    fn collect(bench: &mut Bench) -> Vec<(Timestamp, Vec<f64>)> {
        let mut all = Vec::new();
        loop {
            bench.run().unwrap();
            let mut some = false;
            while let Some(buffer) = bench.pull_buffer("out").unwrap() {
                all.push((buffer.timestamp(), buffer.as_slice::<f64>().unwrap().to_vec()));
                some = true;
            }
            if !some {
                return all;
            }
        }
    }

    #[test]
    fn indexes_are_exact_also_from_the_middle_and_over_a_gap() {
        let whole = sines(&[997, 5000], TEST_RATE_HZ, 20_000);
        let reference = resampler(44_100).run_through::<f64, f64>(1, 4096, &whole).unwrap();
        let mut bench = resampler(44_100);
        // From frame 1003 to 8000, and from 8100 on.
        let mut found = Vec::new();
        for (start, end) in [(1003, 5000), (5000, 8000), (8100, 14_000), (14_000, 20_000)] {
            bench.push_frames("in", start as i64, 1, &whole[start..end]).unwrap();
            found.extend(collect(&mut bench));
        }
        bench.end("in");
        found.extend(collect(&mut bench));
        assert!(bench.has_ended());
        let mut compared = 0;
        let mut next = 922; // 1003 * 0.91875, rounded up
        for (stamp, samples) in found {
            let Timestamp::Sample { index, rate_num: 44_100, rate_den: 1 } = stamp else { panic!("{stamp}") };
            if next == 7350 && index != next {
                next = 7442; // 8100 * 0.91875, rounded up
            }
            assert_eq!(index, next);
            next += samples.len() as i64;
            for (frame, sample) in (index..).zip(&samples) {
                // Away from the cuts, it is what the whole stream gives.
                let is_inner = [922, 7350, 7442, 18_375].iter().all(|cut| (frame - cut).abs() > 600);
                if is_inner {
                    compared += 1;
                    assert!((sample - reference[frame as usize]).abs() < 1e-9, "frame {frame}");
                }
            }
        }
        assert_eq!(next, 18_375);
        assert!(compared > 12_000, "{compared}");
    }

    #[test]
    fn times_are_those_of_the_input_buffer_plus_an_exact_offset() {
        let mut bench = resampler(44_100);
        let format =
            StreamFormat { dtype: DType::F64, rate_hz: Some((TEST_RATE_HZ, 1)), ..StreamFormat::default() };
        bench.set_format("in", format).unwrap();
        let start_ns = 1_700_000_000_000_000_000;
        let mut found = Vec::new();
        for buffer in 0..10 {
            // A clock that is read anew for each buffer: 1000 frames take 20.833 ms, and it is 5 us late each time.
            let unix_ns = start_ns + buffer * (20_833_333 + 5000);
            bench.push_at("in", unix_ns, &[0.25; 1000]).unwrap();
            found.extend(collect(&mut bench));
        }
        bench.end("in");
        found.extend(collect(&mut bench));
        let mut frame = 0i64;
        for (stamp, samples) in found {
            // Input frame frame * 160 / 147 lies in this buffer of 1000 frames:
            let buffer = frame * 160 / 147 / 1000;
            let within = f64::from((frame * 160 - buffer * 147_000) as i32) / 147.0 / 48e3 * 1e9;
            let expected = start_ns + buffer * (20_833_333 + 5000) + within.round() as i64;
            assert_eq!(stamp, Timestamp::Absolute(expected), "frame {frame}");
            frame += samples.len() as i64;
        }
        assert_eq!(frame, 9188);
    }

    fn constant<T: Item + PartialEq + std::fmt::Debug>(value: T, at_most: usize) {
        let out = resampler(16_000).run_through::<T, T>(2, 1000, &[value; 20_000]).unwrap();
        assert_eq!(out.len(), 2 * 3334);
        let others = out[2000..out.len() - 2000].iter().filter(|sample| **sample != value).count();
        assert!(others <= at_most, "{others}");
    }

    #[test]
    fn integers_are_rounded_and_saturate() {
        constant(i16::MAX, 0);
        constant(-1i32, 0);
        constant(7u8, 0);
        // Full-scale steps overshoot, but do not wrap.
        let square: Vec<i16> =
            (0..9000).map(|i| if i / 100 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let out = resampler(44_100).run_through::<i16, i16>(1, 1000, &square).unwrap();
        let wide: Vec<f64> = square.iter().map(|sample| f64::from(*sample)).collect();
        let exact = resampler(44_100).run_through::<f64, f64>(1, 1000, &wide).unwrap();
        assert!(
            exact.iter().any(|sample| *sample > 35_000.0) && exact.iter().any(|sample| *sample < -35_000.0)
        );
        assert!(out.iter().zip(&exact).all(|(sample, exact)| *sample == exact.round() as i16));
        assert!(out.contains(&i16::MAX) && out.contains(&i16::MIN));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        let mut bench = resampler(44_100);
        bench.push("in", &[1.0f32]).unwrap();
        let refusal = bench.run().expect_err("no rate").to_string();
        assert_eq!(
            refusal,
            "the stream at `in` has no rate, without which it cannot be resampled: give its source a `rate_hz`"
        );
        let mut bench = resampler(1);
        bench.push_frames("in", 0, 1, &[1.0f32]).unwrap();
        let refusal = bench.run().expect_err("too far").to_string();
        assert!(refusal.contains("48000 frames become 1"), "{refusal}");
        assert!(Bench::of::<Resampler>(&[("rate_hz", 0.into())]).is_err());
        assert!(Bench::of::<Resampler>(&[]).is_err());
    }
}
