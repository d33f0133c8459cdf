//! Signals that ask to end.

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level;

use crate::error::{Context, Result};
use crate::interrupt::Interrupts;

/// Makes each signal that asks to end an interrupt, for as long as it lives.
pub(super) struct EndSignals(Vec<SigId>);

impl EndSignals {
    pub(super) fn become_interrupts(interrupts: &Interrupts) -> Result<Self> {
        let mut signals = Self(Vec::new());
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let end = interrupts.asking_end()?;
            signals.0.push(low_level::pipe::register(signal, end).context(|| "listen for signals")?);
        }
        Ok(signals)
    }
}

impl Drop for EndSignals {
    fn drop(&mut self) {
        for id in self.0.drain(..) {
            low_level::unregister(id);
        }
    }
}
