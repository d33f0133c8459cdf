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
  2  there is no such type")]
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
        spec.example_text().trim().lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
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
    use super::*;

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
