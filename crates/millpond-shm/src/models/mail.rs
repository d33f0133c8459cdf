//! Mailboxes: senders that race for cells, an owner that takes in order, and a mailbox that is closed and used again meanwhile.

use super::*;
use crate::mail::{CellWord, Cells, Claim, open_word};
use loom::thread;

struct Mailbox {
    state: AtomicU64,
    cells: Vec<AtomicU64>,
    tickets: Vec<AtomicU64>,
    next_ticket: AtomicU64,
    payloads: Vec<UnsafeCell<u64>>,
}

impl Mailbox {
    fn new(cells: usize) -> Arc<Mailbox> {
        let words = || (0..cells).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Mailbox {
            state: AtomicU64::new(open_word(1)),
            cells: words(),
            tickets: words(),
            next_ticket: AtomicU64::new(0),
            payloads: (0..cells).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    fn cells(&self) -> Cells<'_> {
        Cells { state: &self.state, cells: &self.cells }
    }

    /// s1 to s4, as `mailbox.rs` does them. `None`: full.
    fn post(&self, me: ProcessSlot, value: u64) -> Option<bool> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let index = match self.cells().claim(open_word(1), me, ticket, self.cells.len()) {
            Claim::Cell(index) => index,
            Claim::Full => return None,
            Claim::Closed => return Some(false),
        };
        self.tickets[index].store(ticket, Ordering::Relaxed);
        // SAFETY: loom checks that nobody else accesses the cell meanwhile, which is what the models are about.
        self.payloads[index].with_mut(|p| unsafe { *p = value });
        Some(self.cells().commit(open_word(1), index))
    }

    /// r1 to r3.
    fn receive(&self) -> Option<u64> {
        let index = self.cells().oldest(|i| self.tickets[i].load(Ordering::Relaxed))?;
        // SAFETY: as in `post`.
        let value = self.payloads[index].with(|p| unsafe { *p });
        self.cells().free(index);
        Some(value)
    }

    /// Accepted, lost, not free.
    fn account(&self) -> (u32, u32, usize) {
        let words: Vec<CellWord> = self.cells.iter().map(|c| CellWord(c.load(Ordering::Acquire))).collect();
        (
            words.iter().map(|w| w.accepted()).sum(),
            words.iter().map(|w| w.lost()).sum(),
            words.iter().filter(|w| !w.is_free()).count(),
        )
    }
}

/// Two senders and two cells: each message comes once and whole, those of one sender in order, also when a cell is used again.
#[test]
fn messages_of_two_senders() {
    explore_fences(Some(2), |reached| {
        let mailbox = Mailbox::new(2);
        let senders: Vec<_> = [vec![10, 11], vec![20]]
            .into_iter()
            .zip(1..)
            .map(|(values, me)| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || {
                    for value in values {
                        while mailbox.post(me, value).is_none() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut received = Vec::new();
        while received.len() < 3 {
            match mailbox.receive() {
                Some(value) => received.push(value),
                None => thread::yield_now(),
            }
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        if received.first() == Some(&20) {
            reached.here();
        }
        let at = |value| received.iter().position(|v| *v == value).expect("received once");
        assert!(at(10) < at(11), "out of order: {received:?}");
        at(20);
        assert_eq!(mailbox.account(), (3, 0, 0));
    });
}

/// A sender and its mailbox's end: the message is refused, or accepted and lost; nothing stays in the cells.
#[test]
fn a_sender_and_the_end_of_the_mailbox() {
    explore_fences(None, |reached| {
        let mailbox = Mailbox::new(1);
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.post(1, 10))
        };
        mailbox.cells().close();
        let told = sender.join().unwrap();
        let (accepted, lost, in_use) = mailbox.account();
        assert_eq!((accepted, in_use), (lost, 0), "what was accepted is lost, and free");
        if told == Some(true) {
            assert_eq!(accepted, 1);
            reached.here();
        }
    });
}

/// The mailbox is used again as soon as its cells are free, while a sender still means the old one: the new owner never sees its
/// message.
#[test]
fn a_late_sender_and_the_next_use() {
    explore_fences(None, |reached| {
        let mailbox = Mailbox::new(1);
        let sender = {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.post(1, 10))
        };
        mailbox.cells().close();
        if mailbox.cells().sweep() {
            mailbox.state.store(open_word(2), Ordering::Release);
            reached.here();
            assert_eq!(mailbox.receive(), None, "a message for the earlier owner");
        }
        let _ = sender.join().unwrap();
        assert_eq!(mailbox.receive(), None, "a message for the earlier owner");
        let (accepted, lost, in_use) = mailbox.account();
        assert_eq!((accepted, in_use), (lost, 0));
    });
}

/// Whatever the owner took before it closed is not lost, and the rest is: the account holds.
#[test]
fn an_owner_that_takes_and_closes() {
    explore_fences(Some(3), |reached| {
        let mailbox = Mailbox::new(2);
        let senders: Vec<_> = (1..3)
            .map(|me| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.post(me, u64::from(me)))
            })
            .collect();
        let received = u32::from(mailbox.receive().is_some());
        mailbox.cells().close();
        for sender in senders {
            let _ = sender.join().unwrap();
        }
        let (accepted, lost, in_use) = mailbox.account();
        assert_eq!((accepted, in_use), (received + lost, 0));
        if received == 1 && lost == 1 {
            reached.here();
        }
    });
}
