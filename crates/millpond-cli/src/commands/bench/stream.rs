//! The numbered stream that benchmarks send: each message begins with its sequence number, so that the receiver can
//! prove that nothing was lost, doubled or reordered.

use std::collections::VecDeque;

use anyhow::{Context as _, bail, ensure};
use millpond_shm::{Buffer, BufferMut, Input, Output, ReceiveError};
use serde::{Deserialize, Serialize};

/// Messages handed over in one go hold about this much together: many when they are small, one when they are large,
/// so that a large payload is still in the cache of its writer when it is passed on.
const BATCH_BYTES: usize = 8192;

/// The number a message begins with.
///
/// # Errors
/// If the message is shorter than a number.
#[inline(always)]
pub fn sequence_of(buffer: &Buffer) -> anyhow::Result<u64> {
    let first = buffer.as_bytes().first_chunk().context("a message of less than 8 bytes arrived")?;
    Ok(u64::from_le_bytes(*first))
}

/// Begins a message with its number.
///
/// # Errors
/// If the message is shorter than a number.
#[inline(always)]
pub fn set_sequence(buffer: &mut BufferMut, sequence: u64) -> anyhow::Result<()> {
    let first = buffer.as_bytes_mut().first_chunk_mut().context("a message of less than 8 bytes")?;
    *first = sequence.to_le_bytes();
    Ok(())
}

/// What a receiver got.
pub struct Received {
    /// How many messages.
    pub messages: u64,
    /// From the first byte of the lowest to the last of the highest payload: how much memory they came from.
    pub payload_span_bytes: u64,
}

/// What the messages of a stream look like; known to both sides.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Stream {
    /// Bytes of a message; a multiple of 8 if filled or touched.
    pub size_bytes: usize,
    /// Capacity of the connection.
    pub depth: u32,
    /// Word i is sequence + i; else only word 0 is written.
    pub fill: bool,
    /// The receiver reads all words and checks their sum.
    pub touch: bool,
}

impl Stream {
    /// How many messages are sent, and taken, in one go.
    pub fn batch(&self) -> usize {
        (BATCH_BYTES / self.size_bytes).clamp(1, (self.depth as usize / 2).max(1))
    }

    /// A pool from which the sender never has to wait: twice what both sides and the queues between them can hold at
    /// once. The rest is the shares of a pool that are open to everybody; what is not used costs no memory.
    pub fn blocks(&self, receivers: u32) -> u32 {
        let batch = self.batch() as u32;
        2 * (self.depth * receivers + batch * (1 + receivers))
    }

    /// Sends one number after the other until `enough` says so, asked before each batch; then ends the stream.
    /// Returns how many were sent. Blocks while the receivers are behind.
    ///
    /// # Errors
    /// If a buffer or the connection fails.
    pub fn send(&self, output: &mut Output, mut enough: impl FnMut(u64) -> bool) -> anyhow::Result<u64> {
        let mut sequence = 0;
        let mut batch = VecDeque::with_capacity(self.batch());
        while !enough(sequence) {
            while batch.len() < batch.capacity().min(self.batch()) {
                batch.push_back(self.write(output, sequence)?.freeze());
                sequence += 1;
            }
            while !batch.is_empty() {
                if output.send_batch(&mut batch)? == 0
                    && let Some(first) = batch.pop_front()
                {
                    output.send(first).map_err(|refused| refused.reason)?;
                }
            }
        }
        output.finish();
        Ok(sequence)
    }

    /// Receives and checks until the stream ends. `progress` is told the number of messages after each batch, and may
    /// give up.
    ///
    /// # Errors
    /// If a message is missing, doubled, out of order or damaged, or the connection fails; what `progress` returns.
    pub fn receive(
        &self,
        input: &mut Input,
        mut progress: impl FnMut(u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Received> {
        let (mut expected, mut lowest, mut highest) = (0, usize::MAX, 0);
        let received = |messages: u64, lowest: usize, highest: usize| Received {
            messages,
            payload_span_bytes: (highest + self.size_bytes).saturating_sub(lowest) as u64,
        };
        let mut batch = Vec::with_capacity(self.batch());
        loop {
            let taken = input.receive_batch(self.batch(), &mut batch);
            match taken {
                Ok(0) => match input.receive() {
                    Ok(buffer) => batch.push(buffer),
                    Err(ReceiveError::EndOfStream) => return Ok(received(expected, lowest, highest)),
                    Err(error) => return Err(error.into()),
                },
                Ok(_) => {}
                Err(ReceiveError::EndOfStream) => return Ok(received(expected, lowest, highest)),
                Err(error) => return Err(error.into()),
            }
            for buffer in batch.drain(..) {
                self.check(&buffer, expected)?;
                expected += 1;
                let address = buffer.as_bytes().as_ptr().addr();
                (lowest, highest) = (lowest.min(address), highest.max(address));
            }
            progress(expected)?;
        }
    }

    #[inline(always)]
    fn write(&self, output: &mut Output, sequence: u64) -> anyhow::Result<BufferMut> {
        let mut buffer = output.allocate(self.size_bytes)?;
        if self.fill {
            for (word, i) in buffer.as_mut_slice::<u64>()?.iter_mut().zip(0..) {
                *word = sequence.wrapping_add(i);
            }
        } else {
            set_sequence(&mut buffer, sequence)?;
        }
        Ok(buffer)
    }

    #[inline(always)]
    fn check(&self, buffer: &Buffer, expected: u64) -> anyhow::Result<()> {
        let sequence = sequence_of(buffer)?;
        ensure!(sequence == expected, "message {sequence} arrived where {expected} was expected");
        ensure!(buffer.len() == self.size_bytes, "message {sequence} has {} bytes", buffer.len());
        if self.touch {
            let sum = buffer.as_slice::<u64>()?.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word));
            if sum != self.expected_sum(sequence) {
                bail!("the payload of message {sequence} is damaged");
            }
        }
        Ok(())
    }

    fn expected_sum(&self, sequence: u64) -> u64 {
        if !self.fill {
            // All other words are as the kernel made them: zero.
            return sequence;
        }
        let words = self.size_bytes as u64 / 8;
        words.wrapping_mul(sequence).wrapping_add(words * words.saturating_sub(1) / 2)
    }
}
