//! What the numbers were measured on, and when.

use std::fs;
use std::thread;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The machine and the moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// In UTC.
    pub date: String,
    /// The name the processor gives itself.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The kernel and its release.
    pub kernel: String,
    /// Processes that wanted to run in the last minute, before the comparison began. Above zero or
    /// so, somebody else uses the machine.
    pub load: String,
}

impl Machine {
    /// Looks at this machine, now. What cannot be found out is `unknown`.
    #[must_use]
    pub fn this() -> Self {
        let system = rustix::system::uname();
        Self {
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cpu: cpu_model(&read("/proc/cpuinfo")).to_owned(),
            cores: thread::available_parallelism().map_or(0, usize::from),
            kernel: format!(
                "{} {} {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy(),
                system.machine().to_string_lossy()
            ),
            load: read("/proc/loadavg").split(' ').next().unwrap_or(UNKNOWN).to_owned(),
        }
    }
}

const UNKNOWN: &str = "unknown";

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|_| UNKNOWN.into())
}

fn cpu_model(cpuinfo: &str) -> &str {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim() == "model name")
        .map_or(UNKNOWN, |(_, model)| model.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_by_name() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Quick One\nmodel\t: 17\n"), "Quick One");
        assert_eq!(cpu_model("processor\t: 0\n"), UNKNOWN);
    }
}
