//! Several inputs, frame by frame: what blocks have in common that join streams by position.

use crate::frames::{later, time_of};
use crate::prelude::*;

/// Takes equally many frames from each input, however they are cut into buffers.
pub(super) struct Lockstep {
    sides: Vec<Side>,
}

struct Side {
    input: String,
    /// The buffer whose frames are being used; it has some left.
    buffer: Option<Buffer>,
    used: u32,
}

impl Lockstep {
    pub(super) fn new(inputs: Vec<String>) -> Self {
        let side = |input| Side { input, buffer: None, used: 0 };
        Self { sides: inputs.into_iter().map(side).collect() }
    }

    /// The frames that all inputs have now; at least one. They stay until [`advance`](Lockstep::advance).
    ///
    /// # Errors
    /// [`Pause::NeedInput`], or [`Pause::Done`] if an input has ended.
    pub(super) fn frames(&mut self, io: &mut Io) -> Result<u32, Pause> {
        let mut missing = false;
        for side in &mut self.sides {
            while side.left() == 0 {
                (side.buffer, side.used) = (None, 0);
                match io.take(&side.input) {
                    Ok(buffer) => side.buffer = Some(buffer),
                    Err(Pause::NeedInput) => {
                        missing = true;
                        break;
                    }
                    Err(pause) => return Err(pause),
                }
            }
        }
        if missing {
            self.pass_on(io);
            return Err(Pause::NeedInput);
        }
        Ok(self.sides.iter().map(Side::left).min().unwrap_or(0))
    }

    /// Tells the receivers of `out` how far the first input has come, whose stamps the output has.
    fn pass_on(&self, io: &mut Io) {
        let Some(first) = self.sides.first() else { return };
        let bound = match first.left() {
            0 => io.bound(&first.input),
            _ => {
                let rate_hz = io.format(&first.input).and_then(|format| format.rate_hz);
                time_of(self.stamp(rate_hz))
            }
        };
        if let Some(bound) = bound {
            io.advance("out", bound);
        }
    }

    /// The bytes of the next `frames` frames of each input, and the items in one of them.
    pub(super) fn slices(&self, frames: u32) -> impl Iterator<Item = (&[u8], usize)> {
        self.sides.iter().filter_map(|side| side.buffer.as_ref()).zip(&self.sides).map(
            move |(buffer, side)| {
                let frame_bytes = buffer.channels() * buffer.dtype().size_bytes();
                let start = side.used as usize * frame_bytes;
                (&buffer.as_bytes()[start..start + frames as usize * frame_bytes], buffer.channels())
            },
        )
    }

    /// The stamp of the next frame, as the first input has it.
    pub(super) fn stamp(&self, rate_hz: Option<(u32, u32)>) -> Timestamp {
        let first = self.sides.first().and_then(|side| Some((side.buffer.as_ref()?.timestamp(), side.used)));
        first.map_or(Timestamp::None, |(stamp, used)| later(stamp, used.into(), rate_hz))
    }

    /// A buffer for a result as large as the next `frames` frames of the first input: that input's own if nobody else needs it.
    /// It is as good as new; what it holds means nothing.
    pub(super) fn result_buffer(&mut self, io: &mut Io, frames: u32) -> Result<BufferMut, Pause> {
        let Some((first, buffer)) = self.sides.first_mut().and_then(|side| {
            let buffer = side.buffer.take()?;
            Some((side, buffer))
        }) else {
            return Err(Pause::NeedInput);
        };
        let whole = first.used == 0 && buffer.frames() == frames;
        let (dtype, mut shape) = (buffer.dtype(), buffer.extents());
        let shared = match if whole { buffer.try_into_mut() } else { Err(buffer) } {
            Ok(own) => return Ok(own),
            Err(shared) => shared,
        };
        first.buffer = Some(shared);
        shape[0] = frames;
        io.new_buffer("out", dtype, &shape)
    }

    /// Has done with the next `frames` frames of each input.
    pub(super) fn advance(&mut self, frames: u32) {
        self.sides.iter_mut().for_each(|side| side.used += frames);
    }
}

impl Side {
    fn left(&self) -> u32 {
        self.buffer.as_ref().map_or(0, |buffer| buffer.frames().saturating_sub(self.used))
    }
}

/// The format that all inputs have.
///
/// # Errors
/// If they differ in item type, channels or rate.
pub(super) fn same_format(io: &Io, inputs: &[String], also_channels: bool) -> Result<StreamFormat> {
    let format = |input: &String| io.format(input).cloned().unwrap_or_default();
    let kind = |format: &StreamFormat| {
        let frame = format.shape.get(1..).filter(|_| also_channels).unwrap_or_default().to_vec();
        (format.dtype, frame, format.rate_hz)
    };
    let first = format(&inputs[0]);
    for input in &inputs[1..] {
        let other = format(input);
        if kind(&first) != kind(&other) {
            return Err(Error::Refused(format!(
                "expected streams of the same kind, found {} at `{}` and {} at `{input}`: `convert`, `resampler` and `deinterleave` make \
                 them fit",
                describe(&first),
                inputs[0],
                describe(&other)
            )));
        }
    }
    Ok(first)
}

fn describe(format: &StreamFormat) -> String {
    let channels = match crate::frames::channels(format) {
        1 => "1 channel".to_owned(),
        channels => format!("{channels} channels"),
    };
    let rate = match format.rate_hz {
        Some((num, 1)) => format!(" at {num} Hz"),
        Some((num, den)) => format!(" at {num}/{den} Hz"),
        None => String::new(),
    };
    format!("{} of {channels}{rate}", format.dtype)
}
