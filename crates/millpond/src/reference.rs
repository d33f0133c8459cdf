//! The reference of block types, made of what they state about themselves.

use std::fmt::Write as _;

use crate::catalog::Catalog;
use crate::param::Param;
use crate::spec::{Port, Spec};

impl Port {
    /// The kind of stream in words: `f32 or f64 [frames, channels]`, or `as in` for an output that is like its input.
    pub fn stream(&self) -> String {
        match self.like_input() {
            Some(input) => format!("as `{input}`"),
            None => self.to_string(),
        }
    }

    /// Its name, or what stands for several names.
    pub fn shown_name(&self) -> String {
        self.for_each_of().map_or_else(|| self.name().to_owned(), |param| format!("each of {param}"))
    }
}

impl Param {
    /// What is taken when the parameter is not given, in words.
    pub fn shown_default(&self) -> String {
        match self.default_value() {
            Some(value) => value.to_string(),
            None if self.is_required() => "required".to_owned(),
            None => "none".to_owned(),
        }
    }
}

impl Spec {
    fn describe(&self, page: &mut String) {
        let _ = write!(page, "\n## {}\n\n{}.\n", self.name(), self.doc());
        if !self.more().is_empty() {
            let _ = write!(page, "\n{}\n", self.more());
        }
        let sides = [("in", self.input_ports()), ("out", self.output_ports())];
        page.push_str("\n| port | | stream | |\n|---|---|---|---|\n");
        for (side, ports) in sides {
            for port in ports {
                let optional = if port.is_optional() { " (optional)" } else { "" };
                let (name, stream, doc) = (port.shown_name(), port.stream(), port.doc());
                let _ = writeln!(page, "| {name} | {side} | {stream} | {doc}{optional} |");
            }
        }
        if !self.params().is_empty() {
            page.push_str("\n| parameter | value | default | |\n|---|---|---|---|\n");
        }
        for param in self.params() {
            let live = if param.is_fixed() { "" } else { "*" };
            let default = match param.default_value() {
                Some(value) => format!("`{value}`"),
                None => param.shown_default(),
            };
            let (name, expected, doc) = (param.name(), param.expected(), param.doc());
            let _ = writeln!(page, "| {name}{live} | {expected} | {default} | {doc} |");
        }
        if !self.example_text().is_empty() {
            let _ = write!(page, "\n```toml\n{}\n```\n", self.example_text().trim());
        }
    }
}

impl Catalog {
    /// The reference page `docs/blocks.md`.
    pub fn to_markdown(&self) -> String {
        let mut specs: Vec<&Spec> = self.iter().map(|block_type| block_type.spec()).collect();
        specs.sort_by_key(|spec| spec.name());
        let mut page = String::from(
            "# Blocks\n\nThe types of block that come with Millpond. Generated from what they state about themselves, which \
             `millpond blocks TYPE` shows as well; a test keeps it equal (`UPDATE_DOCS=1 cargo test -p millpond --test \
             block_reference` writes it anew).\n\n\
             The first dimension of a buffer counts *frames*, the others make up one frame: `[frames, channels]` for sampled \
             signals; tables of telemetry have one row a buffer, `[columns]`. Parameters marked * can change while the block runs.\n\n\
             | type | |\n|---|---|\n",
        );
        for spec in &specs {
            let _ = writeln!(page, "| [{0}](#{0}) | {1} |", spec.name(), spec.doc());
        }
        specs.iter().for_each(|spec| spec.describe(&mut page));
        page
    }
}
