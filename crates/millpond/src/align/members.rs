//! A set of at most one item of each port.

use super::inputs::Held;

/// One item of each port; ports without one are missing.
#[derive(Debug)]
pub struct Members<'a, T> {
    pub(super) members: &'a mut [Option<Held<T>>],
    pub(super) degraded: bool,
}

impl<T> Members<'_, T> {
    /// How many ports there are, those without an item included.
    #[allow(clippy::len_without_is_empty)] // There is at least one port.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Stamp and item of a port.
    pub fn get(&self, port: usize) -> Option<(i64, &T)> {
        self.members.get(port)?.as_ref().map(|held| (held.stamp_ns, &held.item))
    }

    /// Takes stamp and item of a port out of the set.
    pub fn take(&mut self, port: usize) -> Option<(i64, T)> {
        self.members.get_mut(port)?.take().map(|held| (held.stamp_ns, held.item))
    }

    /// Stamps of the ports, missing ones left out.
    pub fn stamps_ns(&self) -> impl Iterator<Item = i64> {
        self.members.iter().flatten().map(|held| held.stamp_ns)
    }

    /// It was made while some port was not waited for any more.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }
}

/// Empties the set that was made before.
pub(super) fn clear<T>(members: &mut Vec<Option<Held<T>>>, ports: usize) {
    members.iter_mut().for_each(|member| *member = None);
    members.resize_with(ports, || None);
}
