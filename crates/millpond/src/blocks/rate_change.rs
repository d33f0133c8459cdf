//! The arithmetic of resampling: a stream of any number of channels, in pieces of any size, at another rate.
//!
//! Blocks of samples are convolved with a windowed sinc by FFT, and their spectra cut or extended to the other length (`rubato`'s
//! synchronous resampler). Which output frame is which instant is known exactly: both rates are multiples of the rate
//! `rate / step`, blocks begin at multiples of the steps, and the filter, of an even number of taps, delays by a whole number of
//! output frames, which are cut off at the beginning.

use std::ops::Range;

use rubato::audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use crate::error::{Error, Result};

/// A block has at least so many frames at the lower rate, and so many has the filter. What passes ends where the window's main lobe
/// begins, 16 / 1024 of the lower rate below half of it.
const MIN_BLOCK: u64 = 1024;
/// Larger blocks would be memory without bounds and a delay that nobody wants.
const MAX_BLOCK: u64 = 1 << 20;

/// Changes the rate of a stream. Frames are numbered from the stream's start, at either rate; frame 0 is the same instant at both.
///
/// What comes out is what [`ready`](RateChange::ready) says, to be [taken](RateChange::take) before more is fed.
pub(super) struct RateChange {
    fft: Fft<f64>,
    /// So many frames of the input take as long as so many of the output; without a common divisor.
    step_in: u64,
    step_out: u64,
    block_in: usize,
    block_out: usize,
    channels: usize,
    /// A block of each channel, the first `filled` frames of which are known.
    input: Vec<Vec<f64>>,
    filled: usize,
    /// The latest block of each channel, and which frames of it are still to be taken.
    output: Vec<Vec<f64>>,
    ready: Range<usize>,
    /// Output frame that the first of `output` is.
    output_start: i64,
    /// Output frames before this one are none of the stream.
    first_out: i64,
    /// The next frame to be fed.
    next_in: i64,
}

impl RateChange {
    /// From one rate to another, both as numbers of the same unit.
    ///
    /// # Errors
    /// If the blocks would become too large, because the rates are too far apart or have too little in common.
    pub(super) fn new(from: u64, to: u64, channels: usize) -> Result<Self> {
        let common = gcd(from, to);
        let (step_in, step_out) = (from / common, to / common);
        // A power of two is good for FFTs. It is even, and so the delay of half a block is a whole number of frames on both sides.
        let steps = MIN_BLOCK.div_ceil(step_in.min(step_out)).next_power_of_two().max(2);
        let block = |step: u64| step.checked_mul(steps).filter(|frames| *frames <= MAX_BLOCK);
        let (Some(block_in), Some(block_out)) = (block(step_in), block(step_out)) else {
            return Err(Error::Refused(format!(
                "the rates are too far apart or have too little in common: {step_in} frames become {step_out}, which needs \
                 blocks of more than {MAX_BLOCK} frames; choose another rate or resample in two steps"
            )));
        };
        let fft = Fft::new_custom(
            step_in as usize,
            step_out as usize,
            block_in as usize,
            1,
            channels,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(refused)?;
        let (block_in, block_out) = (block_in as usize, block_out as usize);
        assert_eq!((fft.input_frames_next(), fft.output_frames_next()), (block_in, block_out));
        Ok(Self {
            fft,
            step_in,
            step_out,
            block_in,
            block_out,
            channels,
            input: vec![vec![0.0; block_in]; channels],
            filled: 0,
            output: vec![vec![0.0; block_out]; channels],
            ready: 0..0,
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
        self.fft.reset();
        let step = first.div_euclid(self.step_in as i64);
        self.filled = first.rem_euclid(self.step_in as i64) as usize;
        self.input.iter_mut().for_each(|samples| samples[..self.filled].fill(0.0));
        self.ready = 0..0;
        self.next_in = first;
        self.first_out = self.first_at_or_behind(first)?;
        // The first block comes from one that is not there; `run_block` counts on.
        self.output_start = step
            .checked_mul(self.step_out as i64)
            .and_then(|start| start.checked_sub((self.block_out + self.block_out / 2) as i64))
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
        let frames = (samples.len() / self.channels).min(self.block_in - self.filled);
        for (channel, line) in self.input.iter_mut().enumerate() {
            let new = &mut line[self.filled..self.filled + frames];
            if self.channels == 1 {
                new.copy_from_slice(&samples[..frames]);
            } else {
                let samples = samples.iter().skip(channel).step_by(self.channels);
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
            self.input.iter_mut().for_each(|line| line[self.filled..].fill(0.0));
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
        let taken = self.ready.start..self.ready.start + frames;
        self.ready.start = taken.end;
        samples.clear();
        samples.resize(frames * self.channels, 0.0);
        for (channel, line) in self.output.iter().enumerate() {
            let places = samples.iter_mut().skip(channel).step_by(self.channels);
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
        let input = SequentialSliceOfVecs::new(&self.input, self.channels, self.block_in).map_err(refused)?;
        let mut output = SequentialSliceOfVecs::new_mut(&mut self.output, self.channels, self.block_out)
            .map_err(refused)?;
        self.fft.process_into_buffer(&input, &mut output, None).map_err(refused)?;
        self.filled = 0;
        self.output_start += self.block_out as i64;
        let skipped = (self.first_out - self.output_start).clamp(0, self.block_out as i64);
        self.ready = skipped as usize..self.block_out;
        Ok(())
    }
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
