//! A histogram of latencies that is small, exact to 6 % and costs a few instructions an entry.

use std::time::Duration;

/// Steps into which each doubling is divided.
const STEPS: usize = 16;
/// Values below this have a bucket each; from there on, [`STEPS`] buckets a doubling.
const LINEAR_NS: u64 = STEPS as u64;
/// Longest latency that is told apart, about 18 minutes.
const MAX_NS: u64 = (1 << 40) - 1;
const BUCKETS: usize = bucket(MAX_NS) + 1;

/// Counts latencies by size, in buckets that grow with the latency.
pub(crate) struct Latencies {
    counts: Box<[u32; BUCKETS]>,
    total: u64,
    max_ns: u64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0, max_ns: 0 }
    }

    #[inline]
    pub(crate) fn add(&mut self, latency_ns: u64) {
        let count = &mut self.counts[bucket(latency_ns.min(MAX_NS))];
        *count = count.saturating_add(1);
        self.total += 1;
        self.max_ns = self.max_ns.max(latency_ns);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The latency that `permille` of 1000 entries do not exceed, rounded up by at most 6 %.
    pub(crate) fn quantile(&self, permille: u64) -> Duration {
        let rank = (self.total * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return Duration::from_nanos(largest_in(bucket).min(self.max_ns));
            }
        }
        self.max()
    }
}

const fn bucket(ns: u64) -> usize {
    if ns < LINEAR_NS {
        return ns as usize;
    }
    // Keep the leading one and the bits behind it that tell the step.
    let shift = ns.ilog2() - STEPS.ilog2();
    shift as usize * STEPS + (ns >> shift) as usize
}

fn largest_in(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let step = (bucket % STEPS + STEPS) as u64;
    ((step + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_narrow() {
        let mut last = bucket(0);
        for ns in (1..100_000).chain((100_000..MAX_NS).step_by(1_000_003_337)) {
            let bucket = bucket(ns);
            let largest = largest_in(bucket);
            assert!(bucket >= last && largest >= ns && (largest - ns) as f64 <= ns as f64 / 16.0, "{ns}");
            last = bucket;
        }
        assert_eq!(bucket(MAX_NS), BUCKETS - 1);
        assert_eq!(largest_in(BUCKETS - 1), MAX_NS);
    }

    #[test]
    fn quantiles_of_a_known_distribution() {
        let mut latencies = Latencies::new();
        (1..=10_000).for_each(|us| latencies.add(us * 1000));
        for (permille, exact_us) in [(500, 5000.0), (990, 9900.0), (1000, 10_000.0)] {
            let found = latencies.quantile(permille).as_secs_f64() * 1e6;
            assert!((exact_us..=exact_us * 1.07).contains(&found), "{permille}: {found}");
        }
        assert_eq!(latencies.max(), Duration::from_millis(10));
    }

    #[test]
    fn nothing_and_the_absurd_are_fine() {
        let mut latencies = Latencies::new();
        assert!(latencies.is_empty());
        assert_eq!(latencies.quantile(990), Duration::ZERO);
        latencies.add(u64::MAX);
        assert_eq!(latencies.quantile(500), Duration::from_nanos(MAX_NS));
    }
}
