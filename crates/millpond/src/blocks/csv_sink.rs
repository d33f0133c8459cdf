//! `csv-sink`: writes a table as CSV.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};

use super::files;
use crate::param::FileUse;
use crate::prelude::*;
use crate::stream::{Description, columns};

/// Writes rows of numbers with a header, as RFC 4180 has it; NaN is an empty field.
///
/// The first column is the time: Unix seconds, seconds since the start, or the index of a sample, as the stream is stamped.
/// Started again after its process was killed, it goes on behind the last complete row.
pub(super) struct CsvSink {
    path: String,
    writer: Option<csv::Writer<File>>,
    columns: usize,
    rows: u64,
    values: Vec<f64>,
}

impl Block for CsvSink {
    fn spec() -> Spec {
        Spec::new("csv-sink", "Writes a table as CSV, the time in its first column")
            .example(
                r#"
connect = ["cpu -> table"]
blocks.cpu = { type = "proc-cpu", rate_hz = 10, count = 100 }
blocks.table = { type = "csv-sink", path = "cpu.csv" }
"#,
            )
            .input(Port::new("in", "rows of numbers: one a buffer, or [rows, columns]").dtypes(REAL))
            .param(Param::text("path", "the file to write").fixed().file(FileUse::Overwrites))
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { path: params.get("path"), writer: None, columns: 1, rows: 0, values: Vec::new() })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let format = io.format("in").cloned().unwrap_or_default();
        self.columns = columns(&format).max(1);
        let again = io.has_worked_before();
        let failed = |error| files::cannot_write(&self.path, error);
        let mut file = match again {
            true => open_behind_last_row(&self.path).map_err(failed)?,
            false => files::create(&self.path)?,
        };
        let is_new = file.stream_position().map_err(failed)? == 0;
        let writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(file);
        let writer = self.writer.insert(writer);
        if is_new {
            let names = Description::of(&format).column_names(self.columns);
            let header = std::iter::once("time").chain(names.iter().map(String::as_str));
            writer.write_record(header).map_err(|error| unwritable(&self.path, error))?;
        }
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let rate_hz = io.format("in").and_then(|format| format.rate_hz);
        // Taken when it is in the file, so that it survives a kill: what fails is counted as lost in hand.
        self.write(io.peek("in")?, rate_hz)?;
        self.flush()?;
        io.take("in")?;
        Ok(())
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        self.flush()?;
        let again = if io.has_worked_before() { " since its restart" } else { "" };
        io.note(&format!("wrote {} rows to {}{again}", self.rows, self.path));
        Ok(())
    }
}

impl CsvSink {
    fn write(&mut self, buffer: &Buffer, rate_hz: Option<(u32, u32)>) -> Result<()> {
        buffer.read_samples(&mut self.values)?;
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if !self.values.len().is_multiple_of(self.columns) {
            let found = self.values.len();
            return Err(Error::Refused(format!(
                "write {}: expected rows of {} columns, found {found} values",
                self.path, self.columns
            )));
        }
        for (index, row) in self.values.chunks(self.columns).enumerate() {
            let time = time(buffer.timestamp(), index as i64, rate_hz);
            let field = |value: &f64| if value.is_nan() { String::new() } else { value.to_string() };
            let fields = std::iter::once(time).chain(row.iter().map(field));
            writer.write_record(fields).map_err(|error| unwritable(&self.path, error))?;
            self.rows += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let flushed = self.writer.as_mut().map_or(Ok(()), csv::Writer::flush);
        flushed.map_err(|error| files::cannot_write(&self.path, error))
    }
}

fn unwritable(path: &str, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => files::cannot_write(path, error),
        other => Error::Refused(format!("write {path}: {other:?}")),
    }
}

/// The time of the row `index` of a buffer: exact decimal seconds, or the number of a sample.
fn time(stamp: Timestamp, index: i64, rate_hz: Option<(u32, u32)>) -> String {
    let later_ns =
        |(num, den): (u32, u32)| i128::from(index) * 1_000_000_000 * i128::from(den) / i128::from(num);
    let seconds = |first_ns: i64| {
        let ns = i128::from(first_ns) + rate_hz.map_or(0, later_ns);
        let (sign, ns) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
        format!("{sign}{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
    };
    match stamp {
        Timestamp::Absolute(ns) | Timestamp::Relative(ns) => seconds(ns),
        Timestamp::Sample { index: first, .. } => (first + index).to_string(),
        _ => String::new(),
    }
}

/// Opens a file to go on with; a row that was cut off in the middle is removed.
fn open_behind_last_row(path: &str) -> std::io::Result<File> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    if !file.metadata()?.is_file() {
        // Nothing can be taken back from a pipe or a device.
        return Ok(file);
    }
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut last = [0; 1];
    // Fields hold no line ends, so the last one ends a row. A cut-off row is short, so looking at single bytes is fine.
    while end > 0 {
        file.seek(SeekFrom::Start(end - 1))?;
        file.read_exact(&mut last)?;
        if last == *b"\n" {
            break;
        }
        end -= 1;
    }
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp_dir::TempDir;
    use crate::testing::Bench;

    fn bench(path: &str, columns: &str) -> Bench {
        let mut bench = Bench::of::<CsvSink>(&[("path", path.into())]).unwrap();
        let format = StreamFormat {
            dtype: DType::F64,
            shape: vec![2],
            rate_hz: None,
            description: columns.to_owned(),
        };
        bench.set_format("in", format).unwrap();
        bench
    }

    #[test]
    fn writes_what_rfc_4180_asks_for() {
        let directory = TempDir::new();
        let path = directory.path("table.csv");
        let mut bench = bench(&path, r#"columns = ["plain", 'with "quotes", and comma']"#);
        bench.push_at("in", 1_500_000_000_000_000_001, &[0.1, f64::NAN]).unwrap();
        bench.push_at("in", -1, &[-1e300, 2.0]).unwrap();
        bench.end("in");
        bench.run().unwrap();
        assert!(bench.has_ended());
        let written = std::fs::read_to_string(&path).unwrap();
        let big = format!("{}", -1e300);
        let expected = format!(
            "time,plain,\"with \"\"quotes\"\", and comma\"\r\n1500000000.000000001,0.1,\r\n-0.000000001,{big},2\r\n"
        );
        assert_eq!(written, expected);
    }

    #[test]
    fn a_stream_without_buffers_has_a_header() {
        let directory = TempDir::new();
        let path = directory.path("empty.csv");
        let mut bench = bench(&path, "");
        bench.end("in");
        bench.run().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "time,0,1\r\n");
    }

    #[test]
    fn rows_of_one_buffer_follow_its_rate() {
        let start = Timestamp::Absolute(1_000_000_000);
        assert_eq!(time(start, 3, Some((2, 1))), "2.500000000");
        assert_eq!(time(Timestamp::Relative(-1), 0, None), "-0.000000001");
        assert_eq!(
            time(Timestamp::Sample { index: 40, rate_num: 8000, rate_den: 1 }, 2, Some((8000, 1))),
            "42"
        );
        assert_eq!(time(Timestamp::None, 2, None), "");
    }

    #[test]
    fn a_cut_off_row_is_removed() {
        let directory = TempDir::new();
        let path = directory.path("cut.csv");
        for (found, kept) in
            [("a,b\r\n1,2\r\n3,", "a,b\r\n1,2\r\n"), ("tim", ""), ("", ""), ("a\r\n", "a\r\n")]
        {
            std::fs::write(&path, found).unwrap();
            let mut file = open_behind_last_row(&path).unwrap();
            assert_eq!(file.stream_position().unwrap(), kept.len() as u64);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
        }
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let mut bench = bench("/proc/nope/table.csv", "");
        let refusal = bench.run().expect_err("refused").to_string();
        assert_eq!(
            refusal,
            "write /proc/nope/table.csv: No such file or directory (os error 2); does the directory exist?"
        );
    }
}
