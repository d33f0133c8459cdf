//! The few numbers a handful of runs is reduced to.

use serde::Serialize;

/// The values of one figure over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// The middle value.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// In the order of the rounds.
    pub values: Vec<f64>,
}

impl Spread {
    /// `None` when there are no values.
    #[must_use]
    pub fn of(values: Vec<f64>) -> Option<Self> {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) };
        Some(Self { median, min: *sorted.first()?, max: *sorted.last()?, values })
    }

    /// The quotients of the values of each round.
    #[must_use]
    pub fn per_round(&self, by: &Self) -> Option<Self> {
        Self::of(self.values.iter().zip(&by.values).map(|(ours, theirs)| ours / theirs).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Spread {
        Spread::of(values.to_vec()).expect("there are values")
    }

    #[test]
    fn the_median_is_the_middle_one_or_between_the_middle_two() {
        assert_eq!(spread(&[5.0, 1.0, 3.0]).median, 3.0);
        assert_eq!(spread(&[4.0, 1.0, 3.0, 2.0]).median, 2.5);
        assert_eq!(spread(&[7.0]).median, 7.0);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn extremes_are_found_and_order_is_kept() {
        let spread = spread(&[5.0, 1.0, 3.0]);
        assert_eq!((spread.min, spread.max), (1.0, 5.0));
        assert_eq!(spread.values, [5.0, 1.0, 3.0]);
    }

    #[test]
    fn rounds_are_divided_pairwise() {
        let ratio = spread(&[1.0, 4.0]).per_round(&spread(&[2.0, 2.0])).expect("there are values");
        assert_eq!(ratio.values, [0.5, 2.0]);
    }
}
