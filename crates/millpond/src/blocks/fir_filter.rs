//! The arithmetic of finite impulse responses: streams of any number of channels, in pieces of any size.

use bytemuck::Pod;
use multiversion::multiversion;

/// Floating-point numbers that filters compute with.
pub(super) trait Real:
    Pod + std::ops::Add<Output = Self> + std::ops::Mul<Output = Self> + std::ops::AddAssign
{
    fn from_f64(value: f64) -> Self;
}

impl Real for f32 {
    fn from_f64(value: f64) -> Self {
        value as f32
    }
}

impl Real for f64 {
    fn from_f64(value: f64) -> Self {
        value
    }
}

/// Taps whose products are summed up together: their sum stays in a register, and rounding errors stay small.
const GROUP: usize = 8;
/// Results that are computed together; with their inputs they fit into the first-level cache.
const BLOCK: usize = 1024;

/// A filter with the frames that it has seen last.
pub(super) struct Filter<T> {
    /// The last tap first, filled up with zeros in front to whole groups.
    reversed: Vec<T>,
    /// For each channel, the latest samples, as many as taps less one; zeros at first.
    history: Vec<Vec<T>>,
    line: Vec<T>,
    results: Vec<T>,
}

impl<T: Real> Filter<T> {
    pub(super) fn new(taps: &[f64], channels: usize) -> Self {
        let reversed = Self::reversed(taps);
        let history = vec![vec![T::zeroed(); reversed.len() - 1]; channels];
        Self { reversed, history, line: Vec::new(), results: Vec::new() }
    }

    /// Goes on with other taps.
    pub(super) fn set_taps(&mut self, taps: &[f64]) {
        self.reversed = Self::reversed(taps);
        let wanted = self.reversed.len() - 1;
        for history in &mut self.history {
            let known = history.len().min(wanted);
            let mut newer = vec![T::zeroed(); wanted - known];
            newer.extend_from_slice(&history[history.len() - known..]);
            *history = newer;
        }
    }

    fn reversed(taps: &[f64]) -> Vec<T> {
        let length = taps.len().next_multiple_of(GROUP).max(GROUP);
        let mut reversed = vec![T::zeroed(); length - taps.len()];
        reversed.extend(taps.iter().rev().map(|tap| T::from_f64(*tap)));
        reversed
    }

    /// Replaces every sample of `[frames, channels]` by the filter's output for it.
    pub(super) fn run(&mut self, samples: &mut [T]) {
        let channels = self.history.len();
        for channel in 0..channels {
            let frames = self.lay_out(samples, channel);
            self.results.resize(frames, T::zeroed());
            if channels == 1 {
                convolve(&self.line, &self.reversed, samples);
            } else {
                convolve(&self.line, &self.reversed, &mut self.results);
                let places = samples.iter_mut().skip(channel).step_by(channels);
                places.zip(&self.results).for_each(|(place, result)| *place = *result);
            }
            self.remember(frames, channel);
        }
    }

    /// Puts the filter's output for the frames `first`, `first + step` and so on at the beginning of `samples`, and returns how
    /// many those are.
    pub(super) fn run_decimating(&mut self, samples: &mut [T], first: usize, step: usize) -> usize {
        let channels = self.history.len();
        let mut kept = 0;
        let mut results = std::mem::take(&mut self.results);
        results.clear();
        for channel in 0..channels {
            let frames = self.lay_out(samples, channel);
            let wanted = (first..frames).step_by(step);
            kept = wanted.len();
            results.extend(wanted.map(|i| dot(&self.line[i..i + self.reversed.len()], &self.reversed)));
            self.remember(frames, channel);
        }
        for (channel, results) in results.chunks(kept.max(1)).enumerate() {
            let places = samples.iter_mut().skip(channel).step_by(channels);
            places.zip(results).for_each(|(place, result)| *place = *result);
        }
        self.results = results;
        kept
    }

    /// Lines up the history and the new samples of a channel; returns the number of frames.
    fn lay_out(&mut self, samples: &[T], channel: usize) -> usize {
        self.line.clear();
        self.line.extend_from_slice(&self.history[channel]);
        match self.history.len() {
            1 => self.line.extend_from_slice(samples),
            channels => self.line.extend(samples.iter().skip(channel).step_by(channels)),
        }
        self.line.len() - self.history[channel].len()
    }

    fn remember(&mut self, frames: usize, channel: usize) {
        self.history[channel].copy_from_slice(&self.line[frames..]);
    }
}

/// For each result the products of the taps with the samples from its place in the line on, summed up.
///
/// The inner loop runs over results, not taps: neighbouring results need neighbouring samples, which compilers turn into vectors
/// without being allowed to change the order of a sum. What is compiled for wider vectors gives the same results.
#[multiversion(targets("x86_64+avx2"))]
fn convolve<T: Real>(line: &[T], taps: &[T], results: &mut [T]) {
    for (block, results) in results.chunks_mut(BLOCK).enumerate() {
        results.fill(T::zeroed());
        let count = results.len();
        for (group, taps) in taps.as_chunks::<GROUP>().0.iter().enumerate() {
            let start = block * BLOCK + group * GROUP;
            let samples: [&[T]; GROUP] = std::array::from_fn(|k| &line[start + k..start + k + count]);
            for i in 0..count {
                let product = |k: usize| samples[k][i] * taps[k];
                results[i] += ((product(0) + product(1)) + (product(2) + product(3)))
                    + ((product(4) + product(5)) + (product(6) + product(7)));
            }
        }
    }
}

/// The sum of the products of taps and samples, in [`GROUP`] sums side by side.
fn dot<T: Real>(samples: &[T], taps: &[T]) -> T {
    let mut sums = [T::zeroed(); GROUP];
    for (samples, taps) in samples.as_chunks::<GROUP>().0.iter().zip(taps.as_chunks::<GROUP>().0) {
        for k in 0..GROUP {
            sums[k] += samples[k] * taps[k];
        }
    }
    ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, without history: y[i] is the sum of h[k] x[i - k].
    fn naive(taps: &[f64], x: &[f64]) -> Vec<f64> {
        let y =
            |i: usize| taps.iter().enumerate().filter(|(k, _)| *k <= i).map(|(k, tap)| tap * x[i - k]).sum();
        (0..x.len()).map(y).collect()
    }

    fn noise(count: usize) -> Vec<f64> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as f64 / f64::from(1u32 << 30) - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn any_number_of_taps_channels_and_frames() {
        for taps in [1, 2, 7, 8, 9, 64, 100] {
            let taps = &noise(taps + 3)[3..];
            for channels in [1, 3] {
                let x = noise(3000 * channels);
                let expected: Vec<Vec<f64>> = (0..channels)
                    .map(|channel| {
                        naive(taps, &x.iter().skip(channel).step_by(channels).copied().collect::<Vec<_>>())
                    })
                    .collect();
                for chunk in [1, 2, 63, 64, 1500, 3000] {
                    let mut filter = Filter::<f64>::new(taps, channels);
                    let mut y = x.clone();
                    y.chunks_mut(chunk * channels).for_each(|samples| filter.run(samples));
                    for (i, y) in y.iter().enumerate() {
                        let expected = expected[i % channels][i / channels];
                        assert!(
                            (y - expected).abs() < 1e-12,
                            "{} taps, {channels}, {chunk}, {i}",
                            taps.len()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn decimating_keeps_what_filtering_would_give() {
        let (taps, x) = (noise(21), noise(600));
        let mut filter = Filter::<f64>::new(&taps, 2);
        let mut whole = x.clone();
        filter.run(&mut whole);
        let mut filter = Filter::<f64>::new(&taps, 2);
        let (mut kept, mut frame) = (Vec::new(), 0);
        for samples in x.chunks(14) {
            let mut samples = samples.to_vec();
            let first = (5 - frame % 5) % 5;
            frame += samples.len() / 2;
            let frames = filter.run_decimating(&mut samples, first, 5);
            kept.extend_from_slice(&samples[..2 * frames]);
        }
        let expected: Vec<f64> = whole.chunks(2).step_by(5).flatten().copied().collect();
        assert_eq!(kept.len(), expected.len());
        assert!(kept.iter().zip(&expected).all(|(kept, expected)| (kept - expected).abs() < 1e-12));
    }

    #[test]
    fn other_taps_go_on_with_the_history() {
        let mut filter = Filter::<f64>::new(&[1.0], 1);
        filter.run(&mut [1.0, 2.0, 3.0]);
        filter.set_taps(&[0.0; 20].map(|_| 1.0));
        let mut samples = [4.0];
        filter.run(&mut samples);
        assert_eq!(samples, [1.0 + 2.0 + 3.0 + 4.0]);
        filter.set_taps(&[0.0, 1.0]);
        filter.run(&mut samples);
        assert_eq!(samples, [4.0]);
    }
}
