//! The alignment engine against plain computations that know all items at once.
//!
//! Streams are small and random: jitter, drop-outs, duplicates, ties, bursts, disorder, streams that die early. Each policy's sets are
//! compared with what its definition says, computed in the most straightforward way; and they have to be the same for every order
//! of arrival across ports.

mod approximate;
mod exact;
mod linear;
mod nearest;
mod no_allocation;
mod ports;
mod promises;
mod streams;
mod window;
