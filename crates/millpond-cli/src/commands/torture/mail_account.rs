//! The account of the bus: what receivers wrote down against what the pond counted.

use std::collections::BTreeMap;

use millpond_shm::MessageTotals;

use super::account::Wrongs;
use super::message::Record;
use super::stream::Stream;

/// What is known of the senders and callers when all have ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Published messages, as their senders counted them; a killed one may not have counted its last.
    pub published: u64,
    /// How often a receiver of published messages was killed.
    pub receiver_kills: u64,
    /// Calls that were answered: a request and an answer each.
    pub answered: u64,
    /// Calls that were accepted and not answered in time.
    pub unanswered: u64,
    /// Calls whose responder went away: they may have been accepted.
    pub gone: u64,
}

/// Collects and judges.
#[derive(Default)]
pub struct MailAccount {
    /// By receiving place, source and incarnation.
    streams: BTreeMap<(usize, u32, u32), Stream>,
    /// The last message of each source at each place.
    last: BTreeMap<(usize, u32), (u32, u64)>,
    /// Records so far.
    pub received: u64,
}

impl MailAccount {
    /// Enters what a process has written down; records of one place in their order.
    pub fn enter(&mut self, place: usize, record: Record, wrongs: &mut Wrongs) {
        self.received += 1;
        let Some((source, incarnation, number)) =
            record.message.filter(|m| m.2 < super::account::MOST_NUMBERS)
        else {
            wrongs.corrupted += 1;
            wrongs.find(format!("process {place} got a damaged message over the bus"));
            return;
        };
        let what =
            format!("message {number} of incarnation {incarnation} of {source} to {place} over the bus");
        if !self.streams.entry((place, source, incarnation)).or_default().see(number) {
            wrongs.doubled += 1;
            wrongs.find(format!("{what} arrived twice"));
        }
        let last = self.last.entry((place, source)).or_default();
        if (incarnation, number) < *last {
            wrongs.reordered += 1;
            wrongs.find(format!("{what} arrived after {last:?}"));
        }
        *last = (incarnation, number).max(*last);
    }

    /// After everybody has ended: every message was received or is counted as lost.
    pub fn close(&self, totals: &MessageTotals, sent: &Sent, wrongs: &mut Wrongs) {
        let taken = totals.accepted.saturating_sub(totals.lost + totals.waiting);
        // The request and the answer.
        let least = self.received + 2 * sent.answered;
        // A late answer is a message too; and each receiver may have been killed before it wrote down its last.
        let most = least + 2 * (sent.unanswered + sent.gone) + sent.receiver_kills;
        let told = sent.published + 2 * sent.answered + sent.unanswered;
        let missing = [
            (taken.saturating_sub(most), "were taken and not seen"),
            (told.saturating_sub(totals.accepted), "were sent and not accepted"),
            (totals.waiting, "wait in mailboxes though nobody is there"),
        ];
        let extra = least.saturating_sub(taken);
        wrongs.lost += missing.iter().map(|(count, _)| count).sum::<u64>();
        wrongs.doubled += extra;
        let received = self.received;
        for (count, what) in missing.into_iter().chain([(extra, "were received and not accepted")]) {
            if count > 0 {
                wrongs.find(format!(
                    "{count} messages of the bus {what}: {totals:?}, {sent:?}, {received} written down"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(numbers: &[u64], totals: MessageTotals, sent: Sent) -> Wrongs {
        let (mut account, mut wrongs) = (MailAccount::default(), Wrongs::default());
        for &number in numbers {
            account.enter(3, Record { message: Some((5, 0, number)), redelivered: false }, &mut wrongs);
        }
        account.close(&totals, &sent, &mut wrongs);
        wrongs
    }

    fn accepted(accepted: u64, lost: u64) -> MessageTotals {
        MessageTotals { accepted, lost, received: accepted - lost, ..MessageTotals::default() }
    }

    #[test]
    fn what_is_received_or_counted_as_lost_is_sound() {
        let sent = Sent { published: 4, answered: 2, ..Sent::default() };
        assert_eq!(judged(&[0, 1, 3], accepted(8, 1), sent), Wrongs::default());
        let killed = Sent { receiver_kills: 1, ..sent };
        assert_eq!(judged(&[0, 1], accepted(8, 1), killed), Wrongs::default());
    }

    #[test]
    fn one_that_vanished_came_twice_or_late_is_found() {
        let sent = Sent { published: 4, ..Sent::default() };
        assert_eq!(judged(&[0, 1, 3], accepted(4, 0), sent).lost, 1);
        assert_eq!(judged(&[0, 1, 2], accepted(3, 0), sent).lost, 1);
        let again = judged(&[0, 1, 1, 3], accepted(4, 0), sent);
        assert_eq!((again.doubled, again.lost), (1, 0));
        assert_eq!(judged(&[0, 1, 2, 3, 4], accepted(4, 0), sent).doubled, 1);
        assert_eq!(judged(&[0, 2, 1, 3], accepted(4, 0), sent).reordered, 1);
        let waiting = MessageTotals { waiting: 1, ..accepted(4, 0) };
        assert_eq!(judged(&[0, 1, 2], waiting, sent).lost, 1);
    }
}
