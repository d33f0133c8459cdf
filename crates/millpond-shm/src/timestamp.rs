//! When the contents of a buffer were taken: timestamps, ranges of time, and exact conversions between samples and nanoseconds.
//!
//! A sample index never becomes time through floating point (which is off by up to 128 ns for today's dates) and never by adding a
//! rounded period (which drifts by seconds a day): both directions are integer arithmetic in 128 bits.

use std::cmp::Ordering;
use std::fmt;

use serde::Serialize;

use crate::sys::time;

const NS_PER_S: i64 = 1_000_000_000;
const S_PER_DAY: i64 = 86_400;

/// When the contents of a buffer were taken.
///
/// ```
/// use millpond_shm::Timestamp;
///
/// let stamp = Timestamp::Sample { index: 44_100, rate_num: 44_100, rate_den: 1 };
/// assert_eq!(stamp.to_ns(Some(5)), Some(1_000_000_005));
/// assert_eq!(Timestamp::Absolute(1_500_000_000).to_string(), "1970-01-01T00:00:01.500000000Z");
/// assert!(Timestamp::Relative(1) < Timestamp::Relative(2));
/// assert_eq!(Timestamp::Relative(1).partial_cmp(&Timestamp::Absolute(2)), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Timestamp {
    /// Not stamped.
    #[default]
    None,
    /// Nanoseconds since the Unix epoch.
    Absolute(i64),
    /// Nanoseconds since the stream's own start.
    Relative(i64),
    /// Index of the first sample, at `rate_num / rate_den` Hz.
    Sample {
        /// Samples since the stream's start.
        index: i64,
        /// Numerator of the rate in Hz.
        rate_num: u32,
        /// Denominator of the rate in Hz.
        rate_den: u32,
    },
}

impl Timestamp {
    /// The wall clock now: one clock read.
    #[must_use]
    pub fn now() -> Timestamp {
        Timestamp::Absolute(time::unix_ns())
    }

    /// The stamp on the timeline of Unix nanoseconds. `epoch_ns` is when the stream started, which only stamps that count from
    /// there need; without it they stay on their own timeline, which starts at 0.
    ///
    /// `None` without a stamp, for a rate of 0, and for times that do not fit into an `i64`.
    #[must_use]
    pub fn to_ns(self, epoch_ns: Option<i64>) -> Option<i64> {
        let since_start = match self {
            Timestamp::None => return None,
            Timestamp::Absolute(ns) => return Some(ns),
            Timestamp::Relative(ns) => ns,
            Timestamp::Sample { index, rate_num, rate_den } => sample_to_ns(index, rate_num, rate_den)?,
        };
        since_start.checked_add(epoch_ns.unwrap_or(0))
    }

    /// The stamp `ns` later, or earlier if negative, of the same kind. `None` without a stamp, on overflow, and for a sample index if
    /// no sample is taken at that time.
    #[must_use]
    pub fn checked_add_ns(self, ns: i64) -> Option<Timestamp> {
        match self {
            Timestamp::None => None,
            Timestamp::Absolute(stamp) => stamp.checked_add(ns).map(Timestamp::Absolute),
            Timestamp::Relative(stamp) => stamp.checked_add(ns).map(Timestamp::Relative),
            Timestamp::Sample { index, rate_num, rate_den } => {
                let target = sample_to_ns(index, rate_num, rate_den)?.checked_add(ns)?;
                let index = ns_to_sample(target, rate_num, rate_den)?;
                (sample_to_ns(index, rate_num, rate_den)? == target).then_some(Timestamp::Sample {
                    index,
                    rate_num,
                    rate_den,
                })
            }
        }
    }

    /// From `earlier` to this stamp in nanoseconds; negative if it is the later one. `None` if the two are of different kinds, for
    /// sample indices also of different rates, and on overflow.
    #[must_use]
    pub fn checked_since_ns(self, earlier: Timestamp) -> Option<i64> {
        self.is_comparable(earlier).then_some(())?;
        self.to_ns(None)?.checked_sub(earlier.to_ns(None)?)
    }

    /// Both are on one timeline.
    fn is_comparable(self, other: Timestamp) -> bool {
        match (self, other) {
            (Timestamp::Absolute(_), Timestamp::Absolute(_))
            | (Timestamp::Relative(_), Timestamp::Relative(_)) => true,
            (
                Timestamp::Sample { rate_num: num, rate_den: den, .. },
                Timestamp::Sample { rate_num, rate_den, .. },
            ) => (num, den) == (rate_num, rate_den),
            _ => false,
        }
    }

    fn value(self) -> i64 {
        match self {
            Timestamp::None => 0,
            Timestamp::Absolute(value) | Timestamp::Relative(value) => value,
            Timestamp::Sample { index, .. } => index,
        }
    }
}

/// Stamps of one kind, for sample indices of one rate, are ordered by time; others are not ordered.
impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Timestamp) -> Option<Ordering> {
        let ordered = self == other || self.is_comparable(*other);
        ordered.then(|| self.value().cmp(&other.value()))
    }
}

/// ISO 8601 in UTC for absolute stamps, `+1.500000000 s` for relative ones, `sample 48000 at 30000/1001 Hz` for indices.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Timestamp::None => "no timestamp".to_owned(),
            Timestamp::Absolute(ns) => utc(ns),
            Timestamp::Relative(ns) => {
                let sign = if ns < 0 { '-' } else { '+' };
                let ns = ns.unsigned_abs();
                format!("{sign}{}.{:09} s", ns / NS_PER_S as u64, ns % NS_PER_S as u64)
            }
            Timestamp::Sample { index, rate_num, rate_den: 1 } => format!("sample {index} at {rate_num} Hz"),
            Timestamp::Sample { index, rate_num, rate_den } => {
                format!("sample {index} at {rate_num}/{rate_den} Hz")
            }
        };
        f.pad(&text)
    }
}

fn utc(unix_ns: i64) -> String {
    let (s, ns) = (unix_ns.div_euclid(NS_PER_S), unix_ns.rem_euclid(NS_PER_S));
    let (days, s) = (s.div_euclid(S_PER_DAY), s.rem_euclid(S_PER_DAY));
    // Years are counted from March, so that the day that may be missing is the last one of a year; 400 years have 146 097 days.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (s / 3600, s / 60 % 60, s % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}.{ns:09}Z")
}

/// When sample `index` is taken, in nanoseconds after sample 0, at `rate_num / rate_den` Hz: the nearest nanosecond, of two the later
/// one, that is `floor((2 * index * rate_den * 10^9 + rate_num) / (2 * rate_num))`.
///
/// `None` if the time does not fit into an `i64`, or the rate is 0.
#[must_use]
pub fn sample_to_ns(index: i64, rate_num: u32, rate_den: u32) -> Option<i64> {
    if rate_num == 0 || rate_den == 0 {
        return None;
    }
    let (num, period) = (i128::from(rate_num), i128::from(rate_den) * i128::from(NS_PER_S));
    // 64 + 32 + 30 + 1 bits at most.
    let time = (2 * i128::from(index) * period + num).div_euclid(2 * num);
    time.try_into().ok()
}

/// The sample taken nearest to `ns` nanoseconds after sample 0, of two the later one. For rates up to 1 GHz this is the exact inverse
/// of [`sample_to_ns`]: every index that has a time comes back.
///
/// `None` if the index does not fit into an `i64`, or the rate is 0.
#[must_use]
pub fn ns_to_sample(ns: i64, rate_num: u32, rate_den: u32) -> Option<i64> {
    if rate_num == 0 || rate_den == 0 {
        return None;
    }
    let (num, period) = (i128::from(rate_num), i128::from(rate_den) * i128::from(NS_PER_S));
    let index = (2 * i128::from(ns) * num + period).div_euclid(2 * period);
    index.try_into().ok()
}

/// A half-open range of time in nanoseconds: `start_ns` belongs to it, `end_ns` does not.
///
/// ```
/// use millpond_shm::TimeRange;
///
/// let range = TimeRange::new(10, 20).unwrap();
/// assert!(range.contains(10) && !range.contains(20));
/// assert_eq!(range.intersection(TimeRange::new(15, 40).unwrap()), TimeRange::new(15, 20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct TimeRange {
    start_ns: i64,
    end_ns: i64,
}

impl TimeRange {
    /// The range from `start_ns` up to `end_ns`; `None` if it would end before it starts.
    #[must_use]
    pub fn new(start_ns: i64, end_ns: i64) -> Option<TimeRange> {
        (start_ns <= end_ns).then_some(TimeRange { start_ns, end_ns })
    }

    /// Where it begins.
    #[must_use]
    pub fn start_ns(self) -> i64 {
        self.start_ns
    }

    /// The first moment that no longer belongs to it.
    #[must_use]
    pub fn end_ns(self) -> i64 {
        self.end_ns
    }

    /// How long it is.
    #[must_use]
    pub fn duration_ns(self) -> u64 {
        self.end_ns.abs_diff(self.start_ns)
    }

    /// It has no moment.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start_ns == self.end_ns
    }

    /// Whether a moment belongs to it.
    #[must_use]
    pub fn contains(self, ns: i64) -> bool {
        (self.start_ns..self.end_ns).contains(&ns)
    }

    /// What the two have in common; `None` if they do not even touch.
    #[must_use]
    pub fn intersection(self, other: TimeRange) -> Option<TimeRange> {
        TimeRange::new(self.start_ns.max(other.start_ns), self.end_ns.min(other.end_ns))
    }
}

/// `[start, end) ns`
impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}) ns", self.start_ns, self.end_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_exact_time_of_a_sample() {
        // 1 s of 44.1 kHz has no rounding; the others round to the nearest nanosecond.
        for (index, num, den, ns) in [
            (0, 44_100, 1, 0),
            (1, 44_100, 1, 22_676),
            (44_100, 44_100, 1, 1_000_000_000),
            (1, 3, 1, 333_333_333),
            (2, 3, 1, 666_666_667),
            (-1, 3, 1, -333_333_333),
            (1, 2_000_000_000, 1, 1),
            (-1, 2_000_000_000, 1, 0),
            (30_000, 30_000, 1001, 1_001_000_000_000),
            (i64::MAX, 1_000_000_000, 1, i64::MAX),
            // A day at 44.1 kHz: adding a period of 22 676 ns would be 2.8 s short of it.
            (44_100 * 86_400, 44_100, 1, 86_400_000_000_000),
        ] {
            assert_eq!(sample_to_ns(index, num, den), Some(ns), "{index} at {num}/{den} Hz");
        }
        assert_eq!(sample_to_ns(i64::MAX, 999_999_999, 1), None);
        assert_eq!(sample_to_ns(1, 0, 1), None);
        assert_eq!(ns_to_sample(1, 1, 0), None);
        assert_eq!(ns_to_sample(i64::MAX, u32::MAX, 1), None);
    }

    proptest! {
        #[test]
        fn every_index_comes_back(index: i64, num in 1u32..=1_000_000_000, den in 1u32..=u32::MAX, shift in 0u32..63) {
            let index = index >> shift;
            if let Some(ns) = sample_to_ns(index, num, den) {
                prop_assert_eq!(ns_to_sample(ns, num, den), Some(index));
            }
        }

        #[test]
        fn the_time_is_the_nearest(index in -1_000_000_000_000i64..1_000_000_000_000, num: u32, den in 1u32..100_000) {
            let num = num.max(1);
            let ns = sample_to_ns(index, num, den);
            prop_assume!(ns.is_some());
            // ns - 1/2 <= index * den * 10^9 / num < ns + 1/2, multiplied by 2 * num.
            let ns = i128::from(ns.unwrap());
            let exact = 2 * i128::from(index) * i128::from(den) * 1_000_000_000;
            let num = i128::from(num);
            prop_assert!((2 * ns - 1) * num <= exact && exact < (2 * ns + 1) * num);
        }
    }

    #[test]
    fn stamps_of_one_timeline_are_ordered() {
        let sample = |index, rate_num| Timestamp::Sample { index, rate_num, rate_den: 1 };
        assert!(Timestamp::Absolute(-1) < Timestamp::Absolute(0));
        assert!(sample(2, 100) > sample(1, 100));
        assert_eq!(sample(2, 100).partial_cmp(&sample(1, 200)), None);
        assert_eq!(Timestamp::None.partial_cmp(&Timestamp::None), Some(Ordering::Equal));
        assert_eq!(Timestamp::None.partial_cmp(&Timestamp::Absolute(0)), None);
    }

    #[test]
    fn arithmetic_keeps_the_kind_and_never_wraps() {
        let sample = |index| Timestamp::Sample { index, rate_num: 48_000, rate_den: 1 };
        assert_eq!(Timestamp::Absolute(5).checked_add_ns(-7), Some(Timestamp::Absolute(-2)));
        assert_eq!(Timestamp::Relative(i64::MAX).checked_add_ns(1), None);
        assert_eq!(Timestamp::None.checked_add_ns(1), None);
        assert_eq!(sample(7).checked_add_ns(1_000_000_000), Some(sample(48_007)));
        assert_eq!(sample(7).checked_add_ns(1), None);
        assert_eq!(sample(48_007).checked_since_ns(sample(7)), Some(1_000_000_000));
        assert_eq!(Timestamp::Absolute(3).checked_since_ns(Timestamp::Absolute(5)), Some(-2));
        assert_eq!(Timestamp::Absolute(3).checked_since_ns(Timestamp::Relative(5)), None);
        assert_eq!(Timestamp::Absolute(i64::MAX).checked_since_ns(Timestamp::Absolute(-1)), None);
        assert_eq!(Timestamp::Relative(4).to_ns(Some(6)), Some(10));
        assert_eq!(Timestamp::Absolute(4).to_ns(Some(6)), Some(4));
        assert_eq!(Timestamp::Relative(4).to_ns(Some(i64::MAX)), None);
        assert_eq!(Timestamp::None.to_ns(Some(6)), None);
    }

    #[test]
    fn stamps_are_shown_as_people_write_them() {
        for (stamp, text) in [
            (Timestamp::None, "no timestamp"),
            (Timestamp::Absolute(1_700_000_000_123_456_789), "2023-11-14T22:13:20.123456789Z"),
            (Timestamp::Absolute(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z"),
            (Timestamp::Absolute(-1), "1969-12-31T23:59:59.999999999Z"),
            (Timestamp::Absolute(i64::MIN), "1677-09-21T00:12:43.145224192Z"),
            (Timestamp::Absolute(i64::MAX), "2262-04-11T23:47:16.854775807Z"),
            (Timestamp::Relative(1_500_000_000), "+1.500000000 s"),
            (Timestamp::Relative(-1), "-0.000000001 s"),
            (Timestamp::Sample { index: 3, rate_num: 48_000, rate_den: 1 }, "sample 3 at 48000 Hz"),
            (Timestamp::Sample { index: 3, rate_num: 30_000, rate_den: 1001 }, "sample 3 at 30000/1001 Hz"),
        ] {
            assert_eq!(stamp.to_string(), text);
        }
    }

    #[test]
    fn ranges_do_not_contain_their_end() {
        let range = |start, end| TimeRange::new(start, end).unwrap();
        assert_eq!(TimeRange::new(1, 0), None);
        assert!(range(1, 1).is_empty() && !range(1, 1).contains(1));
        assert_eq!(range(i64::MIN, i64::MAX).duration_ns(), u64::MAX);
        assert_eq!(range(0, 5).intersection(range(5, 9)), Some(range(5, 5)));
        assert_eq!(range(0, 5).intersection(range(6, 9)), None);
        assert_eq!(range(-3, 5).to_string(), "[-3, 5) ns");
    }
}
