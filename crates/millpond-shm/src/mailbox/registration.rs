//! Opening and closing mailboxes under the registry's lock, and what recovery does with those of the dead.

use super::{MailboxAddress, cells, ring_room, tell_senders, totals};
use crate::attachment::Attachment;
use crate::error::{Error, Result};
use crate::layout::{MAX_LABELS, MAX_MAILBOXES, MailboxBody, MailboxRecord};
use crate::mail::{MAILBOX_CLOSING, MAILBOX_FREE, MAILBOX_OPEN, open_word};
use crate::registry::check_name;
use crate::registry_lock::Registry;
use crate::sync::Ordering;
use crate::sys::memory;
use crate::token::ProcessSlot;
use std::mem::size_of;

impl Registry<'_> {
    /// A free mailbox, opened for this process. Its index and address.
    pub(super) fn open_mailbox(&self, name: &str, waiter: u32) -> Result<(u32, MailboxAddress)> {
        check_name("mailbox", name)?;
        let control = &self.pond.control;
        let header = control.header();
        let used = header.mailboxes_used.load(Ordering::Relaxed).min(MAX_MAILBOXES as u32);
        let reusable = |record: &MailboxRecord| match record.state.load(Ordering::Relaxed) as u32 {
            MAILBOX_FREE => true,
            // A sender may have been late; now it has taken its message back.
            MAILBOX_CLOSING => record.owner.load(Ordering::Relaxed) == 0 && cells(record).sweep(),
            _ => false,
        };
        let index = (0..used).find(|&i| control.mailbox(i).is_some_and(reusable)).unwrap_or(used);
        let Some((record, body)) = control.mailbox(index).zip(control.mailbox_body(index)) else {
            let advice = "close some: one a process is enough";
            return Err(self.full("mailbox", MAX_MAILBOXES, advice));
        };
        let bytes = size_of::<MailboxBody>() as u64;
        let offset = control.tables().mailbox_bodies + u64::from(index) * bytes;
        memory::commit(&self.pond.control_fd, offset, bytes).map_err(|e| Error::OutOfMemory {
            what: format!("a mailbox in pond `{}`", self.pond.name),
            problem: e.to_string(),
        })?;
        let generation = ((record.state.load(Ordering::Relaxed) >> 32) as u32).wrapping_add(1);
        let (accepted, lost) = totals(record);
        record.accepted_base.store(accepted, Ordering::Relaxed);
        record.lost_base.store(lost, Ordering::Relaxed);
        for counter in [&record.refused_full, &record.abandoned, &record.overflowed] {
            counter.store(0, Ordering::Relaxed);
        }
        let labels = (record.labels_used.load(Ordering::Relaxed) as usize).min(MAX_LABELS);
        body.labels[..labels].iter().for_each(|label| label.store(""));
        record.labels_used.store(0, Ordering::Relaxed);
        record.name.store(name);
        record.waiter.store(waiter, Ordering::Relaxed);
        record.owner.store(self.pond.me.into(), Ordering::Relaxed);
        crash_point!(MailboxOwned);
        header.mailboxes_used.store(used.max(index + 1), Ordering::Release);
        crash_point!(MailboxMade);
        record.state.store(open_word(generation), Ordering::Release);
        crash_point!(MailboxOpened);
        tell_senders(self.pond);
        Ok((index, MailboxAddress::new(generation, index)))
    }

    /// Closes a mailbox of this process.
    pub(crate) fn leave_mailbox(&self, index: u32) {
        let owner = self.pond.control.mailbox(index).map(|record| record.owner.load(Ordering::Relaxed));
        if owner == Some(self.pond.me.into()) {
            self.close_mailbox(index);
            self.pond.ring_everybody(); // somebody may wait for an answer from here
        }
    }

    /// Closes a mailbox: what lies in it is lost, and those who wait for room, or for an answer from it, look again.
    fn close_mailbox(&self, index: u32) {
        let Some(record) = self.pond.control.mailbox(index) else { return };
        if record.state.load(Ordering::Relaxed) as u32 == MAILBOX_OPEN {
            cells(record).close();
        } else {
            cells(record).sweep(); // closing since a recovery that was cut off
        }
        tell_senders(self.pond);
        crash_point!(MailboxTold);
        ring_room(record);
        crash_point!(RecoverMailbox);
        record.waiter.store(0, Ordering::Relaxed);
        crash_point!(MailboxForgotten);
        record.owner.store(0, Ordering::Release);
    }

    /// Recovery: frees what the dead process was writing, and closes its mailboxes.
    pub(crate) fn give_back_mail(&self, dead: ProcessSlot) {
        for (index, record) in self.pond.control.used_mailboxes() {
            let freed = cells(record).give_back(dead);
            if freed > 0 {
                record.abandoned.fetch_add(freed.into(), Ordering::Relaxed);
            }
            if record.owner.load(Ordering::Relaxed) == u32::from(dead) {
                self.close_mailbox(index);
            } else if record.state.load(Ordering::Relaxed) as u32 == MAILBOX_CLOSING {
                cells(record).sweep(); // the dead process may have been late with s3, and not have taken it back
            }
        }
        // At all of them: a recovery that was cut off may have freed cells and left no trace of it.
        self.pond.ring_senders_everywhere();
    }
}

impl Attachment {
    /// Makes everybody look again who waits for room in a mailbox.
    pub(crate) fn ring_senders_everywhere(&self) {
        for (_, record) in self.control.used_mailboxes() {
            ring_room(record);
        }
    }
}
