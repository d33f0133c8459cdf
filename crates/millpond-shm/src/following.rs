//! Following the changes of a port's connections: the only reason for which a stream looks at the registry.
//!
//! A port's epoch says that something changed; what, is read under the registry's lock. Should a process be stopped that holds the
//! lock, streams go on over the connections that are known, and look again a little later.

use crate::attachment::Attachment;
use crate::error::Result;
use crate::layout::PortRecord;
use crate::registry_lock::{Registry, STREAM_PATIENCE};
use crate::sync::Ordering;
use std::time::{Duration, Instant};

/// How long after a look in vain the next one comes.
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// What a party sleeps that has nothing to do until then.
pub(crate) const NAP: Duration = Duration::from_millis(1);

/// What a port knows of its connections.
pub(crate) struct Following {
    epoch: u32,
    has_looked: bool,
    /// Somebody keeps the registry locked.
    again_at: Option<Instant>,
}

impl Following {
    /// Knows nothing yet.
    pub(crate) fn new(port: &PortRecord) -> Following {
        let epoch = port.epoch.load(Ordering::Relaxed).wrapping_sub(1);
        Following { epoch, has_looked: false, again_at: None }
    }

    /// Whether nothing has changed since the last look.
    #[inline(always)]
    pub(crate) fn is_current(&self, port: &PortRecord) -> bool {
        port.epoch.load(Ordering::Acquire) == self.epoch
    }

    /// The connections were seen once: what is known of them may be gone on with.
    pub(crate) fn has_looked(&self) -> bool {
        self.has_looked
    }

    /// There is something to look at, and no way to now.
    pub(crate) fn is_held_up(&self) -> bool {
        self.again_at.is_some()
    }

    /// The registry, to see the port's connections in; what is seen is what holds from now on. `None`: it cannot be had for now.
    pub(crate) fn look<'a>(
        &mut self,
        pond: &'a Attachment,
        port: &PortRecord,
    ) -> Result<Option<Registry<'a>>> {
        let patience = match self.again_at {
            Some(at) if Instant::now() < at => return Ok(None),
            Some(_) => Duration::ZERO,
            None => STREAM_PATIENCE,
        };
        let registry = pond.lock_registry_within(patience)?;
        match &registry {
            Some(_) => {
                self.epoch = port.epoch.load(Ordering::Acquire);
                (self.has_looked, self.again_at) = (true, None);
            }
            None => self.again_at = Some(Instant::now() + AGAIN_AFTER),
        }
        Ok(registry)
    }
}
