//! `sync-merge`: joins streams into one table by their timestamps.

use super::last_stamp::LastStamp;
use super::timed_inputs::{TimedInput, TimedInputs, each, for_each_input, ns, with_timed_inputs};
use crate::align::{
    Aligner, Approximate, Config, Exact, Grid, Linear, Members, Nearest, Neighbours, Poll, interpolate,
};
use crate::prelude::*;
use crate::stream::Description;

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

/// Which stamp a row has.
#[derive(Clone, Copy)]
enum Stamp {
    Reference,
    Min,
    Max,
    Mean,
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
    Row { stamp_ns: i64, degraded: bool },
    Nothing,
    Done,
}

impl Block for SyncMerge {
    fn spec() -> Spec {
        let each_ms = |name: &str, doc: &str| for_each_input(name, doc).unit("ms");
        let spec = Spec::new("sync-merge", "Joins streams into one table by their timestamps")
            .details(
                "A row for each moment, as docs/time.md explains: `exact`, `nearest` and `approximate` choose a buffer of each input, \
                 `linear` computes the values between two. The result does not depend on the order of arrival across inputs. \
                 Values that are missing are NaN. A row is stamped like the reference, or the first input that has a value; \
                 stamps never go back. Tolerances, timeouts, disorder and depth are set for all inputs or one by one, and can be set \
                 while it runs: they hold for what is decided from then on, a timeout counts from then on, a smaller depth drops \
                 nothing by itself, a greater disorder is no help to what was late already. What cannot be set makes the \
                 output's format (policy, reference, rate, columns) or its ports. \
                 The inputs' columns stand side by side, or, with `concatenate`, each input is a row of a buffer of \
                 [inputs, columns]. Started again after its process was killed, it goes on behind the last row: none comes twice; \
                 what it held went with the process, so the first values may be missing.",
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
        with_timed_inputs(spec)
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
            engine: engine(params, reference, config(&mut inputs, params)),
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
        let mut columns = self.inputs.start(io);
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
        if io.params_changed() {
            self.reconfigure(&io.params);
        }
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
                return Err(with_engine!(&self.engine, aligner => self.inputs.wait(io, aligner))?);
            }
        }
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        with_engine!(&self.engine, aligner => self.inputs.note(io, aligner));
        Ok(())
    }
}

impl SyncMerge {
    /// Follows the parameters that can be set while it runs.
    fn reconfigure(&mut self, params: &Params) {
        let config = config(&mut self.inputs, params);
        with_engine!(&mut self.engine, aligner => aligner.reconfigure(config));
        if let Engine::Approximate(aligner) = &mut self.engine {
            let (age_penalty_permille, max_interval_ns) = limits(params);
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

impl Stamp {
    /// The stamp of a row; without the reference, that of the first input that is there.
    fn of(self, set: &Members<'_, Buffer>, reference: usize) -> Option<i64> {
        match self {
            Stamp::Reference => {
                set.get(reference).map(|(stamp_ns, _)| stamp_ns).or_else(|| set.stamps_ns().next())
            }
            Stamp::Min => set.stamps_ns().min(),
            Stamp::Max => set.stamps_ns().max(),
            Stamp::Mean => {
                let (count, sum) =
                    set.stamps_ns().fold((0, 0), |(count, sum), ns| (count + 1, sum + i128::from(ns)));
                // Between the smallest and the largest, so it fits.
                (count > 0).then(|| sum.div_euclid(count) as i64)
            }
        }
    }
}

impl Values {
    /// Appends the values of all inputs.
    fn join(
        &mut self,
        inputs: &[TimedInput],
        set: &Members<'_, Buffer>,
        stamp_ns: Option<i64>,
    ) -> Result<Found> {
        for (port, input) in inputs.iter().enumerate() {
            match set.get(port) {
                Some((_, buffer)) => {
                    input.read(buffer, &mut self.before)?;
                    self.row.extend(&self.before);
                }
                None => self.row.extend(std::iter::repeat_n(f64::NAN, input.columns)),
            }
        }
        let degraded = set.is_degraded();
        Ok(stamp_ns.map_or(Found::Nothing, |stamp_ns| Found::Row { stamp_ns, degraded }))
    }

    fn interpolate(&mut self, input: &TimedInput, neighbours: Neighbours<'_, Buffer>) -> Result<()> {
        match neighbours {
            Neighbours::Missing => self.row.extend(std::iter::repeat_n(f64::NAN, input.columns)),
            Neighbours::Exact(buffer) => {
                input.read(buffer, &mut self.before)?;
                self.row.extend(&self.before);
            }
            Neighbours::Between { before, after, offset_ns, gap_ns } => {
                input.read(before, &mut self.before)?;
                input.read(after, &mut self.after)?;
                let pairs = self.before.iter().zip(&self.after);
                self.row.extend(pairs.map(|(before, after)| interpolate(*before, *after, offset_ns, gap_ns)));
            }
        }
        Ok(())
    }
}

/// How the inputs are treated: what they have in common, and each one's tolerance, as the policy counts it.
fn config(inputs: &mut TimedInputs, params: &Params) -> Config {
    let mut config = Config { emit_partial: params.get("emit_partial"), ..inputs.config(params) };
    let tolerance = match params.get::<String>("policy").as_str() {
        "nearest" => "max_distance_ms",
        "linear" => "max_gap_ms",
        "approximate" => return config,
        _ => "tolerance_ms",
    };
    let tolerances = each(params, tolerance, config.ports.len());
    for (port, tolerance) in config.ports.iter_mut().zip(tolerances) {
        port.tolerance_ns = tolerance.map(ns);
    }
    config
}

/// What `approximate` allows: the age penalty in permille, and the extent of a set.
fn limits(params: &Params) -> (u32, Option<u64>) {
    let age_penalty: f64 = params.get("age_penalty");
    ((age_penalty * 1000.0).round() as u32, params.get::<Option<f64>>("max_interval_ms").map(ns))
}

fn engine(params: &Params, reference: usize, config: Config) -> Engine {
    let policy: String = params.get("policy");
    match policy.as_str() {
        "nearest" => Engine::Nearest(Aligner::new(Nearest::new(reference, None), config)),
        "linear" => {
            let policy = match params.get::<Option<u32>>("rate_hz") {
                Some(rate_num) => Linear::onto_grid(Grid { origin_ns: 0, rate_num, rate_den: 1 }, None),
                None => Linear::onto_reference(reference, None),
            };
            Engine::Linear(Aligner::new(policy, config))
        }
        "approximate" => {
            let (age_penalty_permille, max_interval_ns) = limits(params);
            let mut policy = Approximate::new(age_penalty_permille);
            policy.set_limits(age_penalty_permille, max_interval_ns);
            Engine::Approximate(Aligner::new(policy, config))
        }
        _ => Engine::Exact(Aligner::new(Exact::new(0), config)),
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

    #[test]
    fn no_more_than_64_inputs_are_joined() {
        let names: Vec<String> = (0..65).map(|i| format!("i{i}")).collect();
        let refused = Bench::of::<SyncMerge>(&[("inputs", names.into())]).err().expect("refused").to_string();
        assert!(refused.contains("65 names, of which 64 can be joined"), "{refused}");
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
    fn inputs_are_concatenated() {
        let join = ("join", Value::from("concatenate"));
        let inputs = ("inputs", vec!["a".to_owned(), "b".to_owned()].into());
        let mut bench = Bench::of::<SyncMerge>(&[join.clone(), inputs]).unwrap();
        for (input, row) in [("a", [1.0, 2.0]), ("b", [3.0, 4.0])] {
            let description = "columns = ['x', 'y']".to_owned();
            let format =
                StreamFormat { dtype: DType::F64, shape: vec![2], description, ..StreamFormat::default() };
            bench.set_format(input, format).unwrap();
            bench.push_at(input, 7 * MS, &row).unwrap();
        }
        bench.run().unwrap();
        let row = bench.pull_buffer("out").unwrap().expect("a row");
        assert_eq!(
            (&row.shape()[..], row.as_slice::<f64>().unwrap()),
            (&[2, 2][..], &[1.0, 2.0, 3.0, 4.0][..])
        );
        assert_eq!(Description::of(&bench.output_format("out").unwrap()).columns, ["x", "y"]);
        let refusal = self::bench(&[join]).run().expect_err("refused").to_string();
        assert!(refusal.contains("found 2 at `a` and 1 at `b`"), "{refusal}");
    }

    #[test]
    fn a_row_can_have_any_stamp_of_its_buffers() {
        for (stamp, expected) in
            [("reference", [5, 15]), ("min", [2, 15]), ("max", [5, 18]), ("mean", [3, 16])]
        {
            let mut bench = bench(&[("stamp", stamp.into()), ("tolerance_ms", 4.into())]);
            for (a, b) in [(5, 2), (15, 18)] {
                bench.push_at("a", a * MS, &[0.0, 0.0]).unwrap();
                bench.push_at("b", b * MS, &[0.0]).unwrap();
            }
            let stamps: Vec<i64> = rows(&mut bench).into_iter().map(|(ms, _)| ms).collect();
            assert_eq!(stamps, expected, "{stamp}");
        }
    }

    #[test]
    fn an_input_that_has_nothing_to_say_keeps_nobody_waiting() {
        let mut bench = bench(&[
            ("policy", "nearest".into()),
            ("max_distance_ms", 1.0.into()),
            ("optional", vec!["b".to_owned()].into()),
            ("disorder_ms", Value::Numbers(vec![0.0, 3.0])),
        ]);
        bench.push_at("a", 5 * MS, &[1.0, 2.0]).unwrap();
        assert_eq!(rows(&mut bench), []);
        // It may be 3 ms out of order.
        bench.advance("b", Timestamp::Absolute(9 * MS));
        assert_eq!(rows(&mut bench), []);
        bench.advance("b", Timestamp::Absolute(9 * MS + 1));
        assert_eq!(format!("{:?}", rows(&mut bench)), "[(5, [1.0, 2.0, NaN])]");
        // What comes earlier than that is late.
        bench.push_at("b", 6 * MS, &[3.0]).unwrap();
        bench.push_at("b", 7 * MS, &[4.0]).unwrap();
        bench.push_at("a", 7 * MS, &[1.0, 2.0]).unwrap();
        bench.end("b");
        assert_eq!(format!("{:?}", rows(&mut bench)), "[(7, [1.0, 2.0, 4.0])]");
    }

    #[test]
    fn degraded_rows_are_marked() {
        let params = [
            ("optional", vec!["b".to_owned()].into()),
            ("timeout_ms", Value::Numbers(vec![1.0])),
            ("mark_degraded", true.into()),
        ];
        let mut bench = bench(&params);
        bench.push_at("a", 5 * MS, &[1.0, 2.0]).unwrap();
        bench.push_at("b", 5 * MS, &[3.0]).unwrap();
        bench.push_at("a", 6 * MS, &[1.0, 2.0]).unwrap();
        assert_eq!(
            format!("{:?}", rows(&mut bench)),
            "[(5, [1.0, 2.0, 3.0, 0.0]), (6, [1.0, 2.0, NaN, 1.0])]"
        );
        assert_eq!(Description::of(&bench.output_format("out").unwrap()).columns.last().unwrap(), "degraded");
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
            "parameter `depth`: expected 1 number or 2, one for each of `inputs`, found 3"
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
