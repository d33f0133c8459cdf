//! The cells of one mailbox: how many processes put messages into it and its owner takes them, whoever is killed when.
//!
//! Never here: waiting, allocation, a lock, a loop that depends on another process. A cell is one word that says who has it, and
//! that carries its own account: how many messages were ever accepted there, and how many of them were lost with their
//! mailbox. Every step is one store or compare-and-swap of that word, so the account is exact after any kill: what was accepted
//! and is neither lost nor still there was received. A stopped or dead sender keeps at most the cells that it was writing.
//!
//! ```text
//! cell     phase:2 | sender:8 | lost:22 | accepted:32      phase: 0 free, 1 being written, 2 ready
//! mailbox  generation:32 | phase:32                        phase: 0 free, 1 open, 2 closing
//!
//! send     s1 claim a free cell (compare-and-swap), fence, look that the mailbox is still the same; s2 write the message;
//!          s3 ready, accepted + 1; fence; s4 look again: if it was closed meanwhile, take the message back as lost
//! receive  r1 choose the oldest ready cell; r2 copy it out; r3 free
//! close    c1 closing; fence; c2 every ready cell becomes free, lost + 1 (compare-and-swap). A mailbox is used again only when
//!          all of its cells are free, so a sender that was late by s3 finds its own message and takes it back.
//! ```

use crate::sync::{AtomicU64, Ordering, fence};
use crate::token::ProcessSlot;

/// Phases of a cell.
const FREE: u64 = 0;
const WRITING: u64 = 1;
const READY: u64 = 2;

/// Phases of a mailbox.
pub(crate) const MAILBOX_FREE: u32 = 0;
pub(crate) const MAILBOX_OPEN: u32 = 1;
pub(crate) const MAILBOX_CLOSING: u32 = 2;

const LOST_ONE: u64 = 1 << 32;
const LOST_MASK: u64 = 0x3f_ffff << 32;
const COUNTS_MASK: u64 = LOST_MASK | 0xffff_ffff;

/// The word of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CellWord(pub(crate) u64);

impl CellWord {
    const fn phase(self) -> u64 {
        self.0 >> 62
    }

    pub(crate) const fn is_free(self) -> bool {
        self.phase() == FREE
    }

    pub(crate) const fn is_ready(self) -> bool {
        self.phase() == READY
    }

    /// Being written by this process.
    pub(crate) const fn is_written_by(self, sender: ProcessSlot) -> bool {
        self.phase() == WRITING && self.sender() == sender
    }

    /// The process that writes or wrote the message; 0 in a free cell.
    pub(crate) const fn sender(self) -> ProcessSlot {
        (self.0 >> 54) as u16 & 0xff
    }

    /// Messages ever accepted here.
    pub(crate) const fn accepted(self) -> u32 {
        self.0 as u32
    }

    /// Accepted ones that nobody received.
    pub(crate) const fn lost(self) -> u32 {
        (self.0 >> 32) as u32 & 0x3f_ffff
    }

    const fn with(self, phase: u64, sender: ProcessSlot) -> CellWord {
        CellWord(phase << 62 | (sender as u64 & 0xff) << 54 | self.0 & COUNTS_MASK)
    }

    const fn claimed(self, sender: ProcessSlot) -> CellWord {
        self.with(WRITING, sender)
    }

    const fn ready(self) -> CellWord {
        let accepted = self.accepted().wrapping_add(1) as u64;
        CellWord(self.with(READY, self.sender()).0 & !0xffff_ffff | accepted)
    }

    const fn freed(self) -> CellWord {
        self.with(FREE, 0)
    }

    const fn freed_as_lost(self) -> CellWord {
        let freed = self.freed().0;
        CellWord(freed & !LOST_MASK | freed.wrapping_add(LOST_ONE) & LOST_MASK)
    }
}

/// The word of an open mailbox of that generation: what senders compare with.
pub(crate) const fn open_word(generation: u32) -> u64 {
    (generation as u64) << 32 | MAILBOX_OPEN as u64
}

/// What came of an attempt to claim a cell.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The cell of this index may be written.
    Cell(usize),
    Full,
    /// The mailbox is not, or no longer, the one that was meant.
    Closed,
}

/// The words of one mailbox.
#[derive(Clone, Copy)]
pub(crate) struct Cells<'a> {
    /// Generation and phase of the mailbox. Its maker and whoever closes it, one at a time.
    pub(crate) state: &'a AtomicU64,
    pub(crate) cells: &'a [AtomicU64],
}

impl Cells<'_> {
    fn word(&self, index: usize) -> CellWord {
        CellWord(self.cells[index].load(Ordering::Acquire))
    }

    /// s1: claims one of the first `usable` cells, from `start` on.
    ///
    /// # Crash safety
    /// Killed afterwards, the cell names the dead sender: [`give_back`](Cells::give_back).
    pub(crate) fn claim(&self, open: u64, me: ProcessSlot, start: u64, usable: usize) -> Claim {
        let usable = usable.clamp(1, self.cells.len());
        if self.state.load(Ordering::Acquire) != open {
            return Claim::Closed;
        }
        for step in 0..usable as u64 {
            let index = (start.wrapping_add(step) % usable as u64) as usize;
            let word = self.word(index);
            if !word.is_free()
                || self.cells[index]
                    .compare_exchange(word.0, word.claimed(me).0, Ordering::AcqRel, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            crash_point!(MailClaimed);
            // With the fence in `close`: either it sees the claim, and the mailbox is not used again before the claim is gone, or
            // this look sees that it is closing.
            fence(Ordering::SeqCst);
            if self.state.load(Ordering::Acquire) != open {
                self.cells[index].store(word.freed().0, Ordering::Release);
                return Claim::Closed;
            }
            return Claim::Cell(index);
        }
        Claim::Full
    }

    /// s3, s4: the message in the claimed cell can be taken. `false`: the mailbox was closed, and the message counts as lost,
    /// unless its owner took it just before.
    pub(crate) fn commit(&self, open: u64, index: usize) -> bool {
        let ready = self.word(index).ready();
        self.cells[index].store(ready.0, Ordering::Release);
        crash_point!(MailReady);
        // With the fence in `close`: either it sees the message, or this look sees that it is closing.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::Acquire) == open {
            return true;
        }
        let _ = self.cells[index].compare_exchange(
            ready.0,
            ready.freed_as_lost().0,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
        false
    }

    /// Whether any message can be taken.
    pub(crate) fn has_any(&self) -> bool {
        (0..self.cells.len()).any(|index| self.word(index).is_ready())
    }

    /// r1: the oldest message by the tickets that senders drew before claiming. Messages of one thread come in the order in which
    /// it sent them: whoever sees one ready sees, in a second look, all that the same thread had made ready before.
    pub(crate) fn oldest(&self, ticket: impl Fn(usize) -> u64) -> Option<usize> {
        let mut best: Option<(u64, usize)> = None;
        for _ in 0..=self.cells.len() {
            let ready = (0..self.cells.len()).filter(|&index| self.word(index).is_ready());
            let oldest = ready.map(|index| (ticket(index), index)).min()?;
            if best == Some(oldest) {
                break;
            }
            best = Some(oldest);
        }
        best.map(|(_, index)| index)
    }

    /// r3: the owner has copied the message out.
    pub(crate) fn free(&self, index: usize) {
        self.cells[index].store(self.word(index).freed().0, Ordering::Release);
    }

    /// c1, c2. Only by whoever may close: the owner, or recovery; redone if it is cut off.
    pub(crate) fn close(&self) {
        let generation = self.state.load(Ordering::Relaxed) >> 32;
        self.state.store(generation << 32 | u64::from(MAILBOX_CLOSING), Ordering::Release);
        crash_point!(MailClosing);
        fence(Ordering::SeqCst);
        self.sweep();
    }

    /// c2, of a closing mailbox: what is ready is lost. `true`: every cell is free, so that the mailbox may be used again.
    pub(crate) fn sweep(&self) -> bool {
        let mut all_free = true;
        for cell in self.cells {
            let word = CellWord(cell.load(Ordering::Acquire));
            if word.is_ready() {
                // Lost only once: its sender may be taking it back at this moment.
                let _ = cell.compare_exchange(
                    word.0,
                    word.freed_as_lost().0,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                crash_point!(MailSwept);
            } else if !word.is_free() {
                all_free = false;
            }
        }
        all_free
    }

    /// Frees what a dead process was writing. The number of cells freed.
    pub(crate) fn give_back(&self, dead: ProcessSlot) -> u32 {
        let mut freed = 0;
        for cell in self.cells {
            let word = CellWord(cell.load(Ordering::Acquire));
            if word.is_written_by(dead) {
                cell.store(word.freed().0, Ordering::Release);
                crash_point!(RecoverMailCell);
                freed += 1;
            }
        }
        freed
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn cells(count: usize) -> (AtomicU64, Vec<AtomicU64>) {
        (AtomicU64::new(open_word(1)), (0..count).map(|_| AtomicU64::new(0)).collect())
    }

    #[test]
    fn a_cell_keeps_its_account() {
        let mut word = CellWord(0);
        for (round, lost) in [false, true, false].into_iter().enumerate() {
            word = word.claimed(254);
            assert!(word.is_written_by(254) && !word.is_written_by(253));
            word = word.ready();
            assert!(word.is_ready() && word.sender() == 254);
            assert_eq!(word.accepted(), round as u32 + 1);
            word = if lost { word.freed_as_lost() } else { word.freed() };
            assert!(word.is_free() && word.sender() == 0);
        }
        assert_eq!((word.accepted(), word.lost()), (3, 1));
        let full = CellWord(COUNTS_MASK);
        assert_eq!((full.freed_as_lost().lost(), full.freed_as_lost().accepted()), (0, u32::MAX));
        assert_eq!((full.claimed(7).ready().accepted(), full.claimed(7).ready().lost()), (0, 0x3f_ffff));
    }

    #[test]
    fn the_last_cells_are_for_those_who_may_use_all() {
        let (state, words) = cells(3);
        let mailbox = Cells { state: &state, cells: &words };
        let open = open_word(1);
        assert_eq!(mailbox.claim(open, 5, 0, 2), Claim::Cell(0));
        assert_eq!(mailbox.claim(open, 5, 0, 2), Claim::Cell(1));
        assert_eq!(mailbox.claim(open, 5, 0, 2), Claim::Full);
        assert_eq!(mailbox.claim(open, 5, 2, 3), Claim::Cell(2));
        assert_eq!(mailbox.claim(open, 5, 0, 3), Claim::Full);
    }

    #[test]
    fn what_a_dead_sender_was_writing_is_free_and_what_it_sent_is_not() {
        let (state, words) = cells(2);
        let mailbox = Cells { state: &state, cells: &words };
        let open = open_word(1);
        let Claim::Cell(sent) = mailbox.claim(open, 9, 0, 2) else { panic!("room") };
        assert!(mailbox.commit(open, sent));
        assert!(matches!(mailbox.claim(open, 9, 0, 2), Claim::Cell(_)));
        assert_eq!(mailbox.give_back(9), 1);
        assert!(mailbox.has_any());
        assert_eq!(mailbox.oldest(|_| 0), Some(sent));
    }

    #[test]
    fn closing_loses_what_is_there_and_refuses_what_comes() {
        let (state, words) = cells(2);
        let mailbox = Cells { state: &state, cells: &words };
        let open = open_word(1);
        let Claim::Cell(first) = mailbox.claim(open, 9, 0, 2) else { panic!("room") };
        let Claim::Cell(second) = mailbox.claim(open, 8, 0, 2) else { panic!("room") };
        assert!(mailbox.commit(open, first));
        mailbox.close();
        assert!(!mailbox.sweep(), "the second is still being written");
        assert!(!mailbox.commit(open, second), "it comes too late");
        assert!(mailbox.sweep());
        assert_eq!(mailbox.claim(open, 9, 0, 2), Claim::Closed);
        let words: Vec<CellWord> = words.iter().map(|w| CellWord(w.load(Ordering::Relaxed))).collect();
        assert!(words.iter().all(|w| w.is_free() && w.accepted() == 1 && w.lost() == 1), "{words:?}");
    }
}
