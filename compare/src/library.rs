//! What a library must be able to do to be measured: the same few operations for each, in its own fastest way.
//!
//! Every payload is a slice of `u64`. Its first word is the number of the message; filled messages count up from it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// How a process waits for a message or for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Asks again and again.
    Spin,
    /// Asks again and again, and lets other processes run in between.
    Yield,
    /// Sleeps until woken.
    Block,
    /// Spins for a moment, then sleeps.
    Adaptive,
}

/// The sizes of one topic, and how its ends wait.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Shape {
    /// Words in a payload.
    pub words: usize,
    /// Messages that fit between the sender and each receiver.
    pub depth: usize,
    /// Messages a receiver may hold at once.
    pub held: usize,
    /// Receivers, of which each gets every message.
    pub receivers: usize,
    /// How both ends wait.
    pub wait: Wait,
    /// The settings of the library's own latency benchmark, where they differ from those for a lossless stream.
    pub upstream: bool,
}

impl Shape {
    /// A topic with one receiver that holds one message at a time.
    #[must_use]
    pub fn pair(words: usize, depth: usize, wait: Wait) -> Self {
        Self { words, depth, held: 1, receivers: 1, wait, upstream: false }
    }

    /// Bytes in a payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.words * size_of::<u64>()
    }
}

/// A message to be written.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// Its number, the first word.
    pub sequence: u64,
    /// Whether the other words are written, too.
    pub fill: bool,
}

impl Message {
    /// Writes the message: all its words if it is filled, else the first only.
    #[inline(always)]
    pub fn write(self, words: &mut [u64]) {
        if self.fill {
            for (word, i) in words.iter_mut().zip(0..) {
                *word = self.sequence.wrapping_add(i);
            }
        } else if let Some(first) = words.first_mut() {
            *first = self.sequence;
        }
    }
}

/// The sending end of a topic.
pub trait Sender {
    /// Sends to every receiver, waiting for room. Nothing may be lost.
    ///
    /// # Errors
    /// When the library refuses, or a receiver is gone.
    fn send(&mut self, message: Message) -> Result<()>;

    /// Sends `count` messages numbered from `first` on, with one hand-over for all where the library has that.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    #[inline(always)]
    fn send_many(&mut self, first: u64, count: u64, fill: bool) -> Result<()> {
        for sequence in first..first + count {
            self.send(Message { sequence, fill })?;
        }
        Ok(())
    }

    /// Takes what the next message needs, while there is time. Only with [`Shape::upstream`].
    ///
    /// # Errors
    /// When the library refuses.
    fn prepare(&mut self) -> Result<()> {
        Ok(())
    }

    /// Brings the end together with the others; called once, after every process has opened its ends.
    ///
    /// # Errors
    /// When the other end cannot be reached.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Takes a buffer and gives it back unsent.
    ///
    /// # Errors
    /// When the library has no buffers to take, or refuses.
    fn take(&mut self) -> Result<()> {
        bail!("this library has no buffers that can be taken and given back")
    }

    /// Takes a buffer and keeps it.
    ///
    /// # Errors
    /// When the library refuses. `Ok(false)`: it has no buffers to keep.
    fn keep(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// How many buffers can be taken at this moment; `None` if the library has no shared buffers.
    ///
    /// # Errors
    /// When the library refuses for another reason than that none is left.
    fn free_buffers(&mut self) -> Result<Option<usize>> {
        Ok(None)
    }
}

/// The receiving end of a topic.
pub trait Receiver {
    /// The sending end that belongs to it.
    type Sender: Sender;

    /// Waits for the next message, reads it with `read`, and gives it back.
    ///
    /// # Errors
    /// When the library refuses, or the sender is gone.
    fn receive<R>(&mut self, read: impl FnOnce(&[u64]) -> R) -> Result<R>;

    /// Waits for a message, and reads those that are there with one hand-over, where the library has that.
    ///
    /// # Errors
    /// As [`receive`](Self::receive), and what `read` returns.
    #[inline(always)]
    fn receive_some(&mut self, mut read: impl FnMut(&[u64]) -> Result<()>) -> Result<()> {
        self.receive(|words| read(words))?
    }

    /// Waits for the next message and sends the same payload on; gives its first word.
    ///
    /// # Errors
    /// As [`receive`](Self::receive) and [`Sender::send`].
    fn forward(&mut self, to: &mut Self::Sender) -> Result<u64>;

    /// Waits for the next message, and keeps it.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    fn hold(&mut self) -> Result<()>;

    /// As [`Sender::settle`]; called after that of the process's senders.
    ///
    /// # Errors
    /// When the other end cannot be reached.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A library, as one process uses it.
pub trait Library: Sized {
    /// Its name, as shown.
    const NAME: &'static str;
    /// Whether it copies every message into and out of a buffer of its own, so that a receiver holds copies.
    const COPIES: bool;
    /// How its streams wait when every process has a core.
    const WAIT: Wait;
    /// How they wait when there are more processes than cores.
    const CROWDED: Wait;
    /// What a run leaves nothing of when this is dropped.
    type Place;
    /// Its sending end.
    type Sender: Sender;
    /// Its receiving end.
    type Receiver: Receiver<Sender = Self::Sender>;

    /// Its version, as measured.
    fn version() -> String;

    /// Makes the place in which one run meets; the text is what its processes need to know. Called by the parent, which
    /// takes no part in the measurement. `topics` topics of this shape will be opened.
    ///
    /// # Errors
    /// When the place cannot be made.
    fn place(shape: &Shape, topics: usize) -> Result<(Self::Place, String)>;

    /// Joins the run.
    ///
    /// # Errors
    /// When the library refuses.
    fn join(place: &str) -> Result<Self>;

    /// Opens the sending end of a topic.
    ///
    /// # Errors
    /// When the library refuses.
    fn sender(&self, topic: &str, shape: &Shape) -> Result<Self::Sender>;

    /// Opens receiving end number `index` of a topic.
    ///
    /// # Errors
    /// When the library refuses.
    fn receiver(&self, topic: &str, index: usize, shape: &Shape) -> Result<Self::Receiver>;

    /// The library's documented way to take back what dead processes held; `None` if it has none to be called.
    fn clean_up_dead(&self) -> Option<()> {
        None
    }
}

/// Waits in a loop that asks `ready` again and again.
///
/// # Errors
/// What `ready` returns.
#[inline(always)]
pub fn poll<T>(wait: Wait, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        match wait {
            Wait::Spin | Wait::Block | Wait::Adaptive => std::hint::spin_loop(),
            Wait::Yield => std::thread::yield_now(),
        }
    }
}

/// A name for one run, unlike that of any other run of a process that lives: the prefix, this process, and a count.
#[must_use]
pub fn run_name(prefix: &str) -> String {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed))
}

/// A directory for the files of one run, removed when dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes one, after removing those of processes that were killed before they could.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(prefix: &str) -> Result<Self> {
        let parent = std::env::temp_dir();
        for old in abandoned(&parent, prefix) {
            // Somebody else may do so as well.
            let _ = fs::remove_dir_all(old);
        }
        let directory = parent.join(run_name(prefix));
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self(directory))
    }

    /// Its path, as text for the other processes.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<String> {
        Ok(self.0.to_str().context("the temporary directory's name is not UTF-8")?.to_owned())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// What is in `parent` under a name that [`run_name`] gave to a process that no longer lives.
#[must_use]
pub fn abandoned(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let is_abandoned = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix(prefix)?.strip_prefix('-')?;
        let process: u32 = name.split('-').next()?.parse().ok()?;
        (!Path::new(&format!("/proc/{process}")).exists()).then_some(())
    };
    let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| is_abandoned(path).is_some()).collect()
}

/// How long a measurement runs before it counts: page faults, caches, processor frequency.
pub const WARM_UP: Duration = Duration::from_millis(200);

/// The version of `package` in the text of a `Cargo.lock`: the one that was built.
#[must_use]
pub fn locked_version(lock: &str, package: &str) -> String {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_lock_file() {
        let lock = "[[package]]\nname = \"a-b\"\nversion = \"1.2\"\n\n[[package]]\nname = \"b\"\nversion = \"3.4\"\n";
        assert_eq!(locked_version(lock, "b"), "3.4");
        assert_eq!(locked_version(lock, "c"), "unknown");
    }

    #[test]
    fn a_filled_message_counts_up_and_another_writes_one_word() {
        let mut words = [0; 3];
        Message { sequence: 7, fill: false }.write(&mut words);
        assert_eq!(words, [7, 0, 0]);
        Message { sequence: 7, fill: true }.write(&mut words);
        assert_eq!(words, [7, 8, 9]);
    }
}
