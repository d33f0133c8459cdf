//! Plain text tables: columns as wide as their widest cell, two spaces between them, no lines.

use std::fmt;

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
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
