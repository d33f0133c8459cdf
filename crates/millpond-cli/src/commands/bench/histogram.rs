//! Durations collected in fixed memory, so that measuring neither allocates nor keeps more than it needs.

/// 2^8 buckets between a power of two and the next: a quantile is off by 0.2 % at most, and exact below 512 ns.
const PRECISION_BITS: u32 = 8;
const EXACT_BELOW: u64 = 1 << (PRECISION_BITS + 1);
const BUCKETS: usize = bucket_of(u64::MAX) + 1;

/// How often each duration (in ns) was seen.
pub struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    sum: u64,
    max: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), count: 0, sum: 0, max: 0 }
    }

    /// Counts one duration.
    pub fn record(&mut self, ns: u64) {
        self.counts[bucket_of(ns)] += 1;
        self.count += 1;
        self.sum += ns;
        self.max = self.max.max(ns);
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean, exact; 0 if nothing was recorded.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64
    }

    /// The longest, exact.
    pub fn max(&self) -> f64 {
        self.max as f64
    }

    /// The smallest duration that at least `fraction` of all do not exceed; 0 if nothing was recorded.
    pub fn quantile(&self, fraction: f64) -> f64 {
        let rank = (fraction * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return middle_of(bucket).min(self.max as f64);
            }
        }
        0.0
    }
}

/// Below [`EXACT_BELOW`] the value itself; above, the exponent followed by the leading bits of the value.
const fn bucket_of(ns: u64) -> usize {
    if ns < EXACT_BELOW {
        return ns as usize;
    }
    let shift = ns.ilog2() - PRECISION_BITS;
    ((shift as usize) << PRECISION_BITS) + (ns >> shift) as usize
}

fn middle_of(bucket: usize) -> f64 {
    if bucket < EXACT_BELOW as usize {
        return bucket as f64;
    }
    let shift = (bucket >> PRECISION_BITS) - 1;
    let lowest = (bucket - (shift << PRECISION_BITS)) as f64 * (shift as f64).exp2();
    lowest + ((shift as f64).exp2() - 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_keep_the_precision() {
        let mut previous = 0;
        for ns in (0..4096).chain((12..64).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]))
        {
            let bucket = bucket_of(ns);
            assert!(bucket == previous || bucket == previous + 1 || ns > 4096, "gap before {ns}");
            assert!(bucket >= previous, "not monotonic at {ns}");
            assert!(
                (middle_of(bucket) - ns as f64).abs() <= 0.002 * ns as f64,
                "{ns} read as {}",
                middle_of(bucket)
            );
            previous = bucket;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), 0.0);
        for ns in 1..=100 {
            histogram.record(ns);
        }
        assert_eq!(histogram.quantile(0.5), 50.0);
        assert_eq!(histogram.quantile(0.99), 99.0);
        assert_eq!(histogram.quantile(1.0), 100.0);
        assert_eq!(histogram.mean(), 50.5);
        assert_eq!(histogram.max(), 100.0);
    }
}
