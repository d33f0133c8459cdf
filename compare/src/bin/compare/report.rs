//! The comparison as a markdown table, and as JSON.

use std::fmt::{self, Display, Formatter};

use millpond_compare::machine::Machine;
use millpond_compare::stats::Spread;
use serde_json::{Value, json};

use crate::measure::{Measured, Outcome};
use crate::rows::{Ask, Reference, Unit};

/// Between two probes of one run, a factor this large means that the machine itself changed.
const STEADY: f64 = 1.5;

/// Everything there is to report.
#[derive(Debug)]
pub struct Report {
    pub machine: Machine,
    pub rounds: usize,
    pub pin: String,
    /// The time a word takes between the two cores, over the whole comparison.
    pub handoff_ns: Option<Spread>,
    pub outcomes: Vec<Outcome>,
}

impl Report {
    /// Whether every row could be measured.
    pub fn is_complete(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.figures.is_ok())
    }

    /// Whether every row is as asked.
    pub fn is_met(&self) -> bool {
        self.outcomes.iter().all(Outcome::is_met)
    }

    /// As one JSON object.
    pub fn to_json(&self) -> Value {
        json!({
            "machine": self.machine,
            "rounds": self.rounds,
            "pin": self.pin,
            "core_to_core_ns": self.handoff_ns,
            "complete": self.is_complete(),
            "met": self.is_met(),
            "rows": self.outcomes.iter().map(row_json).collect::<Vec<_>>(),
        })
    }
}

fn row_json(outcome: &Outcome) -> Value {
    json!({
        "row": outcome.row.name,
        "what": outcome.row.what,
        "against": against(outcome),
        "commands": outcome.commands,
        "met": outcome.is_met(),
        "error": outcome.figures.as_ref().err(),
        "figures": outcome.figures.iter().flatten().map(figure_json).collect::<Vec<_>>(),
    })
}

fn figure_json(measured: &Measured) -> Value {
    let compared = measured.reference.as_ref();
    json!({
        "figure": measured.figure.what,
        "key": measured.figure.key,
        "ours": measured.ours,
        "reference": compared.map(|compared| &compared.theirs),
        "ratio": compared.map(|compared| compared.ratio),
        "ratio_per_round": compared.map(|compared| &compared.per_round),
        "asked": measured.figure.ask.map(|ask| match ask {
            Ask::AtMost(limit) => json!({ "at_most": limit }),
            Ask::AtLeast(limit) => json!({ "at_least": limit }),
            Ask::AmountAtMost(limit) => json!({ "amount_at_most": limit }),
        }),
        "met": measured.is_met(),
    })
}

fn against(outcome: &Outcome) -> &'static str {
    match outcome.row.reference {
        Reference::Peer(_) => "iceoryx2",
        Reference::Ours(_) => "ours",
        Reference::SameRun => "the same run",
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Machine { date, cpu, cores, kernel, load } = &self.machine;
        writeln!(f, "# Millpond and iceoryx2, side by side\n")?;
        writeln!(f, "- date: {date}")?;
        writeln!(f, "- machine: {cpu}, {cores} cores, load {load} before the start")?;
        writeln!(f, "- kernel: {kernel}")?;
        writeln!(f, "- processes of a pair on the cores: {}", self.pin)?;
        writeln!(
            f,
            "- rounds: {}; each value is the median of the rounds (smallest – largest)",
            self.rounds
        )?;
        self.write_handoff(f)?;

        writeln!(f, "\n| row | measured | figure | ours | against | | ratio | per round | asked | met |")?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|")?;
        for outcome in &self.outcomes {
            write_row(f, outcome)?;
        }

        writeln!(f, "\nCommands, in the order of the rows; within a row they take turns:\n")?;
        for command in self.outcomes.iter().flat_map(|outcome| &outcome.commands) {
            writeln!(f, "    {command}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_handoff(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(handoff) = &self.handoff_ns else { return Ok(()) };
        writeln!(f, "- a word takes from core to core: {}", shown(handoff, Unit::Nanoseconds))?;
        if handoff.max > handoff.min * STEADY {
            writeln!(
                f,
                "- **the machine was not steady**: that time changed by a factor of {:.1} between rounds, so \
                 the ratios per round say more than the ratio of medians",
                handoff.max / handoff.min
            )?;
        }
        Ok(())
    }
}

fn write_row(f: &mut Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    let row = &outcome.row;
    let figures = match &outcome.figures {
        Ok(figures) => figures,
        Err(error) => {
            // A line break or a bar would end the table's cell.
            let error = error.replace('|', "\\|").replace('\n', " ");
            return writeln!(f, "| {} | {} | failed: {error} | | | | | | | no |", row.name, row.what);
        }
    };
    for measured in figures {
        let unit = measured.figure.unit;
        write!(f, "| {} | {} | {} ", row.name, row.what, measured.figure.what)?;
        write!(f, "| {} ", shown(&measured.ours, unit))?;
        match &measured.reference {
            Some(compared) => {
                let per_round = &compared.per_round;
                write!(f, "| {} | {} ", against(outcome), shown(&compared.theirs, unit))?;
                write!(f, "| {:.3} | {:.3} – {:.3} ", compared.ratio, per_round.min, per_round.max)?;
            }
            None => write!(f, "| – | | | ")?,
        }
        match measured.figure.ask {
            Some(ask) => write!(f, "| {ask} ")?,
            None => write!(f, "| – ")?,
        }
        let met = measured.is_met().map_or("–", |met| if met { "yes" } else { "**no**" });
        writeln!(f, "| {met} |")?;
    }
    Ok(())
}

fn shown(spread: &Spread, unit: Unit) -> String {
    let Spread { median, min, max, .. } = spread;
    format!("{} ({} – {})", amount(*median, unit), amount(*min, unit), amount(*max, unit))
}

/// A value with its unit, in thousands, millions or billions where that is shorter.
fn amount(value: f64, unit: Unit) -> String {
    let scales = match unit {
        Unit::Nanoseconds => ["ns", "µs", "ms", "s"],
        Unit::Milliseconds => ["ms", "s", "ks", "Ms"],
        Unit::Messages => ["/s", "k/s", "M/s", "G/s"],
        Unit::BytesPerSecond => ["B/s", "kB/s", "MB/s", "GB/s"],
        Unit::Bytes => ["B", "kB", "MB", "GB"],
    };
    let mut value = value;
    let mut scale = scales[0];
    for larger in &scales[1..] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        scale = larger;
    }
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {scale}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!(amount(75.0, Unit::Nanoseconds), "75.0 ns");
        assert_eq!(amount(28_911.5, Unit::Nanoseconds), "28.9 µs");
        assert_eq!(amount(1_234_567.0, Unit::Messages), "1.23 M/s");
        assert_eq!(amount(451e9, Unit::BytesPerSecond), "451 GB/s");
        assert_eq!(amount(0.0, Unit::Bytes), "0.00 B");
    }
}
