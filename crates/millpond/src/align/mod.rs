//! Time alignment: which buffers of several streams belong to one moment.
//!
//! An [`Aligner`] takes timestamped items (buffers, ids, numbers: anything) of several ports and makes *sets* of them by a *policy*:
//!
//! | policy | a set is |
//! |---|---|
//! | [`Exact`] | one item of each port, all within a tolerance; the largest possible number of sets |
//! | [`Nearest`] | one for each item of a reference port: the item of every other port that is nearest in time |
//! | [`Linear`] | the two neighbours of a moment on every port, to interpolate between; moments of a reference port or a grid |
//! | [`Window`] | statistics over all items of each port in a span of time |
//! | [`Approximate`] | one item of each port, close together though never equal, chosen adaptively |
//!
//! It never allocates for an item once its queues have grown, never holds more than `depth` items a port, never waits, and knows
//! nothing of shared memory, threads or clocks: the caller says what time it is.
//!
//! **The result does not depend on the order of arrival across ports**, as long as nothing is late, times out or overflows. What makes
//! that possible are *bounds*: port `k` promises that nothing earlier than its bound `B` will come any more. Each item moves the bound
//! to its stamp + 1 less the port's `disorder`; [`Aligner::advance`] moves it without an item; the end of the stream moves it to
//! infinity. A moment `t` is *settled* on a port when `B > t`, and policies decide only on what is settled.
//!
//! ```
//! use millpond::align::{Aligner, Config, Exact, Poll, PortConfig};
//!
//! let mut aligner = Aligner::new(Exact::new(5), Config::of(2, PortConfig::default()));
//! aligner.push(0, 1_000, "left a").expect_held();
//! aligner.push(1, 1_003, "right a").expect_held();
//! let Poll::Set(mut set) = aligner.poll() else { panic!("the two are 3 ns apart") };
//! assert_eq!(set.take(1), Some((1_003, "right a")));
//! assert!(matches!(aligner.poll(), Poll::Waiting));
//! ```
//!
//! Every item that is not part of a set is counted with its [`Reason`].

mod aligner;
mod approximate;
mod clock;
mod exact;
mod inputs;
mod linear;
mod members;
mod nearest;
mod statistics;
mod warnings;
mod window;

pub use aligner::{Aligner, Config, Overflow, Poll, Pushed, Stall};
pub use approximate::Approximate;
pub use clock::ClockEstimate;
pub use exact::Exact;
pub use inputs::{Counters, Inputs, PortConfig, PortSet, Reason};
pub use linear::{Grid, Linear, Neighbours, Row, interpolate};
pub use members::Members;
pub use nearest::Nearest;
pub use statistics::{Accumulate, Statistics};
pub use warnings::Warning;
pub use window::{Pane, Window};

/// How sets are made; one of the five structures of this module.
pub trait Policy<T> {
    /// What a set looks like.
    type Set<'a>
    where
        Self: 'a,
        T: 'a;

    /// Tries to make the next set out of what has come.
    #[doc(hidden)]
    fn step(&mut self, inputs: &mut Inputs<T>) -> Step;

    /// The set that [`step`](Policy::step) has just made.
    #[doc(hidden)]
    fn set<'a>(&'a mut self, inputs: &'a Inputs<T>) -> Self::Set<'a>;

    /// All up to here is decided: a port that was inactive takes part again with what is later.
    #[doc(hidden)]
    fn frontier_ns(&self) -> i64;

    /// No set to come is of an earlier moment than this: what [`Aligner::come_to_ns`] says.
    #[doc(hidden)]
    fn come_to_ns(&self, inputs: &Inputs<T>) -> i64 {
        inputs.come_to_ns(self.frontier_ns())
    }

    /// Within which distance the items of a port count as simultaneous, if the policy knows that.
    #[doc(hidden)]
    fn tolerance_ns(&self, port: &PortConfig) -> Option<u64> {
        let _ = port;
        None
    }

    /// Makes room on a full port by giving up its oldest item, which is returned.
    #[doc(hidden)]
    fn give_up_oldest(&mut self, inputs: &mut Inputs<T>, port: usize) -> Option<T> {
        inputs.drop_front(port, Reason::Overflow)
    }

    /// Offers an item below its port's bound. Whoever takes it returns `None`.
    #[doc(hidden)]
    fn take_late(&mut self, inputs: &Inputs<T>, port: usize, stamp_ns: i64, item: T) -> Option<T> {
        let _ = (inputs, port, stamp_ns);
        Some(item)
    }

    /// Forgets everything but its configuration.
    #[doc(hidden)]
    fn reset(&mut self);
}

/// What came of [`Policy::step`].
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A set is ready.
    Set,
    /// Something is pending, and nothing can be decided before one of these ports moves.
    Waiting(PortSet),
    /// Nothing is pending; a movement of any of these ports can change that.
    Idle(PortSet),
    /// No set will ever be made.
    Done,
}
