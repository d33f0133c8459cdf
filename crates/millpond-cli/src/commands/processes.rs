//! Processes of a pond as commands signal them and wait for their end: by pidfd, so never another one with the same pid.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process that is to end.
pub struct Victim {
    /// Its pid.
    pub pid: u32,
    pidfd: OwnedFd,
}

impl Victim {
    /// `None`: there is no such process any more. Look afterwards whether it is still the one that was meant.
    pub fn open(pid: u32) -> Option<Self> {
        let found = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let victim = Self { pid, pidfd: pidfd_open(found, PidfdFlags::empty()).ok()? };
        victim.is_alive().then_some(victim)
    }

    /// Signals it; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !self.ends_within(Duration::ZERO).unwrap_or(false)
    }

    /// Waits for its end; `false`: it has not come.
    ///
    /// # Errors
    /// If the system cannot wait.
    pub fn ends_before(&self, deadline: Instant) -> std::io::Result<bool> {
        self.ends_within(deadline.saturating_duration_since(Instant::now()))
    }

    fn ends_within(&self, timeout: Duration) -> std::io::Result<bool> {
        let timeout = Timespec::try_from(timeout).map_err(std::io::Error::other)?;
        Ok(poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&timeout))? > 0)
    }
}
