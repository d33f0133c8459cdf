//! The account of every mailbox and message, read from outside and without a lock.

use crate::control::Control;
use crate::layout::MailboxRecord;
use crate::mail::{CellWord, MAILBOX_CLOSING, MAILBOX_OPEN};
use crate::mailbox::labels;
use crate::sync::Ordering;
use crate::token::ProcessSlot;
use std::collections::BTreeSet;

/// One mailbox, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MailboxInfo {
    /// The name that its owner gave it.
    pub name: String,
    /// Pid of its owner; `None`: it is gone, and a stopped process still writes to it.
    pub pid: Option<u32>,
    /// `open` or `closing`.
    pub state: &'static str,
    /// The texts by which it can be found.
    pub labels: Vec<String>,
    /// Messages that can be received.
    pub waiting: u32,
    /// Messages that are being written.
    pub being_written: u32,
    /// Messages accepted so far.
    pub accepted: u64,
    /// Those that its owner took.
    pub received: u64,
    /// Messages that lay in it when it was closed or its owner died.
    pub lost: u64,
    /// Messages refused because it was full.
    pub refused_full: u64,
    /// Messages whose sender died while it wrote them.
    pub abandoned: u64,
    /// Messages that its owner took and had no room for.
    pub overflowed: u64,
}

/// The account of every message since the pond was made. `accepted = received + lost + waiting`, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MessageTotals {
    /// Messages accepted by mailboxes.
    pub accepted: u64,
    /// Those that were taken.
    pub received: u64,
    /// Those that lay in a mailbox when it was closed or its owner died.
    pub lost: u64,
    /// Those that wait.
    pub waiting: u64,
    /// Messages to mailboxes that were gone, or that gave up because of a stop: never accepted.
    pub unaddressed: u64,
}

/// Every mailbox that is open or not yet free again.
pub(crate) fn infos(control: &Control) -> Vec<MailboxInfo> {
    let info = |(index, record): (u32, &MailboxRecord)| {
        let state = match record.state.load(Ordering::Acquire) as u32 {
            MAILBOX_OPEN => "open",
            MAILBOX_CLOSING
                if record.cells.iter().any(|c| !CellWord(c.load(Ordering::Relaxed)).is_free()) =>
            {
                "closing"
            }
            _ => return None,
        };
        let words = record.cells.each_ref().map(|cell| CellWord(cell.load(Ordering::Acquire)));
        let count = |matches: fn(&CellWord) -> bool| words.iter().filter(|w| matches(w)).count() as u32;
        let waiting = count(|w| w.is_ready());
        let sum = |part: fn(CellWord) -> u32| words.iter().map(|w| u64::from(part(*w))).sum::<u64>();
        let accepted = sum(CellWord::accepted).saturating_sub(record.accepted_base.load(Ordering::Relaxed));
        let lost = sum(CellWord::lost).saturating_sub(record.lost_base.load(Ordering::Relaxed));
        let owner = record.owner.load(Ordering::Relaxed);
        let pid = control.process(owner as usize).map_or(0, |p| p.state.load(Ordering::Acquire) as u32);
        Some(MailboxInfo {
            name: record.name.load(),
            pid: (pid != 0).then_some(pid),
            state,
            labels: labels(record, control.mailbox_body(index)?),
            waiting,
            being_written: count(|w| !w.is_ready() && !w.is_free()),
            accepted,
            received: accepted.saturating_sub(lost).saturating_sub(waiting.into()),
            lost,
            refused_full: record.refused_full.load(Ordering::Relaxed),
            abandoned: record.abandoned.load(Ordering::Relaxed),
            overflowed: record.overflowed.load(Ordering::Relaxed),
        })
    };
    control.used_mailboxes().filter_map(info).collect()
}

/// The account over all mailboxes, those that are gone included.
pub(crate) fn message_totals(control: &Control) -> MessageTotals {
    let mut sum = MessageTotals {
        unaddressed: control.header().messages_unaddressed.load(Ordering::Relaxed),
        ..MessageTotals::default()
    };
    for (_, record) in control.used_mailboxes() {
        for cell in &record.cells {
            let word = CellWord(cell.load(Ordering::Acquire));
            let waiting = u64::from(word.is_ready());
            sum.accepted += u64::from(word.accepted());
            sum.lost += u64::from(word.lost());
            sum.waiting += waiting;
            let settled = u64::from(word.accepted().wrapping_sub(word.lost()));
            sum.received += settled.saturating_sub(waiting); // saturating: a stray write may say anything
        }
    }
    sum
}

/// What is wrong at one moment: to be judged, it must be wrong at a second one, too.
pub(crate) fn problems(control: &Control) -> BTreeSet<String> {
    let listed = |slot: ProcessSlot| {
        control.process(slot.into()).is_some_and(|p| p.state.load(Ordering::Acquire) != 0)
    };
    let mut problems = BTreeSet::new();
    for (index, record) in control.used_mailboxes() {
        let state = record.state.load(Ordering::Acquire);
        let owner = record.owner.load(Ordering::Acquire);
        if state as u32 == MAILBOX_OPEN && !u16::try_from(owner).is_ok_and(listed) {
            problems.insert(format!("mailbox {index} belongs to process slot {owner}, where nobody is"));
        }
        for (cell, word) in record.cells.iter().enumerate() {
            let word = CellWord(word.load(Ordering::Acquire));
            if !word.is_free() && !word.is_ready() && !listed(word.sender()) {
                problems.insert(format!(
                    "mailbox {index}, cell {cell} is being written by process slot {}, where nobody is ({:#x})",
                    word.sender(),
                    word.0
                ));
            }
        }
    }
    problems
}
