//! `csv-source`: the rows of a CSV file.

use std::fs::File;
use std::io::{Chain, Read as _};

use super::files;
use crate::param::FileUse;
use crate::prelude::*;
use crate::stream::Description;

/// Reads a table of numbers with a header, as RFC 4180 has it; an empty field is NaN. What `csv-sink` has written is read back.
///
/// Started again after its process was killed, it goes on behind the last row that it had sent.
pub(super) struct CsvSource {
    path: String,
    reader: Reader,
    record: csv::StringRecord,
    columns: Vec<String>,
    time: Time,
    rows_per_buffer: usize,
    /// Complete rows that are not sent yet, and the stamp of the first of them.
    values: Vec<f64>,
    stamp: Timestamp,
    ended: bool,
}

type Reader = csv::Reader<Chain<File, &'static [u8]>>;

/// What the first column says.
#[derive(Clone, Copy, PartialEq)]
enum Time {
    Absolute,
    Relative,
    Sample { rate_hz: u32 },
    None,
}

/// Put behind the file, it is a record of its own, unless quotes are open; the reader takes those for closed at the end.
const END: &[u8] = b"\n\0";
const LAST: &str = "\0";

const TIMES: &[&str] = &["absolute", "relative", "sample", "none"];

impl Block for CsvSource {
    fn spec() -> Spec {
        Spec::new("csv-source", "Reads a table of numbers from a CSV file with a header")
            .details(
                "Reads what `csv-sink` writes. Empty fields become NaN. The first column is the time of the row if it is called \
                 `time`, and stamps the buffer: `absolute` seconds since 1970, `relative` seconds since the stream's start, or \
                 the index of a `sample`. Started again after its process was killed, it goes on behind the last row that it \
                 had sent.",
            )
            .example(
                r#"
connect = ["table -> seldom -> copy"]
blocks.table = { type = "csv-source", path = "telemetry.csv" }
blocks.seldom = { type = "keep-one-in-n", n = 10, unit = "buffers" }
blocks.copy = { type = "csv-sink", path = "every-tenth.csv" }
"#,
            )
            .output(Port::new("out", "rows: one a buffer, or [rows, columns]").dtypes([DType::F64]))
            .param(Param::text("path", "the file to read").fixed().file(FileUse::Reads))
            .param(Param::one_of("time", "what a first column `time` says", TIMES).default("absolute").fixed())
            .param(Param::int("rows", "rows in a buffer").default(1).range(1.0, 1e6).fixed())
            .param(
                Param::int("rate_hz", "rows a second; needed if the time is the index of a sample")
                    .range(1.0, 4e9)
                    .unit("Hz")
                    .optional().fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let path: String = params.get("path");
        let file = files::open(&path)?;
        // Rows of another length are told in our words.
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file.chain(END));
        let header = reader.headers().map_err(|error| unreadable(&path, error))?;
        check_quotes(&path, header)?;
        let mut columns: Vec<String> =
            header.iter().filter(|name| *name != LAST).map(str::to_owned).collect();
        let rate_hz: Option<u32> = params.get("rate_hz");
        let mut time = match (params.get::<String>("time").as_str(), rate_hz) {
            ("absolute", _) => Time::Absolute,
            ("relative", _) => Time::Relative,
            ("sample", Some(rate_hz)) => Time::Sample { rate_hz },
            ("sample", None) => {
                return Err(Error::Refused(
                    "`time = \"sample\"` needs `rate_hz`, the rows a second".to_owned(),
                ));
            }
            _ => Time::None,
        };
        if columns.first().is_none_or(|name| name != "time") {
            time = Time::None;
        } else if time != Time::None {
            columns.remove(0);
        }
        if columns.is_empty() {
            return Err(Error::Refused(format!(
                "{path}: expected a header with the names of columns, found none"
            )));
        }
        Ok(Self {
            path,
            reader,
            record: csv::StringRecord::new(),
            columns,
            time,
            rows_per_buffer: params.get("rows"),
            values: Vec::new(),
            stamp: Timestamp::None,
            ended: false,
        })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let columns = self.columns.len() as u32;
        let shape = if self.rows_per_buffer == 1 { vec![columns] } else { vec![0, columns] };
        let description =
            Description { columns: self.columns.clone(), ..Description::default() }.to_text()?;
        let rate_hz = io.param::<Option<u32>>("rate_hz").map(|rate_hz| (rate_hz, 1));
        io.set_format("out", StreamFormat { dtype: DType::F64, shape, description, rate_hz })?;
        for _ in 0..io.next_sequence("out").saturating_mul(self.rows_per_buffer as u64) {
            if !self.read_record()? {
                break;
            }
        }
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let columns = self.columns.len();
        while !self.ended && self.values.len() < self.rows_per_buffer * columns {
            self.ended = !self.read_row()?;
        }
        let rows = (self.values.len() / columns) as u32;
        if rows == 0 {
            return Err(Pause::Done);
        }
        let shape = [rows, columns as u32];
        let mut buffer =
            io.new_buffer("out", DType::F64, if self.rows_per_buffer == 1 { &shape[1..] } else { &shape })?;
        buffer.as_mut_slice()?.copy_from_slice(&self.values);
        buffer.set_timestamp(self.stamp);
        self.values.clear();
        io.send("out", buffer)
    }
}

impl CsvSource {
    fn read_record(&mut self) -> Result<bool> {
        let read = |reader: &mut Reader, record: &mut csv::StringRecord| {
            reader.read_record(record).map_err(|error| unreadable(&self.path, error))
        };
        let is_there = read(&mut self.reader, &mut self.record)?;
        check_quotes(&self.path, &self.record)?;
        if self.record.len() == 1 && &self.record[0] == LAST {
            // In the middle of the file it is a field like any other, and a wrong one.
            return read(&mut self.reader, &mut csv::StringRecord::new());
        }
        Ok(is_there)
    }

    /// Appends the next row to `values`; false at the end.
    fn read_row(&mut self) -> Result<bool> {
        if !self.read_record()? {
            return Ok(false);
        }
        let timed = usize::from(self.time != Time::None);
        let (expected, found) = (self.columns.len() + timed, self.record.len());
        if found != expected {
            return Err(self.wrong(format!("expected {expected} fields as in the header, found {found}")));
        }
        if timed == 1 {
            // Only the first row's stamps the buffer, but the others have to be times too.
            let stamp = self.stamp(&self.record[0])?;
            if self.values.is_empty() {
                self.stamp = stamp;
            }
        }
        for (column, field) in self.columns.iter().zip(self.record.iter().skip(timed)) {
            let field = field.trim();
            let value = if field.is_empty() { Ok(f64::NAN) } else { field.parse() };
            let value = value.map_err(|_| {
                self.wrong(format!("column `{column}`: expected a number or nothing, found `{field}`"))
            })?;
            self.values.push(value);
        }
        Ok(true)
    }

    fn stamp(&self, field: &str) -> Result<Timestamp> {
        let field = field.trim();
        let stamp = match self.time {
            _ if field.is_empty() => return Ok(Timestamp::None),
            Time::Absolute => parse_ns(field).map(Timestamp::Absolute),
            Time::Relative => parse_ns(field).map(Timestamp::Relative),
            Time::Sample { rate_hz } => {
                let index = field.parse().ok();
                index.map(|index| Timestamp::Sample { index, rate_num: rate_hz, rate_den: 1 })
            }
            Time::None => Some(Timestamp::None),
        };
        let expected = if matches!(self.time, Time::Sample { .. }) { "a whole number" } else { "seconds" };
        stamp.ok_or_else(|| self.wrong(format!("column `time`: expected {expected}, found `{field}`")))
    }

    fn wrong(&self, problem: String) -> Error {
        let line = self.record.position().map_or(0, csv::Position::line);
        Error::Refused(format!("{}, line {line}: {problem}", self.path))
    }
}

/// Where the last record is read together with what was put behind the file, its quotes are open.
fn check_quotes(path: &str, record: &csv::StringRecord) -> Result<()> {
    if record.iter().next_back().is_none_or(|field| !field.ends_with("\n\0")) {
        return Ok(());
    }
    let line = record.position().map_or(1, csv::Position::line);
    Err(Error::Refused(format!("{path}, line {line}: expected a closing `\"`, found the end of the file")))
}

/// A line that is no text, or a file that cannot be read.
fn unreadable(path: &str, error: csv::Error) -> Error {
    let line = error.position().map(csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(error) => files::cannot_read(path, error),
        csv::ErrorKind::Utf8 { err, .. } => {
            let (line, field) = (line.unwrap_or(1), err.field() + 1);
            Error::Refused(format!(
                "{path}, line {line}: expected UTF-8 text, found other bytes in field {field}"
            ))
        }
        other => Error::Refused(format!("read {path}: {other:?}")),
    }
}

/// Decimal seconds as nanoseconds, exactly; digits beyond them are cut off.
fn parse_ns(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let fraction_ns = format!("{:0<9.9}", fraction).parse::<i64>().ok()?;
    let ns = whole.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction_ns)?;
    Some(if negative { -ns } else { ns })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use crate::temp_dir::TempDir;
    use crate::testing::Bench;

    fn bench(text: &str, params: &[(&str, Value)]) -> (TempDir, Result<Bench>) {
        let directory = TempDir::new();
        let path = directory.path("table.csv");
        std::fs::write(&path, text).unwrap();
        let params = [params, &[("path", path.as_str().into())]].concat();
        (directory, Bench::of::<CsvSource>(&params))
    }

    fn refusal(text: &str, params: &[(&str, Value)]) -> String {
        let (_directory, bench) = bench(text, params);
        let error = bench.and_then(|mut bench| bench.run()).expect_err("refused").to_string();
        error.split_once("table.csv").map_or(error.clone(), |(_, problem)| problem.to_owned())
    }

    #[test]
    fn holes_become_nan_and_times_stamps() {
        let text = "time,a,\"b, too\"\r\n1500000000.000000001,0.1,\r\n-0.5, ,2e3\r\n,3,4\r\n";
        let (_directory, bench) = bench(text, &[]);
        let mut bench = bench.unwrap();
        bench.run().unwrap();
        assert!(bench.has_ended());
        let format = bench.output_format("out").unwrap();
        assert_eq!(
            (Description::of(&format).columns, format.shape),
            (vec!["a".into(), "b, too".into()], vec![2])
        );
        let rows: Vec<Buffer> = std::iter::from_fn(|| bench.pull_buffer("out").unwrap()).collect();
        let stamps: Vec<Timestamp> = rows.iter().map(|row| row.timestamp()).collect();
        let expected = [
            Timestamp::Absolute(1_500_000_000_000_000_001),
            Timestamp::Absolute(-500_000_000),
            Timestamp::None,
        ];
        assert_eq!(stamps, expected);
        let values: Vec<f64> = rows.iter().flat_map(|row| row.as_slice::<f64>().unwrap().to_vec()).collect();
        assert!(values[1].is_nan() && values[2].is_nan());
        assert_eq!([values[0], values[3], values[4], values[5]], [0.1, 2000.0, 3.0, 4.0]);
    }

    #[test]
    fn several_rows_in_a_buffer_and_sample_indexes() {
        let text = "time,x\n10,1\n11,2\n12,3\n";
        let params = [("rows", 2.into()), ("time", "sample".into()), ("rate_hz", 100.into())];
        let (_directory, bench) = bench(text, &params);
        let mut bench = bench.unwrap();
        bench.run().unwrap();
        let first = bench.pull_buffer("out").unwrap().unwrap();
        assert_eq!((first.extents(), first.as_slice::<f64>().unwrap()), (vec![2, 1], &[1.0, 2.0][..]));
        assert_eq!(first.timestamp(), Timestamp::Sample { index: 10, rate_num: 100, rate_den: 1 });
        assert_eq!(bench.pull_buffer("out").unwrap().unwrap().extents(), [1, 1]);
        assert!(bench.has_ended());
    }

    #[test]
    fn without_a_time_all_columns_are_data() {
        for (text, time) in [("x,y\n1,2\n", "absolute"), ("time,y\n1,2\n", "none")] {
            let (_directory, bench) = bench(text, &[("time", time.into())]);
            let mut bench = bench.unwrap();
            bench.run().unwrap();
            assert_eq!(bench.pull::<f64>("out").unwrap(), Some(vec![1.0, 2.0]));
        }
        let (_directory, bench) = bench("x,y\n", &[]);
        let mut bench = bench.unwrap();
        bench.run().unwrap();
        assert!(bench.has_ended() && bench.pull_buffer("out").unwrap().is_none());
    }

    #[test]
    fn says_where_a_table_is_wrong() {
        assert_eq!(refusal("a,b\n1,2\n3\n", &[]), ", line 3: expected 2 fields as in the header, found 1");
        assert_eq!(
            refusal("a,b\n1,2\n3,x\n", &[]),
            ", line 3: column `b`: expected a number or nothing, found `x`"
        );
        assert_eq!(
            refusal("time,b\nnoon,2\n", &[]),
            ", line 2: column `time`: expected seconds, found `noon`"
        );
        let open = |line| format!(", line {line}: expected a closing `\"`, found the end of the file");
        assert_eq!(refusal("a,b\n1,2\n3,\"4", &[]), open(3));
        assert_eq!(refusal("a,b\n1,2\n\"3,4\n5,6\n", &[]), open(3));
        let middle = refusal("a\n1\n\0\n2\n", &[]);
        assert!(middle.starts_with(", line 3: column `a`: expected a number"), "{middle}");
        assert_eq!(refusal("a,\"b\n1,2\n", &[]), open(1));
        assert_eq!(refusal("", &[]), ": expected a header with the names of columns, found none");
        assert!(refusal("time,b\n", &[("time", "sample".into())]).contains("needs `rate_hz`"));
        let missing = Bench::of::<CsvSource>(&[("path", "/proc/nope".into())]).err().unwrap().to_string();
        assert_eq!(missing, "read /proc/nope: No such file or directory (os error 2); is the path right?");
    }

    #[test]
    fn seconds_are_exact() {
        for (text, ns) in [
            ("1", Some(1_000_000_000)),
            ("0.000000001", Some(1)),
            ("-0.25", Some(-250_000_000)),
            ("1.1234567899", Some(1_123_456_789)),
            ("", None),
            (".5", None),
            ("1e3", None),
            ("9999999999999", None),
        ] {
            assert_eq!(parse_ns(text), ns, "{text}");
        }
    }
}
