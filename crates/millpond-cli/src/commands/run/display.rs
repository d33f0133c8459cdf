//! What `millpond run` shows: a table drawn in place on a terminal, plain lines into a pipe, a summary at the end.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Duration;

use millpond::Flowgraph;
use millpond::supervisor::{Death, EndReason, Event, Outcome, Status, Summary};
use rustix::termios::tcgetwinsize;

use super::{status_json, status_table};
use crate::output::print;
use crate::rates::Rates;

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A table that is drawn again and again in the same place.
    InPlace,
    /// A line a second.
    Lines,
    /// Not at all; problems are.
    Quiet,
    /// As `Quiet`, and one JSON object at the end.
    Json,
}

/// Notes that are kept until the end.
const MAX_NOTES: usize = 1000;
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Shows the events of a running flowgraph.
pub struct Display {
    name: String,
    style: Style,
    rates: Rates,
    /// Lines of the table on the screen.
    drawn: usize,
    next_line: Duration,
    /// What blocks had to tell: block and text of the latest [`MAX_NOTES`].
    notes: VecDeque<(String, String)>,
    /// Earlier ones, which are no longer there.
    notes_left_out: u64,
}

impl Display {
    /// Nothing is shown yet.
    pub fn new(flowgraph: &Flowgraph, style: Style) -> Self {
        let name = flowgraph.name.clone();
        Self {
            name,
            style,
            rates: Rates::default(),
            drawn: 0,
            next_line: LINE_EVERY,
            notes: VecDeque::new(),
            notes_left_out: 0,
        }
    }

    /// Shows one event.
    pub fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { block, pid } => self.say(&format!("{block}: process {pid}\n")),
            Event::Note { block, note } => self.keep_note(block, note),
            Event::Line { block, line } => self.warn(&format!("{block}: {line}\n")),
            Event::Died { process, blocks, pid, death, restart_in } => {
                let then = match restart_in {
                    Some(Duration::ZERO) => "starting it again".to_owned(),
                    Some(pause) => format!("starting it again in {} ms", pause.as_millis()),
                    None => "not started again".to_owned(),
                };
                let who = match blocks {
                    [block] if block == process => (*block).to_owned(),
                    blocks => format!("{process} ({})", blocks.join(", ")),
                };
                self.warn(&format!("{who}: process {pid} {}: {then}\n", verb(death)));
            }
            Event::Stalled { process, pid, stall, since, killed } => {
                let then = match killed {
                    true => "killed, as kill_stalled asks",
                    false => "left alone; `kill_stalled` would end that",
                };
                let seconds = since.as_secs_f64();
                self.warn(&format!("{process}: process {pid} {stall} for {seconds:.1} s: {then}\n"));
            }
            Event::Ending { reason: EndReason::Interrupted } => {
                self.warn("stopping in order; once more to stop at once\n");
            }
            Event::Progress(status) => self.progress(status),
            _ => {}
        }
    }

    /// Shows how it ended.
    pub fn finish(&mut self, summary: &Summary) {
        self.erase();
        if self.style == Style::Json {
            self.print(&status_json::summary(&self.name, summary, &self.notes, self.notes_left_out));
        } else if self.style != Style::Quiet {
            let how = match &summary.outcome {
                Outcome::Done { reason: None } => "ended by itself",
                Outcome::Done { reason: Some(EndReason::Interrupted) } => "ended in order after a signal",
                Outcome::Done { .. } => "ended in order, its time was over",
                Outcome::Stopped => "stopped at once",
                _ => "failed",
            };
            let status = &summary.status;
            let seconds = status.elapsed.as_secs_f64();
            let blocks = status_table::block_summary(status);
            let connections = status_table::connection_summary(status);
            self.print(&format!("{} {how} ({seconds:.1} s)\n\n{blocks}\n{connections}", self.name));
            if !self.notes.is_empty() {
                let notes = self.notes.iter().map(|(block, note)| format!("{block}: {note}\n"));
                let left_out = match self.notes_left_out {
                    0 => String::new(),
                    count => format!("{count} earlier lines are left out\n"),
                };
                self.print(&format!("\n{left_out}{}", notes.collect::<String>()));
            }
        }
        if let Outcome::Failed { process, death } = &summary.outcome {
            let is_block = summary.status.blocks.iter().any(|block| block.name == *process);
            let what = if is_block { "block" } else { "process" };
            self.warn(&format!("millpond: {what} `{process}` {death}\n"));
        }
    }

    /// Notes are shown at the end; a block that has something to say all the time must not fill the memory until then.
    fn keep_note(&mut self, block: &str, note: &str) {
        if self.notes.len() == MAX_NOTES {
            self.notes.pop_front();
            self.notes_left_out += 1;
        }
        self.notes.push_back((block.to_owned(), note.to_owned()));
    }

    fn progress(&mut self, status: &Status) {
        let counts = status.blocks.iter().map(|b| (b.name.as_str(), b.statistics.taken, b.statistics.sent));
        let rates = self.rates.add(status.elapsed, counts);
        match self.style {
            Style::InPlace => {
                let table = status_table::progress(status, &rates).to_string();
                let title = format!("{}  {:.1} s\n", self.name, status.elapsed.as_secs_f64());
                // What does not fit could not be erased again. One line stays free for the cursor.
                let (rows, columns) = tcgetwinsize(std::io::stdout()).map_or((24, 80), |size| {
                    (usize::from(size.ws_row).max(2), usize::from(size.ws_col).max(1))
                });
                let cut = |line: &str| line.chars().take(columns).chain(['\n']).collect::<String>();
                let lines: Vec<String> = title.lines().chain(table.lines()).take(rows - 1).map(cut).collect();
                self.erase();
                self.drawn = lines.len();
                self.print(&lines.concat());
            }
            Style::Lines if status.elapsed >= self.next_line => {
                self.next_line += LINE_EVERY;
                self.print(&format!("{}\n", status_table::progress_line(status, &rates)));
            }
            Style::Lines | Style::Quiet | Style::Json => {}
        }
    }

    /// Says what is worth knowing, above the table.
    fn say(&mut self, text: &str) {
        if matches!(self.style, Style::InPlace | Style::Lines) {
            self.erase();
            self.print(text);
        }
    }

    /// Says what is wrong, above the table.
    fn warn(&mut self, text: &str) {
        self.erase();
        // Nobody may be looking; the pipeline goes on all the same.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            self.print(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    fn print(&self, text: &str) {
        // As above.
        let _ = print(text);
    }
}

/// How a process died, as the end of a sentence about it.
fn verb(death: &Death) -> String {
    match death {
        Death::Signal { .. } => format!("was {death}"),
        _ => death.to_string(),
    }
}
