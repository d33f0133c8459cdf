//! What the two programs of the comparison share: how a duration is written on the command line,
//! and how a signal reaches the one place that cleans up.

pub mod seconds;
pub mod signals;
