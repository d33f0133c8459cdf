//! One block, from its start to its end, as something that is visited when there may be work for it.
//!
//! A visit never waits. It lets the block work to a budget and says what the block waits for, if it does; the scheduler keeps
//! that and asks [`Runner::is_ready`] before the next visit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use millpond_shm::{Pond, StreamFormat};

use crate::allocation::SharedAllocator;
use crate::block::{Block, Pause};
use crate::bus::Json;
use crate::catalog::BlockType;
use crate::error::{Error, Result};
use crate::io::Io;
use crate::params::Params;
use crate::ports::{InputPort, OutputPort};
use crate::report;
use crate::statistics::Stage;
use crate::stop::{StopRequest, Urgency};

/// Calls of `work` in one visit: one pass over many buffers, and nobody else of the thread waits longer.
const WORK_BUDGET: u32 = 64;
/// A visit that has taken so long ends; looked at every few calls.
const TIME_BUDGET: Duration = Duration::from_millis(1);
const CALLS_BETWEEN_CLOCKS: u32 = 8;
/// What a source may send in one visit. It could always go on; what it adds has to fit the cache of the core that then takes
/// it through the other blocks.
const SOURCE_BUDGET_BYTES: usize = 128 << 10;
/// A free buffer announces itself to nobody. A block that could not have one tries again after this time, then after twice
/// that, and so on up to the longest.
const FIRST_NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// A wait for a free buffer that lasts so long is told: it may be for ever.
const STARVATION_TOLD_AFTER: Duration = Duration::from_secs(3);
/// Likewise for a reference to a buffer that has as many as it can have.
const CROWDED_NAP: Duration = Duration::from_millis(1);
/// Between two tries to change the pond's connections while somebody is stopped who was doing so.
const BUSY_NAP: Duration = Duration::from_millis(100);

/// How a block's run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It had nothing more to do, or was asked to end in order: its streams have ended.
    Done,
    /// It was stopped at once.
    Stopped,
    /// It was done by itself, and its streams are to stay open for its next start.
    LeftOpen,
}

/// What a block waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// Something on an input that was found empty, or the descriptor that it was told to watch.
    Input,
    /// Room on its outputs.
    Output,
    /// A free buffer.
    Buffer,
    /// A moment, or something on an input that was found empty.
    Moment(Instant),
}

/// A block that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    wanted: Wanted,
    /// It is visited then in any case.
    pub(crate) until: Option<Instant>,
}

/// What came of a visit.
#[derive(Debug)]
pub(crate) enum Visit {
    /// The budget is used up.
    MayGoOn,
    Waits(Parked),
    Ended(Ending),
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Waits for the formats of its inputs.
    Starting,
    Working,
    /// Its last work is done; `finish` has to be called, perhaps again.
    Finishing,
    /// It has nothing more to do, but something to send.
    Flushing,
}

/// One block with its ports.
pub(crate) struct Runner {
    block: Box<dyn Block>,
    pub(crate) io: Io,
    phase: Phase,
    stop: StopRequest,
    /// The urgency that has been acted on.
    heeded: Urgency,
    nap: Duration,
    starvation: Starvation,
    /// A block that is done by itself leaves its streams open.
    stays_open: bool,
}

/// Since when a block has waited for a free buffer.
#[derive(Default)]
struct Starvation {
    since: Option<Instant>,
    told: bool,
}

impl Starvation {
    /// True once, when it has lasted for long.
    fn is_due(&mut self, now: Instant) -> bool {
        let lasts = now.duration_since(*self.since.get_or_insert(now));
        lasts >= STARVATION_TOLD_AFTER && !std::mem::replace(&mut self.told, true)
    }
}

impl Runner {
    pub(crate) fn new(
        block_type: &BlockType,
        pond: &Pond,
        name: &str,
        params: Params,
        party: &Party,
        stop: StopRequest,
    ) -> Result<Self> {
        crate::log::is_about(name);
        let mut block = guarded(|| block_type.make(&params))?;
        let mut io = Io::open(pond, name, block_type.spec(), params.clone(), party)?;
        guarded(|| {
            crate::control::tell_kept(&mut *block, &mut io, &params);
            Ok(())
        })?;
        io.statistics.set_stage(Stage::Starting);
        let stays_open = party.stays_open;
        Ok(Self {
            block,
            io,
            phase: Phase::Starting,
            stop,
            heeded: Urgency::None,
            nap: FIRST_NAP,
            starvation: Starvation::default(),
            stays_open,
        })
    }

    /// Lets the block do what it can, up to the budget.
    ///
    /// # Errors
    /// What the block failed with; a panic is one way to fail. The streams then stay open for a restart, and the block must not
    /// be visited again.
    pub(crate) fn visit(&mut self) -> Result<Visit> {
        self.io.statistics.begin_visit();
        let visit = guarded(|| self.visit_unguarded());
        self.io.statistics.end_visit();
        match &visit {
            Ok(Visit::Waits(Parked { wanted: Wanted::Buffer, .. })) => self.tell_long_starvation(),
            _ => self.starvation = Starvation::default(),
        }
        match &visit {
            Ok(Visit::MayGoOn) => {}
            Ok(Visit::Waits(_)) => self.io.statistics.refresh(),
            Ok(Visit::Ended(_)) => self.io.statistics.set_stage(Stage::Done),
            Err(_) => self.io.statistics.count_failure(),
        }
        visit
    }

    fn visit_unguarded(&mut self) -> Result<Visit> {
        if self.stop.urgency() == Urgency::Now || self.io.stop_requested() {
            return Ok(Visit::Ended(Ending::Stopped));
        }
        crate::log::is_about(self.io.block());
        if self.phase == Phase::Starting {
            self.answer_requests();
            match self.try_start()? {
                Start::Started => {}
                Start::NotYet => return Ok(Visit::Waits(self.park(Wanted::Input))),
                Start::NothingWillCome => return Ok(Visit::Ended(Ending::Done)),
            }
        }
        Ok(match self.work(WORK_BUDGET)? {
            Progress::MayGoOn => Visit::MayGoOn,
            Progress::Waits(wanted) => Visit::Waits(self.park(wanted)),
            Progress::Done => Visit::Ended(Ending::Done),
            Progress::LeftOpen => Visit::Ended(Ending::LeftOpen),
        })
    }

    fn tell_long_starvation(&mut self) {
        if self.starvation.is_due(Instant::now())
            && let Some(why) = self.io.why_starved()
        {
            report::warning(&format!(
                "block `{}` has waited {} s for a free buffer; {why} If those who have them wait for it in turn, that is for ever: \
                 make a `depth` smaller or a [[pool]] larger",
                self.io.block(),
                STARVATION_TOLD_AFTER.as_secs(),
            ));
        }
    }

    fn park(&mut self, wanted: Wanted) -> Parked {
        let nap = match wanted {
            Wanted::Moment(moment) => return Parked { wanted, until: Some(moment) },
            Wanted::Buffer => {
                let nap = self.nap;
                self.nap = (nap * 2).min(LONGEST_NAP);
                nap
            }
            Wanted::Output if self.io.outputs.iter().any(OutputPort::is_crowded) => CROWDED_NAP,
            Wanted::Input | Wanted::Output => {
                self.nap = FIRST_NAP;
                return Parked { wanted, until: None };
            }
        };
        Parked { wanted, until: Some(Instant::now() + nap) }
    }

    /// Whether there may be something to do for a parked block: what it waits for is there, or somebody asks it to stop. `is_over`
    /// says whether a moment has passed.
    pub(crate) fn is_ready(&mut self, parked: &Parked, is_over: impl FnOnce(Instant) -> bool) -> bool {
        if parked.wanted != Wanted::Output {
            self.io.outputs.iter_mut().for_each(OutputPort::follow_connections);
        }
        let found = match parked.wanted {
            Wanted::Input | Wanted::Moment(_) => self.io.has_news(),
            // Whoever waits for a moment as well waits for what nobody announces.
            Wanted::Output => parked.until.is_none() && self.io.has_room(),
            Wanted::Buffer => false,
        };
        found
            || self.io.control.has_request()
            || self.stop.urgency() > self.heeded
            || self.io.stop_requested()
            || parked.until.is_some_and(is_over)
    }

    /// Starts the block if the formats of all required inputs are known.
    pub(crate) fn try_start(&mut self) -> Result<Start> {
        self.heed_stop();
        for port in self.io.inputs.iter_mut().filter(|port| !port.spec.optional) {
            if port.format()?.is_none() {
                port.peek(&mut self.io.statistics)?;
                // Its sender may have stated it and sent in between; nobody rings for a buffer that is in hand.
                if port.format()?.is_none() {
                    return Ok(if port.has_ended() { Start::NothingWillCome } else { Start::NotYet });
                }
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
        self.phase = Phase::Working;
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

    /// Lets the started block work up to `calls` times, and finish if its last work is done.
    pub(crate) fn work(&mut self, calls: u32) -> Result<Progress> {
        self.heed_stop();
        self.answer_requests();
        if self.phase != Phase::Working {
            return self.finish();
        }
        let begun = Instant::now();
        self.io.sent_bytes = 0;
        for call in 1..=calls {
            if !self.io.flush()? || !self.io.has_room() {
                return Ok(Progress::Waits(Wanted::Output));
            }
            if self.heeded >= Urgency::EndOfStream && self.io.inputs.is_empty() {
                return self.finish();
            }
            let done = self.block.work(&mut self.io);
            if matches!(done, Ok(()) | Err(Pause::NeedInput | Pause::Until(_))) {
                self.io.carry_bounds();
            }
            match done {
                Ok(()) => {}
                Err(Pause::NeedInput) if self.io.expects_nothing() => return self.finish(),
                Err(Pause::NeedInput) if !self.io.inputs.iter().any(InputPort::found_empty) => {
                    return Err(Error::Refused(
                        "needs input, but found no input empty: it would sleep for ever".to_owned(),
                    ));
                }
                Err(Pause::NeedInput | Pause::Event) => return Ok(Progress::Waits(Wanted::Input)),
                Err(Pause::OutputFull) => return Ok(Progress::Waits(self.io.what_is_full())),
                Err(Pause::Until(moment)) => return Ok(Progress::Waits(Wanted::Moment(moment))),
                Err(Pause::Done) => return self.finish(),
                Err(Pause::Failed(error)) => return Err(error),
            }
            let has_sent_enough = self.io.inputs.is_empty() && self.io.sent_bytes >= SOURCE_BUDGET_BYTES;
            let clock_is_due = call % CALLS_BETWEEN_CLOCKS == 0;
            if has_sent_enough || clock_is_due && begun.elapsed() >= TIME_BUDGET {
                break;
            }
        }
        Ok(Progress::MayGoOn)
    }

    /// Completes the block's work and ends its streams, as far as there is room for what it still sends.
    fn finish(&mut self) -> Result<Progress> {
        if self.phase == Phase::Working {
            self.phase = Phase::Finishing;
        }
        if self.phase == Phase::Finishing {
            match self.block.finish(&mut self.io) {
                Ok(()) | Err(Pause::Done | Pause::NeedInput) => {}
                Err(Pause::Until(moment)) => return Ok(Progress::Waits(Wanted::Moment(moment))),
                Err(Pause::OutputFull) => {
                    self.io.flush()?;
                    return Ok(Progress::Waits(self.io.what_is_full()));
                }
                Err(Pause::Event) => return Ok(Progress::Waits(Wanted::Input)),
                Err(Pause::Failed(error)) => return Err(error),
            }
            self.phase = Phase::Flushing;
        }
        if !self.io.flush()? {
            return Ok(Progress::Waits(Wanted::Output));
        }
        if self.heeded == Urgency::Leave {
            // To its receivers this is a disconnect, not the end of a stream.
            return match self.io.disconnect(|connection| &connection.from) {
                Err(Error::Pond(millpond_shm::Error::RegistryBusy { .. })) => {
                    Ok(Progress::Waits(Wanted::Moment(Instant::now() + BUSY_NAP)))
                }
                undone => undone.map(|()| Progress::Done),
            };
        }
        // What ends because its inputs have, or because it was asked to, ends for good.
        let is_fed_out = !self.io.inputs.is_empty() && self.io.inputs.iter().all(InputPort::has_ended);
        if self.stays_open && self.heeded < Urgency::Drain && !is_fed_out {
            return Ok(Progress::LeftOpen);
        }
        self.io.outputs.iter_mut().for_each(OutputPort::finish);
        Ok(Progress::Done)
    }

    /// Answers what others have asked on the message bus: parameters, and the block's own calls.
    fn answer_requests(&mut self) {
        while let Some(request) = self.io.control.next_request() {
            crate::control::answer(&mut *self.block, &mut self.io, request);
        }
        if self.io.control.is_removed() {
            self.stop.raise_to(Urgency::Leave);
            self.heed_stop();
        }
    }

    /// What a call of the block gives, made by the thread that runs it.
    pub(crate) fn call(&mut self, name: &str, argument: Json) -> Result<Json> {
        crate::control::call(&mut *self.block, &mut self.io, name, argument)
    }

    fn heed_stop(&mut self) {
        let urgency = self.stop.urgency();
        match urgency {
            Urgency::Drain if self.heeded < urgency => self.io.inputs.iter_mut().for_each(InputPort::drain),
            Urgency::Leave if self.heeded < urgency => self.io.inputs.iter_mut().for_each(InputPort::leave),
            _ => {}
        }
        self.heeded = urgency;
    }
}

/// What the blocks of one scheduler have in common.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) waiter: millpond_shm::Waiter,
    pub(crate) allocator: SharedAllocator,
    /// Blocks that share a process name themselves when they tell something.
    pub(crate) is_shared: bool,
    /// A block that is done by itself leaves its streams open.
    pub(crate) stays_open: bool,
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
    /// Done, but its streams are to stay open.
    LeftOpen,
}

/// Turns a panic into the block's failure. The block is not used again after one, so no broken state can be seen.
fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Err(Error::Panicked(text.unwrap_or_else(|| "with something that is no text".to_owned())))
    })
}
