//! Which connections an output port has now.

use super::lane::Lane;
use super::{Output, SendReason};
use crate::control::LANE_ACTIVE;
use crate::following::NAP;
use crate::ports::LaneEnd;
use crate::registry_lock::DEADLINE;
use crate::sent::sent_to_connections;
use crate::sync::Ordering;
use std::time::Instant;

impl Output {
    /// Follows changes of the port's connections.
    #[inline]
    pub(super) fn refresh(&mut self) -> std::result::Result<(), SendReason> {
        if self.session.is_forked() {
            return Err(SendReason::Forked);
        }
        if !self.following.is_current(self.port) {
            self.look_again()?;
        }
        match &self.broken {
            None => Ok(()),
            Some(problem) => Err(SendReason::Broken { problem: problem.clone() }),
        }
    }

    /// As `refresh`, but waits as long as any control operation does: nobody will look again.
    pub(super) fn refresh_at_last(&mut self) -> std::result::Result<(), SendReason> {
        let start = Instant::now();
        loop {
            let refreshed = self.refresh();
            if !self.following.is_held_up() || start.elapsed() > DEADLINE {
                return refreshed;
            }
            std::thread::sleep(NAP);
        }
    }

    #[cold]
    fn look_again(&mut self) -> std::result::Result<(), SendReason> {
        let broken = |error: crate::error::Error| SendReason::Broken { problem: error.to_string() };
        let pond = self.session.attachment();
        let Some(registry) = self.following.look(pond, self.port).map_err(broken)? else {
            self.forget_what_is_gone();
            // Without having seen any connection, nothing may be taken for unconnected.
            return if self.following.has_looked() { Ok(()) } else { Err(SendReason::Full) };
        };
        self.broken = None;
        let sent = sent_to_connections(&pond.control, self.port_index);
        for (index, record) in pond.control.live_lanes() {
            if record.from_port.load(Ordering::Relaxed) != self.port_index
                || record.producer.load(Ordering::Relaxed) != u32::from(pond.me)
            {
                continue;
            }
            let known = self.lanes.iter().position(|l| l.end.index == index);
            if record.state.load(Ordering::Relaxed) != LANE_ACTIVE {
                if let Some(at) = known {
                    self.lanes.remove(at);
                }
                registry.leave_as_producer(index);
                continue;
            }
            if known.is_none() {
                let Some(end) = LaneEnd::open(pond, index) else {
                    self.broken = Some(format!("connection {index} of pond `{}` is corrupt", pond.name));
                    continue;
                };
                if record.sent_before.load(Ordering::Relaxed) == 0 {
                    record.sent_before.store(sent.wrapping_add(1), Ordering::Relaxed);
                }
                self.lanes.push(Lane::new(end));
            }
        }
        self.forget_what_is_gone();
        Ok(())
    }

    /// Connections that others removed meanwhile are gone from the registry, or belong to somebody else by now.
    fn forget_what_is_gone(&mut self) {
        let me = u32::from(self.session.attachment().me);
        let port = self.port_index;
        self.lanes.retain(|l| {
            l.end.record.producer.load(Ordering::Relaxed) == me
                && l.end.record.from_port.load(Ordering::Relaxed) == port
        });
        self.simple = self.broken.is_none()
            && self.lanes.len() == 1
            && !self.lanes[0].gives_up
            && self.lanes[0].max_time_ns == 0;
    }
}
