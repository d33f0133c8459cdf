//! What is wrong with a pipeline file, all at once, each with the line it is on.

use std::fmt;
use std::ops::Range;

/// One mistake.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Where in the file, in bytes; `None`: the file as a whole.
    pub span: Option<Range<usize>>,
    /// What is wrong: what was expected, what was found.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// All mistakes of one pipeline file. Displayed with file, line, the line's text and a mark under the place.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    path: String,
    text: String,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), list: Vec::new() }
    }

    pub(crate) fn add(
        &mut self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.list.push(Diagnostic { span, message: message.into(), help });
    }

    /// Nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The mistakes, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        let mut in_order: Vec<&Diagnostic> = self.list.iter().collect();
        in_order.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(0, |span| span.start));
        in_order.into_iter()
    }

    /// Line and column of a mistake, both counted from 1; `None`: it is one of the file as a whole.
    pub fn position(&self, diagnostic: &Diagnostic) -> Option<(usize, usize)> {
        let (line, column, _) = self.locate(diagnostic.span.as_ref()?.start);
        Some((line, column))
    }

    /// Line and column of a place, both counted from 1, and the line's text.
    fn locate(&self, at: usize) -> (usize, usize, &str) {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[line_start..].lines().next().unwrap_or("");
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1, line)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            writeln!(f, "error: {}", diagnostic.message)?;
            if let Some(span) = &diagnostic.span {
                let (line, column, source) = self.locate(span.start);
                // A mark ends with its line, even if the place goes on in the next one.
                let room = source.chars().count().saturating_sub(column - 1);
                let marked = self.text.get(span.clone()).map_or(0, |text| text.chars().count()).min(room);
                let number = line.to_string();
                let gutter = " ".repeat(number.len());
                writeln!(f, "{gutter}--> {}:{line}:{column}", self.path)?;
                writeln!(f, "{gutter} |")?;
                writeln!(f, "{number} | {source}")?;
                writeln!(f, "{gutter} | {}{}", " ".repeat(column - 1), "^".repeat(marked.max(1)))?;
            } else {
                writeln!(f, " --> {}", self.path)?;
            }
            if let Some(help) = &diagnostic.help {
                writeln!(f, "  = help: {}", help.replace('\n', "\n          "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        let text = "name = \"ä\"\nrate = 100\n";
        let mut diagnostics = Diagnostics::new("a.toml", text);
        diagnostics.add(Some(12..16), "unknown key `rate`", Some("did you mean `rate_hz`?".into()));
        diagnostics.add(None, "there are no blocks", None);
        let expected = "\
error: there are no blocks
 --> a.toml

error: unknown key `rate`
 --> a.toml:2:1
  |
2 | rate = 100
  | ^^^^
  = help: did you mean `rate_hz`?
";
        assert_eq!(diagnostics.to_string(), expected);
        let positions: Vec<_> = diagnostics.iter().map(|mistake| diagnostics.position(mistake)).collect();
        assert_eq!(positions, [None, Some((2, 1))]);
    }

    #[test]
    fn marks_stay_within_their_line() {
        let text = "a = [\n 1,\n]\n";
        let mut diagnostics = Diagnostics::new("a.toml", text);
        diagnostics.add(Some(4..10), "wrong", None);
        diagnostics.add(Some(text.len()..text.len()), "ends too soon", None);
        let shown = diagnostics.to_string();
        assert!(shown.contains("1 | a = [\n  |     ^\n"), "{shown}");
        assert!(shown.contains(" --> a.toml:4:1\n"), "{shown}");
    }
}
