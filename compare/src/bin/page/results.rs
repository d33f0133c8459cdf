//! What was measured, as kept in `comparison.json`.

use std::collections::BTreeMap;
use std::time::Duration;

use millpond_compare::machine::Machine;
use millpond_compare::runner::Object;
use millpond_compare::stats::Spread;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All results, of one run or of several.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// The time a word takes between the two cores, over the last run: the least, the median, the longest.
    pub core_to_core_ns: Option<[f64; 3]>,
    /// By name.
    pub peers: BTreeMap<String, Measured>,
}

/// What was measured of one peer.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    pub machine: Machine,
    pub rounds: u16,
    pub seconds: f64,
    /// Why nothing was measured.
    pub absent: Option<String>,
    /// What each question's runs printed.
    pub answers: BTreeMap<String, Answer>,
}

/// What the runs of one question printed.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Answer {
    pub runs: Vec<Object>,
    /// Why the last run that failed did so.
    pub error: Option<String>,
}

impl Measured {
    /// Nothing yet.
    pub fn new(machine: &Machine, rounds: u16, time: Duration) -> Self {
        Self {
            machine: machine.clone(),
            rounds,
            seconds: time.as_secs_f64(),
            absent: None,
            answers: BTreeMap::new(),
        }
    }

    /// Adds what a run printed, or why it failed.
    pub fn add(&mut self, question: &str, outcome: Result<Object, String>) {
        let answer = self.answers.entry(question.to_owned()).or_default();
        match outcome {
            Ok(object) => answer.runs.push(object),
            Err(why) => answer.error = Some(why),
        }
    }

    /// The version that the runs printed.
    pub fn version(&self) -> Option<&str> {
        self.answers.values().flat_map(|answer| &answer.runs).find_map(|run| run.get("version")?.as_str())
    }
}

impl Results {
    /// The answer of a peer, if it was measured.
    pub fn answer(&self, peer: &str, question: &str) -> Option<&Answer> {
        self.peers.get(peer)?.answers.get(question)
    }

    /// The values of a figure over all rounds.
    pub fn figure(&self, peer: &str, question: &str, key: &str) -> Option<Spread> {
        self.answer(peer, question)?.figure(key)
    }
}

impl Answer {
    /// The values of a figure over all rounds; `None` when there are none, or one of them failed.
    pub fn figure(&self, key: &str) -> Option<Spread> {
        if self.error.is_some() {
            return None;
        }
        let values: Option<Vec<f64>> = self.runs.iter().map(|run| run.get(key)?.as_f64()).collect();
        Spread::of(values?)
    }

    /// A value of the last run.
    pub fn last(&self, key: &str) -> Option<&Value> {
        self.runs.last()?.get(key)
    }
}
