//! `proc-cpu`: how busy the machine's CPUs are, from /proc/stat.

use super::proc_file::{ProcFile, Telemetry, telemetry_spec};
use crate::prelude::*;

/// Percentages of CPU time since the last row, all CPUs together. The kernel counts in steps of 10 ms: a row in which nothing was
/// counted repeats the one before.
pub(super) struct ProcCpu {
    file: ProcFile,
    telemetry: Telemetry,
    last: Ticks,
    shares: [f64; 4],
}

/// CPU time since boot, in the kernel's clock ticks.
#[derive(Clone, Copy)]
struct Ticks {
    user: u64,
    system: u64,
    idle: u64,
}

impl Block for ProcCpu {
    fn spec() -> Spec {
        let columns = "busy, user, system, idle in percent since the last row";
        telemetry_spec("proc-cpu", "How busy the CPUs are, from /proc/stat", columns, 100.0)
    }

    fn new(params: &Params) -> Result<Self> {
        let mut file = ProcFile::open("/proc/stat")?;
        let last = read(&mut file)?;
        let columns = ["busy_percent", "user_percent", "system_percent", "idle_percent"];
        Ok(Self { file, telemetry: Telemetry::new(params, &columns), last, shares: [f64::NAN; 4] })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.telemetry.start(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        self.telemetry.send(io, |row| {
            let now = read(&mut self.file)?;
            self.shares = shares(self.last, now).unwrap_or(self.shares);
            self.last = now;
            row.copy_from_slice(&self.shares);
            Ok(())
        })
    }
}

fn read(file: &mut ProcFile) -> Result<Ticks> {
    match parse(file.read()?) {
        Some(ticks) => Ok(ticks),
        None => Err(file.lacks("line `cpu user nice system idle iowait irq softirq steal`")),
    }
}

fn parse(text: &str) -> Option<Ticks> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut fields = line.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || fields.next()?.ok();
    let (user, nice, system, idle) = (next()?, next()?, next()?, next()?);
    // Kernels before 2.6.11 have fewer fields.
    let (iowait, irq, softirq, steal) =
        (next().unwrap_or(0), next().unwrap_or(0), next().unwrap_or(0), next().unwrap_or(0));
    Some(Ticks { user: user + nice, system: system + irq + softirq + steal, idle: idle + iowait })
}

/// Busy, user, system and idle percent; `None` if no time has been counted.
fn shares(last: Ticks, now: Ticks) -> Option<[f64; 4]> {
    // The idle time of a CPU that goes offline can make the sums go back.
    let since = |now: u64, last: u64| now.saturating_sub(last) as f64;
    let (user, system, idle) =
        (since(now.user, last.user), since(now.system, last.system), since(now.idle, last.idle));
    let total = user + system + idle;
    (total > 0.0).then(|| [user + system, user, system, idle].map(|part| 100.0 * part / total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn shares_add_up() {
        let last = parse("cpu  100 0 50 850 0 0 0 0 0 0\ncpu0 1 2 3 4\n").unwrap();
        let now = parse("cpu  120 10 55 900 10 2 2 1 7 7\n").unwrap();
        assert_eq!(shares(last, now), Some([40.0, 30.0, 10.0, 60.0]));
        assert_eq!(shares(now, now), None);
        assert!(parse("cpus 1 2 3").is_none());
        assert!(parse("cpu  1 2 x 4").is_none());
    }

    #[test]
    fn reads_this_machine() {
        let mut bench = Bench::of::<ProcCpu>(&[("rate_hz", 50.0.into()), ("count", 20.into())]).unwrap();
        bench.run().unwrap();
        for _ in 0..20 {
            let row = bench.pull::<f64>("out").unwrap().expect("a row");
            let fits = |share: &f64| share.is_nan() || (0.0..=100.0).contains(share);
            assert!(row.len() == 4 && row.iter().all(fits), "{row:?}");
        }
        assert!(bench.has_ended());
    }
}
