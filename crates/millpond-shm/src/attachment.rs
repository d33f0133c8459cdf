//! One process's attachment to a pond: its mappings, its process slot, its in-process locks.
//!
//! Buffers refer to the attachment without counting it (a count would cost an atomic read-modify-write a message), ports,
//! allocators and waiters through [`Session`], which is counted. When the last session goes, the process leaves the pond, unless
//! buffers are still held: then it stays attached until it exits, and recovery gives them back.

#![allow(unsafe_code)]

use crate::control::{Control, PROCESS_DEAD, PROCESS_FREE, PROCESS_JOINING, PROCESS_LIVE};
use crate::error::{Context, Error, Result};
use crate::layout::{MAX_PROCESSES, MAX_REFERENCES};
use crate::pools::{PoolMaps, ShareStock};
use crate::redelivery::Finisher;
use crate::references::References;
use crate::sync::{Ordering, private};
use crate::sys::fork::ForkMark;
use crate::sys::process::{FileId, Identity};
use crate::sys::{barrier, process, time};
use crate::token::{ProcessSlot, Reference, Token};
use rustix::fd::{AsRawFd as _, OwnedFd};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a process is to its pond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Role {
    /// Runs one block.
    Block = 0,
    /// Runs several blocks.
    Worker = 1,
    /// Watches every process and recovers the dead at once.
    Server = 2,
    /// A command or a supervisor.
    Tool = 3,
}

impl Role {
    pub(crate) fn from_word(word: u32) -> Role {
        match word {
            0 => Role::Block,
            1 => Role::Worker,
            2 => Role::Server,
            _ => Role::Tool,
        }
    }
}

/// What a process can have in the tables and let go of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Belonging {
    /// The sending end of this port.
    Output(u32),
    /// This place at the receiving end of this port.
    Input(u32, usize),
    /// This waiting party.
    Waiter(u32),
    /// This mailbox.
    Mailbox(u32),
}

/// See the module's text.
pub(crate) struct Attachment {
    pub(crate) name: String,
    /// Above `data_fd`, so that it is dropped before it: the mappings want the descriptor for as long as they are there.
    pub(crate) pools: PoolMaps,
    pub(crate) control: Control,
    pub(crate) control_fd: OwnedFd,
    pub(crate) data_fd: OwnedFd,
    /// The control segment's file, to tell from a process's maps whether it still takes part.
    pub(crate) control_file: FileId,
    pub(crate) me: ProcessSlot,
    pub(crate) role: Role,
    /// Clones beyond the first handle, by slot and token; private, because all of a process's clones die together.
    clones: Box<[private::AtomicU32]>,
    pub(crate) stock: Mutex<ShareStock>,
    /// Which lane a redeliverable buffer that this process has taken is to be finished on, by its reference.
    pub(crate) unfinished: Mutex<HashMap<Reference, Arc<Finisher>>>,
    pub(crate) registry: Mutex<()>,
    /// What is not used here any more and could not be let go of: somebody was stopped while it held the registry lock.
    belongings: Mutex<Vec<Belonging>>,
    fork: ForkMark,
    expedited_barrier: bool,
    /// Wakes the watcher thread; its number stands in the process table so that others can open it.
    pub(crate) wake_read: OwnedFd,
    pub(crate) wake_write: OwnedFd,
    pub(crate) leaving: private::AtomicBool,
    watcher: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Attachment {
    /// Takes a process slot in a mapped pond. The caller holds the rendezvous lock.
    pub(crate) fn join(
        name: &str,
        control: Control,
        control_fd: OwnedFd,
        data_fd: OwnedFd,
        role: Role,
    ) -> Result<Attachment> {
        let fork = ForkMark::here().doing(|| "tell forked children apart".to_owned())?;
        let expedited_barrier = control.header().expedited_barrier.load(Ordering::Relaxed) == 1;
        if expedited_barrier && !barrier::register() {
            return Err(Error::NotAPond {
                name: name.to_owned(),
                what: "barrier",
                expected: "membarrier, as the pond's creator had it".to_owned(),
                found: "the kernel (or a seccomp filter) refuses it here".to_owned(),
            });
        }
        let clones = control.table_slots() as usize * MAX_REFERENCES;
        let clones = bytemuck::try_zeroed_slice_box(clones).map_err(|()| Error::OutOfMemory {
            what: format!("the table of handles of pond `{name}`"),
            problem: format!("{} bytes of address space wanted", clones * size_of::<u32>()),
        })?;
        let (wake_read, wake_write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)
                .doing(|| "make a pipe".to_owned())?;
        let control_file = FileId::of(&control_fd).doing(|| "look at the control segment".to_owned())?;
        let identity = Identity::own().doing(|| "identify this process".to_owned())?;
        // Where the kernel (or a seccomp filter) has no pidfds, no death would ever be noticed.
        identity.open().doing(|| "open a pidfd".to_owned())?;
        let me = claim_process_slot(name, &control, identity, control_file)?;
        crash_point!(JoinClaimed);
        let process = control.process(me.into()).ok_or_else(|| too_many_processes(name))?;
        process.start_time.store(identity.start_time, Ordering::Relaxed);
        process.role.store(role as u32, Ordering::Relaxed);
        process.control_fd.store(control_fd.as_raw_fd() as u32, Ordering::Relaxed);
        let wake_inode = rustix::fs::fstat(&wake_write).doing(|| "look at a pipe".to_owned())?.st_ino;
        process.wake_inode.store(wake_inode, Ordering::Relaxed);
        process.wake_fd.store(wake_write.as_raw_fd() as u32, Ordering::Relaxed);
        process.heartbeat_ns.store(time::monotonic_ns(), Ordering::Relaxed);
        process.attached_unix_ns.store(time::unix_ns() as u64, Ordering::Relaxed);
        process.name.store(&process::command_name(identity.pid));
        process.recovery_stage.store(0, Ordering::Relaxed);
        crash_point!(JoinWritten);
        process.state.store(PROCESS_LIVE << 56 | u64::from(identity.pid), Ordering::Release);
        Ok(Attachment {
            name: name.to_owned(),
            pools: PoolMaps::new(),
            clones,
            stock: Mutex::new(ShareStock::default()),
            unfinished: Mutex::new(HashMap::new()),
            registry: Mutex::new(()),
            belongings: Mutex::new(Vec::new()),
            leaving: private::AtomicBool::new(false),
            watcher: Mutex::new(None),
            control,
            control_fd,
            data_fd,
            control_file,
            me,
            role,
            fork,
            expedited_barrier,
            wake_read,
            wake_write,
        })
    }

    /// Fails in a forked child, which must not touch what it inherited.
    #[inline]
    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.is_forked() { Err(Error::Forked) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// The publishing side's half of the fence between a store and the look at a sleeper's flag.
    #[inline]
    pub(crate) fn light_fence(&self) {
        crate::doorbell::light_fence(self.expedited_barrier);
    }

    /// The sleeping side's half: after announcing sleep, before the last look.
    /// `false`: the kernel refused, so that whoever publishes may not have been made to pass it.
    pub(crate) fn heavy_fence(&self) -> bool {
        if self.expedited_barrier {
            return barrier::all_processes();
        }
        crate::doorbell::heavy_fence();
        true
    }

    /// The in-process count of clones of a reference beyond its first handle.
    #[inline]
    pub(crate) fn clones(&self, slot: u32, token: u8) -> &private::AtomicU32 {
        // In range: every reference that a handle holds was checked against the tables when the handle was made.
        &self.clones[slot as usize * MAX_REFERENCES + token as usize]
    }

    #[inline]
    pub(crate) fn stop_requested(&self) -> bool {
        self.control.header().stop_requested.load(Ordering::Relaxed) != 0
    }

    /// Rings a waiter's bell whether it sleeps or not.
    pub(crate) fn ring(&self, waiter: u32) {
        if let Some(doorbell) = self.control.doorbell(waiter) {
            doorbell.ring(crate::sys::futex::wake_all);
        }
    }

    /// Rings a waiter's bell if it says that it sleeps. The caller has fenced.
    #[inline]
    pub(crate) fn ring_if_asleep(&self, waiter: u32) {
        if let Some(doorbell) = self.control.doorbell(waiter) {
            doorbell.ring_if_asleep(crate::sys::futex::wake_all);
        }
    }

    /// Whether nobody is in a process slot, and nothing of anybody is left.
    pub(crate) fn has_free_slot(&self, slot: u32) -> bool {
        let process = self.control.process(slot as usize);
        process.is_none_or(|p| p.state.load(Ordering::Acquire) >> 56 == PROCESS_FREE)
    }

    /// Pid of a process slot, 0 if free.
    pub(crate) fn pid_of(&self, slot: u32) -> u32 {
        self.control.process(slot as usize).map_or(0, |p| p.state.load(Ordering::Acquire) as u32)
    }

    /// Whether the kernel says that the process of this slot is gone. That its slot says dead is not enough: a process on its way
    /// out says so itself while it gives back what it held. Only one that called `exec` is dead with a living pid.
    pub(crate) fn has_died(&self, slot: u16) -> bool {
        self.word_of_dead(slot).is_some()
    }

    /// As [`has_died`](Self::has_died); the word of the slot that names the dead process. Recovery goes by the word: joining takes
    /// no lock, so the slot of one that died while joining may name a living process by then.
    pub(crate) fn word_of_dead(&self, slot: u16) -> Option<u64> {
        let word = self.control.process(slot.into())?.state.load(Ordering::Acquire);
        self.has_died_as(slot, word).then_some(word)
    }

    /// Whether the process that this word of the slot names is gone.
    fn has_died_as(&self, slot: u16, word: u64) -> bool {
        let Some(process) = self.control.process(slot.into()) else { return false };
        let identity = identity_of(process, word);
        match word >> 56 {
            PROCESS_FREE => false,
            PROCESS_JOINING => died_joining(word, self.control_file),
            PROCESS_DEAD => !identity.is_alive() || !identity.maps(self.control_file),
            _ => !identity.is_alive(),
        }
    }

    /// Serialises this process's threads in front of the lock that serialises processes.
    pub(crate) fn registry_threads(&self) -> MutexGuard<'_, ()> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds_buffers(&self) -> bool {
        self.control.committed_slots().any(|(_, slot)| {
            slot.references.tokens.iter().any(|t| Token(t.load(Ordering::Acquire)).owner() == self.me)
        })
    }

    /// Lets go of something that this process has in the tables and does not use any more. While the registry cannot be had, the
    /// watcher tries again at every heartbeat: else a port would stay taken for as long as this process lives.
    pub(crate) fn let_go(&self, end: Belonging) {
        match self.lock_registry() {
            Ok(registry) => registry.let_go(end),
            Err(_) => self.belongings.lock().unwrap_or_else(PoisonError::into_inner).push(end),
        }
    }

    /// Tries again, if there is anything.
    pub(crate) fn let_go_of_rest(&self) {
        let is_empty = self.belongings.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if !is_empty && let Ok(registry) = self.lock_registry() {
            let ends = std::mem::take(&mut *self.belongings.lock().unwrap_or_else(PoisonError::into_inner));
            ends.into_iter().for_each(|end| registry.let_go(end));
        }
    }

    pub(crate) fn set_watcher(&self, thread: std::thread::JoinHandle<()>) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    fn stop_watcher(&self) {
        self.leaving.store(true, private::Ordering::SeqCst);
        let _ = rustix::io::write(&self.wake_write, b"l");
        let thread = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl crate::lane::Slots for &'static Attachment {
    #[inline]
    fn references(&self, reference: Reference) -> Option<&References> {
        let pool = self.pools.get(self, reference.pool)?;
        if pool.contains(reference.slot) {
            Some(&self.control.slot(reference.slot)?.references)
        } else {
            None
        }
    }
}

pub(crate) fn identity_of(process: &crate::layout::Process, word: u64) -> Identity {
    Identity { pid: word as u32, start_time: process.start_time.load(Ordering::Acquire) }
}

/// Whether the process that claimed a slot with this word is gone. Its start time does not stand in the slot yet (a predecessor's
/// may), so a later process of the same pid is told by its mappings.
fn died_joining(word: u64, control: FileId) -> bool {
    let identity = Identity { pid: word as u32, start_time: 0 };
    !identity.is_alive() || !identity.maps(control)
}

fn too_many_processes(pond: &str) -> Error {
    Error::TableFull {
        pond: pond.to_owned(),
        what: "process",
        limit: MAX_PROCESSES,
        advice: "run more blocks in one process, or end some",
    }
}

/// Claims a free slot by compare-and-swap: the one registry change that needs no lock, because the lock names slots.
fn claim_process_slot(
    name: &str,
    control: &Control,
    identity: Identity,
    file: FileId,
) -> Result<ProcessSlot> {
    let joining = PROCESS_JOINING << 56 | u64::from(identity.pid);
    for slot in 1..=MAX_PROCESSES {
        let Some(process) = control.process(slot) else { continue };
        let word = process.state.load(Ordering::Acquire);
        // A process that died while joining held nothing yet; its slot can be taken over as it is.
        let usable =
            word >> 56 == PROCESS_FREE || (word >> 56 == PROCESS_JOINING && died_joining(word, file));
        if usable
            && process.state.compare_exchange(word, joining, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        {
            return Ok(slot as ProcessSlot);
        }
    }
    Err(too_many_processes(name))
}

/// A counted claim on the attachment. The last one to go makes the process leave the pond.
pub(crate) struct Session {
    attachment: &'static Attachment,
}

impl Session {
    pub(crate) fn new(attachment: Attachment) -> Arc<Session> {
        Arc::new(Session { attachment: Box::leak(Box::new(attachment)) })
    }

    /// The attachment, for handles that keep the pond attached by the references they hold.
    #[inline]
    pub(crate) fn attachment(&self) -> &'static Attachment {
        self.attachment
    }
}

impl std::ops::Deref for Session {
    type Target = Attachment;
    #[inline]
    fn deref(&self) -> &Attachment {
        self.attachment
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let attachment = self.attachment;
        if attachment.is_forked() || attachment.holds_buffers() {
            return; // a child owns nothing of it; and held buffers keep the process attached until it exits
        }
        attachment.stop_watcher();
        if crate::pond::leave(attachment).is_err() {
            return; // nothing is lost: the process still stands in the table, and recovery takes over when it exits
        }
        // SAFETY: `attachment` is from Box::leak in `new`, and this is its only Session. Nothing else refers to it: ports,
        // allocators, waiters and counters hold a Session; the watcher thread has been joined, and so has a waiter's bell thread
        // before the waiter let go of its Session; buffers hold a token that names this process, of which `holds_buffers` found none, and only a Session's holder can make new ones.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(attachment).cast_mut()) });
    }
}
