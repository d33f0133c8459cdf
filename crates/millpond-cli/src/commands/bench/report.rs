//! The result of a benchmark: one list of figures, shown to people with units or to programs as one JSON object.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::machine::{Machine, Versions};
use super::options::Pin;
use crate::units;

/// A measured quantity; the unit is that of the JSON key.
#[derive(Clone, Copy)]
pub enum Quantity {
    /// Keys end in `_ns`.
    Nanoseconds(f64),
    /// Keys end in `_ms`.
    Milliseconds(f64),
    /// Events a second; keys end in `_per_s`.
    PerSecond(f64),
    /// The key is `bytes_per_s`.
    BytesPerSecond(f64),
    /// A plain number.
    Count(u64),
}

impl Quantity {
    fn to_json(self) -> Value {
        match self {
            // Three decimals: a picosecond is beyond what any clock here resolves.
            Self::Nanoseconds(x) | Self::Milliseconds(x) | Self::PerSecond(x) | Self::BytesPerSecond(x) => {
                ((x * 1e3).round() / 1e3).into()
            }
            Self::Count(count) => count.into(),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Nanoseconds(ns) => f.write_str(&units::nanoseconds(ns)),
            Self::Milliseconds(ms) => f.write_str(&units::nanoseconds(ms * 1e6)),
            Self::PerSecond(rate) => f.write_str(&units::per_second(rate)),
            Self::BytesPerSecond(rate) => f.write_str(&units::bytes_per_second(rate)),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// What a benchmark found, and under which conditions.
pub struct Report {
    bench: &'static str,
    settings: Map<String, Value>,
    pinned: Option<Pin>,
    method: String,
    figures: Vec<(&'static str, Quantity)>,
}

impl Report {
    /// A report without figures. `settings` is the `Args` of the benchmark; `method` says in a sentence what the
    /// figures mean, warm-up included.
    ///
    /// # Errors
    /// If the settings cannot be written as JSON.
    pub fn new(
        bench: &'static str,
        settings: &impl Serialize,
        pinned: Option<Pin>,
        method: impl Into<String>,
    ) -> serde_json::Result<Self> {
        let settings = match serde_json::to_value(settings)? {
            Value::Object(settings) => settings,
            _ => Map::new(),
        };
        Ok(Self { bench, settings, pinned, method: method.into(), figures: Vec::new() })
    }

    /// Adds a figure under its JSON key.
    pub fn figure(mut self, key: &'static str, value: Quantity) -> Self {
        self.figures.push((key, value));
        self
    }

    /// One flat object: settings, figures, then `method`, `machine`, `pinned` and `versions`.
    pub fn to_json(&self, machine: &Machine) -> Value {
        let mut object = Map::new();
        object.insert("bench".to_owned(), self.bench.into());
        object.extend(self.settings.clone());
        object.extend(self.figures.iter().map(|(key, value)| ((*key).to_owned(), value.to_json())));
        object.insert("method".to_owned(), self.method.clone().into());
        object.insert("machine".to_owned(), serde_json::json!(machine));
        object.insert("pinned".to_owned(), serde_json::json!(self.pinned));
        object.insert("versions".to_owned(), serde_json::json!(Versions::HERE));
        Value::Object(object)
    }

    /// Conditions, figures with units, method, machine and versions.
    pub fn to_text(&self, machine: &Machine) -> String {
        let pinned = match self.pinned {
            Some(Pin(a, b)) => format!("pinned to cores {a} and {b}"),
            None => "not pinned".to_owned(),
        };
        let settings = self.settings.iter().filter_map(|(name, value)| setting(name, value));
        let conditions: Vec<String> = settings.chain([pinned]).collect();
        let width = self.figures.iter().map(|(key, _)| label(key).chars().count()).max().unwrap_or(0);
        let figures = self.figures.iter().map(|(key, value)| (label(key), value.to_string()));
        let figures: String =
            figures.map(|(label, value)| format!("  {label:<width$}  {value:>12}\n")).collect();
        format!(
            "{}: {}\n\n{figures}\n{}\n{machine}\n{}\n",
            self.bench,
            conditions.join(", "),
            wrap(&self.method),
            Versions::HERE
        )
    }
}

/// `size_bytes: 65536` is `size 64 KiB`, a flag is its name or nothing.
fn setting(name: &str, value: &Value) -> Option<String> {
    match (name.strip_suffix("_bytes"), value) {
        (Some(name), Value::Number(count)) => Some(format!("{name} {}", units::bytes(count.as_u64()?))),
        (_, Value::Bool(set)) => set.then(|| name.to_owned()),
        (_, Value::String(text)) => Some(format!("{name} {text}")),
        (_, value) => Some(format!("{name} {value}")),
    }
}

/// The key in words, without the unit that the value shows: `one_way_p50_ns` is `one way p50`.
fn label(key: &str) -> String {
    let without_unit = ["_ns", "_ms", "_per_s"].iter().find_map(|unit| key.strip_suffix(unit));
    without_unit.or_else(|| key.strip_prefix("ns_")).unwrap_or(key).replace('_', " ")
}

/// Breaks lines between words so that they fit on the narrowest usual terminal.
fn wrap(text: &str) -> String {
    const COLUMNS: usize = 79;
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        let (gap, start) = match column {
            0 => ("", 0),
            _ if column + 1 + width > COLUMNS => ("\n", 0),
            _ => (" ", column + 1),
        };
        wrapped.push_str(gap);
        wrapped.push_str(word);
        column = start + width;
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_of_figures_serves_people_and_programs() {
        #[derive(Serialize)]
        struct Settings {
            size_bytes: u32,
            fill: bool,
            touch: bool,
        }
        let settings = Settings { size_bytes: 64, fill: true, touch: false };
        let report = Report::new("latency", &settings, Some(Pin(0, 1)), "How it was done.")
            .unwrap()
            .figure("one_way_p50_ns", Quantity::Nanoseconds(95.123_456))
            .figure("messages_per_s", Quantity::PerSecond(2e6))
            .figure("kills", Quantity::Count(100));
        let machine = Machine::here();
        let json = report.to_json(&machine);
        assert_eq!(json["size_bytes"], 64);
        assert_eq!(json["one_way_p50_ns"], 95.123);
        assert_eq!(json["kills"], 100);
        assert_eq!(json["pinned"], serde_json::json!([0, 1]));
        assert!(json["machine"]["cores"].as_u64().is_some());
        let text = report.to_text(&machine);
        assert!(text.starts_with("latency: fill, size 64 B, pinned to cores 0 and 1\n"), "{text}");
        assert!(text.contains("  one way p50       95.1 ns\n"), "{text}");
        assert!(text.contains("  messages         2.00 M/s\n"), "{text}");
    }

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = "word ".repeat(40);
        let wrapped = wrap(&text);
        assert!(
            wrapped.lines().all(|line| line.len() <= 79 && !line.starts_with(' ') && !line.ends_with(' '))
        );
        assert_eq!(wrapped.split_whitespace().count(), 40);
        assert_eq!(wrapped.lines().count(), 3);
    }
}
