//! A row: its stamp, and the values of all inputs.

use super::super::timed_inputs::TimedInput;
use crate::align::{Members, Neighbours, interpolate};
use crate::prelude::*;

/// What came of looking for a row.
pub(super) enum Found {
    Row { stamp_ns: i64, degraded: bool },
    Nothing,
    Done,
}

/// Which stamp a row has.
#[derive(Clone, Copy)]
pub(super) enum Stamp {
    Reference,
    Min,
    Max,
    Mean,
}

/// Where the values of a row are put together.
#[derive(Default)]
pub(super) struct Values {
    pub(super) row: Vec<f64>,
    before: Vec<f64>,
    after: Vec<f64>,
}

impl Stamp {
    /// A row may be stamped earlier than its reference.
    pub(super) fn may_precede_reference(self) -> bool {
        matches!(self, Stamp::Min | Stamp::Mean)
    }

    /// The stamp of a row; without the reference, that of the first input that is there.
    pub(super) fn of(self, set: &Members<'_, Buffer>, reference: usize) -> Option<i64> {
        match self {
            Stamp::Reference => {
                set.get(reference).map(|(stamp_ns, _)| stamp_ns).or_else(|| set.stamps_ns().next())
            }
            Stamp::Min => set.stamps_ns().min(),
            Stamp::Max => set.stamps_ns().max(),
            Stamp::Mean => {
                let (count, sum) =
                    set.stamps_ns().fold((0, 0), |(count, sum), ns| (count + 1, sum + i128::from(ns)));
                // Between the smallest and the largest, so it fits.
                (count > 0).then(|| sum.div_euclid(count) as i64)
            }
        }
    }
}

impl Values {
    /// Appends the values of all inputs.
    pub(super) fn join(
        &mut self,
        inputs: &[TimedInput],
        set: &Members<'_, Buffer>,
        stamp_ns: Option<i64>,
    ) -> Result<Found> {
        for (port, input) in inputs.iter().enumerate() {
            match set.get(port) {
                Some((_, buffer)) => {
                    input.read(buffer, &mut self.before)?;
                    self.row.extend(&self.before);
                }
                None => self.row.extend(std::iter::repeat_n(f64::NAN, input.columns)),
            }
        }
        let degraded = set.is_degraded();
        Ok(stamp_ns.map_or(Found::Nothing, |stamp_ns| Found::Row { stamp_ns, degraded }))
    }

    pub(super) fn interpolate(
        &mut self,
        input: &TimedInput,
        neighbours: Neighbours<'_, Buffer>,
    ) -> Result<()> {
        match neighbours {
            Neighbours::Missing => self.row.extend(std::iter::repeat_n(f64::NAN, input.columns)),
            Neighbours::Exact(buffer) => {
                input.read(buffer, &mut self.before)?;
                self.row.extend(&self.before);
            }
            Neighbours::Between { before, after, offset_ns, gap_ns } => {
                input.read(before, &mut self.before)?;
                input.read(after, &mut self.after)?;
                let pairs = self.before.iter().zip(&self.after);
                self.row.extend(pairs.map(|(before, after)| interpolate(*before, *after, offset_ns, gap_ns)));
            }
        }
        Ok(())
    }
}
