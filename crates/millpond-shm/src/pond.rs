//! A pond: made by name, attached to by name, listed, left.

use crate::allocator::Allocator;
use crate::attachment::{Attachment, Role, Session};
use crate::control::{Control, MAX_TABLE_SLOTS, PROCESS_LIVE};
use crate::error::{Context, Error, Result};
use crate::input::Input;
use crate::layout::{self, BLOCK_COUNTERS, Tables};
use crate::log::Level;
use crate::output::Output;
use crate::pools::PoolConfig;
use crate::ports::{ConnectionConfig, InputConfig, OutputConfig};
use crate::registry::{Direction, check_name};
use crate::rendezvous::{Directory, Entry, Member, open_descriptor};
use crate::sync::Ordering;
use crate::sys::process::{Identity, pid_namespace};
use crate::sys::{barrier, memory, time};
use crate::waiter::{Wait, Waiter};
use crate::watcher;
use rustix::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;

/// What a pond is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PondConfig {
    /// Its pools; more can be added later.
    pub pools: Vec<PoolConfig>,
    /// Buffers that all pools together can have, 1 to 67,108,864; 256 bytes each, used only for pools that exist.
    pub table_slots: u32,
}

impl Default for PondConfig {
    /// 4 KiB x 1024, 64 KiB x 512, 1 MiB x 128 in a table of 4096.
    fn default() -> Self {
        let pools = vec![
            PoolConfig::new(4 << 10, 1024),
            PoolConfig::new(64 << 10, 512),
            PoolConfig::new(1 << 20, 128),
        ];
        PondConfig { pools, table_slots: 4096 }
    }
}

/// A pond that was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PondEntry {
    /// Its name.
    pub name: String,
    /// Pids of the processes in it.
    pub members: Vec<u32>,
}

/// This process's attachment to a pond. Clones are the same attachment; the process leaves with the last clone, port,
/// allocator and waiter, or, if it still holds buffers then, when it exits.
#[derive(Clone)]
pub struct Pond {
    session: Arc<Session>,
}

impl Pond {
    /// Makes a pond and attaches to it. Its memory belongs to no file system and vanishes with its last process.
    ///
    /// # Errors
    /// [`Error::PondExists`], [`Error::InvalidName`], [`Error::InvalidConfig`], [`Error::OutOfMemory`], [`Error::Rendezvous`].
    ///
    /// # Crash safety
    /// Killed in here, nothing remains: the pond can be found only once it is complete.
    pub fn create(name: &str, config: &PondConfig, role: Role) -> Result<Pond> {
        check_name("pond", name)?;
        for pool in &config.pools {
            pool.validate()?;
        }
        if config.table_slots == 0 || config.table_slots > MAX_TABLE_SLOTS {
            return Err(Error::InvalidConfig {
                what: "table of buffers".to_owned(),
                expected: format!("1 to {MAX_TABLE_SLOTS} slots"),
                found: config.table_slots.to_string(),
            });
        }
        // The directory is locked only to look and to write, so that a process that is stopped in between keeps nobody waiting.
        refuse_existing(&Directory::lock()?, name)?;
        let no_memory =
            |e: std::io::Error| Error::OutOfMemory { what: format!("pond `{name}`"), problem: e.to_string() };
        let tables = Tables::new(config.table_slots);
        let control_fd = memory::create_memfd("millpond-control", tables.bytes, false)
            .doing(|| format!("make the memory of pond `{name}`"))?;
        let data_fd = memory::create_memfd("millpond-data", 0, true)
            .doing(|| format!("make the memory of pond `{name}`"))?;
        // The fixed tables are committed now; slots and rings when they are used.
        memory::commit(&control_fd, 0, tables.slots).map_err(no_memory)?;
        let control =
            Control::fresh(&control_fd, config.table_slots).doing(|| format!("map pond `{name}`"))?;
        let uuid = random_uuid()?;
        let pid_namespace = pid_namespace().doing(|| "read /proc/self/ns/pid".to_owned())?;
        let header = control.header();
        header.layout_version.store(layout::LAYOUT_VERSION, Ordering::Relaxed);
        header.layout_hash.store(layout::hash(), Ordering::Relaxed);
        header.uuid[0].store((uuid >> 64) as u64, Ordering::Relaxed);
        header.uuid[1].store(uuid as u64, Ordering::Relaxed);
        header.pid_namespace.store(pid_namespace, Ordering::Relaxed);
        header.table_slots.store(config.table_slots, Ordering::Relaxed);
        header.control_bytes.store(tables.bytes, Ordering::Relaxed);
        header.created_unix_ns.store(time::unix_ns() as u64, Ordering::Relaxed);
        header.expedited_barrier.store(barrier::register().into(), Ordering::Relaxed);
        header.name.store(name);
        crash_point!(CreateWritten);
        header.magic.store(layout::MAGIC, Ordering::Release);
        let session = Session::new(Attachment::join(name, control, control_fd, data_fd, role)?);
        for &pool in &config.pools {
            session.lock_registry()?.add_pool(pool)?;
        }
        crash_point!(CreateDone);
        let directory = Directory::lock()?;
        let found = refuse_existing(&directory, name).and_then(|()| {
            directory.write(name, &Entry { uuid, pid_namespace, members: vec![own_member(&session)?] })
        });
        drop(directory); // a session that is given up locks it again
        found?;
        Pond::started(session)
    }

    /// Attaches to a pond that exists.
    ///
    /// # Errors
    /// [`Error::PondNotFound`], [`Error::PidNamespace`], [`Error::NotAPond`] (another build), [`Error::TableFull`] (processes),
    /// [`Error::Rendezvous`].
    pub fn attach(name: &str, role: Role) -> Result<Pond> {
        check_name("pond", name)?;
        let not_found = |directory: &Directory| Error::PondNotFound {
            name: name.to_owned(),
            directory: directory.shown(),
        };
        // Locked only to look and to write; see `create`.
        let found = {
            let directory = Directory::lock()?;
            directory.read(name)?.ok_or_else(|| not_found(&directory))?
        };
        let (control, control_fd, data_fd) = open_memory(name, &found, true)?;
        let session = Session::new(Attachment::join(name, control, control_fd, data_fd, role)?);
        // Whoever stands before us in the table watches us from now on: killed in here, we are recovered at once.
        for (slot, _, _, _) in session.control.processes().filter(|(slot, ..)| *slot != session.me) {
            session.poke(slot.into());
        }
        crash_point!(JoinLive);
        let directory = Directory::lock()?;
        let written = (|| {
            // All others may have left meanwhile, and even another pond of the name been made.
            let mut entry = directory.read(name)?.unwrap_or(Entry { members: Vec::new(), ..found.clone() });
            if entry.uuid != found.uuid {
                return Err(not_found(&directory));
            }
            entry.members.push(own_member(&session)?);
            directory.write(name, &entry)
        })();
        drop(directory); // a session that is given up locks it again
        written?;
        Pond::started(session)
    }

    fn started(session: Arc<Session>) -> Result<Pond> {
        watcher::start(session.attachment())?;
        Ok(Pond { session })
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.session.name
    }

    /// This process's slot in the process table.
    #[must_use]
    pub fn process(&self) -> u16 {
        self.session.me
    }

    /// Adds a pool; every process finds it at its next allocation or receipt.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], [`Error::OutOfMemory`], [`Error::TableFull`].
    pub fn add_pool(&self, pool: PoolConfig) -> Result<()> {
        self.session.lock_registry()?.add_pool(pool)
    }

    /// An allocator for one thread.
    #[must_use]
    pub fn allocator(&self) -> Allocator {
        Allocator::new(&self.session)
    }

    /// A waiting party; see [`Waiter`].
    ///
    /// # Errors
    /// [`Error::TableFull`].
    pub fn waiter(&self, wait: Wait) -> Result<Waiter> {
        Waiter::new(&self.session, wait)
    }

    /// Makes a block's record, or gives a known one its type.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::TableFull`].
    pub fn declare_block(&self, block: &str, block_type: &str) -> Result<()> {
        self.session.lock_registry()?.declare_block(block, block_type).map(drop)
    }

    /// Says that this process runs the block, and gives its counters.
    ///
    /// # Errors
    /// As [`declare_block`](Pond::declare_block).
    pub fn block_counters(&self, block: &str) -> Result<BlockCounters> {
        let registry = self.session.lock_registry()?;
        let index = registry.declare_block(block, "")?;
        registry.own_block(index);
        drop(registry);
        Ok(BlockCounters { session: Arc::clone(&self.session), index })
    }

    /// Takes the sending end of `block.port`, made if need be, with its connections and what they have queued.
    ///
    /// # Errors
    /// [`Error::PortInUse`] while a living process has it, [`Error::WrongDirection`], [`Error::InvalidName`], [`Error::InvalidConfig`].
    pub fn output(&self, port: &str, config: &OutputConfig) -> Result<Output> {
        let waiter = self.party(config.waiter.as_ref(), config.wait)?;
        let registry = self.session.lock_registry()?;
        let index = registry.declare_port(port, Direction::Output)?;
        registry.attach_output(index, waiter.index())?;
        let formatted = registry.set_format(index, &config.format);
        if formatted.is_err() {
            registry.detach_output(index);
        }
        drop(registry);
        formatted?;
        self.wake_own_watcher();
        let record = self.session.attachment().control.port(index).ok_or_else(|| self.no_port(port))?;
        Ok(Output::new(&self.session, index, record, waiter))
    }

    /// Takes a receiving end of `block.port`, made if need be, with its connections and what they have queued.
    ///
    /// # Errors
    /// [`Error::PortInUse`] while a living process has it and not both share, [`Error::TableFull`] beyond 8 that share,
    /// [`Error::WrongDirection`], [`Error::InvalidName`], [`Error::InvalidConfig`].
    pub fn input(&self, port: &str, config: &InputConfig) -> Result<Input> {
        let waiter = self.party(config.waiter.as_ref(), config.wait)?;
        let registry = self.session.lock_registry()?;
        let index = registry.declare_port(port, Direction::Input)?;
        let place = registry.attach_input(index, waiter.index(), config.shared, config.redeliver)?;
        drop(registry);
        self.wake_own_watcher();
        let record = self.session.attachment().control.port(index).ok_or_else(|| self.no_port(port))?;
        Ok(Input::new(&self.session, index, record, place, config.redeliver, waiter))
    }

    fn no_port(&self, port: &str) -> Error {
        Error::Unknown { pond: self.name().to_owned(), what: "port", name: port.to_owned() }
    }

    fn party(&self, given: Option<&Waiter>, wait: Wait) -> Result<Waiter> {
        given.map_or_else(|| self.waiter(wait), |w| Ok(w.clone()))
    }

    fn wake_own_watcher(&self) {
        self.session.poke(self.session.me.into());
    }

    /// Connects an output port to an input port, both made if need be. Works while both run; ends that attach later find it.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::WrongDirection`], [`Error::InvalidConfig`], [`Error::TableFull`], [`Error::OutOfMemory`].
    pub fn connect(&self, from: &str, to: &str, config: &ConnectionConfig) -> Result<()> {
        self.session.lock_registry()?.connect(from, to, config)
    }

    /// Removes a connection. What it has queued is still received, if somebody receives; else it is given back and counted.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn disconnect(&self, from: &str, to: &str) -> Result<()> {
        self.session.lock_registry()?.disconnect(from, to)
    }

    /// Removes a block that no process runs, with its ports and connections.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::PortInUse`].
    pub fn remove_block(&self, block: &str) -> Result<()> {
        self.session.lock_registry()?.remove_block(block)
    }

    /// Looks at every process now and recovers those that are dead; the number recovered. The watcher thread does it unasked.
    ///
    /// # Errors
    /// [`Error::RegistryBusy`].
    pub fn recover_dead(&self) -> Result<u32> {
        self.session.check_fork()?;
        self.session.recover_dead()
    }

    /// Writes to the pond's log about `block` (empty: about none), which monitors read: a line for each line of `text`, the parts
    /// of longer lines than 448 bytes one after the other. Never waits; the newest line takes the place of the oldest of 1024.
    ///
    /// # Crash safety
    /// Killed in here, a line is missing.
    pub fn log(&self, block: &str, level: Level, text: &str) {
        if !self.session.is_forked() {
            crate::log::write(self.session.attachment(), block, level, text);
        }
    }

    /// Whether somebody asked everybody in the pond to stop.
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.session.is_forked() || self.session.stop_requested()
    }

    /// Asks everybody in the pond to stop: every wait returns, now and from now on.
    pub fn request_stop(&self) {
        if !self.session.is_forked() {
            self.session.control.header().stop_requested.store(1, Ordering::SeqCst);
            crash_point!(StopStored);
            self.session.ring_everybody();
            self.session.ring_senders_everywhere();
        }
    }
}

/// Numbers that a block publishes for monitors; they outlive its process. One writer: the process that runs the block.
pub struct BlockCounters {
    session: Arc<Session>,
    index: u32,
}

impl BlockCounters {
    /// Stores counter `i` (0 to 31; others are ignored).
    #[inline]
    pub fn set(&self, i: usize, value: u64) {
        if !self.session.is_forked()
            && let Some(counter) = self.session.control.block(self.index).and_then(|b| b.counters.get(i))
        {
            counter.store(value, Ordering::Relaxed);
        }
    }

    /// Counter `i`; 0 beyond the last. A restarted block goes on from it.
    #[must_use]
    pub fn get(&self, i: usize) -> u64 {
        if self.session.is_forked() {
            return 0;
        }
        self.session
            .control
            .block(self.index)
            .and_then(|b| b.counters.get(i))
            .map_or(0, |c| c.load(Ordering::Relaxed))
    }

    /// How many there are.
    #[must_use]
    pub const fn count() -> usize {
        BLOCK_COUNTERS
    }
}

/// Every pond of this user that has a living process. Files of dead ones are removed.
///
/// # Errors
/// [`Error::Rendezvous`]; a pond of another pid namespace is left out.
pub fn list() -> Result<Vec<PondEntry>> {
    let directory = Directory::lock()?;
    let mut ponds = Vec::new();
    for name in directory.names()? {
        if let Ok(Some(entry)) = directory.read(&name) {
            ponds.push(PondEntry { name, members: entry.members.iter().map(|m| m.identity.pid).collect() });
        }
    }
    Ok(ponds)
}

/// Removes what dead ponds left (a small file each; their memory went with their last process). Returns their names.
///
/// # Errors
/// [`Error::Rendezvous`].
pub fn clean() -> Result<Vec<String>> {
    let directory = Directory::lock()?;
    let mut removed = Vec::new();
    for name in directory.names()? {
        if matches!(directory.read(&name), Ok(None)) {
            removed.push(name);
        }
    }
    Ok(removed)
}

/// Finds and maps a pond's memory through any of its living processes.
pub(crate) fn open_memory(name: &str, entry: &Entry, writable: bool) -> Result<(Control, OwnedFd, OwnedFd)> {
    let mut last = None;
    for member in &entry.members {
        let pid = member.identity.pid;
        let opened = open_descriptor(pid, member.control_fd, writable)
            .and_then(|control| Ok((control, open_descriptor(pid, member.data_fd, writable)?)));
        let (control_fd, data_fd) = match opened {
            Ok(fds) => fds,
            Err(e) => {
                last = Some(Error::System {
                    action: format!("open the memory of pond `{name}` in process {pid}"),
                    source: e.into(),
                });
                continue;
            }
        };
        match Control::open(name, &control_fd, writable) {
            Ok(control) => {
                let header = control.header();
                let (high, low) =
                    (header.uuid[0].load(Ordering::Relaxed), header.uuid[1].load(Ordering::Relaxed));
                let uuid = u128::from(high) << 64 | u128::from(low);
                if uuid == entry.uuid {
                    if !crate::control::is_sealed(&control_fd) || !crate::control::is_sealed(&data_fd) {
                        last = Some(Error::NotAPond {
                            name: name.to_owned(),
                            what: "seals",
                            expected: "a memory file sealed against shrinking".to_owned(),
                            found: "something else".to_owned(),
                        });
                        continue;
                    }
                    return Ok((control, control_fd, data_fd));
                }
                last = Some(Error::NotAPond {
                    name: name.to_owned(),
                    what: "uuid",
                    expected: format!("{:032x}", entry.uuid),
                    found: format!("{uuid:032x}"),
                });
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::PondNotFound {
        name: name.to_owned(),
        directory: crate::rendezvous::directory_path().display().to_string(),
    }))
}

fn refuse_existing(directory: &Directory, name: &str) -> Result<()> {
    match directory.read(name)?.and_then(|entry| entry.members.first().cloned()) {
        Some(member) => Err(Error::PondExists { name: name.to_owned(), pid: member.identity.pid }),
        None => Ok(()),
    }
}

fn own_member(attachment: &Attachment) -> Result<Member> {
    Ok(Member {
        identity: Identity::own().doing(|| "identify this process".to_owned())?,
        control_fd: attachment.control_fd.as_raw_fd() as u32,
        data_fd: attachment.data_fd.as_raw_fd() as u32,
    })
}

/// Gives back everything and takes this process out of the tables and the rendezvous file. The watcher has stopped.
pub(crate) fn leave(attachment: &Attachment) -> Result<()> {
    // The file first: nobody may look for the memory in a process that is about to close it.
    let directory = Directory::lock()?;
    let own = own_member(attachment)?;
    if let Some(mut entry) = directory.read(&attachment.name)? {
        entry.members.retain(|m| *m != own);
        if entry.members.is_empty() {
            directory.remove(&attachment.name)?;
        } else {
            directory.write(&attachment.name, &entry)?;
        }
    }
    drop(directory);
    let own = PROCESS_LIVE << 56 | u64::from(std::process::id());
    let registry = attachment.lock_registry()?;
    registry.end_cut_off_recoveries(attachment.me);
    let word = registry.give_back_all(attachment.me, own);
    drop(registry);
    if let Some(word) = word {
        crash_point!(LeaveGivenBack);
        attachment.free_process_slot(attachment.me, word);
    }
    Ok(())
}

fn random_uuid() -> Result<u128> {
    let mut bytes = [0u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .doing(|| "get random bytes".to_owned())?;
    }
    Ok(u128::from_ne_bytes(bytes))
}
