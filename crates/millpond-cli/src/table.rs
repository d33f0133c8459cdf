//! Plain text tables: columns as wide as their widest cell, two spaces between them, no lines. Where a terminal is too narrow for
//! that, the widest columns become narrower, and their words go on in the next line.

use std::fmt;

use rustix::termios::tcgetwinsize;

/// A column of words that is no wider is not made narrower by breaking a word.
const MIN_BROKEN: usize = 8;
/// What stands before each column.
const GAP: &str = "  ";

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
        let rows = || std::iter::once(&headings).chain(&self.rows);
        let widths = self.widths(&headings, terminal);
        for row in rows() {
            let cells: Vec<Vec<String>> =
                row.iter().zip(&widths).map(|(cell, width)| broken(cell, *width)).collect();
            let lines = cells.iter().map(Vec::len).max().unwrap_or(0);
            for line in 0..lines {
                let mut text = String::new();
                for ((cell, column), width) in cells.iter().zip(&self.columns).zip(&widths) {
                    let part = cell.get(line).map_or("", String::as_str);
                    text.push_str(GAP);
                    match column {
                        Column::Left(_) => text.push_str(&format!("{part:<width$}")),
                        Column::Right(_) => text.push_str(&format!("{part:>width$}")),
                    }
                }
                writeln!(f, "{}", text.trim_end())?;
            }
        }
        Ok(())
    }

    /// As wide as the widest cell of each column, and narrower where the terminal is too narrow for that: first down to the longest
    /// word, then words are broken.
    fn widths(&self, headings: &[String], terminal: Option<usize>) -> Vec<usize> {
        let widest = |column: usize, width: &dyn Fn(&str) -> usize| {
            let cells = std::iter::once(&headings[column]).chain(self.rows.iter().map(|row| &row[column]));
            cells.map(|cell| width(cell)).max().unwrap_or(0)
        };
        let columns = 0..self.columns.len();
        let length = |text: &str| text.chars().count();
        let longest_word = |text: &str| text.split(' ').map(length).max().unwrap_or(0);
        let mut widths: Vec<usize> = columns.clone().map(|column| widest(column, &length)).collect();
        let Some(terminal) = terminal else { return widths };
        let room = terminal.saturating_sub(GAP.len() * widths.len());
        let words: Vec<usize> = columns.map(|column| widest(column, &longest_word)).collect();
        // What is no number in a column of numbers is its heading: room that only that needs is given up first.
        for column in (0..widths.len()).filter(|column| matches!(self.columns[*column], Column::Right(_))) {
            if widths.iter().sum::<usize>() > room {
                widths[column] = words[column];
            }
        }
        shrink(&mut widths, &words, room);
        let broken = self.columns.iter().zip(&words).map(|(column, word)| match column {
            Column::Left(_) => (*word).min(MIN_BROKEN),
            Column::Right(_) => *word,
        });
        shrink(&mut widths, &broken.collect::<Vec<_>>(), room);
        widths
    }
}

/// Makes the widest columns narrower until all fit or have reached their least widths.
fn shrink(widths: &mut [usize], least: &[usize], room: usize) {
    while widths.iter().sum::<usize>() > room {
        let shrinkable = widths.iter_mut().zip(least).filter(|(width, least)| **width > **least);
        let Some((widest, _)) = shrinkable.max_by_key(|(width, _)| **width) else { return };
        *widest -= 1;
    }
}

/// The lines of a cell: broken between words, and in words that are too long.
fn broken(cell: &str, width: usize) -> Vec<String> {
    if cell.chars().count() <= width {
        return vec![cell.to_owned()];
    }
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in cell.split(' ') {
        let letters: Vec<char> = word.chars().collect();
        if used > 0 && used + 1 + letters.len() <= width {
            line.push(' ');
            used += 1;
        } else if used > 0 {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        for part in letters.chunks(width.max(1)) {
            if used + part.len() > width.max(1) {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.extend(part);
            used += part.len();
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_columns_fit_the_terminal() {
        let mut table =
            Table::new(&[Column::Left("NAME"), Column::Right("REFUSED FULL"), Column::Left("MEANING")]);
        table.row(["a".into(), "12".into(), "words that go on and on".into()]);
        let written = |terminal| {
            let mut text = String::new();
            table.write(&mut text, terminal).expect("a string");
            text
        };
        let whole = "  NAME  REFUSED FULL  MEANING\n  a               12  words that go on and on\n";
        assert_eq!(written(None), whole);
        assert_eq!(written(Some(45)), whole);
        assert_eq!(
            written(Some(32)),
            "  NAME  REFUSED  MEANING\n           FULL\n  a          12  words that go\n                 on and on\n"
        );
        // Too narrow for anything: whole words are left to the terminal.
        assert!(written(Some(5)).contains("REFUSED") && written(Some(1)).contains("MEANING"));
    }

    #[test]
    fn words_without_spaces_are_broken_at_last() {
        let mut table = Table::new(&[Column::Left("PORT"), Column::Right("N")]);
        table.row(["a-very-long-name.out".into(), "7".into()]);
        let mut text = String::new();
        table.write(&mut text, Some(16)).expect("a string");
        assert_eq!(text, "  PORT         N\n  a-very-long  7\n  -name.out\n");
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
