//! Blocks by name.

use crate::error::{Error, Result};
use crate::layout::{BlockRecord, MAX_BLOCKS, PortRecord};
use crate::registry::{check_name, find, port_name};
use crate::registry_lock::Registry;
use crate::sync::Ordering;

/// Where a connection leads whose port was removed: no port has this index.
const NO_PORT: u32 = u32::MAX;

impl Registry<'_> {
    pub(crate) fn find_block(&self, name: &str) -> Option<(u32, &BlockRecord)> {
        find(self.pond.control.used_blocks(), |b| b.name.load() == name)
    }

    /// The block of that name, made if there is none. An empty type leaves a known one as it is.
    pub(crate) fn declare_block(&self, name: &str, block_type: &str) -> Result<u32> {
        check_name("block", name)?;
        if let Some((index, block)) = self.find_block(name) {
            if !block_type.is_empty() {
                block.block_type.store(block_type);
            }
            return Ok(index);
        }
        let header = self.pond.control.header();
        let used = header.blocks_used.load(Ordering::Relaxed).min(MAX_BLOCKS as u32);
        let unused =
            |i: &u32| self.pond.control.block(*i).is_some_and(|b| b.state.load(Ordering::Relaxed) == 0);
        let free = (0..used).find(unused).unwrap_or(used);
        let block =
            self.pond.control.block(free).ok_or_else(|| {
                self.full("block", MAX_BLOCKS, "remove blocks that are gone, or merge some")
            })?;
        block.name.store(name);
        block.block_type.store(block_type);
        block.process.store(0, Ordering::Relaxed);
        block.has_settings.store(0, Ordering::Relaxed);
        for counter in &block.counters {
            counter.store(0, Ordering::Relaxed);
        }
        crash_point!(BlockWritten);
        block.state.store(1, Ordering::Release);
        crash_point!(BlockMade);
        header.blocks_used.store(used.max(free + 1), Ordering::Release);
        Ok(free)
    }

    /// Says that this process runs the block.
    pub(crate) fn own_block(&self, index: u32) {
        if let Some(block) = self.pond.control.block(index) {
            block.process.store(self.pond.me.into(), Ordering::Release);
            crash_point!(BlockOwned);
        }
    }

    /// Removes a block that nobody runs, with its ports and connections.
    pub(crate) fn remove_block(&self, name: &str) -> Result<()> {
        let (index, block) = self.find_block(name).ok_or_else(|| self.unknown("block", name))?;
        let ports: Vec<(u32, &PortRecord)> = self
            .pond
            .control
            .used_ports()
            .filter(|(_, p)| p.block.load(Ordering::Relaxed) == index)
            .collect();
        for (port, record) in &ports {
            for owner in &record.owners {
                let owner = owner.load(Ordering::Relaxed);
                if owner != 0 {
                    let end = if record.direction.load(Ordering::Relaxed) == 1 { "output" } else { "input" };
                    let port = port_name(&self.pond.control, *port);
                    return Err(Error::PortInUse { port, pid: self.pond.pid_of(owner), end });
                }
            }
        }
        let of_block = |i: u32| ports.iter().any(|(p, _)| *p == i);
        let lanes: Vec<u32> = self
            .pond
            .control
            .live_lanes()
            .filter(|(_, l)| {
                of_block(l.from_port.load(Ordering::Relaxed)) || of_block(l.to_port.load(Ordering::Relaxed))
            })
            .map(|(i, _)| i)
            .collect();
        for lane in lanes {
            self.close_lane(lane);
            crash_point!(RemoveLane);
        }
        // A connection whose other end has not let go yet must not turn up at the next port with this index.
        for (_, lane) in self.pond.control.live_lanes() {
            for end in [&lane.from_port, &lane.to_port] {
                if of_block(end.load(Ordering::Relaxed)) {
                    end.store(NO_PORT, Ordering::Relaxed);
                }
            }
        }
        for (_, port) in ports {
            port.direction.store(0, Ordering::Release);
            crash_point!(RemovePort);
        }
        block.state.store(0, Ordering::Release);
        Ok(())
    }
}
