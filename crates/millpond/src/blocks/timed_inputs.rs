//! Several inputs on one timeline, in front of an aligner: what the blocks have in common that join streams by their timestamps.

use std::time::{Duration, Instant};

use self::advice::Advice;
use super::last_stamp::LastStamp;
use crate::align::{Aligner, Config, Overflow, Policy, PortConfig, PortSet, Pushed, Reason, Stall};
use crate::prelude::*;
use crate::stream::{Description, columns};

mod advice;
mod parameters;

pub(super) use self::parameters::{for_each_input, late_param, late_ports, timed_ports, with_timed_inputs};

/// How long a full input waits before the user is told.
const STALL_TOLD_AFTER: Duration = Duration::from_secs(2);
/// Buffers of an input that are neither in the aligner nor waiting: the one it found no room for, and the one in the present row.
pub(super) const BESIDE_HELD: u32 = 2;
/// Buffers taken at a time.
const BATCH: usize = 64;

/// The inputs of a block, each with the number of its port at the aligner.
pub(super) struct TimedInputs {
    pub(super) inputs: Vec<TimedInput>,
    /// The input and the stamp that came first; all others must be of its kind.
    kind: Option<(usize, Timestamp)>,
    started: Instant,
    has_timeouts: bool,
    /// The block has the parameter `stamp_on_arrival`.
    may_stamp: bool,
    /// Of each input: rows can do without it.
    optional: Vec<bool>,
    /// A full input that waits for others, since when, and whether that was told.
    stall: Option<(Stall, Instant, bool)>,
    advice: Advice,
    /// What was just taken.
    batch: Vec<Buffer>,
}

pub(super) struct TimedInput {
    pub(super) name: String,
    pub(super) columns: usize,
    stamp_on_arrival: bool,
    /// Nothing but its stamps matters, so its buffers may hold anything.
    pub(super) only_stamps: bool,
    /// What the aligner may hold, as what is held counts as queued.
    holds_at_most: Option<usize>,
    /// A buffer that found the aligner full.
    refused: Option<(i64, Buffer)>,
    /// The output to which late buffers go.
    late: Option<String>,
    has_ended: bool,
    /// How far the stream had come when a new epoch began.
    stale_bound: Option<Timestamp>,
}

impl TimedInputs {
    /// The inputs that the parameters name, and how the aligner has to treat them.
    pub(super) fn new(params: &Params) -> Result<(Self, Config)> {
        let names: Vec<String> = params.get("inputs");
        if names.len() > PortSet::MAX_PORTS {
            return Err(Error::Refused(format!(
                "`inputs` has {} names, of which 64 can be joined",
                names.len()
            )));
        }
        let listed = |param: &str| -> Result<Vec<bool>> {
            let mut listed = vec![false; names.len()];
            for name in params.get::<Option<Vec<String>>>(param).unwrap_or_default() {
                listed[position(&names, param, &name)?] = true;
            }
            Ok(listed)
        };
        let (optional, stamped) = (listed("optional")?, listed("stamp_on_arrival")?);
        if optional.iter().all(|optional| *optional) {
            let problem = "`optional` names every input: at least one must be required";
            return Err(Error::Refused(problem.to_owned()));
        }
        let mut inputs = Self { optional, may_stamp: true, ..Self::named(names.into_iter().zip(stamped)) };
        inputs.name_late_outputs(params)?;
        let config = inputs.config(params);
        Ok((inputs, config))
    }

    /// How the aligner has to treat the inputs, as the parameters are now.
    pub(super) fn config(&mut self, params: &Params) -> Config {
        self.advice.forget();
        let inputs = self.inputs.len();
        let [disorder, timeout, depth] =
            ["disorder_ms", "timeout_ms", "depth"].map(|param| each(params, param, inputs));
        let port = |port: usize| PortConfig {
            disorder_ns: ns(disorder[port].unwrap_or(0.0)),
            depth: self.inputs[port].depth(depth[port]),
            timeout_ns: timeout[port].map(ns),
            optional: self.optional[port],
            tolerance_ns: None,
        };
        let ports: Vec<PortConfig> = (0..inputs).map(port).collect();
        self.has_timeouts = ports.iter().any(|port| port.timeout_ns.is_some());
        let overflow = match params.get::<String>("overflow").as_str() {
            "async" => Overflow::Async,
            "hybrid" => {
                // A full port is looked at again when the time is told.
                self.has_timeouts = true;
                Overflow::Hybrid { deadline_ns: ns(params.get("deadline_ms")) }
            }
            _ => Overflow::Sync,
        };
        Config { ports, overflow, emit_partial: false }
    }

    /// Inputs of these names; whether their buffers are stamped when they come.
    pub(super) fn named(inputs: impl IntoIterator<Item = (String, bool)>) -> Self {
        let input = |(name, stamp_on_arrival)| TimedInput {
            name,
            columns: 0,
            stamp_on_arrival,
            only_stamps: false,
            holds_at_most: None,
            refused: None,
            late: None,
            has_ended: false,
            stale_bound: None,
        };
        let inputs = inputs.into_iter().map(input).collect();
        Self {
            inputs,
            kind: None,
            started: Instant::now(),
            has_timeouts: false,
            may_stamp: false,
            optional: Vec::new(),
            stall: None,
            advice: Advice::default(),
            batch: Vec::new(),
        }
    }

    /// Number of the input that a parameter names.
    pub(super) fn index(&self, param: &str, name: &str) -> Result<usize> {
        let names: Vec<String> = self.inputs.iter().map(|input| input.name.clone()).collect();
        position(&names, param, name)
    }

    /// Learns how many columns the inputs have, and how much can be held of them; returns the columns' names, each behind that of its
    /// input.
    ///
    /// # Errors
    /// If a connection is too short to hold anything of it.
    pub(super) fn start(&mut self, io: &mut Io) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for input in &mut self.inputs {
            let queue = io.holds_at_most(&input.name);
            if let Some(queue) = queue.filter(|queue| *queue < 2 + BESIDE_HELD) {
                return Err(Error::Refused(format!(
                    "`redeliver` leaves in the queue what is held: the connection to `{}` needs a depth of at least {}, found {queue}",
                    input.name,
                    2 + BESIDE_HELD
                )));
            }
            input.holds_at_most = queue.map(|queue| (queue - BESIDE_HELD) as usize);
            if let Some(late) = &input.late {
                let format = io.format(&input.name).cloned().unwrap_or_default();
                io.set_format(late, format)?;
            }
            let Some(format) = io.format(&input.name) else { continue };
            input.columns = columns(format);
            let own = Description::of(format).column_names(input.columns);
            names.extend(own.iter().map(|column| format!("{}.{column}", input.name)));
        }
        Ok(names)
    }

    /// Tells the user of inputs that hold less than they were allowed to.
    pub(super) fn note_limits(&self, io: &Io, depths: &[Option<f64>]) {
        for (input, depth) in self.inputs.iter().zip(depths) {
            let Some((most, depth)) =
                input.holds_at_most.zip(*depth).filter(|(most, depth)| *depth > *most as f64)
            else {
                continue;
            };
            io.note(&format!(
                "`{}` holds {most} buffers, not the {depth} of `depth`, as with `redeliver` they stay in the queue: give its \
                 connection a depth of {} or more",
                input.name,
                depth + f64::from(BESIDE_HELD)
            ));
        }
    }

    /// Answers the one call that these blocks have, `reset`.
    pub(super) fn call<P: Policy<Buffer>>(
        &mut self,
        name: &str,
        io: &mut Io,
        aligner: &mut Aligner<Buffer, P>,
        last: &mut LastStamp,
    ) -> Result<Json> {
        if name != "reset" {
            let block = io.block();
            return Err(Error::Refused(format!("block `{block}` has no call `{name}`; it has `reset`")));
        }
        let dropped = self.reset(io, aligner);
        last.forget(io);
        Ok(json!({ "dropped": dropped }))
    }

    /// Begins a new epoch: what is held is dropped, and stamps may begin anywhere. Returns how many buffers that were.
    fn reset<P: Policy<Buffer>>(&mut self, io: &mut Io, aligner: &mut Aligner<Buffer, P>) -> u64 {
        let mut dropped = 0;
        for (port, input) in self.inputs.iter_mut().enumerate() {
            dropped += aligner.held(port) as u64 + u64::from(input.refused.take().is_some());
            // Promises never go back: what was promised of the old epoch says nothing of the new one.
            input.stale_bound = io.bound(&input.name).or(input.stale_bound);
            input.has_ended = false;
        }
        aligner.reset();
        (self.kind, self.stall) = (None, None);
        self.advice.forget();
        dropped
    }

    /// Tells the aligner the time, if that matters.
    pub(super) fn tell_time<P: Policy<Buffer>>(&self, aligner: &mut Aligner<Buffer, P>) {
        if self.has_timeouts {
            aligner.set_clock(self.started.elapsed().as_nanos() as i64);
        }
    }

    /// Gives the aligner what has come; returns whether that was anything.
    pub(super) fn take_in<P: Policy<Buffer>>(
        &mut self,
        io: &mut Io,
        aligner: &mut Aligner<Buffer, P>,
    ) -> Result<bool, Pause> {
        let mut moved = false;
        let mut taken = 0;
        for port in 0..self.inputs.len() {
            if let Some((stamp_ns, buffer)) = self.inputs[port].refused.take() {
                moved |= self.offer(io, port, stamp_ns, buffer, aligner)?;
            }
            while self.inputs[port].refused.is_none() {
                // No more than there is room for: what is refused has no place.
                let mut batch = std::mem::take(&mut self.batch);
                io.take_batch(&self.inputs[port].name, aligner.room(port).clamp(1, BATCH), &mut batch)?;
                let is_empty = batch.is_empty();
                taken += batch.len() as u64;
                for buffer in batch.drain(..) {
                    // One that does not fit is refused before others are held with it, which would be lost too.
                    self.inputs[port].check_columns(&buffer)?;
                    let stamp_ns = self.stamp_ns(port, &buffer)?;
                    moved |= self.offer(io, port, stamp_ns, buffer, aligner)?;
                }
                self.batch = batch;
                if is_empty {
                    break;
                }
            }
            moved |= self.advance(io, port, aligner);
            let input = &mut self.inputs[port];
            if input.refused.is_none() && !input.has_ended && io.ended(&input.name) {
                input.has_ended = true;
                aligner.end(port);
                moved = true;
            }
        }
        if moved {
            self.stall = None;
        }
        let inputs = &self.inputs;
        self.advice.note(taken, aligner);
        self.advice.look(io, aligner, |port| format!("`{}`", inputs[port].name));
        Ok(moved)
    }

    /// Tells the receivers of `out` how far the block has come, once all rows have been sent that what came suffices for.
    pub(super) fn pass_on<P: Policy<Buffer>>(&self, io: &mut Io, aligner: &Aligner<Buffer, P>) {
        let come_to_ns = aligner.come_to_ns();
        // The least may be one that was given up before anything was decided.
        if self.kind.is_some() && come_to_ns > i64::MIN + 1 && come_to_ns != i64::MAX {
            io.advance("out", self.stamp(come_to_ns));
        }
    }

    /// Gives the aligner a buffer; returns whether it took it. What is late goes on to whoever wants to see it.
    fn offer<P: Policy<Buffer>>(
        &mut self,
        io: &mut Io,
        port: usize,
        stamp_ns: i64,
        buffer: Buffer,
        aligner: &mut Aligner<Buffer, P>,
    ) -> Result<bool, Pause> {
        let input = &mut self.inputs[port];
        match aligner.push(port, stamp_ns, buffer) {
            Pushed::Full(buffer) => {
                input.refused = Some((stamp_ns, buffer));
                return Ok(false);
            }
            Pushed::Dropped(Reason::Late, buffer) => {
                if let Some(late) = &input.late {
                    io.send(late, buffer)?;
                }
            }
            Pushed::Held | Pushed::Dropped(..) | Pushed::Replaced(_) | Pushed::TakenLate => {}
        }
        Ok(true)
    }

    /// Lets the aligner know how far a stream has come that has nothing to send; returns whether that is news.
    fn advance<P: Policy<Buffer>>(
        &mut self,
        io: &mut Io,
        port: usize,
        aligner: &mut Aligner<Buffer, P>,
    ) -> bool {
        let input = &self.inputs[port];
        if input.stamp_on_arrival || input.refused.is_some() {
            return false;
        }
        let Some(bound) =
            io.bound(&input.name).filter(|bound| input.stale_bound.is_none_or(|stale| *bound > stale))
        else {
            return false;
        };
        let is_absolute = |stamp: Timestamp| matches!(stamp, Timestamp::Absolute(_));
        // Before anything has come, it says what kind of stamps there are; one of another kind is no help.
        let (_, kind) = *self.kind.get_or_insert((port, bound));
        let Some(ns) = bound.to_ns(None).filter(|_| is_absolute(kind) == is_absolute(bound)) else {
            return false;
        };
        let before_ns = aligner.bound_ns(port);
        // Of what was taken, the aligner knows: then this changes nothing.
        aligner.advance(port, ns.saturating_sub_unsigned(aligner.port_config(port).disorder_ns));
        aligner.bound_ns(port) != before_ns
    }

    /// The buffer's time on the one timeline of all inputs.
    fn stamp_ns(&mut self, port: usize, buffer: &Buffer) -> Result<i64> {
        let input = &self.inputs[port];
        let stamp = if input.stamp_on_arrival { Timestamp::now() } else { buffer.timestamp() };
        let is_absolute = |stamp: Timestamp| matches!(stamp, Timestamp::Absolute(_));
        let advice = if self.may_stamp { " (or the input among `stamp_on_arrival`)" } else { "" };
        let stamp_ns = stamp.to_ns(None).ok_or_else(|| Error::StreamMismatch {
            port: input.name.clone(),
            expected: format!("buffers with a timestamp{advice}"),
            found: stamp.to_string(),
        })?;
        let first = *self.kind.get_or_insert((port, stamp));
        if is_absolute(first.1) != is_absolute(stamp) {
            // The same words, whichever came first.
            let ((one, kind), (other, stamp)) =
                if first.0 <= port { (first, (port, stamp)) } else { ((port, stamp), first) };
            return Err(Error::StreamMismatch {
                port: self.inputs[other].name.clone(),
                expected: format!(
                    "stamps that can be compared with those of `{}`, such as {kind}",
                    self.inputs[one].name
                ),
                found: stamp.to_string(),
            });
        }
        Ok(stamp_ns)
    }

    /// A moment of the timeline as a stamp of the inputs' kind.
    pub(super) fn stamp(&self, ns: i64) -> Timestamp {
        match self.kind {
            Some((_, Timestamp::Absolute(_))) => Timestamp::Absolute(ns),
            _ => Timestamp::Relative(ns),
        }
    }

    /// What to wait for when there is nothing to do. That a full input waits for others is told when it has lasted.
    ///
    /// # Errors
    /// If nothing can ever come that is waited for.
    pub(super) fn wait<P: Policy<Buffer>>(&mut self, io: &Io, aligner: &Aligner<Buffer, P>) -> Result<Pause> {
        let deadline = aligner.deadline_ns();
        let deadline = deadline.map(|ns| self.started + Duration::from_nanos(ns.max(0) as u64));
        if deadline.is_none() && self.inputs.iter().all(|input| input.refused.is_some() || input.has_ended) {
            let full = aligner.stall().map_or("an input", |stall| &self.inputs[stall.full].name);
            return Err(Error::Refused(format!(
                "`{full}` is full while it waits for the others: give it a larger `depth` or a `timeout_ms`"
            )));
        }
        let tell = self.tell_stall(io, aligner.stall());
        Ok(deadline.into_iter().chain(tell).min().map_or(Pause::NeedInput, Pause::Until))
    }

    /// Tells the user of a stall that has lasted; returns when to look again.
    fn tell_stall(&mut self, io: &Io, stall: Option<Stall>) -> Option<Instant> {
        let Some(stall) = stall else {
            self.stall = None;
            return None;
        };
        let (known, since, told) = self.stall.get_or_insert((stall, Instant::now(), false));
        if *known != stall {
            (*known, *since, *told) = (stall, Instant::now(), false);
        }
        if *told {
            return None;
        }
        let tell_at = *since + STALL_TOLD_AFTER;
        if Instant::now() < tell_at {
            return Some(tell_at);
        }
        *told = true;
        let name = |port: usize| format!("`{}`", self.inputs[port].name);
        let waits_for: Vec<String> = stall.waits_for.iter().map(name).collect();
        io.note(&format!(
            "{} is full and waits, as nothing has come on {} for {} s: a `timeout_ms` or a larger `depth` would help",
            name(stall.full),
            waits_for.join(", "),
            STALL_TOLD_AFTER.as_secs()
        ));
        None
    }

    /// Tells the user what came of it, if something was left out.
    pub(super) fn note<P: Policy<Buffer>>(&mut self, io: &Io, aligner: &Aligner<Buffer, P>) {
        let inputs = &self.inputs;
        self.advice.tell(io, aligner, |port| format!("`{}`", inputs[port].name));
        let mut counts = Vec::new();
        for (port, input) in self.inputs.iter().enumerate() {
            let counters = aligner.counters(port);
            let reasons = Reason::ALL.iter().filter(|reason| counters.dropped(**reason) > 0);
            counts.extend(
                reasons.map(|reason| format!("{} {reason} on `{}`", counters.dropped(*reason), input.name)),
            );
        }
        let (rows, degraded) = (aligner.sets(), aligner.degraded());
        if !counts.is_empty() || degraded > 0 {
            let not_used = if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") };
            io.note(&format!("{rows} rows, {degraded} of them degraded; not used: {not_used}"));
        }
    }
}

impl TimedInput {
    /// How many buffers the aligner may hold.
    pub(super) fn depth(&self, asked: Option<f64>) -> usize {
        (asked.unwrap_or(64.0).max(2.0) as usize).min(self.holds_at_most.unwrap_or(usize::MAX))
    }

    /// Reads the values of a buffer.
    pub(super) fn read(&self, buffer: &Buffer, values: &mut Vec<f64>) -> Result<()> {
        values.clear();
        buffer.read_samples(values)
    }

    /// Whether a buffer is one row of the stream's columns.
    fn check_columns(&self, buffer: &Buffer) -> Result<()> {
        let found = buffer.len() / buffer.dtype().size_bytes();
        if found == self.columns || self.only_stamps {
            return Ok(());
        }
        let s = if self.columns == 1 { "" } else { "s" };
        Err(Error::StreamMismatch {
            port: self.name.clone(),
            expected: format!("buffers of one row of {} number{s}", self.columns),
            found: format!("one of {found}: let its source send a frame, or row, a buffer"),
        })
    }
}

pub(super) fn ns(ms: f64) -> u64 {
    (ms * 1e6).round() as u64
}

fn position(names: &[String], param: &str, name: &str) -> Result<usize> {
    names.iter().position(|input| input == name).ok_or_else(|| Error::BadParameter {
        name: param.to_owned(),
        expected: format!("one of the inputs ({})", names.join(", ")),
        found: format!("`{name}`"),
    })
}

/// The value of a parameter that holds one number for all inputs or one for each.
pub(super) fn each(params: &Params, param: &str, inputs: usize) -> Vec<Option<f64>> {
    let numbers: Option<Vec<f64>> = params.get(param);
    match numbers.as_deref() {
        None => vec![None; inputs],
        Some([all]) => vec![Some(*all); inputs],
        Some(numbers) => (0..inputs).map(|input| numbers.get(input).copied()).collect(),
    }
}
