//! Where a process's threads run: how many, on which CPUs, how nice.

use rustix::process::setpriority_process;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::{Context as _, Result};

/// Threads, CPUs and niceness of a process that runs blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Threads that run blocks.
    pub threads: usize,
    /// The CPUs on which they may run; empty: all.
    pub cpus: Vec<usize>,
    /// Niceness, from -20 (first served; needs a privilege) to 19; `None`: that of whoever starts the process.
    pub nice: Option<i32>,
}

impl Default for Placement {
    /// One thread, wherever the kernel puts it.
    fn default() -> Self {
        Self { threads: 1, cpus: Vec::new(), nice: None }
    }
}

impl Placement {
    /// Applies CPUs and niceness to the calling thread; threads started later inherit them.
    ///
    /// # Errors
    /// If the kernel refuses: a CPU that does not exist, a niceness that needs a privilege.
    pub(crate) fn apply(&self) -> Result<()> {
        if !self.cpus.is_empty() {
            let mut set = CpuSet::new();
            self.cpus.iter().filter(|&&cpu| cpu < CpuSet::MAX_CPU).for_each(|&cpu| set.set(cpu));
            let listed = || self.cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            sched_setaffinity(None, &set).context(|| format!("run on the CPUs {}", listed()))?;
        }
        if let Some(nice) = self.nice {
            setpriority_process(None, nice).context(|| format!("set the niceness to {nice}"))?;
        }
        Ok(())
    }

    /// The arguments that tell a process of it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--threads={}", self.threads)];
        if !self.cpus.is_empty() {
            let cpus: Vec<String> = self.cpus.iter().map(usize::to_string).collect();
            arguments.push(format!("--cpus={}", cpus.join(",")));
        }
        arguments.extend(self.nice.map(|nice| format!("--nice={nice}")));
        arguments
    }
}
