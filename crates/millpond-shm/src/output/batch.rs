//! Sending many buffers with one ring.

use super::{Output, SendError, SendReason};
use crate::buffer::Buffer;
use crate::sync::Ordering;
use crate::token::REDELIVERED;
use std::collections::VecDeque;

/// Tokens that one batch may hold unpublished: bounds what a kill in between takes back.
const MAX_BATCH: usize = 64;

impl Output {
    /// Sends as many of `buffers` as fit now, from the front, with one ring for all. Returns how many were sent.
    ///
    /// Never blocks: zero means full.
    ///
    /// # Errors
    /// As [`send`](Self::send). What was not sent stays in `buffers`; the one that failed comes with the error.
    pub fn send_batch(&mut self, buffers: &mut VecDeque<Buffer>) -> std::result::Result<usize, SendError> {
        let Some(first) = buffers.front() else { return Ok(0) };
        let me = self.session.attachment();
        match self.admit(first) {
            Ok(()) => {}
            Err(SendReason::Full) => return Ok(0),
            Err(reason) => match buffers.pop_front() {
                Some(buffer) => return Err(SendError { reason, buffer }),
                None => return Ok(0),
            },
        }
        // One connection is the case worth batching: all tokens, then all cells.
        let [lane] = &mut self.lanes[..] else { return self.send_one_by_one(buffers) };
        if lane.end.depth.saturating_sub(lane.next.wrapping_sub(lane.head)) < buffers.len() as u64 {
            lane.head = lane.end.record.head.load(Ordering::Acquire);
        }
        let room = lane.end.depth.saturating_sub(lane.next.wrapping_sub(lane.head));
        let fit = (room.min(buffers.len() as u64) as usize).min(MAX_BATCH);
        let plain_lane = lane.max_time_ns == 0;
        let all_plain =
            plain_lane && buffers.iter().take(fit).all(|b| std::ptr::eq(b.pond(), me) && b.owns_token());
        if fit == 0 || !all_plain {
            return self.send_one_by_one(buffers);
        }
        crash_point!(Described);
        for (buffer, position) in buffers.iter().take(fit).zip((0..).map(|n| lane.next.wrapping_add(n))) {
            lane.end.lane.put_token(&buffer.record().references, buffer.reference().token, position);
        }
        crash_point!(BatchTokens);
        for buffer in buffers.drain(..fit) {
            let flags = if buffer.redelivered() { REDELIVERED } else { 0 };
            lane.end.lane.publish(lane.next, buffer.into_token(), flags);
            lane.next = lane.next.wrapping_add(1);
            crash_point!(BatchBetween);
        }
        lane.ring(me);
        Ok(fit)
    }

    /// Each buffer to every connection, and one ring for all at the end: a receiver that slept is woken once a batch.
    fn send_one_by_one(&mut self, buffers: &mut VecDeque<Buffer>) -> std::result::Result<usize, SendError> {
        let mut sent = 0;
        let mut outcome = Ok(());
        while sent < MAX_BATCH
            && let Some(buffer) = buffers.pop_front()
        {
            match self.admit(&buffer) {
                Ok(()) => outcome = self.publish(buffer),
                Err(SendReason::Full) => {
                    buffers.push_front(buffer);
                    break;
                }
                Err(reason) => outcome = Err(SendError { reason, buffer }),
            }
            if outcome.is_err() {
                break;
            }
            sent += 1;
        }
        self.ring_all();
        outcome.map(|()| sent)
    }
}
