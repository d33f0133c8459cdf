//! What a block's process tells its supervisor: lines on standard error that begin with a word. Other lines are passed on as
//! they are.
//!
//! A process that runs one block leaves the block's name out; one that runs several cannot.

use std::fmt::Display;
use std::io::Write as _;

/// A line from a block's process, as the supervisor reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report<'a> {
    /// `note: TEXT`, `note BLOCK: TEXT`: what a block tells the user.
    Note(Option<&'a str>, &'a str),
    /// `failed: TEXT`, `failed BLOCK: TEXT`: why the process is about to end.
    Failed(Option<&'a str>, &'a str),
    /// `done BLOCK`: one of several blocks has ended its streams.
    Done(&'a str),
    /// Anything else: a warning, the text of a panic.
    Line(&'a str),
}

impl<'a> Report<'a> {
    pub(crate) fn of(line: &'a str) -> Self {
        let said = |word: &str| {
            let (block, text) = line.strip_prefix(word)?.split_once(": ").or_else(|| {
                let rest = line.strip_prefix(word)?;
                rest.strip_suffix(':').map(|block| (block, ""))
            })?;
            match block.strip_prefix(' ') {
                Some(block) if crate::param::is_name(block) => Some((Some(block), text)),
                None if block.is_empty() => Some((None, text)),
                _ => None,
            }
        };
        if let Some((block, text)) = said("note") {
            return Report::Note(block, text);
        }
        if let Some((block, text)) = said("failed") {
            return Report::Failed(block, text);
        }
        match line.strip_prefix("done ").filter(|block| crate::param::is_name(block)) {
            Some(block) => Report::Done(block),
            None => Report::Line(line),
        }
    }
}

pub(crate) fn note(block: Option<&str>, text: &str) {
    say("note", block, &format_args!(": {text}"));
}

pub(crate) fn failed(block: Option<&str>, error: &dyn Display) {
    let text = error.to_string().replace('\n', " ");
    say("failed", block, &format_args!(": {text}"));
}

pub(crate) fn done(block: &str) {
    say("done", Some(block), &"");
}

/// A line for the user that is no report; it names the block by itself.
pub(crate) fn warning(text: &str) {
    let _ = std::io::stderr().write_all(format!("{}\n", text.replace('\n', " ")).as_bytes());
}

fn say(word: &str, block: Option<&str>, rest: &dyn Display) {
    let space = if block.is_some() { " " } else { "" };
    // In one piece, so that lines of several threads do not mix. Nobody may be listening any more; that is no reason to fail.
    let line = format!("{word}{space}{}{rest}\n", block.unwrap_or_default());
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        assert_eq!(Report::of("note: wrote 3 rows: all"), Report::Note(None, "wrote 3 rows: all"));
        assert_eq!(Report::of("note csv: wrote 3 rows"), Report::Note(Some("csv"), "wrote 3 rows"));
        assert_eq!(Report::of("failed: "), Report::Failed(None, ""));
        assert_eq!(Report::of("failed a-b: read x: no"), Report::Failed(Some("a-b"), "read x: no"));
        assert_eq!(Report::of("done sink"), Report::Done("sink"));
        for line in ["", "done", "done with this", "failed to open x: no such file", "noted: yes", "note"] {
            assert_eq!(Report::of(line), Report::Line(line));
        }
    }
}
