//! What a run found, for people and for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::account::Wrongs;

/// What a run found.
#[derive(Default)]
pub struct Report {
    pub seconds: f64,
    pub interrupted: bool,
    pub kills: u64,
    /// Kills of processes that had not joined the pond yet.
    pub unjoined: u64,
    pub stops: u64,
    pub disconnections: u64,
    /// Records of received messages.
    pub messages: u64,
    pub redelivered: u64,
    /// Messages received over the bus, without calls.
    pub mail: u64,
    /// Calls that were answered.
    pub calls: u64,
    recoveries_ms: Vec<f64>,
    /// What took longest, and whom it concerned.
    slowest: (f64, String),
    pub longest_stall_ms: f64,
    pub lost_in_hand: u64,
    pub missing_in_hand: u64,
    pub leaked: u64,
    pub wrongs: Wrongs,
    /// Processes that ended and should not have.
    pub failures: Vec<String>,
    /// What was not given back.
    pub left_behind: Vec<String>,
}

impl Report {
    /// A killed process was recovered after this time; `what` says who it was.
    pub fn recovered(&mut self, ms: f64, what: impl FnOnce() -> String) {
        self.recoveries_ms.push(ms);
        if ms > self.slowest.0 {
            self.slowest = (ms, what());
        }
    }

    /// Recoveries so far.
    pub fn recoveries(&self) -> usize {
        self.recoveries_ms.len()
    }

    /// Recovery time below which this part of all lies.
    fn recovery_ms(&self, part: f64) -> f64 {
        let mut sorted = self.recoveries_ms.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = (sorted.len() as f64 * part).ceil() as usize;
        sorted.get(at.max(1) - 1).copied().unwrap_or(0.0)
    }

    /// Nothing leaked, lost, doubled, reordered, corrupted, failed or left behind.
    pub fn is_clean(&self) -> bool {
        let wrongs = &self.wrongs;
        self.leaked + wrongs.lost + wrongs.doubled + wrongs.reordered + wrongs.corrupted + wrongs.miscounted
            == 0
            && self.failures.is_empty()
            && self.left_behind.is_empty()
    }

    /// One line while it runs.
    pub fn progress(&self) -> String {
        format!(
            "{:4.0} s: {} kills, {} recoveries (p99 {:.1} ms), longest stall {:.1} ms, {} messages, {} buffers leaked",
            self.seconds,
            self.kills,
            self.recoveries(),
            self.recovery_ms(0.99),
            self.longest_stall_ms,
            self.messages,
            self.leaked
        )
    }

    /// For people.
    pub fn to_text(&self, seed: u64, processes: usize) -> String {
        let wrongs = &self.wrongs;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<16} {value}");
        };
        line("processes", format!("{processes}, seed {seed}, {:.1} s", self.seconds));
        line(
            "kills",
            format!("{} ({} stops, {} disconnections)", self.kills, self.stops, self.disconnections),
        );
        line("", format!("{} of them before they had joined the pond", self.unjoined));
        line(
            "recovery",
            format!(
                "p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms of {}",
                self.recovery_ms(0.5),
                self.recovery_ms(0.99),
                self.recovery_ms(1.0),
                self.recoveries()
            ),
        );
        line("slowest", self.slowest.1.clone());
        line("longest stall", format!("{:.1} ms of a process that had no part in it", self.longest_stall_ms));
        line(
            "messages",
            format!("{} received, {} of them again and marked", self.messages, self.redelivered),
        );
        line("bus", format!("{} messages received, {} calls answered", self.mail, self.calls));
        line(
            "lost in hand",
            format!("{}, of which {} unseen by any receiver", self.lost_in_hand, self.missing_in_hand),
        );
        line("leaked", self.leaked.to_string());
        line("lost", wrongs.lost.to_string());
        line("doubled", wrongs.doubled.to_string());
        line("reordered", wrongs.reordered.to_string());
        line("corrupted", wrongs.corrupted.to_string());
        line("miscounted", wrongs.miscounted.to_string());
        for finding in wrongs.findings.iter().chain(&self.failures).chain(&self.left_behind) {
            line("!", finding.clone());
        }
        let verdict = if self.is_clean() { "Everything is accounted for." } else { "FAILED." };
        format!("torture{}\n{text}{verdict}\n", if self.interrupted { " (interrupted)" } else { "" })
    }

    /// For programs.
    pub fn to_json(&self, seed: u64, processes: usize, python: bool) -> Value {
        let round = |ms: f64| (ms * 1000.0).round() / 1000.0;
        json!({
            "seed": seed,
            "processes": processes,
            "python": python,
            "seconds": round(self.seconds),
            "interrupted": self.interrupted,
            "kills": self.kills,
            "unjoined": self.unjoined,
            "stops": self.stops,
            "disconnections": self.disconnections,
            "recoveries": self.recoveries(),
            "recovery_p50_ms": round(self.recovery_ms(0.5)),
            "recovery_p99_ms": round(self.recovery_ms(0.99)),
            "recovery_max_ms": round(self.recovery_ms(1.0)),
            "slowest_recovery": self.slowest.1,
            "longest_stall_ms": round(self.longest_stall_ms),
            "messages": self.messages,
            "redelivered": self.redelivered,
            "bus_messages": self.mail,
            "bus_calls": self.calls,
            "lost_in_hand": self.lost_in_hand,
            "missing_in_hand": self.missing_in_hand,
            "leaked": self.leaked,
            "lost": self.wrongs.lost,
            "doubled": self.wrongs.doubled,
            "reordered": self.wrongs.reordered,
            "corrupted": self.wrongs.corrupted,
            "miscounted": self.wrongs.miscounted,
            "findings": self.wrongs.findings,
            "failures": self.failures,
            "left_behind": self.left_behind,
        })
    }
}
