//! Measures a row: both sides in turn, round after round.

use anyhow::{Context, Result, anyhow, ensure};
use millpond_compare::probe::Probe;
use millpond_compare::runner::Object;
use millpond_compare::signals::Interrupted;
use millpond_compare::stats::Spread;
use serde_json::Value;

use crate::rows::{Ask, Figure, Reference, Row};
use crate::sides::{Side, Sides};

/// What a row came to.
#[derive(Debug)]
pub struct Outcome {
    pub row: Row,
    /// The command lines run, ours last.
    pub commands: Vec<String>,
    /// The figures, or why there are none.
    pub figures: Result<Vec<Measured>, String>,
}

/// One figure of a row, over all rounds.
#[derive(Debug)]
pub struct Measured {
    pub figure: Figure,
    pub ours: Spread,
    pub reference: Option<Compared>,
}

/// Our figure held against the reference's.
#[derive(Debug)]
pub struct Compared {
    pub theirs: Spread,
    /// The quotient of the two medians: this is what is asked for.
    pub ratio: f64,
    /// The quotients of each round. Its two runs follow each other closely, so these say how much a
    /// change of the machine between rounds matters.
    pub per_round: Spread,
}

/// Measures `row`.
///
/// # Errors
///
/// Fails only when a signal asks to stop. Any other failure belongs to the row and is kept in it, so
/// that the other rows are still measured.
pub fn measure(row: Row, sides: &mut Sides, probe: &mut Probe, rounds: usize) -> Result<Outcome> {
    let commands = commands(&row, sides);
    let figures = match rounds_of(&row, sides, probe, rounds) {
        Ok(figures) => Ok(figures),
        Err(error) if error.is::<Interrupted>() => return Err(error),
        Err(error) => Err(format!("{error:#}")),
    };
    Ok(Outcome { row, commands, figures })
}

fn commands(row: &Row, sides: &Sides) -> Vec<String> {
    let line = |side, arguments: &[String]| sides.command_line(side, arguments, Some(row.time)).join(" ");
    let mut commands = Vec::new();
    match &row.reference {
        Reference::Peer(arguments) => commands.push(line(Side::Peer, arguments)),
        Reference::Ours(arguments) => commands.push(line(Side::Ours, arguments)),
        Reference::SameRun => {}
    }
    commands.push(sides.command_line(Side::Ours, &row.ours, row.our_time()).join(" "));
    commands
}

fn rounds_of(row: &Row, sides: &mut Sides, probe: &mut Probe, rounds: usize) -> Result<Vec<Measured>> {
    let mut columns: Vec<Column> = row.figures.iter().map(|figure| Column::of(*figure)).collect();
    for round in 1..=rounds {
        eprintln!("compare: {}, round {round} of {rounds}", row.name);
        probe.take();
        let reference = match &row.reference {
            Reference::Peer(arguments) => Some(sides.run(Side::Peer, arguments, Some(row.time))?),
            Reference::Ours(arguments) => Some(sides.run(Side::Ours, arguments, Some(row.time))?),
            Reference::SameRun => None,
        };
        let ours = sides.run(Side::Ours, &row.ours, row.our_time())?;
        for column in &mut columns {
            column.add(&ours, reference.as_ref().unwrap_or(&ours))?;
        }
    }
    columns.into_iter().map(Column::finish).collect()
}

/// The values of one figure, as the rounds bring them.
struct Column {
    figure: Figure,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Column {
    fn of(figure: Figure) -> Self {
        Self { figure, ours: Vec::new(), theirs: Vec::new() }
    }

    fn add(&mut self, ours: &Object, reference: &Object) -> Result<()> {
        self.ours.push(number(ours, self.figure.key)?);
        if let Some(key) = self.figure.reference_key {
            self.theirs.push(number(reference, key)?);
        }
        Ok(())
    }

    fn finish(self) -> Result<Measured> {
        let ours = Spread::of(self.ours).context("there were no rounds")?;
        let reference = compare(&ours, Spread::of(self.theirs))?;
        Ok(Measured { figure: self.figure, ours, reference })
    }
}

fn compare(ours: &Spread, theirs: Option<Spread>) -> Result<Option<Compared>> {
    let Some(theirs) = theirs else { return Ok(None) };
    ensure!(theirs.min > 0.0, "the reference measured {}, which nothing can be divided by", theirs.min);
    let per_round = ours.per_round(&theirs).context("there were no rounds")?;
    Ok(Some(Compared { ratio: ours.median / theirs.median, theirs, per_round }))
}

fn number(object: &Object, key: &str) -> Result<f64> {
    object
        .get(key)
        .and_then(Value::as_f64)
        .filter(|value| value.is_finite())
        .ok_or_else(|| anyhow!("the result has no number `{key}`: {}", Value::Object(object.clone())))
}

impl Measured {
    /// Whether the figure is as asked; `None` when nothing was.
    pub fn is_met(&self) -> Option<bool> {
        let ask = self.figure.ask?;
        Some(ask.is_met_by(match ask {
            Ask::AmountAtMost(_) => self.ours.median,
            Ask::AtMost(_) | Ask::AtLeast(_) => self.reference.as_ref()?.ratio,
        }))
    }
}

impl Outcome {
    /// Whether the row was measured and everything asked of it is met.
    pub fn is_met(&self) -> bool {
        self.figures.as_ref().is_ok_and(|figures| figures.iter().all(|figure| figure.is_met() != Some(false)))
    }
}
