//! What a window knows of the items in it.

/// Collects items of a window, in the order of their stamps.
pub trait Accumulate<T>: Clone {
    /// Starts anew.
    fn clear(&mut self);

    /// Adds an item of a port. One that comes late may be earlier, in the order (stamp, port), than the one before it.
    fn add(&mut self, stamp_ns: i64, port: usize, item: &T);

    /// How many were added.
    fn count(&self) -> u64;
}

/// Count, sum, smallest, largest and last of numbers.
///
/// The sum is compensated (Kahan's method as improved by Neumaier), so it is as good as if it had been added in twice the precision,
/// whatever the order and the number of the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    count: u64,
    sum: f64,
    /// What was lost from `sum` by rounding.
    lost: f64,
    min: f64,
    max: f64,
    last_ns: i64,
    last_port: usize,
    last: f64,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            lost: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            last_ns: i64::MIN,
            last_port: 0,
            last: f64::NAN,
        }
    }
}

impl Statistics {
    /// The sum.
    pub fn sum(&self) -> f64 {
        let sum = self.sum + self.lost;
        // Once a value or the sum is infinite, what was lost is no number.
        if sum.is_nan() { self.sum } else { sum }
    }

    /// The mean; NaN if there is no item.
    pub fn mean(&self) -> f64 {
        self.sum() / self.count as f64
    }

    /// The smallest value; infinity if there is none.
    pub fn min(&self) -> f64 {
        self.min
    }

    /// The largest value; minus infinity if there is none.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The value with the latest stamp, of equal ones that of the last port; NaN if there is none.
    pub fn last(&self) -> f64 {
        self.last
    }
}

impl Accumulate<f64> for Statistics {
    fn clear(&mut self) {
        *self = Self::default();
    }

    #[inline]
    fn add(&mut self, stamp_ns: i64, port: usize, value: &f64) {
        let value = *value;
        self.count += 1;
        let sum = self.sum + value;
        self.lost +=
            if self.sum.abs() >= value.abs() { self.sum - sum + value } else { value - sum + self.sum };
        self.sum = sum;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if (stamp_ns, port) >= (self.last_ns, self.last_port) {
            (self.last_ns, self.last_port, self.last) = (stamp_ns, port, value);
        }
    }

    fn count(&self) -> u64 {
        self.count
    }
}
