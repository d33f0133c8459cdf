//! Processes that send messages and calls over the bus.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use millpond::bus::{Bus, BusError, Json, json};
use millpond_shm::{BlockCounters, Error, Mail, MailClass, MailboxAddress, PostError};

use super::message::Message;
use super::roles::{Book, Heard, LONGEST_STALL_NS, MESSAGES, Order, PATIENCE, SENDING_SINCE_NS};
use crate::clock::monotonic_ns;

/// Counters of the caller: calls that were answered; that were accepted and not answered in time; whose responder went away, so
/// that they may have been accepted.
pub const ANSWERED: usize = 3;
pub const UNANSWERED: usize = 4;
pub const GONE: usize = 5;

/// By which those find each other that publish to all.
const LABEL: &str = "torture";
/// A call that is not answered by then is given up.
const CALL_TIMEOUT: Duration = Duration::from_millis(100);
/// Between two calls.
const CALL_PAUSE: Duration = Duration::from_millis(2);

fn count(counters: &BlockCounters, counter: usize) {
    counters.set(counter, counters.get(counter) + 1);
}

impl Order {
    /// Publishes numbered messages to all others of its kind, and writes down what it receives.
    pub(super) fn publish(&self, source: u32, pause: Duration) -> anyhow::Result<()> {
        let mut book = Book::open()?;
        let heard = Heard::listen();
        let pond = self.attach()?;
        let counters = pond.block_counters(&self.process.name)?;
        let mut mailbox = pond.mailbox(&self.process.name)?;
        mailbox.add_label(LABEL)?;
        let (mut epoch, mut others) = (None, Vec::<MailboxAddress>::new());
        for number in 0.. {
            if heard.stop.load(Ordering::Relaxed) {
                break;
            }
            let now = pond.mailbox_epoch();
            if epoch.replace(now) != Some(now) {
                let all = pond.mailboxes().into_iter().filter(|m| m.labels.iter().any(|l| l == LABEL));
                others = all.map(|m| m.address).filter(|address| *address != mailbox.address()).collect();
            }
            let message = Message { source, incarnation: self.incarnation, number, sent_ns: 0 };
            let mut contents = vec![0; message.len()];
            message.write(&mut contents);
            let mail = Mail { contents, ..Mail::default() };
            for &other in &others {
                match pond.post(other, &mail, MailClass::Ordinary, Duration::ZERO) {
                    Ok(()) => count(&counters, MESSAGES),
                    Err(PostError::Full { .. } | PostError::Gone) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let start = Instant::now();
            while let left = pause.saturating_sub(start.elapsed())
                && !left.is_zero()
            {
                mailbox.waiter().wait(Some(left), || mailbox.has_mail());
                while let Some(received) = mailbox.try_receive() {
                    book.write_mail(&received.mail.contents)?;
                }
            }
        }
        Ok(())
    }

    /// Answers calls, and keeps the last number that it was asked for its successor.
    pub(super) fn respond(&self) -> anyhow::Result<()> {
        let heard = Heard::listen();
        let pond = self.attach()?;
        let block = &self.process.name;
        let _counters = pond.block_counters(block)?;
        let service = Bus::open(&pond)?.answer(&format!("{block}/last"))?;
        while !heard.stop.load(Ordering::Relaxed) {
            let Some(request) = service.next(PATIENCE)? else { continue };
            let kept = pond.settings(block).and_then(|kept| {
                pond.store_settings(block, &request.argument.to_string())?;
                Ok(kept)
            });
            let answer = match kept {
                Ok(kept) => Ok(json!({ "asked": &request.argument, "before": kept })),
                // Somebody is stopped while it holds the registry.
                Err(Error::RegistryBusy { .. }) => Err("busy".to_owned()),
                Err(error) => return Err(error.into()),
            };
            request.reply(answer);
        }
        Ok(())
    }

    /// Calls the responders in turn. It is a bystander: no call may take longer than its time, whatever is done to them.
    pub(super) fn call(&self, responders: &[String]) -> anyhow::Result<()> {
        let heard = Heard::listen();
        let pond = self.attach()?;
        let counters = pond.block_counters(&self.process.name)?;
        let bus = Bus::open(&pond)?;
        let mut acknowledged = vec![0; responders.len()];
        for number in 1_u64.. {
            if heard.stop.load(Ordering::Relaxed) {
                break;
            }
            let which = (number % responders.len() as u64) as usize;
            let measured = heard.measure.load(Ordering::Relaxed);
            let start = monotonic_ns();
            let due = start + CALL_TIMEOUT.as_nanos() as u64;
            counters.set(SENDING_SINCE_NS, if measured { due } else { 0 });
            let answer = bus.call(&format!("{}/last", responders[which]), &number, CALL_TIMEOUT);
            counters.set(SENDING_SINCE_NS, 0);
            if measured {
                let late = monotonic_ns().saturating_sub(due);
                counters.set(LONGEST_STALL_NS, counters.get(LONGEST_STALL_NS).max(late));
            }
            match answer {
                Ok(answer) => {
                    check_answer(&answer, number, acknowledged[which])
                        .with_context(|| format!("call {number} of `{}`", responders[which]))?;
                    acknowledged[which] = number;
                    count(&counters, ANSWERED);
                }
                Err(BusError::Refused { .. }) => count(&counters, ANSWERED),
                Err(BusError::TimedOut { .. }) => count(&counters, UNANSWERED),
                Err(BusError::Gone { .. }) => count(&counters, GONE),
                Err(BusError::Absent { .. } | BusError::Full { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            count(&counters, MESSAGES);
            std::thread::sleep(CALL_PAUSE);
        }
        Ok(())
    }
}

/// The answer is that of the question, and what was acknowledged before has been kept, by whichever incarnation.
fn check_answer(answer: &Json, asked: u64, acknowledged: u64) -> anyhow::Result<()> {
    ensure!(answer["asked"] == asked, "the answer is that of another question: {answer}");
    let before = answer["before"].as_str().map_or(Ok(0), str::parse::<u64>)?;
    ensure!((acknowledged..asked).contains(&before), "{acknowledged} was acknowledged, but kept is {before}");
    Ok(())
}
