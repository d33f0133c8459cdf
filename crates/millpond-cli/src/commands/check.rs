//! `millpond check`: says everything that is wrong with a pipeline file.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use millpond::{Catalog, Error, Flowgraph};
use serde_json::json;

use crate::args::UsageError;
use crate::output;

/// The pipeline file is wrong; the same code as for wrong arguments.
const EXIT_BAD_FILE: u8 = 2;

/// Options of `millpond check`.
#[derive(clap::Args)]
#[command(after_help = "\
Nothing is run, except for the programs that the file names: they are asked
for their block types.

Examples:
  millpond check examples/telemetry.toml
  millpond check examples/telemetry.toml --json | jq '.mistakes[].line'

Exit codes:
  0  the file is right
  2  it is not; everything that is wrong is listed")]
pub struct Args {
    /// The pipeline file
    file: PathBuf,
    /// Print one JSON object, with the mistakes and their places
    #[arg(long)]
    json: bool,
}

/// Checks the file.
///
/// # Errors
/// If it cannot be read. Mistakes in it are an exit code.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match Flowgraph::load(&args.file, &Catalog::builtin()) {
        Ok(flowgraph) => {
            if let Some(warning) = flowgraph.pool_warning() {
                eprintln!("warning: {warning}");
            }
            let own = flowgraph.blocks.iter().filter(|node| node.process.is_none()).count();
            let shared: BTreeSet<_> =
                flowgraph.blocks.iter().filter_map(|node| node.process.as_ref()).collect();
            let (blocks, connections) = (flowgraph.blocks.len(), flowgraph.connections.len());
            let processes = own + shared.len();
            if args.json {
                output::print_json(&json!({
                    "file": args.file, "blocks": blocks, "connections": connections, "processes": processes, "mistakes": []
                }))?;
            } else {
                output::print(&format!(
                    "{}: {}, {}, {}\n",
                    args.file.display(),
                    counted(blocks, "block"),
                    counted(connections, "connection"),
                    counted(processes, "process"),
                ))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(Error::Flowgraph(diagnostics)) => {
            if args.json {
                let mistakes = diagnostics.iter().map(|mistake| {
                    let (line, column) = diagnostics.position(mistake).unzip();
                    json!({ "line": line, "column": column, "message": mistake.message, "help": mistake.help })
                });
                output::print_json(&json!({ "file": args.file, "mistakes": mistakes.collect::<Vec<_>>() }))?;
            } else {
                eprint!("{diagnostics}");
            }
            Ok(ExitCode::from(EXIT_BAD_FILE))
        }
        Err(error) => Err(UsageError(error.to_string()).into()),
    }
}

fn counted(number: usize, noun: &str) -> String {
    let ending = match (number, noun.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{number} {noun}{ending}")
}
