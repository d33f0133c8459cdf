//! Settings that cannot give what they seem to promise, for streams like those that have come.

use super::Policy;
use super::aligner::{Aligner, Overflow};

/// Waiting for so long, or longer, is waiting for ever.
const FOR_EVER_NS: u64 = 9_000_000_000_000_000_000;

/// A setting that does not fit the streams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warning {
    /// Which items are a set may be ambiguous.
    Tolerance {
        /// The largest one of a port.
        tolerance_ns: u64,
        /// The shortest mean distance of two items on a port.
        period_ns: f64,
    },
    /// A port is full before its items can be decided on.
    Depth {
        /// Which one.
        port: usize,
        /// How many it holds at most.
        depth: usize,
        /// How many come until they can be decided on.
        needed: u64,
        /// By how much streams were behind others; 0 where that does no harm.
        skew_ns: u64,
    },
}

impl Warning {
    /// The port that it is about, if it is about one.
    pub fn port(&self) -> Option<usize> {
        match self {
            Warning::Tolerance { .. } => None,
            Warning::Depth { port, .. } => Some(*port),
        }
    }

    /// In words, which call a port `name(port)`.
    pub fn text(&self, name: impl Fn(usize) -> String) -> String {
        match self {
            Warning::Tolerance { tolerance_ns, period_ns } => format!(
                "the tolerance of {tolerance_ns} ns is at least half the shortest period of {period_ns:.0} ns: what belongs \
                 together may be ambiguous"
            ),
            Warning::Depth { port, depth, needed, skew_ns } => format!(
                "{}: a depth of {depth} is less than the {needed} that come during skew ({skew_ns} ns), disorder and timeout",
                name(*port)
            ),
        }
    }
}

impl<T, P: Policy<T>> Aligner<T, P> {
    /// What does not fit, as far as can be known from what has come. `skew_ns`: by how much the newest item of a stream was behind
    /// that of another one. It does not count in the mode [`Overflow::Sync`]: there a sender that is ahead waits, so none
    /// is ever further ahead than the depth allows.
    pub fn warnings(&self, skew_ns: u64) -> Vec<Warning> {
        let ports = || 0..self.inputs.len();
        let skew_ns = if self.overflow == Overflow::Sync { 0 } else { skew_ns };
        let mut warnings = Vec::new();
        let tolerance_ns = ports().filter_map(|port| self.policy.tolerance_ns(self.port_config(port))).max();
        let shortest_ns = ports().filter_map(|port| self.period_ns(port)).reduce(f64::min);
        if let (Some(tolerance_ns), Some(period_ns)) = (tolerance_ns, shortest_ns)
            && tolerance_ns as f64 >= period_ns / 2.0
        {
            warnings.push(Warning::Tolerance { tolerance_ns, period_ns });
        }
        for port in ports() {
            let Some(period_ns) = self.period_ns(port).filter(|period_ns| *period_ns > 0.0) else { continue };
            let config = self.port_config(port);
            // It is the others that are waited for.
            let timeouts =
                ports().filter(|other| *other != port).filter_map(|other| self.port_config(other).timeout_ns);
            let timeout_ns = timeouts.filter(|timeout_ns| *timeout_ns < FOR_EVER_NS).max().unwrap_or(0);
            let span_ns = skew_ns as f64 + config.disorder_ns as f64 + timeout_ns as f64;
            let needed = (span_ns / period_ns).ceil() as u64;
            if (config.depth as u64) < needed {
                warnings.push(Warning::Depth { port, depth: config.depth, needed, skew_ns });
            }
        }
        warnings
    }
}
