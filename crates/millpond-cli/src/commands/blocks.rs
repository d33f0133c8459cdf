//! `millpond blocks`: which types of block there are, and what one of them takes.

use std::fmt::Write as _;
use std::process::ExitCode;

use millpond::{Catalog, Spec};

use crate::args::UsageError;
use crate::output;
use crate::table::{Column, Table, terminal_columns};

/// Options of `millpond blocks`.
#[derive(clap::Args)]
#[command(after_help = "\
Parameters marked * can change while the block runs.

Examples:
  millpond blocks
  millpond blocks fir
  millpond blocks --json | jq -r '.blocks[].type'

Exit codes:
  0  ok
  1  standard output cannot be written
  2  the arguments are wrong: there is no such type")]
pub struct Args {
    /// A type of block, such as gain; without it, all are listed
    #[arg(value_name = "TYPE")]
    block_type: Option<String>,
    /// Print JSON as every program with blocks does (docs/programs.md): {\"blocks\": [...]}, or the object of one type
    #[arg(long)]
    json: bool,
}

/// Width of running text where there is room for it.
const TEXT_COLUMNS: usize = 100;

/// Lists or shows.
///
/// # Errors
/// If there is no such type.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let catalog = Catalog::builtin();
    match args.block_type {
        Some(name) => {
            let found = catalog.find(&name).map_err(|error| UsageError(error.to_string()))?;
            if args.json {
                output::print_json(&found.spec().to_json())?;
            } else {
                output::print(&describe(found.spec()))?;
            }
        }
        None if args.json => {
            output::print(&(catalog.to_json() + "\n"))?;
        }
        None => output::print(&list(&catalog))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(catalog: &Catalog) -> String {
    let mut specs: Vec<&Spec> = catalog.iter().map(|block_type| block_type.spec()).collect();
    specs.sort_by_key(|spec| spec.name());
    let mut table = Table::new(&[Column::Left("TYPE"), Column::Left("WHAT IT DOES")]);
    specs.iter().for_each(|spec| table.row([spec.name().to_owned(), spec.doc().to_owned()]));
    table.to_string()
}

fn describe(spec: &Spec) -> String {
    let mut text = format!("{}: {}\n", spec.name(), spec.doc());
    if !spec.more().is_empty() {
        let _ = write!(text, "\n{}", wrap(spec.more()));
    }
    let mut ports = Table::new(&[
        Column::Left("PORT"),
        Column::Left("SIDE"),
        Column::Left("STREAM"),
        Column::Left("WHAT FLOWS THERE"),
    ]);
    for (side, of_side) in [("in", spec.input_ports()), ("out", spec.output_ports())] {
        for port in of_side {
            let side = if port.is_optional() { format!("{side}, optional") } else { side.to_owned() };
            ports.row([port.shown_name(), side, port.stream(), port.doc().to_owned()]);
        }
    }
    let _ = write!(text, "\nports\n{ports}");
    let mut params = Table::new(&[
        Column::Left("PARAMETER"),
        Column::Left("DEFAULT"),
        Column::Left("VALUE"),
        Column::Left("MEANING"),
    ]);
    for param in spec.params() {
        let live = if param.is_fixed() { "" } else { " *" };
        let name = format!("{}{live}", param.name());
        params.row([name, param.shown_default(), param.expected(), param.doc().to_owned()]);
    }
    if !params.is_empty() {
        let _ = write!(text, "\nparameters\n{params}");
    }
    if !spec.example_text().is_empty() {
        text.push_str("\nexample\n");
        let example = example(spec.example_text().trim(), terminal_columns());
        example.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

/// A pipeline in lines that the terminal need not break: then blocks are tables of several lines, and a list goes on in the next one.
fn example(text: &str, columns: Option<usize>) -> String {
    let fits = |line: &str| columns.is_none_or(|columns| line.chars().count() + 2 <= columns);
    if text.lines().all(fits) {
        return text.to_owned();
    }
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some((name, params)) = line.strip_suffix(" }").and_then(|line| line.split_once(" = { ")) {
            lines.push(format!("[{name}]"));
            lines.extend(parts(params));
        } else if let Some((key, items)) =
            line.strip_suffix(']').and_then(|line| line.split_once(" = [")).filter(|_| !fits(line))
        {
            lines.push(format!("{key} = ["));
            lines.extend(parts(items).iter().map(|item| format!("  {item},")));
            lines.push("]".to_owned());
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n")
}

/// What stands between commas, but not between those within quotes or brackets.
fn parts(text: &str) -> Vec<String> {
    let (mut parts, mut quoted, mut depth) = (vec![String::new()], false, 0u32);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            '[' if !quoted => depth += 1,
            ']' if !quoted => depth = depth.saturating_sub(1),
            ',' if !quoted && depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// Breaks running text into lines, indented by two spaces.
fn wrap(text: &str) -> String {
    let columns = terminal_columns().map_or(TEXT_COLUMNS, |columns| columns.min(TEXT_COLUMNS));
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > 0 && column + 1 + width > columns {
            lines.push('\n');
            column = 0;
        }
        let lead = if column == 0 { "  " } else { " " };
        lines.push_str(lead);
        lines.push_str(word);
        column += lead.len() + width;
    }
    lines + "\n"
}

#[cfg(test)]
mod tests {
    use millpond::Flowgraph;

    use super::*;

    #[test]
    fn examples_fit_into_eighty_columns_and_stay_the_same_pipelines() {
        let catalog = Catalog::builtin();
        let mut broken = 0;
        for block_type in catalog.iter() {
            let text = block_type.spec().example_text().trim();
            let narrow = example(text, Some(80));
            let longest = narrow.lines().map(|line| line.chars().count() + 2).max();
            assert!(longest <= Some(80), "{narrow}");
            let read = |text: &str| Flowgraph::parse("example.toml", text, &catalog).expect("a pipeline");
            let (one, other) = (read(text), read(&narrow));
            let said = |flowgraph: &Flowgraph| format!("{:?} {:?}", flowgraph.blocks, flowgraph.connections);
            assert_eq!(said(&one), said(&other), "{narrow}");
            assert_eq!(example(text, None), text);
            broken += u32::from(narrow != text);
        }
        assert!(broken > 0, "some are longer");
    }

    #[test]
    fn text_is_broken_between_words() {
        let text = wrap(&"word ".repeat(50));
        assert!(text.lines().all(|line| line.len() <= TEXT_COLUMNS && line.starts_with("  word")));
        assert_eq!(text.split_whitespace().count(), 50);
    }

    #[test]
    fn every_type_is_described() {
        for block_type in Catalog::builtin().iter() {
            let spec = block_type.spec();
            let text = describe(spec);
            assert!(text.starts_with(&format!("{}: ", spec.name())) && text.contains("\nports\n"), "{text}");
            assert!(spec.params().iter().all(|param| text.contains(param.name())), "{text}");
        }
    }
}
