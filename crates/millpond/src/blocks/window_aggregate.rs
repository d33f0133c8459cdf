//! `window-aggregate`: statistics of streams over spans of time.

use super::last_stamp::LastStamp;
use super::timed_inputs::{TimedInputs, ns, timed_ports, with_timed_inputs};
use crate::align::{Accumulate, Aligner, Poll, Statistics, Window};
use crate::prelude::*;
use crate::stream::Description;

/// Name of the column that says by how much a row's window starts before its stamp.
const LATE: &str = "late_s";
const STATISTICS: [&str; 6] = ["count", "mean", "min", "max", "sum", "last"];

/// One row a window: the chosen statistics of every column of every input, over what is stamped within the window.
pub(super) struct WindowAggregate {
    inputs: TimedInputs,
    aligner: Aligner<Buffer, Window<Columns>>,
    statistics: Vec<String>,
    row: Vec<f64>,
    columns: usize,
    marks_late: bool,
    spare: Option<BufferMut>,
    last: LastStamp,
}

/// Statistics of each column.
#[derive(Clone, Default)]
struct Columns {
    columns: Vec<Statistics>,
    values: Vec<f64>,
    count: u64,
}

impl Accumulate<Buffer> for Columns {
    fn clear(&mut self) {
        self.columns.clear();
        self.count = 0;
    }

    fn add(&mut self, stamp_ns: i64, port: usize, buffer: &Buffer) {
        // Of a buffer that is not of numbers nothing is read; the port takes no such streams.
        self.values.clear();
        let _ = buffer.read_samples(&mut self.values);
        self.count += 1;
        if self.columns.len() < self.values.len() {
            self.columns.resize(self.values.len(), Statistics::default());
        }
        for (column, value) in self.columns.iter_mut().zip(&self.values) {
            column.add(stamp_ns, port, value);
        }
    }

    fn count(&self) -> u64 {
        self.count
    }
}

impl Block for WindowAggregate {
    fn spec() -> Spec {
        let ms = |name: &str, doc: &str| Param::float(name, doc).range(1e-6, 9e12).unit("ms").fixed();
        let spec = Spec::new("window-aggregate", "Mean, extremes, sum, count or last value of streams in spans of time")
            .details(
                "A row for each window [start, start + size) in which any input has a value, with windows at all whole multiples \
                 of `slide_ms` since 1970 or the streams' start. It comes when no input can have anything earlier than the \
                 window's end, and is stamped with its start; its time range is the window. An input without a value there has \
                 count 0, sum 0 and otherwise NaN. What comes too late for its window is dropped and counted; with `lateness_ms`, \
                 a window comes again with what came late. Stamps never go back, so such a row has the stamp of the row before it; \
                 its time range is its window, and with `mark_late` a last column says by how much the window starts before \
                 the stamp. Started again after its process \
                 was killed, it goes on behind the last window that was sent; what it had collected of the next ones went with \
                 the process. The call BLOCK/reset begins a new epoch, after a clock was set back or a log has begun anew: what it has \
                 collected is dropped, and stamps may begin anywhere.",
            )
            .example(
                r#"
connect = ["cpu -> per_second.cpu", "memory -> per_second.memory", "per_second -> lines"]
blocks.cpu = { type = "proc-cpu", rate_hz = 100, count = 300 }
blocks.memory = { type = "proc-memory", rate_hz = 20, count = 60 }
blocks.per_second = { type = "window-aggregate", inputs = ["cpu", "memory"], size_ms = 1000, statistics = ["mean", "max"] }
blocks.lines = { type = "print" }
"#,
            )
            .output(Port::new("out", "rows of all statistics of all columns").dtypes([DType::F64]).shape(["columns"]));
        with_timed_inputs(spec, timed_ports())
            .param(ms("size_ms", "length of a window"))
            .param(ms("slide_ms", "from one window's start to the next; without it, the size").optional())
            .param(
                Param::float("lateness_ms", "how long after a window's end, in the streams' time, late values are still added to it")
                    .range(0.0, 9e12)
                    .unit("ms")
                    .default(0.0),
            )
            .param(
                Param::names("statistics", "what is told of each column: count, mean, min, max, sum, last")
                    .default(vec!["mean".to_owned()]),
            )
            .param(
                Param::bool("mark_late", "a last column `late_s`: how much earlier than the row's stamp its window starts, 0 unless it comes again")
                    .default(false)
                    .fixed(),
            )
            .param(
                Param::bool("emit_empty", "also a row for each window without values, between two with some")
                    .default(false)
                    .fixed(),
            )
    }

    fn new(params: &Params) -> Result<Self> {
        let statistics: Vec<String> = params.get("statistics");
        if let Some(unknown) = statistics.iter().find(|name| !STATISTICS.contains(&name.as_str())) {
            return Err(Error::BadParameter {
                name: "statistics".to_owned(),
                expected: format!("some of {}", STATISTICS.join(", ")),
                found: format!("`{unknown}`"),
            });
        }
        let (inputs, config) = TimedInputs::new(params)?;
        let size_ns = ns(params.get("size_ms")) as i64;
        let slide_ns = params.get::<Option<f64>>("slide_ms").map_or(size_ns, |slide_ms| ns(slide_ms) as i64);
        let mut window =
            Window::new(size_ns, slide_ns, 0, Columns::default()).lateness_ns(ns(params.get("lateness_ms")));
        if params.get("emit_empty") {
            window = window.emitting_empty();
        }
        Ok(Self {
            inputs,
            aligner: Aligner::new(window, config),
            statistics,
            row: Vec::new(),
            columns: 0,
            marks_late: params.get("mark_late"),
            spare: None,
            last: LastStamp::default(),
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let mut columns = Vec::new();
        let of_inputs = self.inputs.start(io)?;
        // What the inputs hold at most is known only now.
        self.aligner.reconfigure(self.inputs.config(&io.params));
        for column in of_inputs {
            columns.extend(self.statistics.iter().map(|name| format!("{column}.{name}")));
        }
        columns.extend(self.marks_late.then(|| LATE.to_owned()));
        self.columns = columns.len();
        self.last = LastStamp::of(io, "out");
        let description = Description { columns, ..Description::default() }.to_text()?;
        let shape = vec![self.columns as u32];
        io.set_format("out", StreamFormat { dtype: DType::F64, shape, rate_hz: None, description })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let mut out = match self.spare.take() {
            Some(out) => out,
            None => io.new_buffer("out", DType::F64, &[self.columns as u32])?,
        };
        loop {
            self.inputs.tell_time(&mut self.aligner);
            let found = match self.aligner.poll() {
                Poll::Set(pane) => {
                    self.row.clear();
                    for (port, input) in self.inputs.inputs.iter().enumerate() {
                        let columns = pane.port(port).map_or(&[][..], |port| &port.columns);
                        for column in 0..input.columns {
                            let statistics = columns.get(column).copied().unwrap_or_default();
                            self.row.extend(self.statistics.iter().map(|name| value(name, &statistics)));
                        }
                    }
                    Some((pane.start_ns(), pane.end_ns()))
                }
                Poll::Done => return Err(Pause::Done),
                Poll::Waiting => None,
            };
            match found {
                Some((start_ns, _)) if self.last.was_sent(start_ns) => continue,
                Some((start_ns, end_ns)) => {
                    let stamp_ns = self.last.at_least(start_ns);
                    if self.marks_late {
                        self.row.push(stamp_ns.abs_diff(start_ns) as f64 / 1e9);
                    }
                    out.as_mut_slice()?.copy_from_slice(&self.row);
                    out.set_timestamp(self.inputs.stamp(stamp_ns));
                    out.set_time_range(Some((start_ns, end_ns)));
                    return self.last.send(io, "out", out);
                }
                None => {}
            }
            if !self.inputs.take_in(io, &mut self.aligner)? {
                self.spare = Some(out);
                self.inputs.pass_on(io, &self.aligner);
                return Err(self.inputs.wait(io, &self.aligner)?);
            }
        }
    }

    fn set_param(&mut self, _: &str, io: &mut Io) -> Result<()> {
        self.aligner.reconfigure(self.inputs.config(&io.params));
        let lateness_ns = ns(io.param("lateness_ms"));
        self.aligner.change_policy(|window| window.set_lateness_ns(lateness_ns));
        Ok(())
    }

    fn call(&mut self, name: &str, _: Json, io: &mut Io) -> Result<Json> {
        self.inputs.call(name, io, &mut self.aligner, &mut self.last)
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        self.inputs.note(io, &self.aligner);
        Ok(())
    }
}

fn value(name: &str, statistics: &Statistics) -> f64 {
    let count = Accumulate::<f64>::count(statistics);
    match name {
        "count" => count as f64,
        "sum" => statistics.sum(),
        _ if count == 0 => f64::NAN,
        "min" => statistics.min(),
        "max" => statistics.max(),
        "last" => statistics.last(),
        _ => statistics.mean(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::Value;
    use crate::testing::Bench;

    const MS: i64 = 1_000_000;

    #[test]
    fn statistics_are_those_of_all_values_within_the_window() {
        let all: Vec<String> = STATISTICS.iter().map(|name| (*name).to_owned()).collect();
        let inputs = vec!["a".to_owned(), "b".to_owned()];
        let params: [(&str, Value); 4] = [
            ("inputs", inputs.into()),
            ("size_ms", 10.into()),
            ("slide_ms", 4.into()),
            ("statistics", all.into()),
        ];
        let mut bench = Bench::of::<WindowAggregate>(&params).unwrap();
        let a: Vec<(i64, f64)> = (0..40).map(|i| (3 * i - 20, (i * 7 % 11) as f64)).collect();
        let b: Vec<(i64, f64)> = (0..5).map(|i| (31 * i - 13, i as f64 + 0.5)).collect();
        for input in ["a", "b"] {
            bench
                .set_format(
                    input,
                    StreamFormat { dtype: DType::F64, shape: vec![1], ..StreamFormat::default() },
                )
                .unwrap();
        }
        let mut rows = Vec::new();
        let mut collect = |bench: &mut Bench| {
            bench.run().unwrap();
            while let Some(row) = bench.pull_buffer("out").unwrap() {
                let range = row.time_range().expect("a range");
                assert_eq!(row.timestamp(), Timestamp::Absolute(range.0));
                assert_eq!(range.1 - range.0, 10 * MS);
                rows.push((range.0 / MS, row.as_slice::<f64>().unwrap().to_vec()));
            }
        };
        for (ms, value) in &a {
            bench.push_at("a", ms * MS, &[*value]).unwrap();
            collect(&mut bench);
        }
        for (ms, value) in &b {
            bench.push_at("b", ms * MS, &[*value]).unwrap();
            collect(&mut bench);
        }
        ["a", "b"].iter().for_each(|input| bench.end(input));
        collect(&mut bench);
        let expected = |events: &[(i64, f64)], start: i64| {
            let values: Vec<f64> = events
                .iter()
                .filter(|(ms, _)| (start..start + 10).contains(ms))
                .map(|(_, value)| *value)
                .collect();
            let (count, sum) = (values.len() as f64, values.iter().fold(0.0, |sum, value| sum + value));
            let nan = f64::NAN;
            let extreme = |better: fn(f64, f64) -> f64| values.iter().copied().reduce(better).unwrap_or(nan);
            [
                count,
                sum / count,
                extreme(f64::min),
                extreme(f64::max),
                sum,
                values.last().copied().unwrap_or(nan),
            ]
        };
        let starts: Vec<i64> = (-30..32)
            .map(|i| 4 * i)
            .filter(|start| a.iter().chain(&b).any(|(ms, _)| (*start..start + 10).contains(ms)))
            .collect();
        assert_eq!(rows.iter().map(|(start, _)| *start).collect::<Vec<_>>(), starts);
        for (start, row) in rows {
            let expected = [expected(&a, start), expected(&b, start)].concat();
            assert_eq!(format!("{row:?}"), format!("{expected:?}"), "window at {start}");
        }
        assert!(bench.has_ended());
        let columns = Description::of(&bench.output_format("out").unwrap()).columns;
        assert_eq!(columns[..2], ["a.0.count", "a.0.mean"]);
    }

    #[test]
    fn a_window_comes_again_with_what_was_late_as_long_as_that_is_allowed() {
        let statistics = vec!["count".to_owned(), "sum".to_owned()];
        let params: [(&str, Value); 4] = [
            ("inputs", vec!["a".to_owned()].into()),
            ("size_ms", 10.into()),
            ("statistics", statistics.into()),
            ("mark_late", true.into()),
        ];
        let mut bench = Bench::of::<WindowAggregate>(&params).unwrap();
        let format = StreamFormat { dtype: DType::F64, shape: vec![1], ..StreamFormat::default() };
        bench.set_format("a", format).unwrap();
        // Stamp, start of the window, row.
        let push = |bench: &mut Bench, ms: i64| {
            bench.push_at("a", ms * MS, &[ms as f64]).unwrap();
            bench.run().unwrap();
            let row = bench.pull_buffer("out").unwrap()?;
            let (start_ns, _) = row.time_range().expect("a range");
            let values = row.as_slice::<f64>().unwrap().to_vec();
            Some((row.timestamp().to_ns(None).unwrap() / MS, start_ns / MS, values))
        };
        assert_eq!(push(&mut bench, 1), None);
        assert_eq!(push(&mut bench, 11), Some((0, 0, vec![1.0, 1.0, 0.0])));
        assert_eq!(push(&mut bench, 2), None);
        bench.set("lateness_ms", 20).unwrap();
        assert_eq!(push(&mut bench, 21), Some((10, 10, vec![1.0, 11.0, 0.0])));
        assert_eq!(push(&mut bench, 32), Some((20, 20, vec![1.0, 21.0, 0.0])));
        assert_eq!(push(&mut bench, 19), Some((20, 10, vec![2.0, 30.0, 0.01])));
        assert_eq!(push(&mut bench, 22), Some((20, 20, vec![2.0, 43.0, 0.0])));
        let columns = Description::of(&bench.output_format("out").unwrap()).columns;
        assert_eq!(columns, ["a.0.count", "a.0.sum", "late_s"]);
    }

    #[test]
    fn receivers_learn_up_to_where_windows_are_over() {
        let params: [(&str, Value); 3] =
            [("inputs", vec!["a".to_owned()].into()), ("size_ms", 10.into()), ("slide_ms", 5.into())];
        let mut bench = Bench::of::<WindowAggregate>(&params).unwrap();
        bench.push_at("a", MS, &[1.0]).unwrap();
        bench.advance("a", Timestamp::Absolute(42 * MS));
        bench.run().unwrap();
        assert!(bench.pull_buffer("out").unwrap().is_some() && bench.pull_buffer("out").unwrap().is_some());
        // That from 35 to 45 may yet come.
        assert_eq!(bench.bound("out"), Some(Timestamp::Absolute(35 * MS)));
        bench.set("lateness_ms", 20).unwrap();
        bench.advance("a", Timestamp::Absolute(52 * MS));
        bench.run().unwrap();
        assert_eq!(bench.bound("out"), Some(Timestamp::Absolute(35 * MS)), "one from 25 may come again");
    }

    #[test]
    fn a_new_epoch_begins_anywhere() {
        let params = [("inputs", vec!["a".to_owned()].into()), ("size_ms", 10.into())];
        let mut bench = Bench::of::<WindowAggregate>(&params).unwrap();
        for epoch in [1000, 10] {
            bench.push_at("a", epoch * MS, &[1.0]).unwrap();
            bench.push_at("a", (epoch + 10) * MS, &[2.0]).unwrap();
            bench.run().unwrap();
            let row = bench.pull_buffer("out").unwrap().expect("a window");
            assert_eq!(row.timestamp(), Timestamp::Absolute(epoch * MS));
            bench.call("reset", json!(null)).unwrap();
        }
    }

    #[test]
    fn unknown_statistics_are_named() {
        let params: [(&str, Value); 3] = [
            ("inputs", vec!["a".to_owned()].into()),
            ("size_ms", 10.into()),
            ("statistics", vec!["median".to_owned()].into()),
        ];
        let refusal = Bench::of::<WindowAggregate>(&params).err().expect("refused").to_string();
        assert_eq!(
            refusal,
            "parameter `statistics`: expected some of count, mean, min, max, sum, last, found `median`"
        );
    }
}
