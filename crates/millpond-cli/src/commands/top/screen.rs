//! How `millpond top` draws its rows: on a screen, or as plain text.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table as Grid};

use super::View;
use super::rows::{Row, Rows};
use crate::table::{Column, Table};
use crate::units;

/// Heading, and whether its cells are numbers.
const COLUMNS: [(&str, bool); 12] = [
    ("BLOCK / QUEUE", false),
    ("STATE", false),
    ("WAITING", false),
    ("CPU", true),
    ("IN", true),
    ("OUT", true),
    ("QUEUED", true),
    ("LOST", true),
    ("P50", true),
    ("P99", true),
    ("RST", true),
    ("PID", true),
];
/// Columns that go first when the screen is narrow, the least important first.
const DROPPED_FIRST: [usize; 6] = [11, 8, 2, 10, 9, 3];
const NARROWEST_NAME: usize = 18;

/// The rows as text, one line each.
pub fn plain(rows: &Rows) -> String {
    let columns = COLUMNS.map(|(name, number)| if number { Column::Right(name) } else { Column::Left(name) });
    let mut table = Table::new(&columns);
    for row in &rows.rows {
        table.row(cells(row));
    }
    format!("{}\n{table}", title(rows, usize::MAX))
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let title = title(&view.rows, usize::from(frame.area().width));
    let title_lines = Constraint::Length(title.lines().count() as u16);
    let [top, middle, bottom] =
        Layout::vertical([title_lines, Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
    let texts: Vec<[String; 12]> = view.rows.rows.iter().map(cells).collect();
    let shown = usize::from(middle.height).saturating_sub(1).max(1);
    view.first = view.first.min(texts.len().saturating_sub(shown));
    let columns = fitting_columns(&texts, usize::from(middle.width));
    let width = |column: usize| {
        let cells = texts.iter().map(|row| row[column].chars().count());
        cells.chain([COLUMNS[column].0.len()]).max().unwrap_or(0) as u16
    };
    let plain_colours = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let cell = |column: usize, text: &str| {
        let line = Line::from(text.to_owned());
        Cell::from(if COLUMNS[column].1 { line.right_aligned() } else { line })
    };
    let header = Cells::new(columns.iter().map(|&column| cell(column, COLUMNS[column].0)))
        .style(Style::new().add_modifier(Modifier::REVERSED));
    let visible = view.rows.rows.iter().zip(&texts).skip(view.first).take(shown);
    let lines = visible.map(|(row, text)| {
        let style = if plain_colours { Style::new() } else { style(row) };
        Cells::new(columns.iter().map(|&column| cell(column, &text[column]))).style(style)
    });
    let widths = columns.iter().map(|&column| match column {
        0 => Constraint::Max(width(0)),
        _ => Constraint::Length(width(column)),
    });
    frame.render_widget(Paragraph::new(title), top);
    frame.render_widget(Grid::new(lines, widths).header(header).column_spacing(2), middle);
    let more = texts.len().saturating_sub(view.first + shown);
    let state = if view.paused { "paused  " } else { "" };
    let below = if more > 0 { format!("  {more} more below") } else { String::new() };
    frame.render_widget(Paragraph::new(format!("{state}q end  p pause  arrows scroll{below}")), bottom);
}

/// The columns that fit into the width, in their order.
fn fitting_columns(texts: &[[String; 12]], width: usize) -> Vec<usize> {
    let needs = |column: usize| {
        let cells = texts.iter().map(|row| row[column].chars().count());
        cells.chain([COLUMNS[column].0.len()]).max().unwrap_or(0)
    };
    let mut columns: Vec<usize> = (0..COLUMNS.len()).collect();
    for dropped in DROPPED_FIRST {
        let name = needs(0).min(NARROWEST_NAME.max(width / 3));
        let others: usize = columns.iter().skip(1).map(|&column| needs(column) + 2).sum();
        if name + others <= width {
            break;
        }
        columns.retain(|&column| column != dropped);
    }
    columns
}

/// The pond as a whole, in as many lines as it takes.
fn title(rows: &Rows, width: usize) -> String {
    let state = match rows.alive {
        true => format!("{} processes", rows.processes),
        false => "all processes have ended; this is the last state".to_owned(),
    };
    let mut title = format!("{}  {state}", rows.pond);
    let recovered =
        Some(rows.recoveries).filter(|count| *count > 0).map(|count| format!("{count} recovered"));
    let buffers = format!("{} of {} buffers in use", rows.buffers_used, rows.buffers);
    let mut column = title.chars().count();
    for part in recovered.into_iter().chain([buffers]) {
        let (needed, last) = (part.chars().count(), ", ".len());
        // A comma may follow.
        if column + last + needed + 1 > width {
            title += ",\n  ";
            column = 2 + needed;
        } else {
            title += ", ";
            column += last + needed;
        }
        title += &part;
    }
    title
}

fn cells(row: &Row) -> [String; 12] {
    let latency = |ns: Option<u64>| ns.map_or_else(String::new, |ns| units::nanoseconds(ns as f64));
    let rate = |rate: f64| if rate > 0.0 { units::per_second(rate) } else { "-".to_owned() };
    let count = |count: u64| if count > 0 { count.to_string() } else { String::new() };
    let queued = if row.depth > 0 { format!("{}/{}", row.queued, row.depth) } else { String::new() };
    [
        if row.is_queue { format!("  {}", row.name) } else { row.name.clone() },
        row.state.clone(),
        row.waiting.to_owned(),
        row.cpu_percent.map_or_else(String::new, |percent| format!("{percent:.0}%")),
        rate(row.taken_per_s),
        rate(row.sent_per_s),
        queued,
        count(row.dropped),
        latency(row.latency_p50_ns),
        latency(row.latency_p99_ns),
        count(row.restarts),
        row.pid.map_or_else(String::new, |pid| pid.to_string()),
    ]
}

fn style(row: &Row) -> Style {
    let style = match row.state.as_str() {
        "dead" | "failed" | "sender died" | "receiver died" | "no process" => Style::new().fg(Color::Red),
        "stalled" | "stopped" | "traced" => Style::new().fg(Color::Yellow),
        _ if row.dropped > 0 => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    };
    if row.is_queue { style.add_modifier(Modifier::DIM) } else { style }
}
