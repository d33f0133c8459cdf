//! A forwarder written in Python, where the package `millpond` is installed.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::bail;

use super::roles::Order;

const PROGRAM: &str = include_str!("forwarder.py");

/// Whether `python3` finds the package.
pub fn is_available() -> bool {
    let import = Command::new("python3")
        .args(["-c", "import millpond"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    import.is_ok_and(|status| status.success())
}

impl Order {
    /// Becomes the interpreter. It still dies with the director: that is kept over the change of program.
    pub(super) fn forward_in_python(&self, hold: usize) -> anyhow::Result<()> {
        let ports = [self.process.inputs().concat(), self.process.output().unwrap_or_default()];
        let error = Command::new("python3")
            .args(["-c", PROGRAM, &self.pond])
            .args(ports)
            .arg(hold.to_string())
            .exec();
        bail!("cannot run python3: {error}")
    }
}
