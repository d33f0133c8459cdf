//! Mailboxes of the message bus: messages between processes for control and status, beside the data path.
//!
//! A mailbox has one owner, who receives; everybody may send to it. Sending never waits for a dead or stopped process: a full
//! mailbox is a result of its own, or is waited for until a deadline. What a message means, and which *label* makes a mailbox the
//! right one for it, is the upper layer's business. The steps that are exact under SIGKILL are those of the module `mail`.

pub(crate) mod account;
mod registration;

use crate::attachment::{Attachment, Belonging, Session};
use crate::error::{Error, Result};
use crate::layout::{
    MAILBOX_CELLS, MAILBOX_REPLY_CELLS, MAX_LABEL_BYTES, MAX_LABELS, MAX_MESSAGE_BYTES, MailboxBody,
    MailboxRecord, Message,
};
use crate::mail::{CellWord, Cells, Claim, MAILBOX_OPEN, open_word};
use crate::pond::Pond;
use crate::sync::{AtomicU64, Ordering, fence};
use crate::sys::futex;
use crate::waiter::{Wait, Waiter};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names one mailbox for good: an address is never used again for another one (before 2^32 mailboxes were made in its place).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct MailboxAddress(u64);

impl MailboxAddress {
    fn new(generation: u32, index: u32) -> MailboxAddress {
        MailboxAddress((u64::from(generation) << 32) | (u64::from(index) + 1))
    }

    /// The address in a message; `None`: no mailbox.
    fn from_word(word: u64) -> Option<MailboxAddress> {
        (word as u32 != 0).then_some(MailboxAddress(word))
    }

    fn index(self) -> u32 {
        (self.0 as u32).wrapping_sub(1)
    }

    fn open_word(self) -> u64 {
        open_word((self.0 >> 32) as u32)
    }
}

/// A message. Contents are at most 4096 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// What it is, in the terms of whoever sends it.
    pub kind: u32,
    /// Which request it belongs to.
    pub correlation: u64,
    /// Where the answer should go.
    pub reply_to: Option<MailboxAddress>,
    /// The contents.
    pub contents: Vec<u8>,
}

/// A message that was received, with its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The message.
    pub mail: Mail,
    /// Pid of the sender, as it says; it may have left or died meanwhile.
    pub sender_pid: u32,
}

/// Which cells of a mailbox a message may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailClass {
    /// All but the last 16.
    Ordinary,
    /// All: it answers somebody who waits.
    Reply,
}

/// Why a message was not delivered. Every case is counted in the pond.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// Every cell that the message may use is taken, and remained so until the deadline.
    #[error("the mailbox of process {pid} is full")]
    Full {
        /// Its owner.
        pid: u32,
    },
    /// The mailbox is gone: its owner closed it, left or died.
    #[error("the receiver is gone")]
    Gone,
    /// The pond was asked to stop while a full mailbox was waited for.
    #[error("the pond was asked to stop")]
    Stopped,
    /// It does not fit into a cell.
    #[error(
        "the message has {found} bytes, at most {MAX_MESSAGE_BYTES} are possible: send large data through ports"
    )]
    TooLarge {
        /// Its size.
        found: usize,
    },
    /// The handle cannot be used.
    #[error(transparent)]
    Pond(#[from] Error),
}

/// A mailbox that messages can be sent to, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxEntry {
    /// Its address.
    pub address: MailboxAddress,
    /// Pid of its owner.
    pub pid: u32,
    /// The name that its owner gave it.
    pub name: String,
    /// The texts by which it can be found.
    pub labels: Vec<String>,
}

/// The owner's end of a mailbox. Dropping it closes the mailbox: what lies in it counts as lost.
pub struct Mailbox {
    session: Arc<Session>,
    index: u32,
    address: MailboxAddress,
    waiter: Waiter,
}

fn cells(record: &MailboxRecord) -> Cells<'_> {
    Cells { state: &record.state, cells: &record.cells }
}

/// Messages accepted and lost, of all uses of the mailbox so far.
fn totals(record: &MailboxRecord) -> (u64, u64) {
    record.cells.iter().fold((0, 0), |(accepted, lost), cell| {
        let word = CellWord(cell.load(Ordering::Acquire));
        (accepted + u64::from(word.accepted()), lost + u64::from(word.lost()))
    })
}

impl Pond {
    /// Makes a mailbox for this process. `name` is for people.
    ///
    /// # Errors
    /// [`Error::TableFull`], [`Error::InvalidName`], [`Error::OutOfMemory`].
    pub fn mailbox(&self, name: &str) -> Result<Mailbox> {
        let waiter = self.waiter(Wait::Block)?;
        let session = self.session();
        let (index, address) = session.lock_registry()?.open_mailbox(name, waiter.index())?;
        Ok(Mailbox { session: Arc::clone(session), index, address, waiter })
    }

    /// A number that changes whenever [`mailboxes`](Pond::mailboxes) would give something else.
    #[must_use]
    pub fn mailbox_epoch(&self) -> u32 {
        if self.session().is_forked() {
            return 0;
        }
        self.session().control.header().mailbox_epoch.load(Ordering::Acquire)
    }

    /// Every open mailbox.
    #[must_use]
    pub fn mailboxes(&self) -> Vec<MailboxEntry> {
        let pond = self.session();
        if pond.is_forked() {
            return Vec::new();
        }
        let entry = |(index, record): (u32, &MailboxRecord)| {
            let state = record.state.load(Ordering::Acquire);
            if state as u32 != MAILBOX_OPEN {
                return None;
            }
            let labels = labels(record, pond.control.mailbox_body(index)?);
            let owner = record.owner.load(Ordering::Relaxed);
            let found = MailboxEntry {
                address: MailboxAddress::new((state >> 32) as u32, index),
                pid: pond.pid_of(owner),
                name: record.name.load(),
                labels,
            };
            // What was read belongs together only if the mailbox is still the same.
            (record.state.load(Ordering::Acquire) == state).then_some(found)
        };
        pond.control.used_mailboxes().filter_map(entry).collect()
    }

    /// Whether the mailbox can still receive.
    #[must_use]
    pub fn is_mailbox_open(&self, address: MailboxAddress) -> bool {
        let pond = self.session();
        !pond.is_forked()
            && pond
                .control
                .mailbox(address.index())
                .is_some_and(|record| record.state.load(Ordering::Acquire) == address.open_word())
    }

    /// Sends a message; if the mailbox is full, waits for room at most `timeout`.
    ///
    /// # Blocking
    /// At most `timeout`; with a timeout of zero never.
    ///
    /// # Errors
    /// Why it was not delivered. [`PostError::Gone`] comes at once when the owner dies, also out of the wait.
    ///
    /// # Crash safety
    /// Killed in here, the message is delivered completely or not at all, and nobody waits.
    pub fn post(
        &self,
        to: MailboxAddress,
        mail: &Mail,
        class: MailClass,
        timeout: Duration,
    ) -> Result<(), PostError> {
        let pond: &Attachment = self.session();
        pond.check_fork()?;
        if mail.contents.len() > MAX_MESSAGE_BYTES {
            return Err(PostError::TooLarge { found: mail.contents.len() });
        }
        let header = pond.control.header();
        let place = pond.control.mailbox(to.index()).zip(pond.control.mailbox_body(to.index()));
        let Some((record, body)) = place.filter(|(r, _)| r.state.load(Ordering::Acquire) == to.open_word())
        else {
            header.messages_unaddressed.fetch_add(1, Ordering::Relaxed);
            return Err(PostError::Gone);
        };
        let usable = match class {
            MailClass::Ordinary => MAILBOX_CELLS - MAILBOX_REPLY_CELLS,
            MailClass::Reply => MAILBOX_CELLS,
        };
        let ticket = record.next_ticket.fetch_add(1, Ordering::Relaxed);
        crash_point!(MailTicket);
        let claimed = claim_in_time(pond, record, to.open_word(), ticket, usable, timeout);
        let index = match claimed {
            Ok(index) => index,
            Err(refused) => {
                match refused {
                    PostError::Full { .. } => record.refused_full.fetch_add(1, Ordering::Relaxed),
                    _ => header.messages_unaddressed.fetch_add(1, Ordering::Relaxed),
                };
                return Err(refused);
            }
        };
        let message = &body.messages[index];
        message.sender_pid.store(pond.pid_of(pond.me.into()).into(), Ordering::Relaxed);
        write(message, mail, ticket);
        crash_point!(MailWritten);
        if !cells(record).commit(to.open_word(), index) {
            return Err(PostError::Gone); // counted in its cell
        }
        // `commit` has fenced.
        pond.ring_if_asleep(record.waiter.load(Ordering::Relaxed));
        Ok(())
    }
}

/// A cell of the mailbox, waiting for one until the deadline.
fn claim_in_time(
    pond: &Attachment,
    record: &MailboxRecord,
    open: u64,
    ticket: u64,
    usable: usize,
    timeout: Duration,
) -> Result<usize, PostError> {
    let start = Instant::now();
    loop {
        // The bell is read before the announcement, the announcement made before the last attempt: whoever frees a cell after
        // that attempt sees it, and raises the bell before the futex could sleep on it.
        let rung = record.room_bell.load(Ordering::Acquire);
        let left = timeout.saturating_sub(start.elapsed());
        if !left.is_zero() {
            record.senders_wait.store(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
        match cells(record).claim(open, pond.me, ticket, usable) {
            Claim::Cell(index) => return Ok(index),
            Claim::Closed => return Err(PostError::Gone),
            Claim::Full if pond.stop_requested() => return Err(PostError::Stopped),
            Claim::Full if left.is_zero() => {
                return Err(PostError::Full { pid: pond.pid_of(record.owner.load(Ordering::Relaxed)) });
            }
            Claim::Full => futex::wait(&record.room_bell, rung, Some(left)),
        }
    }
}

/// Tells senders that wait to look again, if there are any. The caller has stored what they wait for.
fn ring_senders(record: &MailboxRecord) {
    fence(Ordering::SeqCst);
    if record.senders_wait.load(Ordering::Relaxed) != 0 {
        record.senders_wait.store(0, Ordering::Relaxed);
        crash_point!(RoomMarkCleared);
        ring_room(record);
    }
}

fn ring_room(record: &MailboxRecord) {
    record.room_bell.fetch_add(1, Ordering::Release);
    crash_point!(RoomBellRaised);
    futex::wake_all(&record.room_bell);
}

/// s2. The words are atomics: the owner may only read them behind s3, but nothing breaks if somebody does.
fn write(message: &Message, mail: &Mail, ticket: u64) {
    message.ticket.store(ticket, Ordering::Relaxed);
    message.kind.store(mail.kind.into(), Ordering::Relaxed);
    message.correlation.store(mail.correlation, Ordering::Relaxed);
    message.reply_to.store(mail.reply_to.map_or(0, |address| address.0), Ordering::Relaxed);
    message.length.store(mail.contents.len() as u64, Ordering::Relaxed);
    for (word, chunk) in message.words.iter().zip(mail.contents.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

/// r2. A length beyond the cell (a stray write) is cut.
fn read(message: &Message) -> Mail {
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
    let length = (load(&message.length) as usize).min(MAX_MESSAGE_BYTES);
    let words = &message.words[..length.div_ceil(8)];
    let mut contents: Vec<u8> = words.iter().flat_map(|word| load(word).to_le_bytes()).collect();
    contents.truncate(length);
    Mail {
        kind: load(&message.kind) as u32,
        correlation: load(&message.correlation),
        reply_to: MailboxAddress::from_word(load(&message.reply_to)),
        contents,
    }
}

fn labels(record: &MailboxRecord, body: &MailboxBody) -> Vec<String> {
    let used = (record.labels_used.load(Ordering::Acquire) as usize).min(MAX_LABELS);
    body.labels[..used].iter().map(|label| label.load()).filter(|text| !text.is_empty()).collect()
}

impl Mailbox {
    /// Its address, for `reply_to`.
    #[must_use]
    pub fn address(&self) -> MailboxAddress {
        self.address
    }

    /// The party that is rung for every message; wait with it.
    #[must_use]
    pub fn waiter(&self) -> &Waiter {
        &self.waiter
    }

    fn record(&self) -> Option<(&MailboxRecord, &MailboxBody)> {
        if self.session.is_forked() {
            return None;
        }
        let control = &self.session.attachment().control;
        control.mailbox(self.index).zip(control.mailbox_body(self.index))
    }

    /// Whether there is a message.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.record().is_some_and(|(record, _)| cells(record).has_any())
    }

    /// Takes the oldest message. Messages of one sending thread come in the order in which they were sent.
    ///
    /// # Crash safety
    /// Killed in here, the message counts as lost with the mailbox.
    pub fn try_receive(&mut self) -> Option<Received> {
        let (record, body) = self.record()?;
        let ticket = |index: usize| body.messages[index].ticket.load(Ordering::Relaxed);
        let index = cells(record).oldest(ticket)?;
        let sender_pid = body.messages[index].sender_pid.load(Ordering::Relaxed) as u32;
        let mail = read(&body.messages[index]);
        crash_point!(MailCopied);
        cells(record).free(index);
        crash_point!(MailFreed);
        ring_senders(record);
        Some(Received { mail, sender_pid })
    }

    /// Counts messages that the owner took and had no room for.
    pub fn count_overflowed(&self, messages: u64) {
        if let Some((record, _)) = self.record() {
            record.overflowed.fetch_add(messages, Ordering::Relaxed);
        }
    }

    /// Adds a text by which the mailbox can be found.
    ///
    /// # Errors
    /// [`Error::InvalidName`] for a text that is empty or longer than 160 bytes, [`Error::TableFull`] beyond 256.
    ///
    /// # Crash safety
    /// Others see the label completely or not at all.
    pub fn add_label(&mut self, label: &str) -> Result<()> {
        if label.is_empty() || label.len() > MAX_LABEL_BYTES {
            return Err(Error::InvalidName {
                what: "label",
                name: label.to_owned(),
                reason: format!("it has {} bytes; 1 to {MAX_LABEL_BYTES} are allowed", label.len()),
            });
        }
        let Some((record, body)) = self.record() else { return Err(Error::Forked) };
        let used = (record.labels_used.load(Ordering::Relaxed) as usize).min(MAX_LABELS);
        let free = body.labels[..used].iter().position(|l| l.load().is_empty()).unwrap_or(used);
        let Some(place) = body.labels.get(free) else {
            return Err(Error::TableFull {
                pond: self.session.name.clone(),
                what: "label of one mailbox",
                limit: MAX_LABELS,
                advice: "use fewer patterns with wildcards, or another mailbox",
            });
        };
        place.store(label);
        crash_point!(LabelWritten);
        record.labels_used.store(used.max(free + 1) as u32, Ordering::Release);
        crash_point!(LabelStored);
        tell_senders(&self.session);
        Ok(())
    }

    /// Takes one such text away; nothing happens if there is none.
    pub fn remove_label(&mut self, label: &str) {
        let Some((record, body)) = self.record() else { return };
        let used = (record.labels_used.load(Ordering::Relaxed) as usize).min(MAX_LABELS);
        if let Some(place) = body.labels[..used].iter().find(|l| l.load() == label) {
            place.store("");
            crash_point!(LabelCleared);
            tell_senders(&self.session);
        }
    }
}

fn tell_senders(pond: &Attachment) {
    pond.control.header().mailbox_epoch.fetch_add(1, Ordering::Release);
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        if self.session.is_forked() {
            return;
        }
        self.session.let_go(Belonging::Mailbox(self.index));
    }
}
