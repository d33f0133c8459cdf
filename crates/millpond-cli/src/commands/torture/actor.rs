//! One place in the graph: the process that fills it now, those that filled it before, and what they wrote down.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::process::{Child, Stdio};

use anyhow::Context as _;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::process::{Pid, Signal, kill_process};

use super::graph::{Graph, Process};
use super::message::Record;
use super::roles::Order;
use crate::clock::monotonic_ns;
use crate::peer_process;

/// What one incarnation writes down, in a file without a name, which goes with the last who has it open.
struct Book {
    file: File,
    read_bytes: u64,
    pid: u32,
    /// Its process is dead for certain, so nothing more will come; how it died.
    closed: Option<Death>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// By itself, so that it gave back what it held.
    Natural,
    /// By SIGKILL.
    Killed,
}

/// What is read in a book.
pub enum Entry {
    /// A buffer was received.
    Received(Record),
    /// Nothing more was received: the next entry is of the next process.
    Died(Death),
}

/// Records read in one go.
const READ_RECORDS: usize = 2048;

/// A long-lived process writes much down: what has been read is given back to the file system in such steps.
const GIVE_BACK_BYTES: u64 = 1 << 20;

/// One place in the graph.
pub struct Actor {
    pub process: Process,
    child: Option<Child>,
    incarnation: u32,
    started_ns: u64,
    books: VecDeque<Book>,
    /// How often a process was killed here.
    pub kills: u64,
    /// It has been sent SIGSTOP.
    pub stopped: bool,
}

/// A process that has been sent SIGKILL.
pub struct Dying {
    pub child: Child,
    /// Its place.
    pub actor: usize,
    /// When, `CLOCK_MONOTONIC`.
    pub killed_ns: u64,
    /// How long it had lived.
    pub age_ns: u64,
    /// The pond has had it.
    pub joined: bool,
    /// Its recovery has been seen.
    pub recovered: bool,
}

impl Actor {
    /// Without process.
    pub fn new(process: Process) -> Self {
        let books = VecDeque::new();
        Self { process, child: None, incarnation: 0, started_ns: 0, books, kills: 0, stopped: false }
    }

    /// Its process, if there is one.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Number of the process, counted from 1; 0 before the first.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Starts the next incarnation. Call this on the main thread.
    ///
    /// # Errors
    /// If that fails.
    pub fn start(&mut self, pond: &str, graph: Option<&Graph>) -> anyhow::Result<()> {
        let order = Order {
            parent_pid: std::process::id(),
            pond: pond.to_owned(),
            process: self.process.clone(),
            incarnation: self.incarnation,
            graph: graph.cloned(),
        };
        let file = nameless_file()?;
        let child = peer_process::command("torture-peer", &serde_json::to_string(&order)?)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start `{}`", self.process.name))?;
        self.books.push_back(Book { file, read_bytes: 0, pid: child.id(), closed: None });
        self.child = Some(child);
        self.incarnation += 1;
        self.started_ns = monotonic_ns();
        self.stopped = false;
        Ok(())
    }

    /// A process that was here is dead for certain: it has been waited for. One that was only sent SIGKILL may still be writing.
    pub fn close_book(&mut self, pid: u32, death: Death) {
        self.books.iter_mut().filter(|book| book.pid == pid).for_each(|book| book.closed = Some(death));
    }

    /// Says one line to the process, if it is there.
    pub fn tell(&mut self, command: &str) {
        if let Some(stdin) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) {
            // It may have ended: that is noticed elsewhere.
            let _ = writeln!(stdin, "{command}");
        }
    }

    /// Sends a signal to the process, if it is there.
    pub fn signal(&mut self, signal: Signal) {
        if let Some(child) = &self.child {
            // A child that has not been waited for keeps its pid, so this cannot hit another.
            let _ = kill_process(Pid::from_child(child), signal);
            self.stopped = signal == Signal::STOP;
        }
    }

    /// Kills the process, if it is there.
    pub fn kill(&mut self, actor: usize) -> Option<Dying> {
        let killed_ns = monotonic_ns();
        let mut child = self.child.take()?;
        let _ = child.kill();
        self.kills += 1;
        let age_ns = killed_ns - self.started_ns;
        Some(Dying { child, actor, killed_ns, age_ns, joined: false, recovered: false })
    }

    /// If the process has ended by itself: whether it was content.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub fn ended(&mut self) -> anyhow::Result<Option<std::process::ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            let pid = child.id();
            self.child = None;
            self.close_book(pid, Death::Natural);
        }
        Ok(status)
    }

    /// Reads on in what its processes have written down, one after the other.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn read(&mut self, mut each: impl FnMut(Entry)) -> anyhow::Result<()> {
        let mut bytes = [0; READ_RECORDS * Record::BYTES];
        while let Some(book) = self.books.front_mut() {
            // Whether it is closed before it is read to the end, so that nothing comes in between.
            let closed = book.closed;
            let read = book.file.read_at(&mut bytes, book.read_bytes)?;
            let whole = read - read % Record::BYTES;
            bytes[..whole]
                .as_chunks()
                .0
                .iter()
                .for_each(|record| each(Entry::Received(Record::from_bytes(record))));
            let given_back = book.read_bytes / GIVE_BACK_BYTES;
            book.read_bytes += whole as u64;
            if book.read_bytes / GIVE_BACK_BYTES > given_back {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // Where the file system cannot do that, the file only takes more room.
                let _ = fallocate(&book.file, flags, 0, book.read_bytes);
            }
            if whole == 0 {
                let Some(death) = closed else { return Ok(()) };
                each(Entry::Died(death));
                self.books.pop_front();
            }
        }
        Ok(())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A file that is open and nowhere else.
fn nameless_file() -> anyhow::Result<File> {
    let path =
        std::env::temp_dir().join(format!("millpond-torture-{}-{}", std::process::id(), monotonic_ns()));
    let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot make {}", path.display()))?;
    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(file)
}
