//! What a block leaves to its successor: one text a block, kept by the pond for as long as the block is declared.
//!
//! The text is written to whichever of two places does not count, then one store makes it count, so a kill leaves the old text or
//! the new one.

use crate::control::Control;
use crate::error::{Error, Result};
use crate::layout::{MAX_SETTINGS_BYTES, Settings};
use crate::pond::Pond;
use crate::sync::Ordering;
use crate::sys::memory;
use std::mem::size_of;

impl Pond {
    /// Keeps a text for the block, in place of an earlier one.
    ///
    /// # Errors
    /// [`Error::Unknown`] if there is no such block, [`Error::InvalidConfig`] for more than 2032 bytes, [`Error::OutOfMemory`].
    ///
    /// # Crash safety
    /// Killed in here, the old text counts, or the new one.
    pub fn store_settings(&self, block: &str, text: &str) -> Result<()> {
        if text.len() > MAX_SETTINGS_BYTES {
            return Err(Error::InvalidConfig {
                what: format!("settings of block `{block}`"),
                expected: format!("at most {MAX_SETTINGS_BYTES} bytes"),
                found: format!("{} bytes", text.len()),
            });
        }
        let pond = self.session();
        let registry = pond.lock_registry()?;
        let (index, record) = registry.find_block(block).ok_or_else(|| registry.unknown("block", block))?;
        let settings = pond.control.settings(index).ok_or_else(|| registry.unknown("block", block))?;
        if record.has_settings.load(Ordering::Relaxed) == 0 {
            let bytes = size_of::<Settings>() as u64;
            let offset = pond.control.tables().settings + u64::from(index) * bytes;
            memory::commit(&pond.control_fd, offset, bytes).map_err(|e| Error::OutOfMemory {
                what: format!("settings of block `{block}`"),
                problem: e.to_string(),
            })?;
            settings.current.store(0, Ordering::Relaxed);
        }
        let next = if settings.current.load(Ordering::Relaxed) == 1 { 2 } else { 1 };
        settings.texts[next as usize - 1].store(text);
        crash_point!(SettingsWritten);
        settings.current.store(next, Ordering::Release);
        record.has_settings.store(1, Ordering::Release);
        Ok(())
    }

    /// The text kept for the block; `None`: there is none, or no such block.
    ///
    /// # Errors
    /// [`Error::RegistryBusy`], [`Error::Forked`].
    pub fn settings(&self, block: &str) -> Result<Option<String>> {
        let registry = self.session().lock_registry()?;
        Ok(registry.find_block(block).and_then(|(index, _)| read(&self.session().control, index)))
    }
}

/// The text that counts.
pub(crate) fn read(control: &Control, block: u32) -> Option<String> {
    let record = control.block(block)?;
    if record.has_settings.load(Ordering::Acquire) == 0 {
        return None;
    }
    let settings = control.settings(block)?;
    let place = (settings.current.load(Ordering::Acquire) as usize).checked_sub(1)?;
    Some(settings.texts.get(place)?.load())
}
