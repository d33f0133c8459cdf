//! Another clock in terms of ours: its offset and drift, from comparisons that are always a little late.

use std::collections::VecDeque;

/// Groups of comparisons that a line is laid through. All pairs of them are looked at whenever one comes.
const GROUPS: usize = 64;
/// Fewer tell nothing about the drift.
const GROUPS_FOR_DRIFT: usize = 8;

/// What another clock's readings are on ours.
///
/// Delays between the reading of the two clocks (a network, a scheduler) only ever add, and now and then they are short. So of each
/// group of comparisons the one with the least delay counts: that with the shortest round trip, as in NTP's clock filter (RFC 5905,
/// section 10), or, where only arrivals are known, that on the lower envelope. A line is laid through these by the method of Theil
/// and Sen (1950, 1968): its slope is the median of the slopes of all pairs, its height the median of what is left. Up to 29 of 100
/// points may be arbitrarily wrong.
///
/// A delay that is always there cannot be told from an offset: half of the difference of the shortest ways there and back for
/// round trips, the shortest delay for arrivals.
///
/// ```
/// use millpond::align::ClockEstimate;
///
/// let mut clock = ClockEstimate::new(4);
/// // Ours is 1 s ahead; every fourth reading is undisturbed.
/// for i in 0..400 {
///     let remote_ns = i * 1_000_000;
///     clock.add_arrival(remote_ns, remote_ns + 1_000_000_000 + (i % 4) * 70_000);
/// }
/// assert_eq!(clock.to_local(500_000_000), Some(1_500_000_000));
/// assert_eq!(clock.drift_ppm(), 0.0);
/// ```
#[derive(Clone, Debug)]
pub struct ClockEstimate {
    group: u32,
    /// The first comparison. Everything else is relative to it, so that `f64` loses nothing that matters.
    first: Option<(i64, i64)>,
    /// What the other clock showed in the latest comparison.
    latest_remote_ns: Option<i64>,
    comparisons: u64,
    in_group: u32,
    /// The best of the group that is not complete, and its cost.
    best: Option<(Point, f64)>,
    points: VecDeque<Point>,
    slope: f64,
    height_ns: f64,
    scratch: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    /// The other clock, since the first comparison.
    remote_ns: f64,
    /// By how much ours has gone further since then.
    ahead_ns: f64,
    /// Half the round trip of a probe; nothing is known of an arrival.
    uncertain_ns: Option<f64>,
}

impl ClockEstimate {
    /// An estimate that chooses one of each `group` comparisons (at least 1), and keeps the last 64 that were chosen: it follows a
    /// drift that changes over that time.
    pub fn new(group: u32) -> Self {
        Self {
            group: group.max(1),
            first: None,
            latest_remote_ns: None,
            comparisons: 0,
            in_group: 0,
            best: None,
            points: VecDeque::with_capacity(GROUPS),
            slope: 0.0,
            height_ns: 0.0,
            scratch: Vec::new(),
        }
    }

    /// A question was sent and answered at these times on our clock; the answer says what the other clock was in between. Returns
    /// whether the estimate is a new one.
    pub fn add_probe(&mut self, sent_ns: i64, remote_ns: i64, received_ns: i64) -> bool {
        let round_trip_ns = received_ns.saturating_sub(sent_ns);
        self.add(remote_ns, sent_ns.saturating_add(round_trip_ns / 2), Some(round_trip_ns as f64))
    }

    /// Something that was stamped with the other clock has arrived at this time on ours. Returns whether the estimate is a new one.
    pub fn add_arrival(&mut self, remote_ns: i64, arrival_ns: i64) -> bool {
        self.add(remote_ns, arrival_ns, None)
    }

    fn add(&mut self, remote_ns: i64, local_ns: i64, cost: Option<f64>) -> bool {
        let (first_remote_ns, first_local_ns) = *self.first.get_or_insert((remote_ns, local_ns));
        let since_ns = i128::from(remote_ns) - i128::from(first_remote_ns);
        let ahead_ns = i128::from(local_ns) - i128::from(first_local_ns) - since_ns;
        self.latest_remote_ns = Some(remote_ns);
        let uncertain_ns = cost.map(|round_trip_ns| round_trip_ns / 2.0);
        let point = Point { remote_ns: since_ns as f64, ahead_ns: ahead_ns as f64, uncertain_ns };
        let cost = cost.unwrap_or(point.ahead_ns - self.slope * point.remote_ns);
        self.comparisons += 1;
        self.in_group += 1;
        if self.best.is_none_or(|(_, best)| cost < best) {
            self.best = Some((point, cost));
        }
        if self.in_group < self.group {
            // Better than nothing until the first group is complete.
            if self.points.is_empty()
                && let Some((best, _)) = self.best
            {
                self.height_ns = best.ahead_ns;
            }
            return false;
        }
        self.in_group = 0;
        if let Some((best, _)) = self.best.take() {
            if self.points.len() == GROUPS {
                self.points.pop_front();
            }
            self.points.push_back(best);
        }
        self.fit();
        true
    }

    fn fit(&mut self) {
        let points = &self.points;
        if points.len() >= GROUPS_FOR_DRIFT {
            let pairs = points.iter().enumerate().flat_map(|(i, one)| {
                points.iter().skip(i + 1).filter_map(move |other| {
                    let (dx, dy) = (other.remote_ns - one.remote_ns, other.ahead_ns - one.ahead_ns);
                    (dx != 0.0).then(|| dy / dx)
                })
            });
            self.scratch.clear();
            self.scratch.extend(pairs);
            self.slope = median(&mut self.scratch).unwrap_or(0.0);
        }
        self.scratch.clear();
        self.scratch.extend(points.iter().map(|point| point.ahead_ns - self.slope * point.remote_ns));
        self.height_ns = median(&mut self.scratch).unwrap_or(0.0);
    }

    /// What our clock shows when the other one shows this; `None` before the first comparison, and if it does not fit into an `i64`.
    pub fn to_local(&self, remote_ns: i64) -> Option<i64> {
        let (first_remote_ns, first_local_ns) = self.first?;
        let since_ns = remote_ns.checked_sub(first_remote_ns)?;
        let ahead_ns = self.height_ns + self.slope * since_ns as f64;
        first_local_ns.checked_add(since_ns)?.checked_add(ahead_ns.round() as i64)
    }

    /// By how much our clock is ahead when the other one shows this.
    pub fn offset_ns(&self, remote_ns: i64) -> Option<i64> {
        self.to_local(remote_ns)?.checked_sub(remote_ns)
    }

    /// By how much our clock is faster, in millionths; 0 until enough is known.
    pub fn drift_ppm(&self) -> f64 {
        self.slope * 1e6
    }

    /// What the other clock showed in the latest comparison.
    pub fn latest_remote_ns(&self) -> Option<i64> {
        self.latest_remote_ns
    }

    /// A moment on the other clock, and how far off [`to_local`](ClockEstimate::to_local) is there at most: the moment of the probe that was
    /// chosen last, which lay somewhere within its round trip. `None` before the first probe, and for arrivals, which prove nothing.
    pub fn error_bound(&self) -> Option<(i64, u64)> {
        let (first_remote_ns, _) = self.first?;
        let point = self.points.back().or(self.best.as_ref().map(|(point, _)| point))?;
        let residual_ns = point.ahead_ns - (self.height_ns + self.slope * point.remote_ns);
        // Up to a nanosecond each is lost by rounding to whole ones: of the middle, and of what `to_local` returns.
        let bound_ns = (residual_ns.abs() + point.uncertain_ns?).ceil() as u64 + 2;
        Some((first_remote_ns.checked_add(point.remote_ns as i64)?, bound_ns))
    }

    /// How many comparisons there were.
    pub fn comparisons(&self) -> u64 {
        self.comparisons
    }

    /// Forgets everything: one of the clocks was set.
    pub fn reset(&mut self) {
        *self = Self::new(self.group);
    }
}

/// The middle one, or the mean of the middle two.
fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let (before, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let (upper, lower) = (*upper, before.iter().copied().max_by(f64::total_cmp));
    match lower {
        Some(lower) if values.len().is_multiple_of(2) => Some((lower + upper) / 2.0),
        _ => Some(upper),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH_NS: i64 = 1_700_000_000_000_000_000;

    /// Uniform from 0 to 1.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        /// A delay with a long tail, mean 1.
        fn delay(&mut self) -> f64 {
            -(1.0 - self.next()).ln()
        }
    }

    /// What our clock shows when the other one, 123 s behind and 50 ppm slow, shows this.
    fn truth(remote_ns: i64) -> f64 {
        123e9 + remote_ns as f64 * 1.000_05
    }

    #[test]
    fn offset_and_drift_are_found_in_spite_of_jitter_and_outliers() {
        let mut random = Random(7);
        let (mut probes, mut arrivals) = (ClockEstimate::new(16), ClockEstimate::new(16));
        for i in 0..3000i64 {
            let remote_ns = i * 10_000_000;
            let local_ns = EPOCH_NS + truth(remote_ns) as i64;
            // 100 us there and back, with a mean of 500 us more either way; one in 20 takes 50 ms.
            let mut way = || (100e3 + 500e3 * random.delay()) as i64;
            let (mut there, back) = (way(), way());
            if random.next() < 0.05 {
                there += 50_000_000;
            }
            probes.add_probe(local_ns - there, remote_ns, local_ns + back);
            arrivals.add_arrival(remote_ns, local_ns + there);
        }
        for remote_ns in [20_000_000_000, 29_990_000_000, 31_000_000_000] {
            let error_ns = |clock: &ClockEstimate| {
                (clock.to_local(remote_ns).unwrap() - EPOCH_NS) as f64 - truth(remote_ns)
            };
            assert!(error_ns(&probes).abs() < 50e3, "{} ns", error_ns(&probes));
            // The shortest way is taken for an offset.
            assert!((error_ns(&arrivals) - 100e3).abs() < 60e3, "{} ns", error_ns(&arrivals));
        }
        for clock in [&probes, &arrivals] {
            assert!((clock.drift_ppm() - 50.0).abs() < 5.0, "{} ppm", clock.drift_ppm());
            assert_eq!(clock.comparisons(), 3000);
        }
    }

    #[test]
    fn a_quarter_of_all_groups_may_be_wrong() {
        let mut clock = ClockEstimate::new(1);
        for i in 0..64i64 {
            let wrong = if i % 4 == 1 { 900_000_000 } else { 0 };
            clock.add_arrival(i * 1_000_000_000, EPOCH_NS + truth(i * 1_000_000_000) as i64 + wrong);
        }
        assert!((clock.drift_ppm() - 50.0).abs() < 0.01, "{} ppm", clock.drift_ppm());
        let local_ns = clock.to_local(64_000_000_000).unwrap();
        assert!((local_ns - EPOCH_NS - truth(64_000_000_000) as i64).abs() < 1000);
    }

    #[test]
    fn something_is_known_from_the_first_comparison_on() {
        let mut clock = ClockEstimate::new(8);
        assert_eq!(clock.to_local(5), None);
        assert!(!clock.add_arrival(1000, 5000));
        assert_eq!((clock.to_local(1500), clock.offset_ns(0)), (Some(5500), Some(4000)));
        clock.add_arrival(2000, 5800);
        assert_eq!(clock.offset_ns(0), Some(3800), "the shorter delay counts");
        clock.reset();
        assert_eq!(clock.to_local(5), None);
    }

    #[test]
    fn a_probe_says_how_far_off_the_estimate_is_at_most() {
        let mut clock = ClockEstimate::new(4);
        clock.add_arrival(0, EPOCH_NS);
        assert_eq!((clock.error_bound(), clock.latest_remote_ns()), (None, Some(0)));
        clock.reset();
        let mut random = Random(11);
        for i in 0..400i64 {
            let remote_ns = i * 1_000_000_000;
            let local_ns = EPOCH_NS + truth(remote_ns) as i64;
            // Ways of very different length, which the estimate cannot know.
            let mut way = || (1e3 + 300e3 * random.delay()) as i64;
            clock.add_probe(local_ns - way(), remote_ns, local_ns + 7 * way());
            let (moment_ns, bound_ns) = clock.error_bound().unwrap();
            let error_ns = clock.to_local(moment_ns).unwrap() - EPOCH_NS - truth(moment_ns) as i64;
            assert!(error_ns.unsigned_abs() <= bound_ns, "{i}: {error_ns} of {bound_ns} ns");
            assert!(bound_ns < 10_000_000, "{i}: {bound_ns} ns says nothing");
        }
        assert_eq!(clock.latest_remote_ns(), Some(399_000_000_000));
    }

    #[test]
    fn medians() {
        assert_eq!(median(&mut []), None);
        assert_eq!(median(&mut [3.0]), Some(3.0));
        assert_eq!(median(&mut [4.0, 1.0]), Some(2.5));
        assert_eq!(median(&mut [9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&mut [9.0, 1.0, 5.0, 2.0]), Some(3.5));
    }
}
