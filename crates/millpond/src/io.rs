//! What a block sees of the world while it works: its inputs, outputs and parameters.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use millpond_shm::{Buffer, BufferMut, ConnectionInfo, DType, Monitor, Pond, StreamFormat, Timestamp};

use crate::allocation::SharedAllocator;
use crate::block::{Pause, WorkResult};
use crate::bus::{Bus, Delivery};
use crate::control::Control;
use crate::error::Result;
use crate::param::FromValue;
use crate::params::Params;
use crate::ports::{InputPort, OutputPort};
use crate::readiness::{Interest, Readiness};
use crate::report;
use crate::runner::{Party, Wanted};
use crate::spec::Spec;
use crate::statistics::Statistics;

/// The inputs, outputs and parameters of a block. Ports and parameters are named as in the block's [`Spec`].
///
/// # Panics
/// Every function panics when given a name that the spec does not state: a bug of the block, and reported as such.
pub struct Io {
    block: String,
    pub(crate) params: Params,
    /// A parameter was set since the block asked.
    pub(crate) control: Control,
    pub(crate) inputs: Vec<InputPort>,
    pub(crate) outputs: Vec<OutputPort>,
    pub(crate) statistics: Statistics,
    party: Party,
    pond: Pond,
    /// Some output follows an input.
    follows: bool,
    /// No buffer was free.
    starved: bool,
    /// For so many bytes, the last time.
    starved_bytes: usize,
    /// Bytes that the block has sent since the runner set this to 0.
    pub(crate) sent_bytes: usize,
    readiness: Readiness,
}

impl Io {
    /// Takes the receiving ends of all inputs. Outputs are taken when their formats are known.
    pub(crate) fn open(
        pond: &Pond,
        block: &str,
        spec: &Spec,
        mut params: Params,
        party: &Party,
    ) -> Result<Self> {
        pond.declare_block(block, spec.name())?;
        let statistics = Statistics::new(pond.block_counters(block)?);
        let inputs = spec.inputs(&params).into_iter();
        let mut inputs: Vec<InputPort> =
            inputs.map(|port| InputPort::open(pond, block, port, &party.waiter)).collect::<Result<_>>()?;
        let mut followed: Vec<String> = Vec::new();
        let sent = if statistics.starts() > 1 { sent(pond, block)? } else { Vec::new() };
        let outputs = spec.outputs(&params).into_iter().map(|port| {
            followed.extend(port.follows.clone());
            let sent = sent.iter().find(|(name, _)| name == port.name()).map_or(0, |(_, count)| *count);
            OutputPort::new(block, port, sent)
        });
        let outputs = outputs.collect();
        let is_followed = |port: &&mut InputPort| followed.iter().any(|name| name == port.spec.name());
        inputs.iter_mut().filter(is_followed).for_each(InputPort::follow);
        Ok(Self {
            block: block.to_owned(),
            control: Control::open(pond, block, spec, &mut params, &party.waiter)?,
            outputs,
            follows: !followed.is_empty(),
            params,
            inputs,
            statistics,
            party: party.clone(),
            pond: pond.clone(),
            starved: false,
            starved_bytes: 0,
            sent_bytes: 0,
            readiness: Readiness::default(),
        })
    }

    /// The block's name in the flowgraph.
    pub fn block(&self) -> &str {
        &self.block
    }

    /// The present value of a parameter.
    ///
    /// # Panics
    /// As [`Params::get`].
    pub fn param<T: FromValue>(&self, name: &str) -> T {
        self.params.get(name)
    }

    /// Tells everybody who has subscribed to `BLOCK/topic` on the message bus; never waits. Whoever has no room misses it, which
    /// the pond counts.
    ///
    /// # Errors
    /// A topic that is none, or a value that is no JSON or too large.
    pub fn publish(&self, topic: &str, value: impl serde::Serialize) -> Result<Delivery> {
        Ok(self.control.bus().publish(&format!("{}/{topic}", self.block), &value)?)
    }

    /// The message bus, to subscribe, publish on any topic, or call others. A call waits; make it outside of `work`.
    pub fn bus(&self) -> &Bus {
        self.control.bus()
    }

    /// Takes the next buffer of an input.
    ///
    /// # Errors
    /// [`Pause::NeedInput`] if there is none yet, [`Pause::Done`] if there will never be one.
    pub fn take(&mut self, input: &str) -> Result<Buffer, Pause> {
        let index = self.input_index(input);
        let port = &mut self.inputs[index];
        match port.take(&mut self.statistics)? {
            Some(buffer) => Ok(buffer),
            None if port.has_ended() => Err(Pause::Done),
            None => Err(Pause::NeedInput),
        }
    }

    /// Takes the next buffer of an input to change it in place. It is copied only if somebody else can still see it.
    ///
    /// # Errors
    /// As [`take`](Io::take), and [`Pause::OutputFull`] if a copy is needed and no buffer is free; the input then keeps its buffer.
    pub fn take_mut(&mut self, input: &str) -> Result<BufferMut, Pause> {
        let shared = match self.take(input)?.try_into_mut() {
            Ok(buffer) => return Ok(buffer),
            Err(shared) => shared,
        };
        match self.party.allocator.make_mut(shared.clone()) {
            Ok(copy) => Ok(copy),
            Err(error) => {
                self.starved_bytes = shared.as_bytes().len();
                self.input(input).put_back(shared);
                Err(self.starved(error))
            }
        }
    }

    /// Takes the next buffer of an input, if there is one.
    ///
    /// # Errors
    /// If the input's queue is corrupt.
    pub fn try_take(&mut self, input: &str) -> Result<Option<Buffer>> {
        let index = self.input_index(input);
        self.inputs[index].take(&mut self.statistics)
    }

    /// Takes what an input has, at most `max` buffers, for a block that holds them; appends them to `into`.
    ///
    /// # Errors
    /// If the input's queue is corrupt.
    pub(crate) fn take_batch(&mut self, input: &str, max: usize, into: &mut Vec<Buffer>) -> Result<()> {
        let index = self.input_index(input);
        self.inputs[index].take_batch(max, into, &mut self.statistics)
    }

    /// Looks at the next buffer of an input without taking it.
    ///
    /// # Errors
    /// As [`take`](Io::take).
    pub fn peek(&mut self, input: &str) -> Result<&Buffer, Pause> {
        let index = self.input_index(input);
        self.inputs[index].peek(&mut self.statistics)?;
        let port = &self.inputs[index];
        port.next().ok_or(if port.has_ended() { Pause::Done } else { Pause::NeedInput })
    }

    /// Looks at the next buffer of an input without taking it, if there is one.
    ///
    /// # Errors
    /// If the input's queue is corrupt.
    pub fn try_peek(&mut self, input: &str) -> Result<Option<&Buffer>> {
        let index = self.input_index(input);
        self.inputs[index].peek(&mut self.statistics)?;
        Ok(self.inputs[index].next())
    }

    /// Whether an input's stream has ended and all of it has been taken.
    pub fn ended(&self, input: &str) -> bool {
        self.inputs[self.input_index(input)].has_ended()
    }

    /// The format of an input's stream: known from the start on, except for an optional input whose sender has not stated it.
    pub fn format(&self, input: &str) -> Option<&StreamFormat> {
        self.inputs[self.input_index(input)].known_format()
    }

    /// States the format of an output's stream. Called in [`Block::start`](crate::Block::start); receivers learn it before the
    /// first buffer. An extent of 0 in its shape may differ from buffer to buffer.
    ///
    /// # Errors
    /// [`Error::StreamMismatch`](crate::Error::StreamMismatch) if it is not what the port promises.
    pub fn set_format(&mut self, output: &str, format: StreamFormat) -> Result<()> {
        let index = self.output_index(output);
        self.outputs[index].open(&self.pond, format, &self.party.waiter)
    }

    /// A new buffer to fill and send on `output`. Allocate before taking input or changing the block's state, so that nothing
    /// is lost if the block is called again.
    ///
    /// # Errors
    /// [`Pause::OutputFull`] if no buffer is free now; failure if none can ever be that large.
    pub fn new_buffer(&mut self, output: &str, dtype: DType, shape: &[u32]) -> Result<BufferMut, Pause> {
        let bytes = shape.iter().map(|extent| *extent as usize).product::<usize>() * dtype.size_bytes();
        let index = self.output_index(output);
        self.outputs[index].check_open()?;
        let Some(mut buffer) = self.party.allocator.try_allocate(bytes)? else {
            self.starved = true;
            self.starved_bytes = bytes;
            return Err(Pause::OutputFull);
        };
        buffer.set_array(dtype, shape)?;
        let port = &mut self.outputs[index];
        buffer.set_sequence(port.next_sequence);
        port.next_sequence += 1;
        Ok(buffer)
    }

    /// Where the buffers come from, for what is filled outside of `work` or by other code. What is allocated there has no number.
    pub fn allocator(&self) -> SharedAllocator {
        self.party.allocator.clone()
    }

    /// Sends a buffer on an output. If there is no room it is kept and sent before the next `work`.
    ///
    /// # Errors
    /// If the output's queue is corrupt.
    pub fn send(&mut self, output: &str, buffer: impl Into<Buffer>) -> WorkResult {
        let index = self.output_index(output);
        let buffer = buffer.into();
        self.sent_bytes += buffer.len();
        self.outputs[index].send(buffer, &mut self.statistics)?;
        Ok(())
    }

    /// Promises that nothing earlier than `bound` will be sent on `output` any more, apart from the disorder that its stream may have:
    /// what receivers learn from a buffer, without one, so that those who put streams together need not wait for this
    /// one. It comes behind all that was sent, and outlives the process; an earlier bound than before changes nothing. What is
    /// sent earlier than promised is late. An output that [`follows`](crate::Port::follows) an input does it by itself.
    pub fn advance(&mut self, output: &str, bound: Timestamp) {
        let index = self.output_index(output);
        self.outputs[index].advance(bound);
    }

    /// How far an input's stream has come: nothing earlier will come behind what was taken, apart from the stream's disorder. From buffers,
    /// and from what its sender [promises](Io::advance). A block that was told `NeedInput` is called again when that changes.
    pub fn bound(&mut self, input: &str) -> Option<Timestamp> {
        self.input(input).come_to()
    }

    /// Outputs that follow an input tell how far that has come.
    #[inline]
    pub(crate) fn carry_bounds(&mut self) {
        if self.follows {
            for output in &mut self.outputs {
                if let Some(input) = &output.spec.follows
                    && let Some(input) = self.inputs.iter_mut().find(|port| port.spec.name() == input)
                    && let Some(bound) = input.come_to()
                {
                    output.advance(bound);
                }
            }
        }
    }

    /// How many buffers of an input the block can hold before its sender stops: those of its smallest connection, if the input
    /// [redelivers](crate::Port::redelivers_if). `None`: as many as there are.
    pub fn holds_at_most(&mut self, input: &str) -> Option<u32> {
        self.input(input).holds_at_most()
    }

    /// To wait until something can be read from `fd`, a socket or pipe: return the pause, and read without blocking when called
    /// again. A call may come earlier. Only the latest of these waits counts.
    pub fn until_readable(&mut self, fd: &Arc<OwnedFd>) -> Pause {
        self.until_ready(vec![(Arc::clone(fd), Interest::Read)])
    }

    /// To wait until something can be written to `fd`; as [`until_readable`](Io::until_readable).
    pub fn until_writable(&mut self, fd: &Arc<OwnedFd>) -> Pause {
        self.until_ready(vec![(Arc::clone(fd), Interest::Write)])
    }

    /// To wait until something can be read from one or written to the other; as [`until_readable`](Io::until_readable).
    pub fn until_either(&mut self, readable: &Arc<OwnedFd>, writable: &Arc<OwnedFd>) -> Pause {
        self.until_ready(vec![
            (Arc::clone(readable), Interest::Read),
            (Arc::clone(writable), Interest::Write),
        ])
    }

    fn until_ready(&mut self, fds: Vec<(Arc<OwnedFd>, Interest)>) -> Pause {
        match self.readiness.watch(fds, &self.party.waiter) {
            Ok(()) => Pause::Event,
            Err(error) => Pause::Failed(error),
        }
    }

    /// An earlier process of this block had come so far that it worked: its [`start`](crate::Block::start) had come back. So what it has left
    /// outside of the pond, a file for example, is this flowgraph's and no older.
    pub fn has_worked_before(&self) -> bool {
        self.statistics.worked_before()
    }

    /// Number of the next buffer from [`new_buffer`](Io::new_buffer). In [`Block::start`](crate::Block::start) it tells how many
    /// buffers earlier processes of this block have sent on the output: a restarted source goes on behind them.
    pub fn next_sequence(&self, output: &str) -> u64 {
        self.outputs[self.output_index(output)].next_sequence
    }

    /// Tells the user something, in one line.
    pub fn note(&self, line: &str) {
        let name = self.party.is_shared.then_some(self.block.as_str());
        report::note(name, line);
    }

    /// As [`note`](Io::note), for a thread of the block's own.
    pub(crate) fn notes(&self) -> impl Fn(&str) + Send + use<> {
        let name = self.party.is_shared.then(|| self.block.clone());
        move |line| report::note(name.as_deref(), line)
    }

    /// Sends what is kept, as far as there is room; true if nothing is left.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        let mut all = true;
        for port in &mut self.outputs {
            if port.has_pending() {
                all &= port.flush(&mut self.statistics)?;
            }
        }
        Ok(all)
    }

    /// Whether something that is kept can be sent; if nothing is kept, whether every output has room.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.outputs.iter().any(OutputPort::has_pending) {
            self.outputs.iter_mut().any(|port| port.has_pending() && port.has_room())
        } else {
            self.outputs.iter_mut().all(OutputPort::has_room)
        }
    }

    /// An input that the block has found empty has something now, or the descriptor that it waits for is ready.
    pub(crate) fn has_news(&self) -> bool {
        self.inputs.iter().any(InputPort::has_news) || self.readiness.is_ready()
    }

    /// Nothing will come on any input, as far as can be known.
    pub(crate) fn expects_nothing(&self) -> bool {
        self.inputs.iter().all(InputPort::expects_nothing)
    }

    pub(crate) fn stop_requested(&self) -> bool {
        self.pond.stop_requested()
    }

    /// Undoes the connections of which this end is one of the block's ports.
    pub(crate) fn disconnect(&self, end: fn(&ConnectionInfo) -> &String) -> Result<()> {
        for connection in Monitor::open(self.pond.name())?.snapshot().connections {
            if end(&connection).split_once('.').is_some_and(|(block, _)| block == self.block) {
                match self.pond.disconnect(&connection.from, &connection.to) {
                    // Somebody may have been faster.
                    Ok(()) | Err(millpond_shm::Error::Unknown { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// What the block has to wait for that said `OutputFull`.
    pub(crate) fn what_is_full(&mut self) -> Wanted {
        if std::mem::take(&mut self.starved) { Wanted::Buffer } else { Wanted::Output }
    }

    /// Who has the buffers of which the block has found none free.
    pub(crate) fn why_starved(&self) -> Option<String> {
        self.party.allocator.why_exhausted(self.starved_bytes)
    }

    /// An exhausted pool is back-pressure, anything else a failure.
    fn starved(&mut self, error: millpond_shm::Error) -> Pause {
        match error {
            millpond_shm::Error::PoolExhausted { .. } => {
                self.starved = true;
                Pause::OutputFull
            }
            error => error.into(),
        }
    }

    fn input(&mut self, name: &str) -> &mut InputPort {
        let index = self.input_index(name);
        &mut self.inputs[index]
    }

    fn input_index(&self, name: &str) -> usize {
        let found = self.inputs.iter().position(|port| port.spec.name() == name);
        found.unwrap_or_else(|| panic!("the spec states no input `{name}`"))
    }

    fn output_index(&self, name: &str) -> usize {
        let found = self.outputs.iter().position(|port| port.spec.name() == name);
        found.unwrap_or_else(|| panic!("the spec states no output `{name}`"))
    }
}

/// How many buffers the block has sent on each output, as the pond counts it.
fn sent(pond: &Pond, block: &str) -> Result<Vec<(String, u64)>> {
    let ports = Monitor::open(pond.name())?.snapshot().ports.into_iter();
    Ok(ports
        .filter_map(|port| {
            let name = port.name.strip_prefix(block)?.strip_prefix('.')?;
            Some((name.to_owned(), port.sent))
        })
        .collect())
}
