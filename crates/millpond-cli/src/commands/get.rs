//! `millpond get`: the parameters of a block that runs.

use std::process::ExitCode;
use std::time::Duration;

use millpond::bus::Json;
use millpond::parse_duration;

use super::joining;
use crate::output;
use crate::table::{Column::Left, Table};

/// Options of `millpond get`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  millpond get studio gain          all parameters, with their ranges
  millpond get studio gain k        one value, alone on its line
  millpond get studio gain --json | jq '.[] | {name, value}'

Exit codes:
  0  shown
  1  no such parameter, or no such pond
  2  the arguments are wrong
  3  nobody answered: no such block runs, or it is stopped")]
pub struct Args {
    /// The pond
    pond: String,
    /// The block
    block: String,
    /// One parameter; all if left out
    param: Option<String>,
    /// How long to wait for the block
    #[arg(long, default_value = joining::DEFAULT_TIMEOUT, value_parser = parse_duration)]
    timeout: Duration,
    /// Print JSON: one object, or a list of them
    #[arg(long)]
    json: bool,
}

/// Shows.
///
/// # Errors
/// If the block has no such parameter, or there is no such pond.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { pond, block, param, timeout, json } = args;
    let bus = joining::join(&pond)?;
    let argument = param.map_or(Json::Null, Json::String);
    let topic = format!("{block}/get");
    joining::call(&bus, &topic, &argument, timeout, |answer| {
        let answer = match answer {
            // Of many parameters a block tells only names and values at once.
            Json::Array(params) => params
                .into_iter()
                .map(|param| match param.get("expected") {
                    Some(_) => Ok(param),
                    None => bus.call(&topic, &param["name"], timeout),
                })
                .collect::<Result<Json, _>>()?,
            one => one,
        };
        match &answer {
            answer if json => output::print_json(answer),
            Json::Array(params) => Ok(output::print(&table(params).to_string())?),
            param => Ok(output::print(&format!("{}\n", text(&param["value"])))?),
        }
    })
}

fn table(params: &[Json]) -> Table {
    let mut table = Table::new(&[
        Left("PARAMETER"),
        Left("VALUE"),
        Left("CAN BE"),
        Left("WHILE RUNNING"),
        Left("MEANING"),
    ]);
    for param in params {
        let fixed = param["fixed"].as_bool().unwrap_or_default();
        table.row([
            text(&param["name"]),
            text(&param["value"]),
            text(&param["expected"]),
            if fixed { "fixed" } else { "can be set" }.to_owned(),
            text(&param["doc"]),
        ]);
    }
    table
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or("-").to_owned()
}
