//! Tells the user, once, of settings that do not fit the streams.

use crate::align::{Aligner, Policy, Warning};
use crate::prelude::*;

/// After so many buffers the settings are looked at; then after twice as many, and so on.
const FIRST_LOOK: u64 = 64;

/// What has been seen and told.
pub(super) struct Advice {
    taken: u64,
    next_look: u64,
    most_skew_ns: u64,
    told: Vec<Warning>,
}

impl Default for Advice {
    fn default() -> Self {
        Self { taken: 0, next_look: FIRST_LOOK, most_skew_ns: 0, told: Vec::new() }
    }
}

impl Advice {
    /// Other settings deserve another look, and to be told of again.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// So many more buffers have come.
    pub(super) fn note<T, P: Policy<T>>(&mut self, taken: u64, aligner: &Aligner<T, P>) {
        self.taken += taken;
        self.most_skew_ns = self.most_skew_ns.max(aligner.skew_ns());
    }

    /// Tells what is new, if it is time for another look.
    pub(super) fn look<T, P: Policy<T>>(
        &mut self,
        io: &Io,
        aligner: &Aligner<T, P>,
        name: impl Fn(usize) -> String,
    ) {
        if self.taken >= self.next_look {
            self.next_look = self.taken.saturating_mul(2);
            self.tell(io, aligner, name);
        }
    }

    /// Tells what is new.
    pub(super) fn tell<T, P: Policy<T>>(
        &mut self,
        io: &Io,
        aligner: &Aligner<T, P>,
        name: impl Fn(usize) -> String,
    ) {
        for warning in aligner.warnings(self.most_skew_ns) {
            if !self.told.iter().any(|told| told.port() == warning.port()) {
                io.note(&warning.text(&name));
                self.told.push(warning);
            }
        }
    }
}
