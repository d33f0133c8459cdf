//! What the programs of the comparison share: how a [library](library::Library) is measured between real processes, how a
//! measuring program is run, what the machine is, how a duration is written on the command line, and how a signal reaches the
//! one place that cleans up.

pub mod harness;
pub mod library;
pub mod machine;
pub mod probe;
pub mod runner;
pub mod seconds;
pub mod signals;
pub mod stats;
