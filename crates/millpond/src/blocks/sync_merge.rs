//! `sync-merge`: joins streams into one table by their timestamps.

use self::engine::{Engine, with_engine};
use self::row::{Found, Stamp, Values};
use super::last_stamp::LastStamp;
use super::timed_inputs::{BESIDE_HELD, TimedInputs, each, for_each_input, timed_ports, with_timed_inputs};
use crate::align::Poll;
use crate::prelude::*;
use crate::stream::Description;

mod engine;
mod row;

const POLICIES: &[&str] = &["exact", "nearest", "linear", "approximate"];
const JOINS: &[&str] = &["columns", "concatenate"];
const STAMPS: &[&str] = &["reference", "min", "max", "mean"];
/// Name of the column that tells rows apart that were made without waiting for all.
const DEGRADED: &str = "degraded";

/// Makes rows whose values belong to one moment, of all inputs; values that are missing are NaN. The result does not depend
/// on the order of arrival across inputs, see [`align`](crate::align).
///
/// Buffers are held, not copied, until their values are written into a row. A row is stamped like the reference, which for sets
/// without one is the first input that has a value; stamps never go back.
pub(super) struct SyncMerge {
    inputs: TimedInputs,
    engine: Engine,
    shape: Vec<u32>,
    concatenates: bool,
    marks_degraded: bool,
    /// A row that has been allocated but not filled.
    spare: Option<BufferMut>,
    values: Values,
    last: LastStamp,
    reference: usize,
    stamp: Stamp,
}

impl Block for SyncMerge {
    fn spec() -> Spec {
        let each_ms = |name: &str, doc: &str| for_each_input(name, doc).unit("ms");
        let spec = Spec::new("sync-merge", "Joins streams into one table by their timestamps")
            .details(
                "A row for each moment, as docs/time.md explains: `exact`, `nearest` and `approximate` choose a buffer of each input, \
                 `linear` computes the values between two. The result does not depend on the order of arrival across inputs. \
                 Values that are missing are NaN. A row is stamped like the reference, or the first input that has a value; \
                 stamps never go back. What is late is counted, and comes unchanged on the outputs that `late` names. Tolerances, timeouts, disorder and depth are set for all inputs or one by one, and can be set \
                 while it runs: they hold for what is decided from then on, a timeout counts from then on, a smaller depth drops \
                 nothing by itself, a greater disorder is no help to what was late already. What cannot be set makes the \
                 output's format (policy, reference, rate, columns) or its ports. \
                 The inputs' columns stand side by side, or, with `concatenate`, each input is a row of a buffer of \
                 [inputs, columns]. Started again after its process was killed, it goes on behind the last row: none comes twice. \
                 With `redeliver`, what it held comes again, so no row is lost either; without, it went with the process, and the \
                 first values may be missing. The call BLOCK/reset begins a new epoch, after a clock was set back or a log has begun anew: what \
                 is held is dropped, and stamps may begin anywhere.",
            )
            .example(
                r#"
connect = ["fast -> table.fast", "slow -> table.slow", "table -> lines"]
blocks.fast = { type = "signal", freq_hz = 1.0, rate_hz = 200, frames = 1, count = 200 }
blocks.slow = { type = "signal", freq_hz = 1.0, rate_hz = 30, frames = 1, count = 30 }
blocks.table = { type = "sync-merge", inputs = ["fast", "slow"], policy = "linear", rate_hz = 50 }
blocks.lines = { type = "print" }
"#,
            )
            .output(
                Port::new("out", "rows of all columns, NaN where a value is missing")
                    .dtypes([DType::F64]),
            );
        with_timed_inputs(spec, timed_ports().redelivers_if("redeliver").holds("depth", BESIDE_HELD))
            .param(
                Param::bool(
                    "redeliver",
                    "what is held when the process is killed comes again; connections cannot drop the oldest then, and are deeper than \
                     `depth` by 2; one that is given a smaller depth makes it hold less",
                )
                .default(false)
                .fixed(),
            )
            .param(Param::one_of("policy", "how rows are found", POLICIES).default("exact").fixed())
            .param(
                Param::text(
                    "reference",
                    "nearest, linear: the input that makes the rows; otherwise the first",
                )
                .optional()
                .fixed(),
            )
            .param(
                each_ms(
                    "tolerance_ms",
                    "exact: by how much a buffer may be earlier than the latest of its row",
                )
                .default(vec![0.0]),
            )
            .param(each_ms("max_distance_ms", "nearest: how far away the nearest may be").optional())
            .param(Param::bool("consume", "nearest: a buffer is in one row at most").default(false).fixed())
            .param(each_ms("max_gap_ms", "linear: how far apart neighbours may be").optional())
            .param(
                Param::float(
                    "max_interval_ms",
                    "approximate: from the earliest to the latest stamp of a row at most",
                )
                .range(0.0, 9e12)
                .unit("ms")
                .optional(),
            )
            .param(
                Param::float(
                    "age_penalty",
                    "approximate: how much smaller a row must be for each ns that it is later",
                )
                .range(0.0, 1e6)
                .default(0.1),
            )
            .param(
                each_ms(
                    "lower_bounds_ms",
                    "approximate: the least distance of two buffers of an input; known, rows come earlier",
                )
                .optional()
                .fixed(),
            )
            .param(
                Param::int("rate_hz", "linear: rows at this rate instead of the reference's")
                    .range(1.0, 1e9)
                    .unit("Hz")
                    .optional()
                    .fixed(),
            )
            .param(
                Param::bool(
                    "emit_partial",
                    "rows come without a required input that has timed out; otherwise they are dropped",
                )
                .default(false),
            )
            .param(
                Param::one_of("join", "how the inputs' values stand in a row", JOINS)
                    .default("columns")
                    .fixed(),
            )
            .param(
                Param::one_of(
                    "stamp",
                    "exact, nearest, approximate: which stamp of its buffers a row has",
                    STAMPS,
                )
                .default("reference")
                .fixed(),
            )
            .param(
                Param::bool(
                    "mark_degraded",
                    "a last column `degraded`: 1 in rows made while some input was not waited for",
                )
                .default(false)
                .fixed(),
            )
    }

    fn new(params: &Params) -> Result<Self> {
        let (mut inputs, _) = TimedInputs::new(params)?;
        let reference: Option<String> = params.get("reference");
        let reference = reference.map_or(Ok(0), |name| inputs.index("reference", &name))?;
        let concatenates = params.get::<String>("join") == "concatenate";
        let marks_degraded: bool = params.get("mark_degraded");
        if concatenates && marks_degraded {
            let problem = "`mark_degraded` adds a column, which `join = \"concatenate\"` has no place for";
            return Err(Error::Refused(problem.to_owned()));
        }
        Ok(Self {
            engine: engine::engine(params, reference, engine::config(&mut inputs, params)),
            inputs,
            shape: Vec::new(),
            concatenates,
            marks_degraded,
            spare: None,
            values: Values::default(),
            last: LastStamp::default(),
            reference,
            stamp: match params.get::<String>("stamp").as_str() {
                "min" => Stamp::Min,
                "max" => Stamp::Max,
                "mean" => Stamp::Mean,
                _ => Stamp::Reference,
            },
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let mut columns = self.inputs.start(io)?;
        // What the inputs hold at most is known only now, and may be less than was asked for.
        self.reconfigure(io);
        self.shape = if self.concatenates {
            let first = &self.inputs.inputs[0];
            if let Some(other) = self.inputs.inputs.iter().find(|input| input.columns != first.columns) {
                return Err(Error::Refused(format!(
                    "`join = \"concatenate\"` needs equally many columns everywhere, found {} at `{}` and {} at `{}`",
                    first.columns, first.name, other.columns, other.name
                )));
            }
            columns = io.format(&first.name).map_or_else(Vec::new, |format| Description::of(format).columns);
            vec![self.inputs.inputs.len() as u32, first.columns as u32]
        } else {
            columns.extend(self.marks_degraded.then(|| DEGRADED.to_owned()));
            vec![columns.len() as u32]
        };
        self.last = LastStamp::of(io, "out");
        let description = Description { columns, ..Description::default() }.to_text()?;
        let rate_hz = match io.param::<Option<u32>>("rate_hz") {
            Some(rate_hz) if matches!(self.engine, Engine::Linear(_)) => Some((rate_hz, 1)),
            _ => io.format(&self.inputs.inputs[self.reference].name).and_then(|format| format.rate_hz),
        };
        io.set_format(
            "out",
            StreamFormat { dtype: DType::F64, shape: self.shape.clone(), rate_hz, description },
        )
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        // Before anything is taken out of the engine, so that no row is lost for want of a buffer.
        let mut row = match self.spare.take() {
            Some(row) => row,
            None => io.new_buffer("out", DType::F64, &self.shape)?,
        };
        loop {
            with_engine!(&mut self.engine, aligner => self.inputs.tell_time(aligner));
            match self.find_row()? {
                Found::Row { stamp_ns, .. } if self.last.was_sent(stamp_ns) => continue,
                Found::Row { stamp_ns, degraded } => {
                    if self.marks_degraded {
                        self.values.row.push(f64::from(u8::from(degraded)));
                    }
                    row.as_mut_slice()?.copy_from_slice(&self.values.row);
                    row.set_timestamp(self.inputs.stamp(self.last.at_least(stamp_ns)));
                    return self.last.send(io, "out", row);
                }
                Found::Done => return Err(Pause::Done),
                Found::Nothing => {}
            }
            if !with_engine!(&mut self.engine, aligner => self.inputs.take_in(io, aligner))? {
                self.spare = Some(row);
                // Rows with the earliest or the mean stamp of a set that uses buffers again may be of any time before its reference.
                if !(self.stamp.may_precede_reference() && matches!(self.engine, Engine::Nearest(_))) {
                    with_engine!(&self.engine, aligner => self.inputs.pass_on(io, aligner));
                }
                return Err(with_engine!(&self.engine, aligner => self.inputs.wait(io, aligner))?);
            }
        }
    }

    fn set_param(&mut self, _: &str, io: &mut Io) -> Result<()> {
        self.reconfigure(io);
        Ok(())
    }

    fn call(&mut self, name: &str, _: Json, io: &mut Io) -> Result<Json> {
        with_engine!(&mut self.engine, aligner => self.inputs.call(name, io, aligner, &mut self.last))
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        with_engine!(&self.engine, aligner => self.inputs.note(io, aligner));
        Ok(())
    }
}

impl SyncMerge {
    /// Follows the parameters that can be set while it runs.
    fn reconfigure(&mut self, io: &Io) {
        let params = &io.params;
        let depths = each(&io.params, "depth", self.inputs.inputs.len());
        self.inputs.note_limits(io, &depths);
        let config = engine::config(&mut self.inputs, params);
        with_engine!(&mut self.engine, aligner => aligner.reconfigure(config));
        if let Engine::Approximate(aligner) = &mut self.engine {
            let (age_penalty_permille, max_interval_ns) = engine::limits(params);
            aligner.change_policy(|policy| policy.set_limits(age_penalty_permille, max_interval_ns));
        }
    }

    /// Puts the values of the next row together.
    fn find_row(&mut self) -> Result<Found> {
        let (inputs, values) = (&self.inputs.inputs, &mut self.values);
        let (reference, stamp) = (self.reference, self.stamp);
        values.row.clear();
        match &mut self.engine {
            Engine::Exact(aligner) => match aligner.poll() {
                Poll::Set(set) => values.join(inputs, &set, stamp.of(&set, 0)),
                Poll::Waiting => Ok(Found::Nothing),
                Poll::Done => Ok(Found::Done),
            },
            Engine::Nearest(aligner) => match aligner.poll() {
                Poll::Set(set) => values.join(inputs, &set, stamp.of(&set, reference)),
                Poll::Waiting => Ok(Found::Nothing),
                Poll::Done => Ok(Found::Done),
            },
            Engine::Approximate(aligner) => match aligner.poll() {
                Poll::Set(set) => values.join(inputs, &set, stamp.of(&set, 0)),
                Poll::Waiting => Ok(Found::Nothing),
                Poll::Done => Ok(Found::Done),
            },
            Engine::Linear(aligner) => match aligner.poll() {
                Poll::Set(row) => {
                    for (port, input) in inputs.iter().enumerate() {
                        values.interpolate(input, row.neighbours(port))?;
                    }
                    Ok(Found::Row { stamp_ns: row.stamp_ns(), degraded: row.is_degraded() })
                }
                Poll::Waiting => Ok(Found::Nothing),
                Poll::Done => Ok(Found::Done),
            },
        }
    }
}

#[cfg(test)]
mod tests;
