//! Flowgraphs built in Rust code. What is built is written down as a pipeline file and read like one: it is checked in the same way,
//! and can be saved and run by `millpond run`.

use std::fmt::Write as _;
use std::time::Duration;

use millpond_shm::{ConnectionConfig, Policy, PoolConfig};

use super::Flowgraph;
use crate::catalog::Catalog;
use crate::error::Result;
use crate::param::Value;
use crate::placement::Placement;

/// A flowgraph in the making; see [`Flowgraph::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    /// Lines at the top of the file.
    head: String,
    connections: Vec<String>,
    tables: String,
    /// The process that each of the blocks shares, by block.
    shared: Vec<(String, String)>,
    blocks: Vec<(String, String)>,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            head: format!("name = {}\n", quoted(name)),
            connections: Vec::new(),
            tables: String::new(),
            shared: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Adds a block of this type with these parameters.
    pub fn block(mut self, name: &str, block_type: &str, params: &[(&str, Value)]) -> Self {
        let mut lines = format!("type = {}\n", quoted(block_type));
        for (param, value) in params {
            let _ = writeln!(lines, "{} = {}", quoted(param), toml_value(value));
        }
        self.blocks.push((name.to_owned(), lines));
        self
    }

    /// Connects blocks as a line of a pipeline file does: `"a -> b -> c"`, `"a.out -> b.in"`.
    pub fn connect(mut self, chain: &str) -> Self {
        self.connections.push(quoted(chain));
        self
    }

    /// Connects an output to an input with its own settings: those that a pipeline file can state.
    pub fn connect_with(mut self, from: &str, to: &str, config: &ConnectionConfig) -> Self {
        let mut table = format!("{{ from = {}, to = {}", quoted(from), quoted(to));
        if let Some(depth) = config.depth {
            let _ = write!(table, ", depth = {depth}");
        }
        if let Some(time) = config.max_time {
            let _ = write!(table, ", max_time = \"{}ms\"", time.as_secs_f64() * 1e3);
        }
        match config.policy {
            None => {}
            Some(Policy::Block) => table += ", policy = \"block\"",
            Some(Policy::DropNewest) => table += ", policy = \"drop-newest\"",
            Some(Policy::DropOldest) => table += ", policy = \"drop-oldest\"",
        }
        self.connections.push(table + " }");
        self
    }

    /// Puts blocks into one process when the flowgraph is run by processes.
    pub fn process(mut self, process: &str, placement: &Placement, blocks: &[&str]) -> Self {
        let _ = writeln!(self.tables, "[process.{}]\nthreads = {}", quoted(process), placement.threads);
        if !placement.cpus.is_empty() {
            let _ = writeln!(self.tables, "cpus = {:?}", placement.cpus);
        }
        if let Some(nice) = placement.nice {
            let _ = writeln!(self.tables, "nice = {nice}");
        }
        self.shared.extend(blocks.iter().map(|block| ((*block).to_owned(), process.to_owned())));
        self
    }

    /// Adds a pool; with none, the pond has the default ones.
    pub fn pool(mut self, pool: PoolConfig) -> Self {
        let _ =
            writeln!(self.tables, "[[pool]]\nblock_bytes = {}\ncount = {}", pool.block_bytes, pool.blocks);
        self
    }

    /// Stops the sources after this time.
    pub fn duration(mut self, duration: Duration) -> Self {
        let _ = writeln!(self.head, "duration = \"{}ms\"", duration.as_millis());
        self
    }

    /// The pipeline file that says the same.
    pub fn to_toml(&self) -> String {
        let mut text = self.head.clone() + "connect = [\n";
        for connection in &self.connections {
            let _ = writeln!(text, "    {connection},");
        }
        text += "]\n";
        text += &self.tables;
        for (name, lines) in &self.blocks {
            let _ = write!(text, "[blocks.{}]\n{lines}", quoted(name));
            if let Some((_, process)) = self.shared.iter().find(|(block, _)| block == name) {
                let _ = writeln!(text, "process = {}", quoted(process));
            }
        }
        text
    }

    /// Checks everything.
    ///
    /// # Errors
    /// [`Error::Flowgraph`](crate::Error::Flowgraph) with everything that is wrong, shown at the lines of [`to_toml`](Builder::to_toml).
    pub fn build(&self, catalog: &Catalog) -> Result<Flowgraph> {
        Flowgraph::parse(&format!("{} (built)", self.name), &self.to_toml(), catalog)
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn toml_value(value: &Value) -> String {
    let array = |items: Vec<toml::Value>| toml::Value::Array(items);
    let value = match value {
        Value::Bool(value) => toml::Value::Boolean(*value),
        Value::Int(value) => toml::Value::Integer(*value),
        Value::Float(value) => toml::Value::Float(*value),
        Value::Text(value) => toml::Value::String(value.clone()),
        Value::Names(names) => array(names.iter().cloned().map(toml::Value::String).collect()),
        Value::Numbers(numbers) => array(numbers.iter().copied().map(toml::Value::Float).collect()),
    };
    value.to_string()
}
