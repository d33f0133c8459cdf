//! Flowgraphs in one line: `signal freq_hz=440 ! gain k=0.5 ! wav-sink path=a.wav`.
//!
//! Blocks are separated by `!`, each a type and its parameters; each sends to the next. Words are separated by spaces and
//! quoted as in a shell: `'...'`, `"..."`, `\`.

use std::ops::Range;

use millpond_shm::ConnectionConfig;

use super::reader::{Draft, DraftBlock, DraftConnection, Located};
use super::{Diagnostics, Flowgraph, Restart, check};
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::param::{Param, Value};
use crate::spec::Spec;

/// How diagnostics call the place of a line.
const PLACE: &str = "line";

impl Flowgraph {
    /// Reads and checks a flowgraph that is written in one line: types with their parameters, separated by `!`. A parameter may be
    /// called by the beginning of its name if no other one begins so. Blocks are called like their types, the second
    /// of a type `TYPE-2` and so on.
    ///
    /// # Errors
    /// [`Error::Flowgraph`] with everything that is wrong in the line.
    pub fn parse_line(name: &str, line: &str, catalog: &Catalog) -> Result<Self> {
        let mut diagnostics = Diagnostics::new(PLACE, line);
        let draft = read(line, catalog, &mut diagnostics);
        let flowgraph = check::check(draft, name, catalog, &mut diagnostics);
        if diagnostics.is_empty() { Ok(flowgraph) } else { Err(Error::Flowgraph(diagnostics)) }
    }
}

fn read(line: &str, catalog: &Catalog, diagnostics: &mut Diagnostics) -> Draft {
    let words = words(line, diagnostics);
    let mut draft = Draft { connections_complete: true, ..Draft::default() };
    let mut chain: Vec<Located<String>> = Vec::new();
    let mut at = 0;
    for element in words.split(Word::is_separator) {
        // Where the separator is that has nothing on one of its sides.
        let separator = words.get(at + element.len()).or_else(|| words.get(at.checked_sub(1)?));
        at += element.len() + 1;
        let Some((block_type, params)) = element.split_first() else {
            let span = separator.map(|word| word.span.clone());
            diagnostics.add(span, "expected a block on both sides of `!`", None);
            draft.connections_complete = false;
            continue;
        };
        let name = name_of(&block_type.text, &draft.blocks);
        let spec = catalog.find(&block_type.text).ok().map(|found| found.spec());
        let params: Vec<_> = params.iter().filter_map(|word| param(word, spec, diagnostics)).collect();
        for (at, (name, _)) in params.iter().enumerate() {
            if params[..at].iter().any(|(earlier, _)| earlier.value == name.value) {
                diagnostics.add(Some(name.span.clone()), format!("`{}` is given twice", name.value), None);
            }
        }
        chain.push(Located { value: name.clone(), span: block_type.span.clone() });
        draft.blocks.push(DraftBlock {
            name: Located { value: name, span: block_type.span.clone() },
            block_type: Some(Located { value: block_type.text.clone(), span: block_type.span.clone() }),
            restart: Restart::default(),
            kill_stalled: None,
            process: None,
            program: None,
            params,
        });
    }
    let config = ConnectionConfig::default();
    let pairs = chain.windows(2).map(|pair| (pair[0].clone(), pair[1].clone()));
    draft.connections.extend(pairs.map(|(from, to)| DraftConnection { from, to, config }));
    draft
}

/// The type, or with a number if there is such a block already.
fn name_of(block_type: &str, blocks: &[DraftBlock]) -> String {
    let is_taken = |name: &str| blocks.iter().any(|block| block.name.value == name);
    let numbered = (2..).map(|number| format!("{block_type}-{number}"));
    std::iter::once(block_type.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default()
}

fn param(
    word: &Word,
    spec: Option<&Spec>,
    diagnostics: &mut Diagnostics,
) -> Option<(Located<String>, Value)> {
    let Some((in_text, in_line)) = word.equals else {
        let help = "parameters follow the type as NAME=VALUE, and `!` stands between two blocks".to_owned();
        let message = format!("expected a parameter like NAME=VALUE, found `{}`", word.text);
        diagnostics.add(Some(word.span.clone()), message, Some(help));
        return None;
    };
    let (name, value) = (&word.text[..in_text], &word.text[in_text + 1..]);
    let name_span = word.span.start..in_line;
    let params = spec.map_or(&[][..], Spec::params);
    let Some(param) = find(params, name) else {
        let begun: Vec<&str> =
            params.iter().map(Param::name).filter(|param| param.starts_with(name)).collect();
        if begun.len() > 1 && !name.is_empty() {
            let message = format!("several parameters begin with `{name}`");
            diagnostics.add(Some(name_span), message, Some(format!("write one of {}", begun.join(", "))));
            return None;
        }
        return Some((Located { value: name.to_owned(), span: name_span }, Value::Text(value.to_owned())));
    };
    Some(match param.parse(value) {
        Ok(value) => (Located { value: param.name().to_owned(), span: name_span }, value),
        // The check says what is wrong with it.
        Err(_) => (
            Located { value: param.name().to_owned(), span: word.span.clone() },
            Value::Text(value.to_owned()),
        ),
    })
}

/// The parameter of that name, or the only one whose name begins so.
fn find<'a>(params: &'a [Param], name: &str) -> Option<&'a Param> {
    let mut begun = params.iter().filter(|param| !name.is_empty() && param.name().starts_with(name));
    let only = begun.next().filter(|_| begun.next().is_none());
    params.iter().find(|param| param.name() == name).or(only)
}

/// A word without its quotes.
struct Word {
    text: String,
    /// Where it stands in the line, quotes included.
    span: Range<usize>,
    /// Where its first `=` is that is not quoted: in the text, and in the line.
    equals: Option<(usize, usize)>,
    is_quoted: bool,
}

impl Word {
    fn is_separator(&self) -> bool {
        self.text == "!" && !self.is_quoted
    }
}

fn words(line: &str, diagnostics: &mut Diagnostics) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote: Option<(char, usize)> = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let begun = word.get_or_insert_with(|| Word {
            text: String::new(),
            span: at..at,
            equals: None,
            is_quoted: false,
        });
        let mut end = at + c.len_utf8();
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some((c, at));
                begun.is_quoted = true;
            }
            (c, Some((closing, _))) if c == closing => quote = None,
            ('\\', None | Some(('"', _))) => {
                begun.is_quoted = true;
                if let Some((at, escaped)) = chars.next() {
                    begun.text.push(escaped);
                    end = at + escaped.len_utf8();
                }
            }
            _ => {
                if c == '=' && quote.is_none() && begun.equals.is_none() {
                    begun.equals = Some((begun.text.len(), at));
                }
                begun.text.push(c);
            }
        }
        begun.span.end = end;
    }
    if let Some((mark, at)) = quote {
        diagnostics.add(Some(at..line.len()), format!("this {mark} is never closed"), None);
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flowgraph> {
        Flowgraph::parse_line("line-1", line, &Catalog::builtin())
    }

    fn mistakes(line: &str) -> Vec<(String, String, Option<String>)> {
        match parse(line) {
            Err(Error::Flowgraph(found)) => found
                .iter()
                .map(|one| {
                    let place = one.span.clone().map_or("", |span| &line[span]);
                    (place.to_owned(), one.message.clone(), one.help.clone())
                })
                .collect(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_line_is_a_flowgraph() {
        let flowgraph =
            parse(r#"signal freq=440 duration_s=0.5 ! gain k=0.5 ! gain k=-2 ! wav-sink path='a b.wav'"#)
                .unwrap();
        let shown: Vec<_> = flowgraph
            .blocks
            .iter()
            .map(|block| (block.name.as_str(), block.block_type.as_str(), block.given.clone()))
            .collect();
        let named = |name: &str, value: Value| (name.to_owned(), value);
        assert_eq!(
            shown,
            [
                ("signal", "signal", vec![named("freq_hz", 440.0.into()), named("duration_s", 0.5.into())]),
                ("gain", "gain", vec![named("k", 0.5.into())]),
                ("gain-2", "gain", vec![named("k", Value::Float(-2.0))]),
                ("wav-sink", "wav-sink", vec![named("path", "a b.wav".into())]),
            ]
        );
        let connections: Vec<String> =
            flowgraph.connections.iter().map(|c| format!("{} -> {}", c.from, c.to)).collect();
        assert_eq!(
            connections,
            ["signal.out -> gain.in", "gain.out -> gain-2.in", "gain-2.out -> wav-sink.in"]
        );
        assert_eq!(flowgraph.name, "line-1");
    }

    #[test]
    fn words_are_quoted_as_in_a_shell() {
        let flowgraph =
            parse(r#"exec-source command="printf \"a = %s ! b\" '\\'" ! file-sink path=a\ b'c "d"'e"#)
                .unwrap();
        assert_eq!(flowgraph.blocks[0].given[0].1, Value::Text(r#"printf "a = %s ! b" '\'"#.to_owned()));
        assert_eq!(flowgraph.blocks[1].given[0].1, Value::Text(r#"a bc "d"e"#.to_owned()));
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        let one = |line: &str| {
            let found = mistakes(line);
            assert_eq!(found.len(), 1, "{found:?}");
            found
                .into_iter()
                .next()
                .map(|(place, message, help)| (place, message, help.unwrap_or_default()))
                .unwrap()
        };
        let expect = |line: &str, place: &str, message: &str, help: &str| {
            let found = one(line);
            assert_eq!(
                (found.0.as_str(), found.1.as_str(), found.2.as_str()),
                (place, message, help),
                "{line}"
            );
        };
        expect("singal ! null-sink", "singal", "there is no block type `singal`", "did you mean `signal`?");
        expect("signal ! gain kk=2 ! null-sink", "kk", "`gain` has no parameter `kk`", "did you mean `k`?");
        expect(
            "signal ! gain k=loud ! null-sink",
            "k=loud",
            "block `gain`: parameter `k`: expected a number from -1000000000 to 1000000000, found loud",
            "`k` is the factor",
        );
        expect(
            "signal ! gain 0.5 ! null-sink",
            "0.5",
            "expected a parameter like NAME=VALUE, found `0.5`",
            "parameters follow the type as NAME=VALUE, and `!` stands between two blocks",
        );
        expect("signal ! gain k=1 k=2 ! null-sink", "k", "`k` is given twice", "");
        expect(
            "signal f=4 ! null-sink",
            "f",
            "several parameters begin with `f`",
            "write one of freq_hz, frames",
        );
        expect("signal ! ! null-sink", "!", "expected a block on both sides of `!`", "");
        expect("signal ! null-sink !", "!", "expected a block on both sides of `!`", "");
        expect("signal ! file-sink path='a b", "'a b", "this ' is never closed", "");
        expect(
            "signal ! wav-sink",
            "wav-sink",
            "block `wav-sink` needs the parameter `path`",
            "`path` is the file to write: text",
        );
        let several = mistakes("null-sink ! signal amp=loud");
        assert!(several.len() >= 2, "{several:?}");
    }
}
