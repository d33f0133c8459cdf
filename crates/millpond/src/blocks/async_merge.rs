//! `async-merge`: joins several streams into one table without waiting for any but the first.

use crate::prelude::*;
use crate::stream::{Description, columns};

/// For each buffer of the first input one row: its values, then the latest values of every other input that are not newer than the
/// row's timestamp and have arrived when the row is made.
///
/// What arrives later than the row that it belongs to appears in the next one, so the result depends on scheduling; missing
/// values are NaN. `sync-merge` waits, and does not depend on arrival.
pub(super) struct AsyncMerge {
    reference: String,
    others: Vec<Other>,
    columns: usize,
    values: Vec<f64>,
    /// A row that has been allocated but not filled.
    spare: Option<BufferMut>,
}

struct Other {
    input: String,
    /// Its latest values that belong into a row.
    latest: Vec<f64>,
}

impl Block for AsyncMerge {
    fn spec() -> Spec {
        Spec::new("async-merge", "Joins streams into one table: a row for each buffer of the first input, with the latest of the others")
            .details(
                "Waits for none but the first input: what comes later than the row that it belongs to is in the next one, so the \
                 result depends on the order of arrival. `sync-merge` joins by time alone.",
            )
.example(r#"
connect = ["cpu -> table.cpu", "memory -> table.memory", "table -> file"]
blocks.cpu = { type = "proc-cpu", rate_hz = 100, count = 1000 }
blocks.memory = { type = "proc-memory", rate_hz = 20 }
blocks.table = { type = "async-merge", inputs = ["cpu", "memory"] }
blocks.file = { type = "csv-sink", path = "telemetry.csv" }
"#)
            .input(Port::one_for_each("inputs", "rows of numbers, stamped").dtypes(REAL).shape(["columns"]))
            .output(Port::new("out", "rows of all columns, stamped like the first input").dtypes([DType::F64]).shape(["columns"]))
            .param(Param::names("inputs", "names of the inputs; the first one makes the rows"))
    }

    fn new(params: &Params) -> Result<Self> {
        let inputs: Vec<String> = params.get("inputs");
        let mut others = inputs.into_iter().map(|input| Other { input, latest: Vec::new() });
        let reference = others.next().map_or_else(String::new, |first| first.input);
        Ok(Self { reference, others: others.collect(), columns: 0, values: Vec::new(), spare: None })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let mut names = Vec::new();
        let mut add = |input: &str| -> usize {
            let Some(format) = io.format(input) else { return 0 };
            let count = columns(format);
            let own = Description::of(format).column_names(count);
            names.extend(own.iter().map(|column| format!("{input}.{column}")));
            count
        };
        add(&self.reference);
        for other in &mut self.others {
            other.latest = vec![f64::NAN; add(&other.input)];
        }
        self.columns = names.len();
        let description = Description { columns: names, ..Description::default() }.to_text()?;
        let shape = vec![self.columns as u32];
        let rate_hz = io.format(&self.reference).and_then(|format| format.rate_hz);
        io.set_format("out", StreamFormat { dtype: DType::F64, shape, rate_hz, description })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let mut table = match self.spare.take() {
            Some(table) => table,
            None => io.new_buffer("out", DType::F64, &[self.columns as u32])?,
        };
        let row = match io.take(&self.reference) {
            Err(Pause::NeedInput) => {
                self.spare = Some(table);
                if let Some(bound) = io.bound(&self.reference) {
                    io.advance("out", bound);
                }
                return Err(Pause::NeedInput);
            }
            row => row?,
        };
        table.set_timestamp(row.timestamp());
        for other in &mut self.others {
            while io.try_peek(&other.input)?.is_some_and(|next| !is_newer(next, &row)) {
                if let Some(buffer) = io.try_take(&other.input)? {
                    buffer.read_samples(&mut other.latest)?;
                }
            }
        }
        row.read_samples(&mut self.values)?;
        self.others.iter().for_each(|other| self.values.extend(&other.latest));
        if self.values.len() != self.columns {
            let problem = format!(
                "an input has changed its number of columns: {} now, {} at first",
                self.values.len(),
                self.columns
            );
            return Err(Error::Refused(problem).into());
        }
        table.as_mut_slice()?.copy_from_slice(&self.values);
        io.send("out", table)
    }
}

/// Whether a buffer belongs into a later row. Without absolute timestamps on both sides, what has arrived belongs into this one.
fn is_newer(buffer: &Buffer, row: &Buffer) -> bool {
    match (buffer.timestamp(), row.timestamp()) {
        (Timestamp::Absolute(buffer_ns), Timestamp::Absolute(row_ns)) => buffer_ns > row_ns,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    fn bench() -> Bench {
        let mut bench =
            Bench::of::<AsyncMerge>(&[("inputs", vec!["a".to_owned(), "b".to_owned()].into())]).unwrap();
        for (input, names) in [("a", "columns = ['x', 'y']"), ("b", "")] {
            let shape = if input == "a" { vec![2] } else { vec![1] };
            let description = names.to_owned();
            bench
                .set_format(input, StreamFormat { dtype: DType::F64, shape, description, rate_hz: None })
                .unwrap();
        }
        bench
    }

    #[test]
    fn rows_have_the_latest_values_that_are_not_newer() {
        let mut bench = bench();
        bench.push_at("b", 5, &[1.0]).unwrap();
        bench.push_at("b", 10, &[2.0]).unwrap();
        bench.push_at("b", 11, &[3.0]).unwrap();
        bench.push_at("a", 4, &[10.0, 11.0]).unwrap();
        bench.push_at("a", 10, &[20.0, 21.0]).unwrap();
        bench.push_at("a", 30, &[30.0, 31.0]).unwrap();
        bench.run().unwrap();
        let rows: Vec<_> = std::iter::from_fn(|| bench.pull_buffer("out").unwrap()).collect();
        assert_eq!(
            rows.iter().map(|row| row.timestamp()).collect::<Vec<_>>(),
            [4, 10, 30].map(Timestamp::Absolute)
        );
        let values: Vec<&[f64]> = rows.iter().map(|row| row.as_slice().unwrap()).collect();
        assert!(values[0][2].is_nan());
        assert_eq!(values[0][..2], [10.0, 11.0]);
        assert_eq!(values[1..], [[20.0, 21.0, 2.0], [30.0, 31.0, 3.0]]);
        let format = bench.output_format("out").unwrap();
        assert_eq!(Description::of(&format).columns, ["a.x", "a.y", "b.0"]);
    }

    #[test]
    fn receivers_learn_how_far_the_reference_has_come() {
        let mut bench = bench();
        bench.push_at("a", 4, &[10.0, 11.0]).unwrap();
        bench.run().unwrap();
        assert!(bench.pull_buffer("out").unwrap().is_some());
        bench.advance("b", Timestamp::Absolute(900));
        bench.advance("a", Timestamp::Absolute(700));
        bench.run().unwrap();
        assert_eq!(bench.bound("out"), Some(Timestamp::Absolute(700)));
    }

    #[test]
    fn ends_with_its_reference() {
        let mut bench = bench();
        bench.push_at("a", 1, &[1.0, 2.0]).unwrap();
        bench.end("b");
        bench.run().unwrap();
        assert!(!bench.has_ended());
        bench.end("a");
        bench.run().unwrap();
        assert!(bench.has_ended());
        assert!(bench.pull::<f64>("out").unwrap().is_some());
    }
}
