//! Plain text tables: columns as wide as their widest cell, two spaces between them, no lines. On a terminal the words of the last
//! column go on in the next line where it is too narrow.

use std::fmt;

use rustix::termios::tcgetwinsize;

/// A last column that is narrower is left to the terminal.
const MIN_WRAPPED: usize = 16;

/// The heading of a column and the side its cells are aligned to.
#[derive(Clone, Copy)]
pub enum Column {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

impl Column {
    fn heading(self) -> &'static str {
        match self {
            Self::Left(heading) | Self::Right(heading) => heading,
        }
    }
}

/// Rows under headings; written with `Display`, one line each, indented by two spaces.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If there is not one cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.columns.len(), "one cell for each column");
        self.rows.push(cells.into());
    }

    /// No rows were added.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, terminal_columns())
    }
}

/// Columns of the terminal that standard output is; `None`: it is none.
pub fn terminal_columns() -> Option<usize> {
    tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

impl Table {
    fn write(&self, f: &mut impl fmt::Write, terminal: Option<usize>) -> fmt::Result {
        let headings: Vec<String> = self.columns.iter().map(|column| column.heading().to_owned()).collect();
        let lines = || std::iter::once(&headings).chain(&self.rows);
        let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for line in lines() {
            let mut text = String::new();
            for ((cell, column), width) in line.iter().zip(&self.columns).zip(&widths) {
                text.push_str("  ");
                match column {
                    Column::Left(_) => text.push_str(&format!("{cell:<width$}")),
                    Column::Right(_) => text.push_str(&format!("{cell:>width$}")),
                }
            }
            let indent = 2 + widths[..widths.len() - 1].iter().map(|width| width + 2).sum::<usize>();
            let room = terminal.map_or(usize::MAX, |columns| columns.saturating_sub(indent));
            match self.columns.last() {
                Some(Column::Left(_)) if room >= MIN_WRAPPED => write_wrapped(f, &text, indent, room)?,
                _ => writeln!(f, "{}", text.trim_end())?,
            }
        }
        Ok(())
    }
}

/// Writes a line whose part from `indent` on is broken between words into lines of `room` characters.
fn write_wrapped(f: &mut impl fmt::Write, line: &str, indent: usize, room: usize) -> fmt::Result {
    let start = line.char_indices().nth(indent).map_or(line.len(), |(at, _)| at);
    let (mut text, mut used) = (line[..start].to_owned(), 0);
    for word in line[start..].split_whitespace() {
        let width = word.chars().count();
        if used > 0 && used + 1 + width > room {
            writeln!(f, "{}", text.trim_end())?;
            (text, used) = (" ".repeat(indent), 0);
        }
        if used > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += width;
    }
    writeln!(f, "{}", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_column_fits_the_terminal() {
        let mut table = Table::new(&[Column::Left("NAME"), Column::Left("MEANING")]);
        table.row(["a".into(), "words that go on and on".into()]);
        let written = |terminal| {
            let mut text = String::new();
            table.write(&mut text, terminal).expect("a string");
            text
        };
        assert_eq!(written(Some(25)), "  NAME  MEANING\n  a     words that go on\n        and on\n");
        assert_eq!(written(Some(20)), written(None));
    }

    #[test]
    fn cells_are_aligned_under_their_headings() {
        let mut table = Table::new(&[Column::Left("NAME"), Column::Right("QUEUED"), Column::Left("STATE")]);
        assert!(table.is_empty());
        table.row(["a".into(), "7".into(), "ok".into()]);
        table.row(["longer".into(), "1234567".into(), String::new()]);
        let expected = "  NAME     QUEUED  STATE\n  a             7  ok\n  longer  1234567\n";
        assert_eq!(table.to_string(), expected);
    }
}
