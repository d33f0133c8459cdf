//! One thread in each process that notices the death of others and recovers them.
//!
//! It sleeps on the pidfds of those it watches, so the kernel wakes it the moment one is gone; there is no timed polling for
//! death. It watches the processes at the other ends of its own connections and the next two in the table (a ring, so that
//! everybody is watched by somebody); a runtime server watches everybody. Once a second it stores a heartbeat, which tells
//! others who is stalled, and looks past processes that are.

use crate::attachment::{Attachment, identity_of};
use crate::control::{PROCESS_DEAD, PROCESS_LIVE};
use crate::error::{Context, Result};
use crate::layout::MAX_PROCESSES;
use crate::sync::{Ordering, private};
use crate::sys::process::timespec;
use crate::sys::time;
use crate::{Role, token::ProcessSlot};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A process whose watcher has not run for this long is stalled: stopped by a signal or a debugger, or starved.
pub(crate) const STALLED_AFTER_NS: u64 = 3_000_000_000;
/// Living, unstalled processes behind this one in the table that it watches.
const RING_NEIGHBOURS: usize = 2;

/// Starts the watcher thread of an attachment.
pub(crate) fn start(attachment: &'static Attachment) -> Result<()> {
    let thread = std::thread::Builder::new()
        .name("millpond-watch".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || Watcher { pond: attachment, watched: BTreeMap::new() }.run())
        .doing(|| "start the watcher thread".to_owned())?;
    attachment.set_watcher(thread);
    Ok(())
}

struct Watcher {
    pond: &'static Attachment,
    /// Process slot -> the state word it had when its pidfd was opened, and the pidfd.
    watched: BTreeMap<ProcessSlot, (u64, OwnedFd)>,
}

impl Watcher {
    fn run(mut self) {
        while !self.pond.leaving.load(private::Ordering::SeqCst) {
            if let Some(me) = self.pond.control.process(self.pond.me.into()) {
                me.heartbeat_ns.store(time::monotonic_ns(), Ordering::Relaxed);
            }
            if self.choose() {
                // Somebody is gone. An error means that the lock's holder is stopped; the next round tries again.
                let _ = self.pond.recover_dead();
                continue;
            }
            self.reclaim_those_who_called_exec();
            self.pond.let_go_of_rest();
            self.sleep();
        }
    }

    /// Sleeps until a watched process is gone, somebody pokes, or the next heartbeat is due.
    fn sleep(&self) {
        let pidfds = self.watched.values().map(|(_, fd)| PollFd::new(fd, PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> =
            std::iter::once(PollFd::new(&self.pond.wake_read, PollFlags::IN)).chain(pidfds).collect();
        let _ = poll(&mut fds, Some(&timespec(HEARTBEAT)));
        let mut bytes = [0u8; 64];
        while rustix::io::read(&self.pond.wake_read, &mut bytes).is_ok_and(|n| n == bytes.len()) {}
    }

    /// Brings the set of watched processes up to date. `true`: one of them is gone.
    fn choose(&mut self) -> bool {
        let wanted = self.wanted();
        self.watched.retain(|slot, (word, _)| {
            wanted.contains(slot)
                && self
                    .pond
                    .control
                    .process((*slot).into())
                    .is_some_and(|p| p.state.load(Ordering::Acquire) == *word)
        });
        for slot in wanted {
            if let Some((_, pidfd)) = self.watched.get(&slot) {
                if crate::sys::process::has_exited(pidfd) {
                    self.watched.remove(&slot);
                    return true;
                }
                continue;
            }
            let Some(process) = self.pond.control.process(slot.into()) else { continue };
            let word = process.state.load(Ordering::Acquire);
            match identity_of(process, word).open() {
                Ok(Some(pidfd)) => {
                    self.watched.insert(slot, (word, pidfd));
                }
                Ok(None) if process.state.load(Ordering::Acquire) == word => return true,
                // It is gone meanwhile; or no descriptor is to be had, and the next heartbeat tries again.
                Ok(None) | Err(_) => {}
            }
        }
        false
    }

    fn wanted(&self) -> BTreeSet<ProcessSlot> {
        let control = &self.pond.control;
        let me = self.pond.me;
        let state =
            |slot: u16| control.process(slot.into()).map_or(0, |p| p.state.load(Ordering::Acquire) >> 56);
        let is_there = |slot: u16| matches!(state(slot), PROCESS_LIVE | PROCESS_DEAD);
        let others = (1..MAX_PROCESSES as u16).map(|step| (me - 1 + step) % MAX_PROCESSES as u16 + 1);
        if self.pond.role == Role::Server {
            return others.filter(|s| is_there(*s)).collect();
        }
        let now = time::monotonic_ns();
        let mut wanted = BTreeSet::new();
        let mut awake = 0;
        for slot in others.filter(|s| is_there(*s)) {
            wanted.insert(slot);
            let beat = control.process(slot.into()).map_or(0, |p| p.heartbeat_ns.load(Ordering::Relaxed));
            if now.saturating_sub(beat) < STALLED_AFTER_NS {
                awake += 1;
                if awake == RING_NEIGHBOURS {
                    break;
                }
            }
        }
        for (_, lane) in control.live_lanes() {
            let producer = lane.producer.load(Ordering::Relaxed) as u16;
            let consumers = lane.consumers.iter().map(|c| c.load(Ordering::Relaxed) as u16);
            let ends: Vec<u16> = consumers.chain([producer]).filter(|p| *p != 0).collect();
            if ends.contains(&me) {
                wanted.extend(ends.into_iter().filter(|p| *p != me && is_there(*p)));
            }
        }
        wanted
    }

    /// A process that called `exec` has lost its mappings: it is dead as a participant though its pid lives, and the kernel tells
    /// nobody. Only asked of those who are watched and stalled, which a process that called `exec` soon is.
    fn reclaim_those_who_called_exec(&self) {
        for &slot in self.watched.keys() {
            if self.pond.has_called_exec(slot)
                && let Ok(registry) = self.pond.lock_registry()
                && let Some(word) = self.pond.word_after_exec(slot)
            {
                registry.recover(slot, word);
            }
        }
    }
}

impl Attachment {
    /// Whether a process lives but has lost its mappings by `exec`. Only one that is stalled is asked.
    pub(crate) fn has_called_exec(&self, slot: ProcessSlot) -> bool {
        self.word_after_exec(slot).is_some()
    }

    /// As [`has_called_exec`](Self::has_called_exec); the word of the slot that names the process.
    fn word_after_exec(&self, slot: ProcessSlot) -> Option<u64> {
        let process = self.control.process(slot.into())?;
        let word = process.state.load(Ordering::Acquire);
        let beat = process.heartbeat_ns.load(Ordering::Relaxed);
        let identity = identity_of(process, word);
        let called = word >> 56 == PROCESS_LIVE
            && time::monotonic_ns().saturating_sub(beat) > STALLED_AFTER_NS
            && identity.is_alive()
            && !identity.maps(self.control_file);
        called.then_some(word)
    }
}

impl Attachment {
    /// Wakes the watcher thread of another process, so that it looks whom to watch.
    pub(crate) fn poke(&self, owner: u32) {
        let Some(process) = self.control.process(owner as usize) else { return };
        let pid = process.state.load(Ordering::Relaxed) as u32;
        let fd = process.wake_fd.load(Ordering::Relaxed);
        if owner == u32::from(self.me) {
            let _ = rustix::io::write(&self.wake_write, b"p");
            return;
        }
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        let pipe = rustix::fs::open(format!("/proc/{pid}/fd/{fd}"), flags, rustix::fs::Mode::empty())
            .doing(|| "open a watcher's pipe".to_owned());
        if let Ok(pipe) = pipe {
            // Opened through numbers in shared memory: write only into that very pipe, and never into somebody else's.
            let inode = process.wake_inode.load(Ordering::Relaxed);
            let is_its_pipe = rustix::fs::fstat(&pipe).is_ok_and(|s| {
                rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::Fifo
                    && s.st_ino == inode
            });
            if is_its_pipe {
                let _ = rustix::io::write(&pipe, b"p"); // full: it is awake already
            }
        }
    }
}
