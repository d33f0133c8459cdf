//! The peers that are frameworks in Python: each is measured by a script of its own, beside Millpond in the same run.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use millpond_compare::runner::{Object, Runner};
use serde_json::Value;

/// Where the scripts are.
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// How long a script may take.
const LONGEST: Duration = Duration::from_secs(180);

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

    /// For the reader.
    pub fn title(self) -> &'static str {
        match self {
            Self::Dora => "dora",
            Self::GnuRadio => "GNU Radio",
        }
    }

    /// What its script says.
    pub fn measure(self, runner: &mut Runner, python: &Path) -> Result<Object> {
        // The scripts' exit status says whether our ratios are as asked, which is not this page's question.
        let run = |runner: &mut Runner, python: &str, script: &str, rounds: &str| {
            let script = format!("{HERE}/{script}");
            let shell = "\"$0\" \"$1\" --json --rounds \"$2\" || test $? = 3";
            runner.run(&["/bin/sh", "-c", shell, python, &script, rounds].map(str::to_owned), Some(LONGEST))
        };
        match self {
            Self::Dora => {
                let python = python.to_str().context("the interpreter's path is not UTF-8")?;
                versioned(run(runner, python, "dora/compare.py", "1")?, "/machine/dora")
            }
            Self::GnuRadio => {
                versioned(run(runner, "/usr/bin/python3", "gnuradio/compare.py", "2")?, "/gnuradio")
            }
        }
    }
}

/// The object, with its version where the other peers have it.
fn versioned(object: Object, at: &str) -> Result<Object> {
    let mut object = Value::Object(object);
    let version =
        object.pointer(at).cloned().with_context(|| format!("the script says no version at {at}"))?;
    match &mut object {
        Value::Object(object) => {
            object.insert("version".into(), version);
            Ok(object.clone())
        }
        _ => bail!("the script printed no object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_put_where_others_have_it() {
        let object =
            serde_json::json!({ "machine": { "dora": "1.1" } }).as_object().cloned().expect("an object");
        assert_eq!(versioned(object.clone(), "/machine/dora").expect("it is there")["version"], "1.1");
        assert!(versioned(object, "/nothing").is_err());
    }
}
