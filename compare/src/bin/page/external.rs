//! The peers that are frameworks in Python: each is measured by a script of its own, beside Millpond in the same run.

use std::path::Path;

use anyhow::{Context, Result};
use millpond_compare::runner::{Object, Runner};
use serde_json::{Value, json};

/// Where the scripts are.
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum External {
    Dora,
    GnuRadio,
}

impl External {
    pub const ALL: [Self; 2] = [Self::Dora, Self::GnuRadio];

    /// For `--only`, and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dora => "dora",
            Self::GnuRadio => "gnuradio",
        }
    }

    /// What its script says.
    pub fn measure(self, runner: &mut Runner, python: &Path) -> Result<Object> {
        match self {
            Self::Dora => {
                let script = format!("{HERE}/dora/compare.py");
                let line = [python.display().to_string(), script, "1".into()];
                let text = runner.output(&line, None)?;
                let rows: Vec<Value> = text.lines().filter_map(dora_row).collect();
                let object = json!({ "rows": rows });
                object
                    .as_object()
                    .cloned()
                    .filter(|_| !rows.is_empty())
                    .context("dora's script printed no row")
            }
            Self::GnuRadio => {
                // Its exit status says whether our ratios are as asked, which is not this page's question.
                let script = format!("{HERE}/gnuradio/compare.py");
                let line =
                    ["/bin/sh", "-c", "\"$0\" --json --rounds 2 || test $? = 3", &script].map(str::to_owned);
                runner.run(&line, None)
            }
        }
    }
}

/// A line like `dora  latency  64 B  p50 298.1 us  p99 523.0 us  480 msg/s  0.00 GB/s  (500 received)`.
fn dora_row(line: &str) -> Option<Value> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [engine, kind, bytes, "B", rest @ ..] = words.as_slice() else { return None };
    let after = |name: &str| rest.get(rest.iter().position(|word| *word == name)? + 1)?.parse::<f64>().ok();
    let before = |name: &str| {
        rest.get(rest.iter().position(|word| *word == name)?.checked_sub(1)?)?.parse::<f64>().ok()
    };
    Some(json!({
        "engine": engine,
        "kind": kind,
        "bytes": bytes.parse::<u64>().ok()?,
        "p50_us": after("p50")?,
        "p99_us": after("p99")?,
        "messages_per_s": before("msg/s")?,
        "gb_per_s": before("GB/s")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_doras_script_is_read() {
        let line = "dora      latency           64 B  p50     298.1 us  p99     523.0 us         480 msg/s    0.01 GB/s  (500 received)";
        let row = dora_row(line).expect("it is a row");
        assert_eq!((row["engine"].as_str(), row["bytes"].as_u64()), (Some("dora"), Some(64)));
        assert_eq!((row["p50_us"].as_f64(), row["messages_per_s"].as_f64()), (Some(298.1), Some(480.0)));
        assert_eq!(dora_row("something else"), None);
    }
}
