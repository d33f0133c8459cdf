//! A process that joins two streams by their numbers and sends one message for each set.

use std::collections::VecDeque;
use std::slice::from_ref;

use anyhow::{Context as _, bail};
use millpond::align::{Aligner, Config, Exact, Poll, PortConfig, Pushed, Reason};
use millpond_shm::{Buffer, Error, InputConfig, ReceiveError, Wait};

use super::message::Message;
use super::roles::{Book, Order, PATIENCE, after_predecessor, send_some};

/// One input, with what the aligner had no room for.
struct Side {
    input: millpond_shm::Input,
    refused: Option<(i64, Buffer)>,
    ended: bool,
}

impl Order {
    /// Holds at most `hold` buffers of each input.
    pub(super) fn align(&self, source: u32, hold: usize, redeliver: bool) -> anyhow::Result<()> {
        let mut book = Book::open()?;
        let pond = self.attach()?;
        let counters = pond.block_counters(&self.process.name)?;
        let mut out = self.output(&pond)?;
        let waiter = pond.waiter(Wait::Adaptive)?;
        let open = |port: &String| -> anyhow::Result<Side> {
            let waiter = Some(waiter.clone());
            let config = InputConfig { redeliver, waiter, ..InputConfig::default() };
            let input = after_predecessor(|| pond.input(port, &config))?;
            Ok(Side { input, refused: None, ended: false })
        };
        let mut sides = self.process.inputs().iter().map(open).collect::<anyhow::Result<Vec<_>>>()?;
        let ports = PortConfig { depth: hold, ..PortConfig::default() };
        let mut aligner = Aligner::new(Exact::new(0), Config::of(sides.len(), ports));
        loop {
            let mut moved = false;
            for (port, side) in sides.iter_mut().enumerate() {
                while let Some((number, buffer)) = side.next(&mut book)? {
                    match aligner.push(port, number, buffer) {
                        Pushed::Full(buffer) => {
                            side.refused = Some((number, buffer));
                            break;
                        }
                        // Its numbers rise, so nothing else can be wrong with one.
                        Pushed::Held | Pushed::Dropped(Reason::Unmatched, _) => moved = true,
                        other => bail!("number {number} of input {port} was not held: {other:?}"),
                    }
                }
                if side.ended && side.refused.is_none() {
                    aligner.end(port);
                }
            }
            loop {
                match aligner.poll() {
                    Poll::Set(mut set) => {
                        let (number, _) = set.get(0).context("a set without its first member")?;
                        // Killed anywhere in here, the members are still held.
                        let members: Vec<_> = (0..set.len()).filter_map(|port| set.take(port)).collect();
                        let message = Message {
                            source,
                            incarnation: self.incarnation,
                            number: number as u64,
                            sent_ns: 0,
                        };
                        let mut queue = loop {
                            match out.allocate_timeout(message.len(), PATIENCE) {
                                Ok(mut buffer) => {
                                    message.write(buffer.as_bytes_mut());
                                    break VecDeque::from([buffer.freeze()]);
                                }
                                Err(Error::PoolExhausted { .. }) => {}
                                Err(error) => return Err(error.into()),
                            }
                        };
                        while !queue.is_empty() {
                            send_some(&mut out, &mut queue, &counters)?;
                        }
                        drop(members);
                        moved = true;
                    }
                    Poll::Waiting => break,
                    // What still comes on the other side belongs to no set: it is taken, and dropped.
                    Poll::Done if sides.iter().all(|side| side.ended && side.refused.is_none()) => {
                        return Ok(());
                    }
                    Poll::Done => break,
                }
            }
            if !moved {
                let news = |side: &Side| side.refused.is_none() && !side.ended && side.input.has_news();
                waiter.wait(Some(PATIENCE), || sides.iter().any(news));
            }
        }
    }
}

impl Side {
    /// The next buffer and its number, written down when it came.
    fn next(&mut self, book: &mut Book) -> anyhow::Result<Option<(i64, Buffer)>> {
        if self.refused.is_some() {
            return Ok(self.refused.take());
        }
        loop {
            match self.input.try_receive() {
                Ok(buffer) => {
                    // A damaged one is in the account, and nothing can be done with it.
                    if let [Some(message)] = book.write(from_ref(&buffer))?[..] {
                        return Ok(Some((message.number as i64, buffer)));
                    }
                }
                Err(ReceiveError::Empty | ReceiveError::Timeout) => return Ok(None),
                Err(ReceiveError::SenderDied { .. }) => {}
                Err(ReceiveError::EndOfStream) => {
                    self.ended = true;
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
