//! Blocks, ports and connections by name. Every change is made under the registry lock and in an order that leaves a half-made
//! record free and a half-removed one closing, so that whoever takes the lock over has nothing to repair.
//!
//! `blocks`, `ports` and `connections` make and remove the records; `ends` says which process stands at a port and at its connections.

mod blocks;
mod connections;
mod ends;
mod ports;

use crate::control::Control;
use crate::error::{Error, Result};
use crate::layout::MAX_NAME_BYTES;
pub(crate) use crate::registry::ports::read_format;
use crate::registry_lock::Registry;
use crate::sync::Ordering;

/// Which way data goes through a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Direction {
    /// Out of the block.
    Output = 1,
    /// Into the block.
    Input = 2,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Output => "output",
            Direction::Input => "input",
        }
    }
}

/// Whether `name` can be the name of a pond, block or port: 1 to 64 letters, digits, `-` and `_`.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!("it has {} bytes, at most {MAX_NAME_BYTES} are allowed", name.len())
    } else if let Some(bad) = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
        format!("`{bad}` is not allowed; use letters, digits, `-` and `_`")
    } else {
        return Ok(());
    };
    Err(Error::InvalidName { what, name: name.to_owned(), reason })
}

fn split_port(port: &str) -> Result<(&str, &str)> {
    let Some((block, name)) = port.split_once('.') else {
        return Err(Error::InvalidName {
            what: "port",
            name: port.to_owned(),
            reason: "expected `block.port`, for example `gain.out`".to_owned(),
        });
    };
    check_name("block", block)?;
    check_name("port", name)?;
    Ok((block, name))
}

/// `block.port` of a port's index, for people.
pub(crate) fn port_name(control: &Control, index: u32) -> String {
    let Some(port) = control.port(index) else { return "?".to_owned() };
    let block =
        control.block(port.block.load(Ordering::Relaxed)).map_or_else(|| "?".to_owned(), |b| b.name.load());
    format!("{block}.{}", port.name.load())
}

fn find<'a, T>(
    mut records: impl Iterator<Item = (u32, &'a T)>,
    matches: impl Fn(&T) -> bool,
) -> Option<(u32, &'a T)> {
    records.find(|(_, r)| matches(r))
}

impl Registry<'_> {
    pub(crate) fn full(&self, what: &'static str, limit: usize, advice: &'static str) -> Error {
        Error::TableFull { pond: self.pond.name.clone(), what, limit, advice }
    }

    pub(crate) fn unknown(&self, what: &'static str, name: &str) -> Error {
        Error::Unknown { pond: self.pond.name.clone(), what, name: name.to_owned() }
    }
}
