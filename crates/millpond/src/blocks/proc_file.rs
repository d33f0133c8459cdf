//! Files of `/proc`, read again and again: what the telemetry sources have in common.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::prelude::*;
use crate::stream::Description;

/// An open file of `/proc`; each look reads its present contents.
pub(super) struct ProcFile {
    path: &'static str,
    file: File,
    bytes: Vec<u8>,
}

impl ProcFile {
    pub(super) fn open(path: &'static str) -> Result<Self> {
        let file = File::open(path).context(|| format!("open {path}"))?;
        Ok(Self { path, file, bytes: vec![0; 16 * 1024] })
    }

    /// The file's contents now.
    pub(super) fn read(&mut self) -> Result<&str> {
        let mut length = 0;
        loop {
            if length == self.bytes.len() {
                self.bytes.resize(2 * length, 0);
            }
            let read = self.file.read_at(&mut self.bytes[length..], length as u64);
            match read.context(|| format!("read {}", self.path))? {
                0 => break,
                bytes => length += bytes,
            }
        }
        std::str::from_utf8(&self.bytes[..length]).context(|| format!("read {}", self.path))
    }

    /// That the file does not say what it should.
    pub(super) fn lacks(&self, what: &str) -> Error {
        Error::Refused(format!("{} has no {what}", self.path))
    }
}

/// The ports and parameters of a source that looks at `/proc` at a steady rate.
pub(super) fn telemetry_spec(name: &str, doc: &str, columns: &str, rate_hz: f64) -> Spec {
    let out = Port::new("out", columns).dtypes([DType::F64]).shape(["columns"]);
    Spec::new(name, doc)
        .details("Rows are stamped with the time of their look. Started again after its process was killed, it counts on.")
        .example(&format!("
connect = [\"source -> lines\"]
blocks.source = {{ type = \"{name}\", rate_hz = 2, count = 10 }}
blocks.lines = {{ type = \"print\" }}
"))
        .output(out)
        .param(Param::float("rate_hz", "rows a second").default(rate_hz).range(0.001, 10_000.0).unit("Hz").fixed())
        .param(
            Param::int("count", "rows to send; without it, until stopped")
                .range(0.0, f64::INFINITY)
                .optional().fixed())
}

/// Rows of numbers at a steady rate, each stamped with the time of its look.
pub(super) struct Telemetry {
    columns: Vec<String>,
    pace: Pace,
    count: Option<u64>,
}

impl Telemetry {
    pub(super) fn new(params: &Params, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        Self { columns, pace: Pace::new(params.get("rate_hz")), count: params.get("count") }
    }

    /// States the columns on the output.
    pub(super) fn start(&self, io: &mut Io) -> Result<()> {
        let description =
            Description { columns: self.columns.clone(), ..Description::default() }.to_text()?;
        let shape = vec![self.columns.len() as u32];
        io.set_format("out", StreamFormat { dtype: DType::F64, shape, description, rate_hz: None })
    }

    /// Sends the row that `look` fills in, when its time has come.
    pub(super) fn send(&mut self, io: &mut Io, look: impl FnOnce(&mut [f64]) -> Result<()>) -> WorkResult {
        if self.count.is_some_and(|count| io.next_sequence("out") >= count) {
            return Err(Pause::Done);
        }
        self.pace.tick()?;
        let mut row = io.new_buffer("out", DType::F64, &[self.columns.len() as u32])?;
        row.set_timestamp(Timestamp::now());
        look(row.as_mut_slice()?)?;
        io.send("out", row)
    }
}
