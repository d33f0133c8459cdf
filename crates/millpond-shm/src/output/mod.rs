//! The sending end: publishes buffers to every connection of an output port.

mod batch;
mod connections;
mod lane;
mod refusal;

use lane::Lane;
pub use refusal::{SendError, SendReason};

use crate::allocator::Allocator;
use crate::attachment::{Belonging, Session};
use crate::buffer::{Buffer, BufferMut};
use crate::error::Result;
use crate::following::{Following, NAP};
use crate::lane::End;
use crate::layout::PortRecord;
use crate::ports::bound_words;
use crate::registry::port_name;
use crate::sync::Ordering;
use crate::timestamp::Timestamp;
use crate::token::{REDELIVERED, Reference};
use crate::waiter::{Waiter, Woken};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The sending end of an output port. One at a time in the whole pond; dropping it ends the stream (as
/// [`finish`](Output::finish) does), unless the thread is panicking: then receivers are told that the sender is gone.
pub struct Output {
    session: Arc<Session>,
    port: &'static PortRecord,
    port_index: u32,
    following: Following,
    lanes: Vec<Lane>,
    /// One connection, sound, that does not give up: the case whose sending is small enough to be inlined.
    simple: bool,
    waiter: Waiter,
    allocator: Allocator,
    /// Empty but while a buffer goes to several connections.
    extra: Vec<Reference>,
    /// A corrupt connection, reported once.
    broken: Option<String>,
    abandoned: bool,
}

impl Output {
    /// The caller has taken the producing end of the port in the registry.
    pub(crate) fn new(
        session: &Arc<Session>,
        port_index: u32,
        port: &'static PortRecord,
        waiter: Waiter,
    ) -> Output {
        Output {
            session: Arc::clone(session),
            port,
            port_index,
            following: Following::new(port),
            lanes: Vec::new(),
            simple: false,
            waiter,
            allocator: Allocator::new(session),
            extra: Vec::new(),
            broken: None,
            abandoned: false,
        }
    }

    /// Takes a buffer; see [`Allocator::allocate`].
    ///
    /// # Errors
    /// See there.
    #[inline(always)]
    pub fn allocate(&mut self, len_bytes: usize) -> Result<BufferMut> {
        self.allocator.allocate(len_bytes)
    }

    /// Takes a buffer, if there is one; see [`Allocator::try_allocate`].
    ///
    /// # Errors
    /// See there.
    #[inline]
    pub fn try_allocate(&mut self, len_bytes: usize) -> Result<Option<BufferMut>> {
        self.allocator.try_allocate(len_bytes)
    }

    /// Takes a buffer, waiting for one; see [`Allocator::allocate_timeout`].
    ///
    /// # Errors
    /// See there.
    pub fn allocate_timeout(&mut self, len_bytes: usize, timeout: Duration) -> Result<BufferMut> {
        self.allocator.allocate_timeout(len_bytes, timeout)
    }

    /// The port's allocator, for [`Buffer::into_mut`].
    pub fn allocator(&mut self) -> &mut Allocator {
        &mut self.allocator
    }

    /// Sends a buffer to every connection, in order. Without a connection it is dropped, and counted.
    ///
    /// Blocks while a connection whose policy says so is full.
    ///
    /// # Errors
    /// The buffer comes back with the reason. Nothing was sent to any connection then.
    ///
    /// # Crash safety
    /// Killed before the entry is published, it was not sent, and recovery gives the buffer back; afterwards it will be
    /// delivered. Killed between two connections, it was sent to the first.
    #[inline(always)]
    pub fn send(&mut self, buffer: impl Into<Buffer>) -> std::result::Result<(), SendError> {
        let buffer = buffer.into();
        if self.is_simple_for(&buffer) {
            self.push_simply(buffer);
            return Ok(());
        }
        self.send_until(buffer, None)
    }

    /// As [`send`](Self::send), waiting at most `timeout`.
    ///
    /// # Errors
    /// As `send`; [`SendReason::Timeout`] after that time.
    #[inline(always)]
    pub fn send_timeout(
        &mut self,
        buffer: impl Into<Buffer>,
        timeout: Duration,
    ) -> std::result::Result<(), SendError> {
        let buffer = buffer.into();
        if self.is_simple_for(&buffer) {
            self.push_simply(buffer);
            return Ok(());
        }
        self.send_until(buffer, Some(timeout))
    }

    /// As [`send`](Self::send), without waiting.
    ///
    /// # Errors
    /// As `send`; [`SendReason::Full`] if it would have to wait.
    #[inline(always)]
    pub fn try_send(&mut self, buffer: impl Into<Buffer>) -> std::result::Result<(), SendError> {
        let buffer = buffer.into();
        if self.is_simple_for(&buffer) {
            self.push_simply(buffer);
            return Ok(());
        }
        self.send_if_admitted(buffer)
    }

    /// Whether the buffer goes to one connection that has room, with the token that its handle has.
    ///
    /// The usual case is kept apart, and its results in registers, for a reason that a profile shows and the code does not: a
    /// result that is copied through memory right after it was written waits until the stores before it have left the store
    /// buffer, and among those is the cell's, which waits for the other core's cache.
    #[inline(always)]
    fn is_simple_for(&mut self, buffer: &Buffer) -> bool {
        let pond = self.session.attachment();
        !pond.is_forked()
            && std::ptr::eq(buffer.pond(), pond)
            && self.simple
            && self.following.is_current(self.port)
            && buffer.owns_token()
            && self.lanes.first_mut().is_some_and(Lane::has_room)
    }

    /// Sends a buffer for which the above holds.
    #[inline(always)]
    fn push_simply(&mut self, buffer: Buffer) {
        let pond = self.session.attachment();
        let flags = if buffer.redelivered() { REDELIVERED } else { 0 };
        crash_point!(Described);
        if let Some(lane) = self.lanes.first_mut() {
            lane.push(pond, &buffer.record().references, buffer.into_token(), flags);
        }
    }

    #[inline(never)]
    fn send_if_admitted(&mut self, buffer: Buffer) -> std::result::Result<(), SendError> {
        match self.admit(&buffer) {
            Ok(()) => {
                let sent = self.publish(buffer);
                self.ring_all();
                sent
            }
            Err(reason) => Err(SendError { reason, buffer }),
        }
    }

    #[cold]
    #[inline(never)]
    fn send_until(
        &mut self,
        buffer: Buffer,
        timeout: Option<Duration>,
    ) -> std::result::Result<(), SendError> {
        let mut start = None;
        let mut buffer = buffer;
        loop {
            match self.send_if_admitted(buffer) {
                Err(SendError { reason: SendReason::Full, buffer: back }) => buffer = back,
                other => return other,
            }
            let start = *start.get_or_insert_with(Instant::now);
            let left = timeout.map(|t| t.saturating_sub(start.elapsed()));
            if self.following.is_held_up() {
                // A look at the registry is due, and nobody announces when it can be had.
                std::thread::sleep(NAP);
                match left {
                    Some(Duration::ZERO) => return Err(SendError { reason: SendReason::Timeout, buffer }),
                    _ if self.session.stop_requested() => {
                        return Err(SendError { reason: SendReason::Stopped, buffer });
                    }
                    _ => continue,
                }
            }
            let waiter = self.waiter.clone();
            match waiter.wait(left, || self.has_room_or_news()) {
                Woken::Ready => {}
                Woken::Timeout => return Err(SendError { reason: SendReason::Timeout, buffer }),
                Woken::Stopped => return Err(SendError { reason: SendReason::Stopped, buffer }),
            }
        }
    }

    /// p3 for every connection.
    fn ring_all(&self) {
        let pond = self.session.attachment();
        self.lanes.iter().for_each(|lane| lane.ring(pond));
    }

    /// Whether [`try_send`](Self::try_send) would find room everywhere it needs it.
    pub fn can_send(&mut self) -> bool {
        !self.session.is_forked()
            && self.refresh().is_ok()
            && self.lanes.iter_mut().all(|l| l.admits(self.session.attachment()) == Ok(()))
    }

    /// Number of connections now.
    pub fn connections(&mut self) -> usize {
        let _ = self.refresh();
        self.lanes.len()
    }

    /// Promises that nothing earlier than `bound` will be sent any more, apart from the disorder that the stream may have: as a buffer
    /// stamped one nanosecond before would, without sending one. Receivers ask for it with [`Input::bound`](crate::Input::bound). A
    /// promise is never taken back: an earlier one changes nothing, nor does [`Timestamp::None`].
    ///
    /// # Crash safety
    /// One word in the port: it outlives the process, and a successor's earlier promises change nothing. Killed while it promises
    /// in another kind of timestamp than before, no promise stands.
    pub fn advance(&mut self, bound: Timestamp) {
        let Some((kind, ns)) = bound_words(bound) else { return };
        if self.session.is_forked() {
            return;
        }
        // The promise is the port's: it needs no connection.
        let _ = self.refresh();
        let port = self.port;
        let is_same_kind = port.bound_kind.load(Ordering::Relaxed) == kind;
        if is_same_kind && port.bound.load(Ordering::Relaxed) as i64 >= ns {
            return;
        }
        if !is_same_kind {
            port.bound_kind.store(0, Ordering::Release);
        }
        // Release: whoever sees the promise sees all that was published before it.
        port.bound.store(ns as u64, Ordering::Release);
        port.bound_kind.store(kind, Ordering::Release);
        crash_point!(BoundStored);
        self.ring_all();
    }

    /// Ends the stream: every receiver gets the end after the last buffer. Sending afterwards goes on with the stream.
    pub fn finish(&mut self) {
        if self.session.is_forked() || self.refresh_at_last().is_err() {
            return;
        }
        let pond = self.session.attachment();
        for lane in &mut self.lanes {
            End(&lane.end.record.end).set(lane.next);
            crash_point!(EndStored);
            lane.ring(pond);
        }
    }

    /// Gives the sending end back without ending the stream: receivers are told that the sender has died, once they have received
    /// what it had published. For a sender that could not go on.
    pub fn abandon(mut self) {
        self.abandoned = true;
    }

    /// Everything that can refuse a buffer, before anything is changed.
    fn admit(&mut self, buffer: &Buffer) -> std::result::Result<(), SendReason> {
        let pond = self.session.attachment();
        if pond.is_forked() {
            return Err(SendReason::Forked);
        }
        if !std::ptr::eq(buffer.pond(), pond) {
            return Err(SendReason::OtherPond);
        }
        self.refresh()?;
        for lane in &mut self.lanes {
            if lane.max_time_ns != 0 {
                lane.offered = buffer.timestamp();
            }
            match lane.admits(pond) {
                Ok(()) => {}
                Err(SendReason::ReceiverDied { .. }) => {
                    let port = port_name(&pond.control, lane.end.record.to_port.load(Ordering::Relaxed));
                    return Err(SendReason::ReceiverDied { port });
                }
                Err(SendReason::Broken { .. }) => {
                    let port = port_name(&pond.control, lane.end.record.to_port.load(Ordering::Relaxed));
                    let problem = format!(
                        "pond `{}`: the connection to `{port}` is corrupt: {} buffers were sent and {} taken; some process wrote \
                         where it must not. Disconnect it",
                        pond.name, lane.next, lane.head
                    );
                    return Err(SendReason::Broken { problem });
                }
                Err(reason) => return Err(reason),
            }
        }
        Ok(())
    }

    /// Sends an admitted buffer, but for the ring: whoever calls rings everybody.
    fn publish(&mut self, buffer: Buffer) -> std::result::Result<(), SendError> {
        let sent = self.publish_to_each(buffer);
        self.lanes.iter_mut().for_each(|lane| lane.offered = Timestamp::None);
        sent
    }

    fn publish_to_each(&mut self, buffer: Buffer) -> std::result::Result<(), SendError> {
        let pond = self.session.attachment();
        let flags = if buffer.redelivered() { REDELIVERED } else { 0 };
        let Some(last) = self.lanes.len().checked_sub(1) else {
            let count = &self.port.unconnected;
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
            crash_point!(DropCounted);
            return Ok(()); // dropping the buffer gives it back
        };
        crash_point!(Described);
        if last == 0 && buffer.owns_token() {
            let lane = &mut self.lanes[0];
            if lane.make_room(pond) {
                let references = &buffer.record().references;
                lane.enter(references, buffer.into_token(), flags);
            }
            return Ok(());
        }
        // Kept for the next buffer: sending allocates nothing.
        let mut extra = std::mem::take(&mut self.extra);
        let sent = self.fan_out(buffer, flags, &mut extra);
        self.extra = extra;
        sent
    }

    /// A reference for each connection first, in `extra`, so that either all or none is sent.
    fn fan_out(
        &mut self,
        buffer: Buffer,
        flags: u8,
        extra: &mut Vec<Reference>,
    ) -> std::result::Result<(), SendError> {
        let pond = self.session.attachment();
        let references = &buffer.record().references;
        let own = buffer.owns_token();
        // Before any queue makes room: whoever is refused has dropped nothing.
        let wanted = self.lanes.len().saturating_sub(usize::from(own));
        for _ in 0..wanted {
            match buffer.add_reference() {
                Some(reference) => extra.push(reference),
                None => {
                    for reference in extra.drain(..) {
                        references.release(reference.token);
                    }
                    return Err(SendError { reason: SendReason::TooManyReferences, buffer });
                }
            }
        }
        let mut extra = extra.drain(..);
        let mut last = None;
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            if !lane.make_room(pond) {
                continue;
            }
            match extra.next() {
                Some(reference) => lane.enter(references, reference, flags),
                None => last = Some(i),
            }
            crash_point!(FanOutBetween);
        }
        for reference in extra {
            references.release(reference.token);
        }
        // The buffer's own token goes last; a buffer that other clones use, or that is still to be finished, is dropped here.
        if let Some(i) = last {
            self.lanes[i].enter(references, buffer.into_token(), flags);
        }
        Ok(())
    }

    fn has_room_or_news(&mut self) -> bool {
        if !self.following.is_current(self.port) {
            return true;
        }
        let mut full = false;
        for lane in &mut self.lanes {
            match lane.admits(self.session.attachment()) {
                Ok(()) => {}
                Err(SendReason::Full) => full = true,
                Err(_) => return true,
            }
        }
        !full
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.session.is_forked() {
            return;
        }
        if !self.abandoned && !std::thread::panicking() {
            self.finish();
        }
        self.session.let_go(Belonging::Output(self.port_index));
    }
}
