//! Ports by name, and the format of what an output sends.

use crate::error::{Error, Result};
use crate::layout::{MAX_DESCRIPTION_BYTES, MAX_DIMENSIONS, MAX_PORTS, PortRecord};
use crate::ports::{DEFAULT_DEPTH, StreamFormat};
use crate::registry::{Direction, find, split_port};
use crate::registry_lock::Registry;
use crate::sync::Ordering;
use crate::types::DType;

impl Registry<'_> {
    pub(super) fn find_port(&self, block: u32, name: &str) -> Option<(u32, &PortRecord)> {
        find(self.pond.control.used_ports(), |p| {
            p.block.load(Ordering::Relaxed) == block && p.name.load() == name
        })
    }

    /// The port of that name, made (with its block) if there is none.
    pub(crate) fn declare_port(&self, port: &str, direction: Direction) -> Result<u32> {
        let (block_name, name) = split_port(port)?;
        let block = self.declare_block(block_name, "")?;
        if let Some((index, record)) = self.find_port(block, name) {
            if record.direction.load(Ordering::Relaxed) != direction as u32 {
                let other = if direction == Direction::Output { Direction::Input } else { Direction::Output };
                let (expected, found) = (direction.name(), other.name());
                return Err(Error::WrongDirection { port: port.to_owned(), expected, found });
            }
            return Ok(index);
        }
        let header = self.pond.control.header();
        let used = header.ports_used.load(Ordering::Relaxed).min(MAX_PORTS as u32);
        let unused =
            |i: &u32| self.pond.control.port(*i).is_some_and(|p| p.direction.load(Ordering::Relaxed) == 0);
        let free = (0..used).find(unused).unwrap_or(used);
        let record = self
            .pond
            .control
            .port(free)
            .ok_or_else(|| self.full("port", MAX_PORTS, "remove blocks that are gone"))?;
        record.block.store(block, Ordering::Relaxed);
        record.name.store(name);
        for word in [&record.shared, &record.redeliver, &record.has_format, &record.bound_kind] {
            word.store(0, Ordering::Relaxed);
        }
        record.depth.store(DEFAULT_DEPTH, Ordering::Relaxed);
        record.unconnected.store(0, Ordering::Relaxed);
        record.dropped_at_disconnect.store(0, Ordering::Relaxed);
        record.sent_before.store(0, Ordering::Relaxed);
        for word in record.owners.iter().chain(&record.waiters) {
            word.store(0, Ordering::Relaxed);
        }
        crash_point!(PortWritten);
        record.direction.store(direction as u32, Ordering::Release);
        crash_point!(PortMade);
        header.ports_used.store(used.max(free + 1), Ordering::Release);
        Ok(free)
    }

    pub(super) fn port(&self, index: u32) -> Result<&PortRecord> {
        self.pond.control.port(index).ok_or_else(|| self.unknown("port", &index.to_string()))
    }

    pub(crate) fn set_format(&self, port: u32, format: &StreamFormat) -> Result<()> {
        let record = self.port(port)?;
        let wrong = |expected: String, found: String| {
            Err(Error::InvalidConfig { what: "stream format".to_owned(), expected, found })
        };
        if format.shape.len() > MAX_DIMENSIONS {
            return wrong(format!("at most {MAX_DIMENSIONS} dimensions"), format!("{:?}", format.shape));
        }
        if format.description.len() > MAX_DESCRIPTION_BYTES {
            let found = format!("{} bytes", format.description.len());
            return wrong(format!("a description of at most {MAX_DESCRIPTION_BYTES} bytes"), found);
        }
        let (num, den) = format.rate_hz.unwrap_or((0, 1));
        if format.rate_hz.is_some() && (num == 0 || den == 0) {
            return wrong("a rate above 0 Hz".to_owned(), format!("{num}/{den} Hz"));
        }
        record.has_format.store(0, Ordering::Release);
        crash_point!(FormatCleared);
        record.dtype.store(format.dtype as u32, Ordering::Relaxed);
        record.dimensions.store(format.shape.len() as u32, Ordering::Relaxed);
        for (word, &dimension) in record.shape.iter().zip(&format.shape) {
            word.store(dimension, Ordering::Relaxed);
        }
        record.rate[0].store(num, Ordering::Relaxed);
        record.rate[1].store(den, Ordering::Relaxed);
        record.description.store(&format.description);
        crash_point!(FormatWritten);
        record.has_format.store(1, Ordering::Release);
        Ok(())
    }

    /// The format of an output port's stream, if its sender has given one.
    pub(crate) fn format(&self, port: u32) -> Option<StreamFormat> {
        read_format(self.pond.control.port(port)?)
    }
}

/// The format stored with an output port.
pub(crate) fn read_format(record: &PortRecord) -> Option<StreamFormat> {
    if record.has_format.load(Ordering::Acquire) == 0 {
        return None;
    }
    let dimensions = (record.dimensions.load(Ordering::Relaxed) as usize).min(MAX_DIMENSIONS);
    let (num, den) = (record.rate[0].load(Ordering::Relaxed), record.rate[1].load(Ordering::Relaxed));
    Some(StreamFormat {
        dtype: DType::from_code(record.dtype.load(Ordering::Relaxed) as u8).unwrap_or_default(),
        shape: record.shape[..dimensions].iter().map(|d| d.load(Ordering::Relaxed)).collect(),
        rate_hz: (num != 0 && den != 0).then_some((num, den)),
        description: record.description.load(),
    })
}
