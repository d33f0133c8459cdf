//! Options that several benchmarks share.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::args::UsageError;

/// How a side without work waits for the other.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitMode {
    /// Look again and again, on a core of its own
    Spin,
    /// Sleep until woken
    Block,
    /// Spin for a moment, then sleep
    Adaptive,
}

impl From<WaitMode> for millpond_shm::Wait {
    fn from(mode: WaitMode) -> Self {
        match mode {
            WaitMode::Spin => Self::Spin,
            WaitMode::Block => Self::Block,
            WaitMode::Adaptive => Self::Adaptive,
        }
    }
}

impl fmt::Display for WaitMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::Block => "block",
            Self::Adaptive => "adaptive",
        })
    }
}

/// The two cores of `--pin A,B`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Pin(pub usize, pub usize);

impl FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = text.split_once(',').and_then(|(a, b)| Some(Self(a.parse().ok()?, b.parse().ok()?)));
        pair.ok_or_else(|| "expected two core numbers, such as 0,1".to_owned())
    }
}

impl Pin {
    /// Both cores exist and this process may use them.
    ///
    /// # Errors
    /// A usage error that names the cores there are.
    pub fn check(self) -> anyhow::Result<()> {
        let allowed = sched_getaffinity(None).context("cannot read the cores this process may use")?;
        for core in [self.0, self.1] {
            if core >= CpuSet::MAX_CPU || !allowed.is_set(core) {
                let cores: Vec<String> = (0..CpuSet::MAX_CPU)
                    .filter(|&core| allowed.is_set(core))
                    .map(|core| core.to_string())
                    .collect();
                let message = format!("--pin: core {core} is not available; there are {}", cores.join(","));
                return Err(UsageError(message).into());
            }
        }
        Ok(())
    }
}

/// Binds the calling thread, and the threads and processes it will start, to one core.
///
/// # Errors
/// If the kernel refuses.
pub fn pin_to(core: Option<usize>) -> anyhow::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).with_context(|| format!("cannot run on core {core} alone"))
}

/// `--seconds`: how long to measure.
#[derive(Clone, Copy, Serialize)]
#[serde(transparent)]
pub struct Seconds(f64);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(Self(seconds)),
            _ => Err("expected a number between 0.01 and 86400".to_owned()),
        }
    }
}

impl Seconds {
    /// The time that is measured.
    pub fn measured(self) -> Duration {
        Duration::from_secs_f64(self.0)
    }

    /// The time before it that is not: a tenth, at most 0.2 s.
    pub fn warm_up(self) -> Duration {
        Duration::from_secs_f64((self.0 / 10.0).min(0.2))
    }
}

/// `--size` of a message; at least the 8 bytes of its sequence number.
///
/// # Errors
/// A sentence for the user who typed it.
pub fn parse_size(text: &str) -> Result<usize, String> {
    let size = crate::units::parse_bytes(text)?;
    if size < 8 {
        return Err("a message carries its sequence number: at least 8 bytes".to_owned());
    }
    usize::try_from(size).map_err(|_| "does not fit into memory".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_two_cores() {
        assert_eq!("0,1".parse(), Ok(Pin(0, 1)));
        for wrong in ["", "0", "0,", "0;1", "0,1,2", "a,b", "-1,0"] {
            assert!(wrong.parse::<Pin>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_size_holds_a_sequence_number() {
        assert_eq!(parse_size("64K"), Ok(65_536));
        assert!(parse_size("7").is_err());
    }

    #[test]
    fn seconds_are_positive_and_finite() {
        assert!("0.1".parse::<Seconds>().is_ok());
        for wrong in ["0", "-1", "inf", "nan", "1e9", ""] {
            assert!(wrong.parse::<Seconds>().is_err(), "{wrong:?}");
        }
    }
}
