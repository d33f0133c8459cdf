//! The arithmetic of resampling: a stream of any number of channels, in pieces of any size, at another rate.
//!
//! Blocks of samples are convolved with a windowed sinc by FFT (overlap-save), and their spectra cut or extended to the other length.
//! That is interpolation of what the filter lets pass, and exact. Which output frame is which instant is known exactly, too: both rates
//! are multiples of the rate `rate / step`, blocks begin at multiples of the steps, and the filter, of an even number of steps, delays
//! by a whole number of output frames. Sources: Oppenheim and Schafer, "Discrete-Time Signal Processing", 7.5 (Kaiser's window) and 8.7
//! (overlap-save).

use std::f64::consts::PI;
use std::ops::Range;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use crate::error::{Error, Result};

/// The filter is at least so long, in frames at the lower rate. With this and [`KAISER_BETA`], 195 dB below what passes are
/// reached within 0.016 of the lower rate, between the end of what passes and half the rate.
const MIN_FILTER: u64 = 820;
/// The middle of that, as a part of half the lower rate.
const CUTOFF: f64 = 0.984;
/// Kaiser's window for 190 dB.
const KAISER_BETA: f64 = 20.0;
/// Longer FFTs would be memory without bounds and a delay that nobody wants.
const MAX_FFT: u64 = 1 << 21;

/// Changes the rate of a stream. Frames are numbered from the stream's start, at either rate; frame 0 is the same instant at both.
///
/// What comes out is what [`ready`](RateChange::ready) says, to be [taken](RateChange::take) before more is fed.
pub(super) struct RateChange {
    /// So many frames of the input take as long as so many of the output; without a common divisor.
    step_in: u64,
    step_out: u64,
    /// Frames of a block.
    block_in: usize,
    block_out: usize,
    /// Frames that the filter reaches over: those before a block that its results depend on, too.
    reach_in: usize,
    reach_out: usize,
    forward: Arc<dyn RealToComplex<f64>>,
    inverse: Arc<dyn ComplexToReal<f64>>,
    /// Spectrum of the filter, as far as both rates have it.
    filter: Vec<Complex<f64>>,
    /// For each channel the reach before a block, and the block, the first `filled` frames of which are known.
    input: Vec<Vec<f64>>,
    filled: usize,
    /// For each channel what came of that: the reach means nothing. Which frames of the block are still to be taken.
    output: Vec<Vec<f64>>,
    ready: Range<usize>,
    scratch: Scratch,
    /// Output frame that is the first of the block.
    output_start: i64,
    /// Output frames before this one are none of the stream.
    first_out: i64,
    /// The next frame to be fed.
    next_in: i64,
}

/// What the FFTs work with.
struct Scratch {
    line: Vec<f64>,
    spectrum_in: Vec<Complex<f64>>,
    spectrum_out: Vec<Complex<f64>>,
    forward: Vec<Complex<f64>>,
    inverse: Vec<Complex<f64>>,
}

impl RateChange {
    /// From one rate to another, both as numbers of the same unit.
    ///
    /// # Errors
    /// If the blocks would become too large, because the rates are too far apart or have too little in common.
    pub(super) fn new(from: u64, to: u64, channels: usize) -> Result<Self> {
        let common = gcd(from, to);
        let (step_in, step_out) = (from / common, to / common);
        // An even number: the delay, half of it, is a whole number of steps.
        let reach = MIN_FILTER.div_ceil(step_in.min(step_out)).next_multiple_of(2);
        let fft = fft_steps(reach);
        let length = |step: u64| step.checked_mul(fft).filter(|frames| *frames <= MAX_FFT);
        let (Some(fft_in), Some(fft_out)) = (length(step_in), length(step_out)) else {
            return Err(Error::Refused(format!(
                "the rates are too far apart or have too little in common: {step_in} frames become {step_out}, which needs \
                 FFTs of more than {MAX_FFT} frames; choose another rate or resample in two steps"
            )));
        };
        let (fft_in, fft_out) = (fft_in as usize, fft_out as usize);
        let (reach_in, reach_out) = ((step_in * reach) as usize, (step_out * reach) as usize);
        let mut planner = RealFftPlanner::new();
        let (forward, inverse) = (planner.plan_fft_forward(fft_in), planner.plan_fft_inverse(fft_out));
        let mut scratch = Scratch {
            line: forward.make_input_vec(),
            spectrum_in: forward.make_output_vec(),
            spectrum_out: inverse.make_input_vec(),
            forward: forward.make_scratch_vec(),
            inverse: inverse.make_scratch_vec(),
        };
        let taps = low_pass(reach_in, CUTOFF * step_in.min(step_out) as f64 / step_in as f64);
        // What the inverse transform multiplies by is divided by here.
        scratch.line.iter_mut().zip(&taps).for_each(|(place, tap)| *place = tap / fft_in as f64);
        forward
            .process_with_scratch(&mut scratch.line, &mut scratch.spectrum_in, &mut scratch.forward)
            .map_err(refused)?;
        let filter = scratch.spectrum_in[..fft_in.min(fft_out) / 2].to_vec();
        Ok(Self {
            step_in,
            step_out,
            block_in: fft_in - reach_in,
            block_out: fft_out - reach_out,
            reach_in,
            reach_out,
            forward,
            inverse,
            filter,
            input: vec![vec![0.0; fft_in]; channels],
            filled: 0,
            output: vec![vec![0.0; fft_out]; channels],
            ready: 0..0,
            scratch,
            output_start: 0,
            first_out: 0,
            next_in: 0,
        })
    }

    /// Begins with input frame `first`; before it, there are zeros.
    ///
    /// # Errors
    /// If the output's frames could not be numbered.
    pub(super) fn begin(&mut self, first: i64) -> Result<()> {
        let step = first.div_euclid(self.step_in as i64);
        self.filled = first.rem_euclid(self.step_in as i64) as usize;
        let zeros = self.reach_in + self.filled;
        self.input.iter_mut().for_each(|line| line[..zeros].fill(0.0));
        self.ready = 0..0;
        self.next_in = first;
        self.first_out = self.first_at_or_behind(first)?;
        // The filter delays by half of its reach; `run_block` counts on.
        self.output_start = step
            .checked_mul(self.step_out as i64)
            .and_then(|start| start.checked_sub((self.reach_out / 2 + self.block_out) as i64))
            .ok_or_else(|| too_large(first))?;
        Ok(())
    }

    /// The next input frame.
    pub(super) fn next_in(&self) -> i64 {
        self.next_in
    }

    /// Takes frames, one channel after the other in each, until a block is full or there are no more. Returns how many it took.
    ///
    /// # Errors
    /// If the input's frames can no longer be numbered.
    pub(super) fn feed(&mut self, samples: &[f64]) -> Result<usize> {
        debug_assert!(self.ready.is_empty(), "the output would be lost");
        let channels = self.input.len();
        let frames = (samples.len() / channels).min(self.block_in - self.filled);
        let start = self.reach_in + self.filled;
        for (channel, line) in self.input.iter_mut().enumerate() {
            let new = &mut line[start..start + frames];
            if channels == 1 {
                new.copy_from_slice(&samples[..frames]);
            } else {
                let samples = samples.iter().skip(channel).step_by(channels);
                new.iter_mut().zip(samples).for_each(|(place, sample)| *place = *sample);
            }
        }
        self.filled += frames;
        self.next_in = self.next_in.checked_add(frames as i64).ok_or_else(|| too_large(self.next_in))?;
        if self.filled == self.block_in {
            self.run_block()?;
        }
        Ok(frames)
    }

    /// Lets what has been fed come out to its end, behind which there are zeros. Returns whether there is more to be taken; if so,
    /// to be called again after that.
    ///
    /// # Errors
    /// If the output's frames can no longer be numbered.
    pub(super) fn end(&mut self) -> Result<bool> {
        let end = self.first_at_or_behind(self.next_in)?;
        while self.ready.is_empty() && self.output_start + (self.block_out as i64) < end {
            let known = self.reach_in + self.filled;
            self.input.iter_mut().for_each(|line| line[known..].fill(0.0));
            self.run_block()?;
            let left = (end - self.output_start).clamp(0, self.block_out as i64) as usize;
            self.ready.end = self.ready.end.min(left);
        }
        Ok(!self.ready.is_empty())
    }

    /// The number of the next output frame, and how many are there.
    pub(super) fn ready(&self) -> (i64, usize) {
        (self.output_start + self.ready.start as i64, self.ready.len())
    }

    /// Takes the next frames of the output.
    pub(super) fn take(&mut self, frames: usize, samples: &mut Vec<f64>) {
        let start = self.reach_out + self.ready.start;
        self.ready.start += frames;
        let (taken, channels) = (start..start + frames, self.output.len());
        samples.clear();
        if channels == 1 {
            samples.extend_from_slice(&self.output[0][taken]);
            return;
        }
        samples.resize(frames * channels, 0.0);
        for (channel, line) in self.output.iter().enumerate() {
            let places = samples.iter_mut().skip(channel).step_by(channels);
            places.zip(&line[taken.clone()]).for_each(|(place, sample)| *place = *sample);
        }
    }

    /// Where output frame `frame` lies behind input frame `origin`, in input frames: a fraction.
    pub(super) fn behind(&self, frame: i64, origin: i64) -> (i128, u64) {
        let (step_in, step_out) = (i128::from(self.step_in), i128::from(self.step_out));
        (i128::from(frame) * step_in - i128::from(origin) * step_out, self.step_out)
    }

    /// The first output frame that is not before this frame of the input.
    fn first_at_or_behind(&self, frame: i64) -> Result<i64> {
        let (step_in, step_out) = (i128::from(self.step_in), i128::from(self.step_out));
        let exact = i128::from(frame) * step_out;
        let ceiling = -(-exact).div_euclid(step_in);
        ceiling.try_into().map_err(|_| too_large(frame))
    }

    fn run_block(&mut self) -> Result<()> {
        let scratch = &mut self.scratch;
        for (input, output) in self.input.iter_mut().zip(&mut self.output) {
            // The transform leaves nothing of its input.
            scratch.line.copy_from_slice(input);
            self.forward
                .process_with_scratch(&mut scratch.line, &mut scratch.spectrum_in, &mut scratch.forward)
                .map_err(refused)?;
            let (passed, silent) = scratch.spectrum_out.split_at_mut(self.filter.len());
            let filtered = scratch.spectrum_in.iter().zip(&self.filter);
            passed.iter_mut().zip(filtered).for_each(|(place, (value, gain))| *place = value * gain);
            silent.fill(Complex::default());
            self.inverse
                .process_with_scratch(&mut scratch.spectrum_out, output, &mut scratch.inverse)
                .map_err(refused)?;
            input.copy_within(self.block_in.., 0);
        }
        self.filled = 0;
        self.output_start += self.block_out as i64;
        let skipped = (self.first_out - self.output_start).clamp(0, self.block_out as i64);
        self.ready = skipped as usize..self.block_out;
        Ok(())
    }
}

/// Steps of an FFT for a filter of so many: enough that most of it are new frames, few enough that nobody waits long for them; and
/// lengths with small factors, which are fast.
fn fft_steps(reach: u64) -> u64 {
    let least = (reach * 11).div_ceil(5);
    let sizes = [2, 6, 10].into_iter().map(|smallest: u64| {
        std::iter::successors(Some(smallest), |size| size.checked_mul(2)).find(|size| *size >= least)
    });
    sizes.flatten().min().unwrap_or(least)
}

/// A low-pass of an even number of taps, delaying by half of them: a sinc, cut off by Kaiser's window. `cutoff` is a part of half the
/// rate; the gain at 0 Hz is 1.
fn low_pass(length: usize, cutoff: f64) -> Vec<f64> {
    let half = (length / 2) as f64;
    let tap = |i: usize| {
        let t = i as f64 - half;
        let sinc = if t == 0.0 { 1.0 } else { (PI * cutoff * t).sin() / (PI * cutoff * t) };
        sinc * bessel_i0(KAISER_BETA * (1.0 - (t / half).powi(2)).sqrt())
    };
    let taps: Vec<f64> = (0..length).map(tap).collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| tap / sum).collect()
}

/// The modified Bessel function of the first kind and order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * f64::EPSILON {
        term *= (x / (2.0 * k)).powi(2);
        sum += term;
        k += 1.0;
    }
    sum
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

fn too_large(frame: i64) -> Error {
    Error::Refused(format!("frame {frame} has no number at the other rate that fits 64 bits"))
}

/// What the library refuses is a mistake of this file; it is told and not hidden.
fn refused(error: impl std::fmt::Display) -> Error {
    Error::Refused(format!("cannot resample: {error}"))
}
