//! Where the figures come from: without it a figure says nothing.

use serde::Serialize;

/// The machine, as far as it explains a figure.
#[derive(Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    /// Threads that wanted to run in the last minute: how quiet the machine was.
    load_1min: f64,
}

impl Machine {
    /// What the kernel tells; `unknown` or 0 where it does not.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| matches!(key.trim(), "model name" | "Model" | "cpu model"))
            .map_or("unknown", |(_, model)| model.trim());
        Self {
            cpu: cpu.to_owned(),
            // Not `available_parallelism`: a pinned process has one.
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_1min: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or(0.0),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} cores, Linux {}, load {:.1}", self.cpu, self.cores, self.kernel, self.load_1min)
    }
}

/// What was measured.
#[derive(Serialize)]
pub struct Versions {
    millpond: &'static str,
    build: &'static str,
}

impl Versions {
    /// Of this program.
    pub const HERE: Self = Self {
        millpond: env!("CARGO_PKG_VERSION"),
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
    };
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let warning = if cfg!(debug_assertions) { ": the figures mean nothing" } else { "" };
        write!(f, "millpond {} ({} build{warning})", self.millpond, self.build)
    }
}
