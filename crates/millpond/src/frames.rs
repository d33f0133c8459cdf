//! Streams as frames: the first dimension of a buffer counts frames, the others make up one frame.
//!
//! A buffer of `[frames, channels]` has a sample of each channel in a frame; in a buffer of one dimension each item is a frame.

use std::ops::Range;

use millpond_shm::{Buffer, BufferMut, StreamFormat, Timestamp};

use crate::error::Result;

/// The frames of a buffer.
pub trait Frames {
    /// The extents of the buffer.
    fn extents(&self) -> Vec<u32>;

    /// How many frames there are.
    fn frames(&self) -> u32 {
        self.extents().first().copied().unwrap_or(0)
    }

    /// Items in one frame: the number of channels.
    fn channels(&self) -> usize {
        self.extents().iter().skip(1).map(|extent| *extent as usize).product()
    }
}

impl Frames for Buffer {
    fn extents(&self) -> Vec<u32> {
        self.shape().to_vec()
    }
}

impl Frames for BufferMut {
    fn extents(&self) -> Vec<u32> {
        self.shape().to_vec()
    }
}

/// Items in one frame of a stream of this format.
pub fn channels(format: &StreamFormat) -> usize {
    format.shape.iter().skip(1).map(|extent| *extent as usize).product()
}

/// The stamp of the frame that comes `frames` behind the one with this stamp. Times need the rate; without it there is none.
pub fn later(stamp: Timestamp, frames: i64, rate_hz: Option<(u32, u32)>) -> Timestamp {
    if frames == 0 {
        return stamp;
    }
    let ns = rate_hz.filter(|(num, den)| *num > 0 && *den > 0).map(|(num, den)| {
        (i128::from(frames) * 1_000_000_000 * i128::from(den)).div_euclid(i128::from(num)) as i64
    });
    match (stamp, ns) {
        (Timestamp::Absolute(first_ns), Some(ns)) => Timestamp::Absolute(first_ns.saturating_add(ns)),
        (Timestamp::Relative(first_ns), Some(ns)) => Timestamp::Relative(first_ns.saturating_add(ns)),
        (Timestamp::Sample { index, rate_num, rate_den }, _) => {
            Timestamp::Sample { index: index.saturating_add(frames), rate_num, rate_den }
        }
        _ => Timestamp::None,
    }
}

/// A stamp as a time, which a promise about a stream has to be; `None` if it is none.
pub(crate) fn time_of(stamp: Timestamp) -> Option<Timestamp> {
    let ns = stamp.to_ns(None)?;
    Some(if matches!(stamp, Timestamp::Absolute(_)) {
        Timestamp::Absolute(ns)
    } else {
        Timestamp::Relative(ns)
    })
}

/// The `n`th part of a rate; `None` if it cannot be told in 32 bits.
pub fn divide_rate((num, den): (u32, u32), n: u32) -> Option<(u32, u32)> {
    let gcd = |mut a: u32, mut b: u32| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a.max(1)
    };
    let common = gcd(num, n);
    Some((num / common, den.checked_mul(n / common)?))
}

/// The stamp in a stream of every `n`th frame.
pub fn divide_stamp(stamp: Timestamp, n: u32) -> Timestamp {
    match stamp {
        Timestamp::Sample { index, rate_num, rate_den } => match divide_rate((rate_num, rate_den), n) {
            Some((rate_num, rate_den)) => {
                Timestamp::Sample { index: index.div_euclid(n.into()), rate_num, rate_den }
            }
            None => Timestamp::None,
        },
        time => time,
    }
}

/// Where in its stream a buffer begins, if its stamp counts samples.
pub fn position(stamp: Timestamp) -> Option<i64> {
    match stamp {
        Timestamp::Sample { index, .. } => Some(index),
        _ => None,
    }
}

/// Cuts a buffer to some of its frames, in place; its stamp becomes that of the first one kept.
///
/// # Errors
/// If the buffer has no such frames.
pub fn keep(buffer: &mut BufferMut, frames: Range<u32>, rate_hz: Option<(u32, u32)>) -> Result<()> {
    let mut shape = buffer.extents();
    let frame_bytes = buffer.channels() * buffer.dtype().size_bytes();
    if frames == (0..shape[0]) {
        return Ok(());
    }
    let bytes = frames.start as usize * frame_bytes..frames.end as usize * frame_bytes;
    buffer.as_bytes_mut().copy_within(bytes, 0);
    shape[0] = frames.end - frames.start;
    let dtype = buffer.dtype();
    buffer.set_array(dtype, &shape)?;
    buffer.set_timestamp(later(buffer.timestamp(), frames.start.into(), rate_hz));
    buffer.set_time_range(None);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_move_on() {
        let sample = |index| Timestamp::Sample { index, rate_num: 48_000, rate_den: 1 };
        assert_eq!(later(sample(5), 7, None), sample(12));
        assert_eq!(later(Timestamp::Absolute(10), 3, Some((2, 1))), Timestamp::Absolute(1_500_000_010));
        assert_eq!(later(Timestamp::Relative(0), -1, Some((3, 1))), Timestamp::Relative(-333_333_334));
        assert_eq!(later(Timestamp::Absolute(10), 0, None), Timestamp::Absolute(10));
        assert_eq!(later(Timestamp::Absolute(10), 1, None), Timestamp::None);
        assert_eq!(later(Timestamp::Absolute(10), 1, Some((0, 0))), Timestamp::None);
    }

    #[test]
    fn rates_divide_exactly() {
        assert_eq!(divide_rate((48_000, 1), 3), Some((16_000, 1)));
        assert_eq!(divide_rate((44_100, 1), 8), Some((11_025, 2)));
        assert_eq!(divide_rate((1, u32::MAX), 2), None);
        let stamp = |index, rate_num| Timestamp::Sample { index, rate_num, rate_den: 1 };
        assert_eq!(divide_stamp(stamp(12, 48_000), 4), stamp(3, 12_000));
        assert_eq!(divide_stamp(Timestamp::Absolute(7), 4), Timestamp::Absolute(7));
    }
}
