//! Runs one block in this thread: decides when it may work, waits for it, and ends its streams.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use millpond_shm::{Pond, StreamFormat, Waiter, Woken};

use crate::block::{Block, Pause};
use crate::bus::Json;
use crate::catalog::BlockType;
use crate::error::{Error, Result};
use crate::io::Io;
use crate::param::Params;
use crate::ports::{InputPort, OutputPort};
use crate::statistics::Stage;
use crate::stop::{StopRequest, Urgency};

/// Calls of `work` between two looks at requests to stop and other slow matters.
const WORK_BUDGET: u32 = 64;
/// A free buffer announces itself only inside `allocate_timeout`; this is how long a stop may go unnoticed there.
const STARVED_LOOK: Duration = Duration::from_millis(50);
/// Likewise for a reference to a buffer that has as many as it can have.
const CROWDED_LOOK: Duration = Duration::from_millis(1);

/// How a block's run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It had nothing more to do, or was asked to end in order: its streams have ended.
    Done,
    /// It was stopped at once.
    Stopped,
}

/// What the runner waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    Input,
    Output,
    Moment(Instant),
}

/// One block with its ports, ready to run.
pub(crate) struct Runner {
    block: Box<dyn Block>,
    pub(crate) io: Io,
    stop: StopRequest,
    /// The urgency that has been acted on.
    heeded: Urgency,
}

impl Runner {
    pub(crate) fn new(
        block_type: &BlockType,
        pond: &Pond,
        name: &str,
        params: Params,
        waiter: Waiter,
        stop: StopRequest,
    ) -> Result<Self> {
        crate::log::is_about(name);
        let block = guarded(|| block_type.make(&params))?;
        let mut io = Io::open(pond, name, block_type.spec(), params, waiter)?;
        io.statistics.set_stage(Stage::Starting);
        Ok(Self { block, io, stop, heeded: Urgency::None })
    }

    /// Runs the block to its end.
    ///
    /// # Blocking
    /// Until the block is done, fails, or is stopped.
    ///
    /// # Errors
    /// What the block failed with; a panic is one way to fail. The streams then stay open for a restart.
    pub(crate) fn run(&mut self) -> Result<Ending> {
        let ending = guarded(|| self.run_unguarded());
        let stage = if ending.is_ok() { Stage::Done } else { Stage::Failed };
        self.io.statistics.set_stage(stage);
        ending
    }

    fn run_unguarded(&mut self) -> Result<Ending> {
        loop {
            match self.try_start()? {
                Start::Started => break,
                Start::NothingWillCome => return Ok(Ending::Done),
                Start::NotYet => {
                    if self.wait(Wanted::Input)? == Urgency::Now {
                        return Ok(Ending::Stopped);
                    }
                }
            }
        }
        loop {
            match self.work(WORK_BUDGET)? {
                Progress::MayGoOn => {}
                Progress::Waits(wanted) => {
                    self.wait(wanted)?;
                }
                Progress::Done => return Ok(Ending::Done),
            }
            if self.stop.urgency() == Urgency::Now || self.io.stop_requested() {
                return Ok(Ending::Stopped);
            }
        }
    }

    /// Starts the block if the formats of all required inputs are known.
    pub(crate) fn try_start(&mut self) -> Result<Start> {
        self.heed_stop();
        for port in self.io.inputs.iter_mut().filter(|port| !port.spec.optional) {
            if port.format()?.is_none() {
                port.peek(&mut self.io.statistics)?;
                return Ok(if port.has_ended() { Start::NothingWillCome } else { Start::NotYet });
            }
        }
        for port in self.io.inputs.iter_mut().filter(|port| port.spec.optional) {
            port.format()?;
        }
        self.block.start(&mut self.io)?;
        for index in 0..self.io.outputs.len() {
            if !self.io.outputs[index].is_open() {
                let port = &self.io.outputs[index];
                let name = port.spec.name().to_owned();
                let stated = self.default_format(port);
                let format =
                    stated.ok_or_else(|| Error::Refused(format!("the format of `{name}` is not stated")))?;
                self.io.set_format(&name, format)?;
            }
        }
        self.io.statistics.set_stage(Stage::Running);
        Ok(Start::Started)
    }

    fn default_format(&self, port: &OutputPort) -> Option<StreamFormat> {
        if let Some(input) = &port.spec.like {
            return self.io.format(input).cloned();
        }
        let [dtype] = port.spec.dtypes[..] else { return None };
        let shape = port.spec.shape.iter().map(|extent| extent.parse().unwrap_or(0)).collect();
        Some(StreamFormat { dtype, shape, ..StreamFormat::default() })
    }

    /// Lets the block work up to `budget` times.
    pub(crate) fn work(&mut self, budget: u32) -> Result<Progress> {
        self.heed_stop();
        self.answer_requests();
        for _ in 0..budget {
            if !self.io.flush()? || !self.io.has_room() {
                return Ok(Progress::Waits(Wanted::Output));
            }
            if self.heeded >= Urgency::EndOfStream && self.io.inputs.is_empty() {
                return self.finish();
            }
            match self.block.work(&mut self.io) {
                Ok(()) => {}
                Err(Pause::NeedInput) if self.io.expects_nothing() => return self.finish(),
                Err(Pause::NeedInput) if !self.io.inputs.iter().any(InputPort::found_empty) => {
                    return Err(Error::Refused(
                        "needs input, but found no input empty: it would sleep for ever".to_owned(),
                    ));
                }
                Err(Pause::NeedInput) => return Ok(Progress::Waits(Wanted::Input)),
                Err(Pause::Event) => return Ok(Progress::Waits(Wanted::Input)),
                Err(Pause::OutputFull) => return Ok(Progress::Waits(Wanted::Output)),
                Err(Pause::Until(moment)) => return Ok(Progress::Waits(Wanted::Moment(moment))),
                Err(Pause::Done) => return self.finish(),
                Err(Pause::Failed(error)) => return Err(error),
            }
        }
        Ok(Progress::MayGoOn)
    }

    /// Completes the block's work and ends its streams.
    fn finish(&mut self) -> Result<Progress> {
        loop {
            let wanted = match self.block.finish(&mut self.io) {
                Ok(()) | Err(Pause::Done | Pause::NeedInput | Pause::Until(_)) => break,
                Err(Pause::Failed(error)) => return Err(error),
                Err(Pause::OutputFull) => Wanted::Output,
                Err(Pause::Event) => Wanted::Input,
            };
            if self.wait(wanted)? == Urgency::Now {
                return Ok(Progress::Done);
            }
        }
        while !self.io.flush()? {
            if self.wait(Wanted::Output)? == Urgency::Now {
                return Ok(Progress::Done);
            }
        }
        self.io.outputs.iter_mut().for_each(OutputPort::finish);
        Ok(Progress::Done)
    }

    /// Answers what others have asked on the message bus: parameters, and the block's own calls.
    fn answer_requests(&mut self) {
        while let Some(request) = self.io.control.next_request() {
            crate::control::answer(&mut *self.block, &mut self.io, request);
        }
    }

    /// What a call of the block gives, made by the thread that runs it.
    pub(crate) fn call(&mut self, name: &str, argument: Json) -> Result<Json> {
        crate::control::call(&mut *self.block, &mut self.io, name, argument)
    }

    fn heed_stop(&mut self) {
        let urgency = self.stop.urgency();
        if urgency >= Urgency::Drain && self.heeded < Urgency::Drain {
            self.io.inputs.iter_mut().for_each(InputPort::drain);
        }
        self.heeded = urgency;
    }

    /// Sleeps until there is what is wanted, or somebody asks to stop; returns how urgently.
    fn wait(&mut self, wanted: Wanted) -> Result<Urgency> {
        self.io.statistics.refresh();
        self.answer_requests();
        if wanted == Wanted::Output && self.io.wait_for_buffer(STARVED_LOOK)? {
            return Ok(self.urgency());
        }
        let timeout = match wanted {
            Wanted::Moment(moment) => Some(moment.saturating_duration_since(Instant::now())),
            Wanted::Output if self.io.outputs.iter().any(OutputPort::is_crowded) => Some(CROWDED_LOOK),
            Wanted::Input | Wanted::Output => None,
        };
        let crowded = wanted == Wanted::Output && timeout.is_some();
        let (waiter, heeded) = (self.io.waiter.clone(), self.heeded);
        let woken = waiter.wait(timeout, || {
            let ready = match wanted {
                Wanted::Output => !crowded && self.io.has_room(),
                Wanted::Input | Wanted::Moment(_) => self.io.has_news(),
            };
            ready || self.io.control.has_request() || self.stop.urgency() > heeded
        });
        Ok(if woken == Woken::Stopped { Urgency::Now } else { self.urgency() })
    }

    fn urgency(&self) -> Urgency {
        if self.io.stop_requested() { Urgency::Now } else { self.stop.urgency() }
    }
}

/// What came of [`Runner::try_start`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    Started,
    /// A sender has not yet said what its stream is.
    NotYet,
    /// A sender has ended without ever saying it: there is nothing to work on.
    NothingWillCome,
}

/// How far [`Runner::work`] got.
#[derive(Debug, PartialEq)]
pub(crate) enum Progress {
    /// The budget is used up.
    MayGoOn,
    Waits(Wanted),
    Done,
}

/// Turns a panic into the block's failure. The block is not used again after one, so no broken state can be seen.
fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(Error::Panicked(text.unwrap_or_else(|| "with something that is no text".to_owned())))
    })
}
