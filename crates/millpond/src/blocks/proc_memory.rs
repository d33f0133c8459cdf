//! `proc-memory`: how much memory the machine has left, from /proc/meminfo.

use super::proc_file::{ProcFile, Telemetry, telemetry_spec};
use crate::prelude::*;

const FIELDS: [&str; 4] = ["MemTotal", "MemAvailable", "MemFree", "Cached"];

/// The machine's memory in MiB.
pub(super) struct ProcMemory {
    file: ProcFile,
    telemetry: Telemetry,
}

impl Block for ProcMemory {
    fn spec() -> Spec {
        let columns = "total, available, free and cached memory in MiB";
        telemetry_spec("proc-memory", "How much memory is left, from /proc/meminfo", columns, 20.0)
    }

    fn new(params: &Params) -> Result<Self> {
        let columns = ["total_mib", "available_mib", "free_mib", "cached_mib"];
        Ok(Self { file: ProcFile::open("/proc/meminfo")?, telemetry: Telemetry::new(params, &columns) })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.telemetry.start(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        self.telemetry.send(io, |row| {
            let text = self.file.read()?;
            let missing = fill(row, text);
            missing.map_or(Ok(()), |field| Err(self.file.lacks(&format!("field `{field}`"))))
        })
    }
}

/// Fills in the fields in MiB; the name of the first one that is missing, if any.
fn fill(row: &mut [f64], text: &str) -> Option<&'static str> {
    FIELDS.iter().zip(row).find_map(|(field, mib)| match kib(text, field) {
        Some(kib) => {
            *mib = kib as f64 / 1024.0;
            None
        }
        None => Some(*field),
    })
}

fn kib(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn fields_are_found_by_name() {
        let text =
            "MemTotal:  2048 kB\nMemFree: 1024 kB\nMemAvailable: 1536 kB\nCached: 512 kB\nSwapCached: 9 kB\n";
        let mut row = [0.0; 4];
        assert_eq!(fill(&mut row, text), None);
        assert_eq!(row, [2.0, 1.5, 1.0, 0.5]);
        assert_eq!(fill(&mut row, "MemTotal: 1 kB\n"), Some("MemAvailable"));
    }

    #[test]
    fn reads_this_machine() {
        let mut bench = Bench::of::<ProcMemory>(&[("count", 1.into())]).unwrap();
        bench.run().unwrap();
        let row = bench.pull::<f64>("out").unwrap().expect("a row");
        assert!(row[0] >= row[1] && row[1] > 0.0, "{row:?}");
    }
}
