//! `sync-merge`: joins streams into one table by their timestamps.

use std::time::{Duration, Instant};

use crate::align::{
    Aligner, Approximate, Config, Exact, Grid, Linear, Members, Nearest, Neighbours, Overflow, Poll,
    PortConfig, PortSet, Pushed, Reason, interpolate,
};
use crate::prelude::*;
use crate::stream::{Description, columns};

const POLICIES: &[&str] = &["exact", "nearest", "linear", "approximate"];
const OVERFLOWS: &[&str] = &["sync", "async", "hybrid"];

/// Makes rows whose values belong to one moment, in the columns of all inputs; values that are missing are NaN. The result does not depend
/// on the order of arrival across inputs, see [`align`](crate::align).
///
/// Buffers are held, not copied, until their values are written into a row. A row is stamped like the reference, which for sets
/// without one is the first input that has a value; stamps never go back.
pub(super) struct SyncMerge {
    inputs: Vec<Input>,
    engine: Engine,
    columns: usize,
    /// A row that has been allocated but not filled.
    spare: Option<BufferMut>,
    values: Values,
    /// Kinds of stamps, which must be the same for all.
    kind: Option<Timestamp>,
    last_ns: i64,
    reference: usize,
    started: Instant,
    has_timeouts: bool,
}

struct Input {
    name: String,
    columns: usize,
    stamp_on_arrival: bool,
    /// A buffer that found the engine full.
    refused: Option<(i64, Buffer)>,
    has_ended: bool,
}

/// Where the values of a row are put together.
#[derive(Default)]
struct Values {
    row: Vec<f64>,
    before: Vec<f64>,
    after: Vec<f64>,
}

/// The aligner with one of the policies.
enum Engine {
    Exact(Aligner<Buffer, Exact<Buffer>>),
    Nearest(Aligner<Buffer, Nearest<Buffer>>),
    Linear(Aligner<Buffer, Linear<Buffer>>),
    Approximate(Aligner<Buffer, Approximate<Buffer>>),
}

macro_rules! with_engine {
    ($engine:expr, $aligner:ident => $body:expr) => {
        match $engine {
            Engine::Exact($aligner) => $body,
            Engine::Nearest($aligner) => $body,
            Engine::Linear($aligner) => $body,
            Engine::Approximate($aligner) => $body,
        }
    };
}

/// What came of looking for a row.
enum Found {
    Row { stamp_ns: i64 },
    Nothing,
    Done,
}

impl Block for SyncMerge {
    fn spec() -> Spec {
        let ms = |name: &str, doc: &str| Param::float(name, doc).range(0.0, 9e12).unit("ms").fixed();
        let each = |name: &str, doc: &str| {
            Param::numbers(name, &format!("{doc}; one number for all inputs, or one for each"))
                .range(0.0, 9e12)
                .fixed()
        };
        Spec::new("sync-merge", "Joins streams into one table by their timestamps")
            .details(
                "A row for each moment, as docs/time.md explains: `exact`, `nearest` and `approximate` choose a buffer of each input, \
                 `linear` computes the values between two. The result does not depend on the order of arrival across inputs. \
                 Values that are missing are NaN. A row is stamped like the reference, or the first input that has a value; \
                 stamps never go back. Inputs that are not waited for, disorder and depth are set for all inputs or one by one. \
                 Started again after its process was killed, it may repeat the rows for which it still held buffers.",
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
            .input(Port::one_for_each("inputs", "rows of numbers, one in a buffer, stamped").dtypes(REAL))
            .output(
                Port::new("out", "rows of all columns, NaN where a value is missing")
                    .dtypes([DType::F64])
                    .shape(["columns"]),
            )
            .param(Param::names("inputs", "names of the inputs"))
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
                ms("tolerance_ms", "exact: from the earliest to the latest stamp of a row at most")
                    .default(0.0),
            )
            .param(ms("max_distance_ms", "nearest: how far away the nearest may be").optional())
            .param(ms("max_gap_ms", "linear: how far apart neighbours may be").optional())
            .param(
                ms("max_interval_ms", "approximate: from the earliest to the latest stamp of a row at most")
                    .optional(),
            )
            .param(
                Param::float(
                    "age_penalty",
                    "approximate: how much smaller a row must be for each ns that it is later",
                )
                .range(0.0, 1e6)
                .default(0.1)
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
                each("disorder_ms", "by how much a buffer may be earlier than the newest before it")
                    .unit("ms")
                    .default(vec![0.0]),
            )
            .param(each("timeout_ms", "how long an input may keep the others waiting").unit("ms").optional())
            .param(each("depth", "buffers held at most, 2 or more").default(vec![64.0]))
            .param(Param::names("optional", "inputs that rows can do without").optional())
            .param(
                Param::names("stamp_on_arrival", "inputs whose buffers are stamped when they come")
                    .optional(),
            )
            .param(
                Param::one_of("overflow", "what happens when an input holds `depth` buffers", OVERFLOWS)
                    .default("sync")
                    .fixed(),
            )
            .param(
                ms("deadline_ms", "hybrid: how long a full input waits before its oldest buffer is dropped")
                    .default(100.0),
            )
    }

    fn new(params: &Params) -> Result<Self> {
        let names: Vec<String> = params.get("inputs");
        if names.len() > PortSet::MAX_PORTS {
            return Err(Error::Refused(format!(
                "`inputs` has {} names, of which 64 can be joined",
                names.len()
            )));
        }
        let index = |param: &str, name: &str| {
            names.iter().position(|input| input == name).ok_or_else(|| Error::BadParameter {
                name: param.to_owned(),
                expected: format!("one of the inputs ({})", names.join(", ")),
                found: format!("`{name}`"),
            })
        };
        let reference: Option<String> = params.get("reference");
        let reference = reference.map_or(Ok(0), |name| index("reference", &name))?;
        let listed = |param: &str| -> Result<Vec<bool>> {
            let mut listed = vec![false; names.len()];
            for name in params.get::<Option<Vec<String>>>(param).unwrap_or_default() {
                listed[index(param, &name)?] = true;
            }
            Ok(listed)
        };
        let config = config(params, &listed("optional")?)?;
        let has_timeouts = config.ports.iter().any(|port| port.timeout_ns.is_some());
        let stamped = listed("stamp_on_arrival")?;
        let input = |(name, stamp_on_arrival)| Input {
            name,
            columns: 0,
            stamp_on_arrival,
            refused: None,
            has_ended: false,
        };
        Ok(Self {
            engine: engine(params, reference, config),
            inputs: names.iter().cloned().zip(stamped).map(input).collect(),
            columns: 0,
            spare: None,
            values: Values::default(),
            kind: None,
            last_ns: i64::MIN,
            reference,
            started: Instant::now(),
            has_timeouts,
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let mut names = Vec::new();
        for input in &mut self.inputs {
            let Some(format) = io.format(&input.name) else { continue };
            input.columns = columns(format);
            let own = Description::of(format).column_names(input.columns);
            names.extend(own.iter().map(|column| format!("{}.{column}", input.name)));
        }
        self.columns = names.len();
        let description = Description { columns: names, ..Description::default() }.to_text()?;
        let rate_hz = match io.param::<Option<u32>>("rate_hz") {
            Some(rate_hz) if matches!(self.engine, Engine::Linear(_)) => Some((rate_hz, 1)),
            _ => io.format(&self.inputs[self.reference].name).and_then(|format| format.rate_hz),
        };
        let shape = vec![self.columns as u32];
        io.set_format("out", StreamFormat { dtype: DType::F64, shape, rate_hz, description })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        // Before anything is taken out of the engine, so that no row is lost for want of a buffer.
        let mut row = match self.spare.take() {
            Some(row) => row,
            None => io.new_buffer("out", DType::F64, &[self.columns as u32])?,
        };
        loop {
            if self.has_timeouts {
                let now_ns = self.started.elapsed().as_nanos() as i64;
                with_engine!(&mut self.engine, aligner => aligner.set_clock(now_ns));
            }
            match self.find_row()? {
                Found::Row { stamp_ns } => {
                    row.as_mut_slice()?.copy_from_slice(&self.values.row);
                    self.last_ns = self.last_ns.max(stamp_ns);
                    row.set_timestamp(match self.kind {
                        Some(Timestamp::Absolute(_)) => Timestamp::Absolute(self.last_ns),
                        _ => Timestamp::Relative(self.last_ns),
                    });
                    return io.send("out", row);
                }
                Found::Done => return Err(Pause::Done),
                Found::Nothing => {}
            }
            if !self.take_in(io)? {
                self.spare = Some(row);
                return Err(self.wait()?);
            }
        }
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        let mut counts = Vec::new();
        for (port, input) in self.inputs.iter().enumerate() {
            let counters = with_engine!(&self.engine, aligner => aligner.counters(port));
            let reasons = Reason::ALL.iter().filter(|reason| counters.dropped(**reason) > 0);
            counts.extend(
                reasons.map(|reason| format!("{} {reason} on `{}`", counters.dropped(*reason), input.name)),
            );
        }
        let (rows, degraded) = with_engine!(&self.engine, aligner => (aligner.sets(), aligner.degraded()));
        if !counts.is_empty() || degraded > 0 {
            io.note(&format!("{rows} rows, {degraded} of them degraded; not used: {}", counts.join(", ")));
        }
        Ok(())
    }
}

impl SyncMerge {
    /// Puts the values of the next row together.
    fn find_row(&mut self) -> Result<Found> {
        let (inputs, values, reference) = (&self.inputs, &mut self.values, self.reference);
        values.row.clear();
        match &mut self.engine {
            Engine::Exact(aligner) => match aligner.poll() {
                Poll::Set(set) => values.join(inputs, &set, 0),
                Poll::Waiting => Ok(Found::Nothing),
                Poll::Done => Ok(Found::Done),
            },
            Engine::Nearest(aligner) => match aligner.poll() {
                Poll::Set(set) => values.join(inputs, &set, reference),
                Poll::Waiting => Ok(Found::Nothing),
                Poll::Done => Ok(Found::Done),
            },
            Engine::Approximate(aligner) => match aligner.poll() {
                Poll::Set(set) => values.join(inputs, &set, 0),
                Poll::Waiting => Ok(Found::Nothing),
                Poll::Done => Ok(Found::Done),
            },
            Engine::Linear(aligner) => match aligner.poll() {
                Poll::Set(row) => {
                    for (port, input) in inputs.iter().enumerate() {
                        values.interpolate(input, row.neighbours(port))?;
                    }
                    Ok(Found::Row { stamp_ns: row.stamp_ns() })
                }
                Poll::Waiting => Ok(Found::Nothing),
                Poll::Done => Ok(Found::Done),
            },
        }
    }

    /// Gives the engine what has come; returns whether that was anything.
    fn take_in(&mut self, io: &mut Io) -> Result<bool> {
        let mut moved = false;
        for port in 0..self.inputs.len() {
            loop {
                let next = match self.inputs[port].refused.take() {
                    Some(next) => Some(next),
                    None => match io.try_take(&self.inputs[port].name)? {
                        Some(buffer) => Some((self.stamp_ns(port, &buffer)?, buffer)),
                        None => None,
                    },
                };
                let Some((stamp_ns, buffer)) = next else { break };
                match with_engine!(&mut self.engine, aligner => aligner.push(port, stamp_ns, buffer)) {
                    Pushed::Full(buffer) => {
                        self.inputs[port].refused = Some((stamp_ns, buffer));
                        break;
                    }
                    Pushed::Held | Pushed::Dropped(..) | Pushed::Replaced(_) | Pushed::TakenLate => {
                        moved = true
                    }
                }
            }
            let input = &mut self.inputs[port];
            if input.refused.is_none() && !input.has_ended && io.ended(&input.name) {
                input.has_ended = true;
                with_engine!(&mut self.engine, aligner => aligner.end(port));
                moved = true;
            }
        }
        Ok(moved)
    }

    /// The buffer's time on the one timeline of all inputs.
    fn stamp_ns(&mut self, port: usize, buffer: &Buffer) -> Result<i64> {
        let input = &self.inputs[port];
        let stamp = if input.stamp_on_arrival { Timestamp::now() } else { buffer.timestamp() };
        let is_absolute = |stamp: Timestamp| matches!(stamp, Timestamp::Absolute(_));
        let stamp_ns = stamp.to_ns(None).ok_or_else(|| Error::StreamMismatch {
            port: input.name.clone(),
            expected: "buffers with a timestamp (or the input among `stamp_on_arrival`)".to_owned(),
            found: stamp.to_string(),
        })?;
        let kind = *self.kind.get_or_insert(stamp);
        if is_absolute(kind) != is_absolute(stamp) {
            return Err(Error::StreamMismatch {
                port: input.name.clone(),
                expected: format!(
                    "stamps that can be compared with those of the other inputs, such as {kind}"
                ),
                found: stamp.to_string(),
            });
        }
        Ok(stamp_ns)
    }

    /// What to wait for when there is nothing to do.
    fn wait(&self) -> Result<Pause> {
        if self.inputs.iter().all(|input| input.refused.is_some() || input.has_ended) {
            let stall = with_engine!(&self.engine, aligner => aligner.stall());
            let full = stall.map_or("an input", |stall| &self.inputs[stall.full].name);
            return Err(Error::Refused(format!(
                "`{full}` is full while it waits for the others: give it a larger `depth` or a `timeout_ms`"
            )));
        }
        let deadline_ns = with_engine!(&self.engine, aligner => aligner.deadline_ns());
        Ok(match deadline_ns {
            Some(deadline_ns) => Pause::Until(self.started + Duration::from_nanos(deadline_ns.max(0) as u64)),
            None => Pause::NeedInput,
        })
    }
}

impl Values {
    /// Appends the values of all inputs; stamped like the reference, or else the first that is there.
    fn join(&mut self, inputs: &[Input], set: &Members<'_, Buffer>, reference: usize) -> Result<Found> {
        for (port, input) in inputs.iter().enumerate() {
            match set.get(port) {
                Some((_, buffer)) => {
                    read(input, buffer, &mut self.before)?;
                    self.row.extend(&self.before);
                }
                None => self.row.extend(std::iter::repeat_n(f64::NAN, input.columns)),
            }
        }
        let of_reference = set.get(reference).map(|(stamp_ns, _)| stamp_ns);
        let stamp_ns = of_reference.or_else(|| set.stamps_ns().next());
        Ok(stamp_ns.map_or(Found::Nothing, |stamp_ns| Found::Row { stamp_ns }))
    }

    fn interpolate(&mut self, input: &Input, neighbours: Neighbours<'_, Buffer>) -> Result<()> {
        match neighbours {
            Neighbours::Missing => self.row.extend(std::iter::repeat_n(f64::NAN, input.columns)),
            Neighbours::Exact(buffer) => {
                read(input, buffer, &mut self.before)?;
                self.row.extend(&self.before);
            }
            Neighbours::Between { before, after, offset_ns, gap_ns } => {
                read(input, before, &mut self.before)?;
                read(input, after, &mut self.after)?;
                let pairs = self.before.iter().zip(&self.after);
                self.row.extend(pairs.map(|(before, after)| interpolate(*before, *after, offset_ns, gap_ns)));
            }
        }
        Ok(())
    }
}

fn read(input: &Input, buffer: &Buffer, values: &mut Vec<f64>) -> Result<()> {
    values.clear();
    buffer.read_samples(values)?;
    if values.len() == input.columns {
        return Ok(());
    }
    Err(Error::StreamMismatch {
        port: input.name.clone(),
        expected: format!("{} columns, as at first", input.columns),
        found: format!("{}", values.len()),
    })
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6).round() as u64
}

/// The value of a parameter that holds one number for all inputs or one for each.
fn each(params: &Params, param: &str, inputs: usize) -> Result<Vec<Option<f64>>> {
    let numbers: Option<Vec<f64>> = params.get(param);
    match numbers.as_deref() {
        None => Ok(vec![None; inputs]),
        Some([all]) => Ok(vec![Some(*all); inputs]),
        Some(numbers) if numbers.len() == inputs => Ok(numbers.iter().copied().map(Some).collect()),
        Some(numbers) => Err(Error::BadParameter {
            name: param.to_owned(),
            expected: format!("1 number or {inputs}, one for each input"),
            found: numbers.len().to_string(),
        }),
    }
}

fn config(params: &Params, optional: &[bool]) -> Result<Config> {
    let inputs = optional.len();
    let disorder = each(params, "disorder_ms", inputs)?;
    let timeout = each(params, "timeout_ms", inputs)?;
    let depth = each(params, "depth", inputs)?;
    if optional.iter().all(|optional| *optional) {
        return Err(Error::Refused("`optional` names every input: at least one must be required".to_owned()));
    }
    let port = |port: usize| PortConfig {
        disorder_ns: ns(disorder[port].unwrap_or(0.0)),
        depth: depth[port].unwrap_or(64.0).max(2.0) as usize,
        timeout_ns: timeout[port].map(ns),
        optional: optional[port],
    };
    let overflow: String = params.get("overflow");
    Ok(Config {
        ports: (0..inputs).map(port).collect(),
        overflow: match overflow.as_str() {
            "async" => Overflow::Async,
            "hybrid" => Overflow::Hybrid { deadline_ns: ns(params.get("deadline_ms")) },
            _ => Overflow::Sync,
        },
        emit_partial: false,
    })
}

fn engine(params: &Params, reference: usize, config: Config) -> Engine {
    let optional_ns = |param: &str| params.get::<Option<f64>>(param).map(ns);
    let policy: String = params.get("policy");
    match policy.as_str() {
        "nearest" => {
            Engine::Nearest(Aligner::new(Nearest::new(reference, optional_ns("max_distance_ms")), config))
        }
        "linear" => {
            let max_gap_ns = optional_ns("max_gap_ms");
            let policy = match params.get::<Option<u32>>("rate_hz") {
                Some(rate_num) => Linear::onto_grid(Grid { origin_ns: 0, rate_num, rate_den: 1 }, max_gap_ns),
                None => Linear::onto_reference(reference, max_gap_ns),
            };
            Engine::Linear(Aligner::new(policy, config))
        }
        "approximate" => {
            let permille = (params.get::<f64>("age_penalty") * 1000.0).round() as u32;
            let mut policy = Approximate::new(permille);
            if let Some(max) = optional_ns("max_interval_ms") {
                policy = policy.max_interval_ns(max);
            }
            Engine::Approximate(Aligner::new(policy, config))
        }
        _ => Engine::Exact(Aligner::new(Exact::new(ns(params.get("tolerance_ms"))), config)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::Value;
    use crate::testing::Bench;

    const MS: i64 = 1_000_000;

    fn bench(params: &[(&str, Value)]) -> Bench {
        let inputs = ("inputs", vec!["a".to_owned(), "b".to_owned()].into());
        let params: Vec<(&str, Value)> = params.iter().cloned().chain([inputs]).collect();
        let mut bench = Bench::of::<SyncMerge>(&params).unwrap();
        for (input, description, columns) in [("a", "columns = ['x', 'y']", 2), ("b", "", 1)] {
            let format = StreamFormat {
                dtype: DType::F64,
                shape: vec![columns],
                description: description.to_owned(),
                rate_hz: None,
            };
            bench.set_format(input, format).unwrap();
        }
        bench
    }

    /// Stamps in ms and values of all rows.
    fn rows(bench: &mut Bench) -> Vec<(i64, Vec<f64>)> {
        let mut rows = Vec::new();
        loop {
            bench.run().unwrap();
            let Some(row) = bench.pull_buffer("out").unwrap() else { return rows };
            let Timestamp::Absolute(ns) = row.timestamp() else { panic!("{}", row.timestamp()) };
            rows.push((ns / MS, row.as_slice::<f64>().unwrap().to_vec()));
        }
    }

    fn feed(bench: &mut Bench) {
        for ms in [0, 10, 20] {
            bench.push_at("a", ms * MS, &[ms as f64, -1.0]).unwrap();
        }
        for ms in [-1, 4, 11, 19] {
            bench.push_at("b", ms * MS, &[ms as f64 * 10.0]).unwrap();
        }
    }

    #[test]
    fn rows_are_made_by_the_policy() {
        let exact =
            vec![(0, vec![0.0, -1.0, -10.0]), (10, vec![10.0, -1.0, 110.0]), (20, vec![20.0, -1.0, 190.0])];
        let nearest = exact.clone();
        let linear =
            vec![(0, vec![0.0, -1.0, 0.0]), (10, vec![10.0, -1.0, 100.0]), (20, vec![20.0, -1.0, f64::NAN])];
        for (policy, expected) in [("exact", exact), ("nearest", nearest), ("linear", linear)] {
            let mut bench = bench(&[("policy", policy.into()), ("tolerance_ms", 1.0.into())]);
            feed(&mut bench);
            bench.run().unwrap();
            ["a", "b"].iter().for_each(|input| bench.end(input));
            assert_eq!(format!("{:?}", rows(&mut bench)), format!("{expected:?}"), "{policy}");
            assert!(bench.has_ended());
        }
    }

    #[test]
    fn a_grid_has_rows_of_its_own() {
        let mut bench = bench(&[("policy", "linear".into()), ("rate_hz", 200.into())]);
        feed(&mut bench);
        ["a", "b"].iter().for_each(|input| bench.end(input));
        let stamps: Vec<i64> = rows(&mut bench).into_iter().map(|(ms, _)| ms).collect();
        assert_eq!(stamps, [0, 5, 10, 15, 20]);
        let format = bench.output_format("out").unwrap();
        assert_eq!(Description::of(&format).columns, ["a.x", "a.y", "b.0"]);
        assert_eq!(format.rate_hz, Some((200, 1)));
    }

    #[test]
    fn a_silent_optional_input_is_missing_after_its_timeout() {
        let optional = vec!["b".to_owned()];
        let mut bench = bench(&[("optional", optional.into()), ("timeout_ms", Value::Numbers(vec![1.0]))]);
        bench.push_at("a", 5 * MS, &[1.0, 2.0]).unwrap();
        assert_eq!(format!("{:?}", rows(&mut bench)), "[(5, [1.0, 2.0, NaN])]");
    }

    #[test]
    fn mistakes_are_named() {
        let refusal = |params: &[(&str, Value)]| {
            let inputs = ("inputs", vec!["a".to_owned(), "b".to_owned()].into());
            let params: Vec<(&str, Value)> = params.iter().cloned().chain([inputs]).collect();
            Bench::of::<SyncMerge>(&params).err().expect("refused").to_string()
        };
        assert_eq!(
            refusal(&[("reference", "c".into())]),
            "parameter `reference`: expected one of the inputs (a, b), found `c`"
        );
        assert_eq!(
            refusal(&[("depth", Value::Numbers(vec![4.0, 4.0, 4.0]))]),
            "parameter `depth`: expected 1 number or 2, one for each input, found 3"
        );
        assert_eq!(
            refusal(&[("optional", vec!["a".to_owned(), "b".to_owned()].into())]),
            "`optional` names every input: at least one must be required"
        );
        let mut bench = bench(&[]);
        bench.push("a", &[1.0, 2.0]).unwrap();
        let refusal = bench.run().expect_err("refused").to_string();
        assert!(refusal.contains("buffers with a timestamp"), "{refusal}");
    }
}
