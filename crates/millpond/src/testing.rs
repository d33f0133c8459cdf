//! Running one block alone, in a test, without processes.
//!
//! The block is the real one with real ports: they are connected to the test, in a small pond of this process.

use std::sync::atomic::{AtomicU32, Ordering};

use bytemuck::Pod;
use millpond_shm::{
    Buffer, ConnectionConfig, DType, Input, InputConfig, Output, OutputConfig, Pond, PondConfig, PoolConfig,
    ReceiveError, Role, StreamFormat, Timestamp, Wait,
};

use crate::allocation::SharedAllocator;
use crate::block::Block;
use crate::bus::{Bus, Json, json};
use crate::catalog::BlockType;
use crate::error::{Context, Error, Result};
use crate::param::Value;
use crate::params::Params;
use crate::runner::{Party, Progress, Runner, Start, Wanted};
use crate::stop::StopRequest;

/// A block with its inputs and outputs in the hands of a test.
pub struct Bench {
    runner: Runner,
    started: bool,
    ended: bool,
    inputs: Vec<(String, Option<Output>)>,
    outputs: Vec<(String, Input)>,
    pond: Pond,
}

/// Rate of the streams that [`Bench::push_frames`] makes.
pub const TEST_RATE_HZ: u32 = 48_000;

/// Numbers ponds, so that tests of one process can run side by side.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Bench {
    /// Makes a block with these parameters.
    ///
    /// # Errors
    /// What the block or its parameters are refused for.
    pub fn of<B: Block>(params: &[(&str, Value)]) -> Result<Self> {
        Self::of_type(&BlockType::of::<B>(), params)
    }

    /// Makes a block of a type that is known at run time, one of [`Catalog::builtin`](crate::Catalog::builtin) for example.
    ///
    /// # Errors
    /// As [`of`](Bench::of).
    pub fn of_type(block_type: &BlockType, params: &[(&str, Value)]) -> Result<Self> {
        let spec = block_type.spec();
        let params =
            Params::new(spec, params.iter().map(|(name, value)| ((*name).to_owned(), value.clone())))?;
        let pools =
            vec![PoolConfig::new(4 << 10, 64), PoolConfig::new(64 << 10, 16), PoolConfig::new(1 << 20, 4)];
        let config = PondConfig { pools, ..PondConfig::default() };
        let name = format!("bench-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let pond = Pond::create(&name, &config, Role::Worker)?;
        let mut inputs = Vec::new();
        for port in spec.inputs(&params) {
            let (from, to) = (format!("test.to-{}", port.name()), format!("block.{}", port.name()));
            pond.connect(&from, &to, &ConnectionConfig::default())?;
            inputs.push((port.name().to_owned(), None));
        }
        let mut outputs = Vec::new();
        for port in spec.outputs(&params) {
            let (from, to) = (format!("block.{}", port.name()), format!("test.from-{}", port.name()));
            let config = ConnectionConfig { policy: port.policy, ..ConnectionConfig::default() };
            pond.connect(&from, &to, &config)?;
            outputs.push((port.name().to_owned(), pond.input(&to, &InputConfig::default())?));
        }
        let party = Party {
            waiter: pond.waiter(Wait::Adaptive)?,
            allocator: SharedAllocator::new(&pond, false),
            is_shared: false,
            stays_open: false,
        };
        let runner = Runner::new(block_type, &pond, "block", params, &party, StopRequest::default())?;
        Ok(Self { runner, started: false, ended: false, inputs, outputs, pond })
    }

    /// States what an input's stream carries. Without it, the first buffer pushed does.
    ///
    /// # Errors
    /// If the format is no valid one.
    pub fn set_format(&mut self, input: &str, format: StreamFormat) -> Result<()> {
        let config = OutputConfig { format, ..OutputConfig::default() };
        let output = self.pond.output(&format!("test.to-{input}"), &config)?;
        *self.feed(input) = Some(output);
        Ok(())
    }

    /// Sends a buffer without timestamp, and returns it as others see it who share it.
    ///
    /// # Errors
    /// If the queue or the pond is full.
    pub fn push<T: Item>(&mut self, input: &str, items: &[T]) -> Result<Buffer> {
        self.push_stamped(input, Timestamp::None, items)
    }

    /// Sends a row of numbers with an absolute timestamp.
    ///
    /// # Errors
    /// As [`push`](Bench::push).
    pub fn push_at(&mut self, input: &str, unix_ns: i64, row: &[f64]) -> Result<Buffer> {
        self.push_stamped(input, Timestamp::Absolute(unix_ns), row)
    }

    /// Sends a buffer of `[frames, channels]` whose stream has counted `index` frames before it.
    ///
    /// # Errors
    /// As [`push`](Bench::push).
    pub fn push_frames<T: Item>(
        &mut self,
        input: &str,
        index: i64,
        channels: u32,
        items: &[T],
    ) -> Result<Buffer> {
        let stamp = Timestamp::Sample { index, rate_num: TEST_RATE_HZ, rate_den: 1 };
        if self.feed(input).is_none() {
            let (shape, rate_hz) = (vec![0, channels], Some((TEST_RATE_HZ, 1)));
            let format = StreamFormat { dtype: T::DTYPE, shape, rate_hz, ..StreamFormat::default() };
            self.set_format(input, format)?;
        }
        self.push_shaped(input, stamp, &[items.len() as u32 / channels, channels], items)
    }

    fn push_stamped<T: Item>(&mut self, input: &str, stamp: Timestamp, items: &[T]) -> Result<Buffer> {
        if self.feed(input).is_none() {
            self.set_format(input, StreamFormat { dtype: T::DTYPE, ..StreamFormat::default() })?;
        }
        self.push_shaped(input, stamp, &[items.len() as u32], items)
    }

    fn push_shaped<T: Item>(
        &mut self,
        input: &str,
        stamp: Timestamp,
        shape: &[u32],
        items: &[T],
    ) -> Result<Buffer> {
        let Some(output) = self.feed(input) else { unreachable!("the format has been stated") };
        let mut buffer = output.allocate(size_of_val(items))?;
        buffer.set_array(T::DTYPE, shape)?;
        buffer.as_mut_slice()?.copy_from_slice(items);
        buffer.set_timestamp(stamp);
        let buffer = buffer.freeze();
        output.try_send(buffer.clone()).context(|| format!("push on `{input}`"))?;
        Ok(buffer)
    }

    /// Sends frames through a block with the ports `in` and `out`, `chunk` frames a buffer, ends the stream, and returns all
    /// that came out.
    ///
    /// # Errors
    /// What the block fails with, or as [`pull`](Bench::pull).
    pub fn run_through<T: Item, U: Item>(
        &mut self,
        channels: u32,
        chunk: usize,
        items: &[T],
    ) -> Result<Vec<U>> {
        let mut out = Vec::new();
        let mut index = 0;
        for items in items.chunks(chunk * channels as usize) {
            self.push_frames("in", index, channels, items)?;
            index += (items.len() / channels as usize) as i64;
            self.run()?;
            out.extend(self.pull_all::<U>("out")?);
        }
        if self.feed("in").is_none() {
            self.push_frames::<T>("in", 0, channels, &[])?;
        }
        self.end("in");
        while !self.ended {
            self.run()?;
            let more = self.pull_all::<U>("out")?;
            if more.is_empty() && !self.ended {
                return Err(Error::Refused("the block does not end with its input".to_owned()));
            }
            out.extend(more);
        }
        Ok(out)
    }

    /// Ends an input's stream.
    pub fn end(&mut self, input: &str) {
        if let Some(output) = self.feed(input) {
            output.finish();
        }
    }

    /// Tells how far an input's stream has come without a buffer, once its format has been stated.
    pub fn advance(&mut self, input: &str, bound: Timestamp) {
        if let Some(output) = self.feed(input) {
            output.advance(bound);
        }
    }

    /// How far the block has told that an output's stream has come, behind what was [pulled](Bench::pull).
    pub fn bound(&mut self, output: &str) -> Option<Timestamp> {
        self.drain(output).bound()
    }

    /// Lets the block work until it needs input or room in its outputs, or is done. A block that waits for a moment is waited for, once
    /// for all that it has taken: what goes on by the clock alone, like the rows of `rate-probe`, would never end.
    ///
    /// # Errors
    /// What the block fails with.
    pub fn run(&mut self) -> Result<()> {
        if !self.started {
            self.started = self.runner.try_start()? == Start::Started;
        }
        let mut waited_for = None;
        while self.started && !self.ended {
            match self.runner.work(1)? {
                Progress::MayGoOn => {}
                Progress::Waits(Wanted::Moment(moment)) => {
                    let taken = self.runner.io.statistics.taken();
                    if !self.inputs.is_empty() && waited_for.replace(taken) == Some(taken) {
                        break;
                    }
                    std::thread::sleep(moment.saturating_duration_since(std::time::Instant::now()));
                }
                Progress::Waits(Wanted::Input | Wanted::Output | Wanted::Buffer) => break,
                Progress::Done | Progress::LeftOpen => self.ended = true,
            }
        }
        Ok(())
    }

    /// Sets a parameter while the block runs, as `millpond set` does.
    ///
    /// # Errors
    /// What the value is refused for.
    pub fn set(&mut self, param: &str, value: impl serde::Serialize) -> Result<()> {
        self.call("set", json!({ "param": param, "value": value })).map(drop)
    }

    /// Calls the block, as `millpond call` does.
    ///
    /// # Errors
    /// The block's refusal.
    pub fn call(&mut self, name: &str, argument: Json) -> Result<Json> {
        self.runner.call(name, argument)
    }

    /// This test's end of the message bus, to hear what the block publishes: on topics that begin with `block/`.
    pub fn bus(&self) -> &Bus {
        self.runner.io.bus()
    }

    /// Takes the items of the next buffer that the block has sent, if there is one.
    ///
    /// # Errors
    /// If they are of another type.
    pub fn pull<T: Item>(&mut self, output: &str) -> Result<Option<Vec<T>>> {
        let Some(buffer) = self.pull_buffer(output)? else { return Ok(None) };
        if buffer.dtype() != T::DTYPE {
            return Err(Error::Refused(format!(
                "expected {} on `{output}`, found {}",
                T::DTYPE,
                buffer.dtype()
            )));
        }
        Ok(Some(buffer.as_slice()?.to_vec()))
    }

    /// Takes all that the block has sent, one after the other.
    ///
    /// # Errors
    /// As [`pull`](Bench::pull).
    pub fn pull_all<T: Item>(&mut self, output: &str) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(items) = self.pull::<T>(output)? {
            all.extend(items);
        }
        Ok(all)
    }

    /// Takes the next buffer that the block has sent, if there is one.
    ///
    /// # Errors
    /// If the output's queue is corrupt.
    pub fn pull_buffer(&mut self, output: &str) -> Result<Option<Buffer>> {
        match self.drain(output).try_receive() {
            Ok(buffer) => Ok(Some(buffer)),
            Err(ReceiveError::Empty | ReceiveError::EndOfStream) => Ok(None),
            Err(error) => Err(error).context(|| format!("pull from `{output}`")),
        }
    }

    /// What the block states about an output's stream, once it has been started.
    pub fn output_format(&mut self, output: &str) -> Option<StreamFormat> {
        self.drain(output).format()
    }

    /// The block is done, and its streams have ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    fn feed(&mut self, input: &str) -> &mut Option<Output> {
        let found = self.inputs.iter_mut().find(|(name, _)| name == input);
        &mut found.unwrap_or_else(|| panic!("the block has no input `{input}`")).1
    }

    fn drain(&mut self, output: &str) -> &mut Input {
        let found = self.outputs.iter_mut().find(|(name, _)| name == output);
        &mut found.unwrap_or_else(|| panic!("the block has no output `{output}`")).1
    }
}

/// Types of items that a test can push and pull.
pub trait Item: Pod {
    /// The item type of a buffer of them.
    const DTYPE: DType;
}

macro_rules! items {
    ($($type:ty => $dtype:ident;)*) => {$(
        impl Item for $type {
            const DTYPE: DType = DType::$dtype;
        }
    )*};
}

items! {
    u8 => U8;
    i8 => I8;
    u16 => U16;
    i16 => I16;
    u32 => U32;
    i32 => I32;
    u64 => U64;
    i64 => I64;
    f32 => F32;
    f64 => F64;
}
