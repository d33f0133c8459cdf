//! The two ends of a block's streams: a thin layer over the pond's ports that keeps what the pond cannot know.

use std::collections::VecDeque;

use millpond_shm::{
    Buffer, Input, InputConfig, Output, OutputConfig, Pond, ReceiveError, SendReason, StreamFormat,
    Timestamp, Wait, Waiter,
};

use crate::error::{Error, Result};
use crate::spec::Port;
use crate::statistics::Statistics;

/// An input port of the running block.
pub(crate) struct InputPort {
    pub(crate) spec: Port,
    full_name: String,
    input: Input,
    /// The next buffer, looked at or given back but not taken.
    next: Option<Buffer>,
    /// The block looked for a buffer, and there was none.
    found_empty: bool,
    /// Nothing is connected.
    unconnected: bool,
    /// Nothing more will come.
    ended: bool,
    /// While the block drains: how many buffers it still takes.
    remaining: Option<u64>,
    /// The block leaves: the port has ended when its connections, which are being undone, are gone.
    leaves: bool,
    format: Option<StreamFormat>,
    /// Nothing earlier than this comes after what was taken, apart from disorder. Kept up to date from the first question on.
    come_to: Option<Timestamp>,
    /// `come_to` before the last buffer was taken.
    came_from: Option<Timestamp>,
    is_followed: bool,
}

impl InputPort {
    pub(crate) fn open(pond: &Pond, block: &str, spec: Port, waiter: &Waiter) -> Result<Self> {
        let full_name = format!("{block}.{}", spec.name());
        let redeliver = spec.redelivers;
        let config = InputConfig { waiter: Some(waiter.clone()), redeliver, ..InputConfig::default() };
        let input = pond.input(&full_name, &config)?;
        Ok(Self {
            spec,
            full_name,
            input,
            next: None,
            found_empty: false,
            unconnected: false,
            ended: false,
            remaining: None,
            leaves: false,
            format: None,
            come_to: None,
            came_from: None,
            is_followed: false,
        })
    }

    /// The next buffer, if there is one.
    pub(crate) fn take(&mut self, statistics: &mut Statistics) -> Result<Option<Buffer>> {
        self.peek(statistics)?;
        if self.is_followed
            && let Some(buffer) = &self.next
        {
            self.came_from = self.come_to;
            self.come_to = later_of(self.come_to, behind(buffer.timestamp()));
        }
        Ok(self.next.take())
    }

    /// Takes what there is, at most `max` buffers (at least 1), behind one another: the sender is told once, not for each. For blocks that
    /// hold them anyway, as a killed process loses all that it has taken.
    pub(crate) fn take_batch(
        &mut self,
        max: usize,
        into: &mut Vec<Buffer>,
        statistics: &mut Statistics,
    ) -> Result<()> {
        let Some(first) = self.take(statistics)? else { return Ok(()) };
        let before = into.len();
        into.push(first);
        // Those that come again are given back one by one, and a block that drains takes a counted number.
        if self.spec.redelivers || self.remaining.is_some() || max < 2 {
            return Ok(());
        }
        match self.input.receive_batch(max - 1, into) {
            Ok(_) => {}
            Err(ReceiveError::EndOfStream) => self.ended = true,
            Err(ReceiveError::SenderDied { .. } | ReceiveError::Stopped) => {}
            Err(error) => return Err(self.failed(error)),
        }
        for buffer in &into[before + 1..] {
            statistics.count_taken(buffer);
            if self.is_followed {
                self.come_to = later_of(self.come_to, behind(buffer.timestamp()));
            }
        }
        Ok(())
    }

    /// From now on the port keeps up with how far its stream has come.
    pub(crate) fn follow(&mut self) {
        self.is_followed = true;
    }

    /// How far the stream has come with what was taken, and with what its sender has said while nothing waits.
    pub(crate) fn come_to(&mut self) -> Option<Timestamp> {
        self.is_followed = true;
        if self.next.is_none() && !self.ended {
            self.come_to = later_of(self.come_to, self.input.bound());
        }
        self.come_to
    }

    /// Sees to it that [`next`](InputPort::next) is there, if anything is.
    pub(crate) fn peek(&mut self, statistics: &mut Statistics) -> Result<()> {
        while self.next.is_none() && !self.ended {
            if self.remaining == Some(0) {
                self.ended = true;
                break;
            }
            let received = self.input.try_receive();
            self.unconnected = matches!(received, Err(ReceiveError::NotConnected));
            match received {
                Ok(buffer) => {
                    statistics.count_taken(&buffer);
                    self.remaining = self.remaining.map(|buffers| buffers - 1);
                    self.next = Some(buffer);
                }
                Err(ReceiveError::EndOfStream) => self.ended = true,
                // The sender's restart goes on with the same stream, so its death is none of the block's business.
                Err(ReceiveError::SenderDied { .. }) => {}
                Err(ReceiveError::Empty | ReceiveError::NotConnected | ReceiveError::Timeout) => {
                    self.ended = self.remaining.is_some() || self.leaves && self.input.connections() == 0;
                    break;
                }
                // The runner sees the stop as well.
                Err(ReceiveError::Stopped) => break,
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.found_empty = self.next.is_none() && !self.ended;
        Ok(())
    }

    fn failed(&self, error: ReceiveError) -> Error {
        Error::Failed { doing: format!("receive on `{}`", self.full_name), cause: error.into() }
    }

    /// More than this the block cannot hold, as its sender stops.
    pub(crate) fn holds_at_most(&mut self) -> Option<u32> {
        if self.spec.redelivers { self.input.depth() } else { None }
    }

    /// The next buffer, as [`peek`](InputPort::peek) found it.
    pub(crate) fn next(&self) -> Option<&Buffer> {
        self.next.as_ref()
    }

    /// Gives a buffer back that was taken but could not be worked on yet.
    pub(crate) fn put_back(&mut self, buffer: Buffer) {
        self.next = Some(buffer);
        self.come_to = self.came_from;
    }

    /// From now on takes only what is queued already, then behaves as if the stream had ended.
    pub(crate) fn drain(&mut self) {
        self.remaining.get_or_insert(self.input.queued());
    }

    /// From now on behaves as if the stream had ended once no connection is left: after a disconnect that is when its sender has
    /// noticed it and everything has been taken.
    pub(crate) fn leave(&mut self) {
        self.leaves = true;
    }

    /// Everything has been taken and nothing will come.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended && self.next.is_none()
    }

    /// The block has found this port empty, and would not any more.
    pub(crate) fn has_news(&self) -> bool {
        self.found_empty && self.input.has_news()
    }

    pub(crate) fn found_empty(&self) -> bool {
        self.found_empty
    }

    /// Nothing will come as far as can be known: a connection may yet be made to an optional port.
    pub(crate) fn expects_nothing(&self) -> bool {
        self.has_ended() || self.spec.optional && self.unconnected
    }

    /// The format of the stream, once its sender has stated it.
    ///
    /// # Errors
    /// [`Error::StreamMismatch`] if the port does not take such streams.
    pub(crate) fn format(&mut self) -> Result<Option<&StreamFormat>> {
        if self.format.is_none() {
            self.format = self.input.format();
            if let Some(format) = self.format.as_ref().filter(|format| !self.spec.admits(format)) {
                return Err(mismatch(&self.full_name, &self.spec, format));
            }
        }
        Ok(self.format.as_ref())
    }

    pub(crate) fn known_format(&self) -> Option<&StreamFormat> {
        self.format.as_ref()
    }
}

/// An output port of the running block. Its end is taken when its format is known.
pub(crate) struct OutputPort {
    pub(crate) spec: Port,
    full_name: String,
    output: Option<Output>,
    format: StreamFormat,
    /// Sent by the block, not yet by us: there was no room.
    pending: VecDeque<Buffer>,
    /// The first pending buffer has as many references as it can have. Nobody rings when one goes.
    crowded: bool,
    /// What the last buffer, or the block, has told of how far the stream has come.
    told: Option<Timestamp>,
    /// To be told when nothing is pending any more.
    untold: Option<Timestamp>,
    /// Number that the next new buffer carries.
    pub(crate) next_sequence: u64,
}

impl OutputPort {
    /// `sent` is the number of buffers that earlier processes of the block have sent here.
    pub(crate) fn new(block: &str, spec: Port, sent: u64) -> Self {
        let full_name = format!("{block}.{}", spec.name());
        Self {
            spec,
            full_name,
            output: None,
            format: StreamFormat::default(),
            pending: VecDeque::new(),
            crowded: false,
            told: None,
            untold: None,
            next_sequence: sent,
        }
    }

    /// States the stream's format and takes the sending end.
    pub(crate) fn open(&mut self, pond: &Pond, format: StreamFormat, waiter: &Waiter) -> Result<()> {
        if !self.spec.admits(&format) {
            return Err(mismatch(&self.full_name, &self.spec, &format));
        }
        self.format = format.clone();
        let config = OutputConfig { format, waiter: Some(waiter.clone()), wait: Wait::Adaptive };
        self.output = Some(pond.output(&self.full_name, &config)?);
        Ok(())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.output.is_some()
    }

    /// Fails before the port's format is stated.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_open() { Ok(()) } else { Err(not_open(&self.full_name)) }
    }

    /// # Errors
    /// [`Error::StreamMismatch`] for a buffer that is not what the port states.
    pub(crate) fn send(&mut self, buffer: Buffer, statistics: &mut Statistics) -> Result<()> {
        let (dtype, shape) = (buffer.dtype(), buffer.shape());
        if !self.format.admits(dtype, &shape) {
            let found = StreamFormat { dtype, shape: shape.to_vec(), ..StreamFormat::default() };
            return Err(Error::StreamMismatch {
                port: self.full_name.clone(),
                expected: self.format.to_string(),
                found: format!("a buffer of {found}"),
            });
        }
        if self.spec.follows.is_some() {
            self.told = later_of(self.told, behind(buffer.timestamp()));
        }
        self.pending.push_back(buffer);
        self.flush(statistics).map(drop)
    }

    /// Sends what is pending, as far as there is room; true if nothing is left.
    pub(crate) fn flush(&mut self, statistics: &mut Statistics) -> Result<bool> {
        let output = self.output.as_mut().ok_or_else(|| not_open(&self.full_name))?;
        self.crowded = false;
        while let Some(buffer) = self.pending.pop_front() {
            match output.try_send(buffer) {
                Ok(()) => statistics.count_sent(),
                Err(error) => match error.reason {
                    SendReason::Full | SendReason::Stopped | SendReason::TooManyReferences => {
                        self.crowded = error.reason == SendReason::TooManyReferences;
                        self.pending.push_front(error.buffer);
                        return Ok(false);
                    }
                    // The connection says that a dead receiver is not waited for; the pond has counted the loss.
                    SendReason::ReceiverDied { .. } => {}
                    _ => {
                        let doing = format!("send on `{}`", self.full_name);
                        return Err(Error::Failed { doing, cause: error.into() });
                    }
                },
            }
        }
        if let Some(bound) = self.untold.take() {
            output.advance(bound);
        }
        Ok(true)
    }

    /// Tells receivers how far the stream has come, behind all that was sent.
    pub(crate) fn advance(&mut self, bound: Timestamp) {
        let told = later_of(self.told, Some(bound));
        if told == self.told {
            return;
        }
        self.told = told;
        match &mut self.output {
            Some(output) if self.pending.is_empty() => output.advance(bound),
            _ => self.untold = Some(bound),
        }
    }

    /// A send would not have to wait for the receivers.
    pub(crate) fn has_room(&mut self) -> bool {
        self.output.as_mut().is_none_or(Output::can_send)
    }

    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Lets go of connections that were undone: their receivers wait for that.
    pub(crate) fn follow_connections(&mut self) {
        if let Some(output) = &mut self.output {
            output.connections();
        }
    }

    /// Tells every receiver that the stream has ended.
    pub(crate) fn finish(&mut self) {
        if let Some(output) = &mut self.output {
            output.finish();
        }
    }
}

/// What a stream has come to behind a buffer with this stamp.
fn behind(stamp: Timestamp) -> Option<Timestamp> {
    let next_ns = stamp.to_ns(None)?.saturating_add(1);
    Some(match stamp {
        Timestamp::Absolute(_) => Timestamp::Absolute(next_ns),
        _ => Timestamp::Relative(next_ns),
    })
}

/// The later one; of two that cannot be compared the new one.
fn later_of(old: Option<Timestamp>, new: Option<Timestamp>) -> Option<Timestamp> {
    match (old, new) {
        (Some(old), Some(new)) if old >= new => Some(old),
        (old, None) => old,
        (_, new) => new,
    }
}

fn not_open(port: &str) -> Error {
    Error::Refused(format!("port `{port}` has no format yet: state it in `start`"))
}

fn mismatch(port: &str, spec: &Port, format: &StreamFormat) -> Error {
    Error::StreamMismatch { port: port.to_owned(), expected: spec.to_string(), found: format.to_string() }
}
