//! A parameter of a block type: what it states, what a value may be, and how a block reads one.

use std::fmt;

use millpond_shm::DType;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::spec::Spec;

/// A parameter as its block type states it. Without a default it must be given.
#[derive(Clone, Debug)]
pub struct Param {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) kind: Kind,
    pub(crate) unit: String,
    pub(crate) presence: Presence,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) fixed: bool,
    /// Numbers: one for all, or one for each name in this parameter.
    pub(crate) for_each: Option<String>,
    /// Text: the path of a file, and what the block does with it.
    pub(crate) file: Option<FileUse>,
}

/// What a block does with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileUse {
    Reads,
    Overwrites,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Float,
    Text,
    OneOf(Vec<String>),
    Names,
    Numbers,
}

#[derive(Clone, Debug)]
pub(crate) enum Presence {
    Required,
    Optional,
    Default(Value),
}

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Any text, a path for example.
    Text(String),
    /// Several names.
    Names(Vec<String>),
    /// Several numbers.
    Numbers(Vec<f64>),
}

impl Param {
    fn new(name: &str, doc: &str, kind: Kind) -> Self {
        let (min, max) = (f64::NEG_INFINITY, f64::INFINITY);
        let (unit, presence, fixed, for_each, file) = (String::new(), Presence::Required, false, None, None);
        Self { name: name.into(), doc: doc.into(), kind, unit, presence, min, max, fixed, for_each, file }
    }

    /// Yes or no. `doc` says in a few words what the parameter means.
    pub fn bool(name: &str, doc: &str) -> Self {
        Self::new(name, doc, Kind::Bool)
    }

    /// A whole number.
    pub fn int(name: &str, doc: &str) -> Self {
        Self::new(name, doc, Kind::Int)
    }

    /// A number.
    pub fn float(name: &str, doc: &str) -> Self {
        Self::new(name, doc, Kind::Float)
    }

    /// Text, a path for example.
    pub fn text(name: &str, doc: &str) -> Self {
        Self::new(name, doc, Kind::Text)
    }

    /// At least one name, all different, each made of letters, digits, `_` and `-`.
    pub fn names(name: &str, doc: &str) -> Self {
        Self::new(name, doc, Kind::Names)
    }

    /// One of these words, which the block reads as text.
    pub fn one_of(name: &str, doc: &str, words: &'static [&'static str]) -> Self {
        Self::new(name, doc, Kind::OneOf(words.iter().map(|word| (*word).to_owned()).collect()))
    }

    /// At least one number; the range holds for each.
    pub fn numbers(name: &str, doc: &str) -> Self {
        Self::new(name, doc, Kind::Numbers)
    }

    /// One number for all names in the parameter `names_param`, or one for each, in their order.
    pub fn numbers_for_each(name: &str, doc: &str, names_param: &str) -> Self {
        Self { for_each: Some(names_param.into()), ..Self::numbers(name, doc) }
    }

    /// The value when none is given.
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.presence = Presence::Default(value.into());
        self
    }

    /// The parameter may be left out; the block then reads it as `None`.
    pub fn optional(mut self) -> Self {
        self.presence = Presence::Optional;
        self
    }

    /// The text is the path of a file.
    pub(crate) fn file(mut self, file: FileUse) -> Self {
        self.file = Some(file);
        self
    }

    /// The smallest and the largest number allowed.
    pub fn range(mut self, min: f64, max: f64) -> Self {
        (self.min, self.max) = (min, max);
        self
    }

    /// The unit of the number: `Hz`, `s`, `bytes`.
    pub fn unit(mut self, unit: &'static str) -> Self {
        self.unit = unit.into();
        self
    }

    /// The value cannot be changed while the block runs: the block looks at it only in [`Block::new`](crate::Block::new) or
    /// [`Block::start`](crate::Block::start). The others can be set at any time, and the block sees the change in its next
    /// [`Io::param`](crate::Io::param). Lists of names are always fixed: ports are made of them.
    pub fn fixed(mut self) -> Self {
        self.fixed = true;
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it cannot be changed while the block runs.
    pub fn is_fixed(&self) -> bool {
        self.fixed || self.kind == Kind::Names
    }

    /// The unit of the number; empty if it has none.
    pub fn unit_name(&self) -> &str {
        &self.unit
    }

    /// What it means.
    pub fn doc(&self) -> &str {
        &self.doc
    }

    /// The value when none is given, if there is one.
    pub fn default_value(&self) -> Option<&Value> {
        match &self.presence {
            Presence::Default(value) => Some(value),
            Presence::Required | Presence::Optional => None,
        }
    }

    /// There is no block without it.
    pub fn is_required(&self) -> bool {
        matches!(self.presence, Presence::Required)
    }

    /// What may be given, in words: `a number from 0.1 to 1000 (Hz)`.
    pub fn expected(&self) -> String {
        let what = match &self.kind {
            Kind::Bool => "true or false",
            Kind::Int => "a whole number",
            Kind::Float => "a number",
            Kind::Text => "text",
            Kind::OneOf(words) => return format!("one of: {}", words.join(", ")),
            Kind::Numbers => match &self.for_each {
                Some(names_param) => &format!("a number, or one for each of `{names_param}`,"),
                None => "a list of numbers",
            },
            Kind::Names => "a list of different names (letters, digits, `_`, `-`)",
        };
        let range = match (self.min.is_finite(), self.max.is_finite()) {
            (true, true) => format!(" from {} to {}", limit(self.min), limit(self.max)),
            (true, false) => format!(" of at least {}", limit(self.min)),
            (false, true) => format!(" of at most {}", limit(self.max)),
            (false, false) => String::new(),
        };
        let unit = if self.unit.is_empty() { String::new() } else { format!(" ({})", self.unit) };
        format!("{what}{range}{unit}")
    }

    /// The value as the block will read it.
    ///
    /// # Errors
    /// [`Error::BadParameter`] for a value of another type or out of range.
    pub fn check(&self, value: Value) -> Result<Value> {
        let value = match (&self.kind, value) {
            (Kind::Float, Value::Int(number)) => Value::Float(number as f64),
            (Kind::Numbers, Value::Int(number)) => Value::Numbers(vec![number as f64]),
            (Kind::Numbers, Value::Float(number)) => Value::Numbers(vec![number]),
            (_, value) => value,
        };
        let fits = match (&self.kind, &value) {
            (Kind::Bool, Value::Bool(_)) | (Kind::Text, Value::Text(_)) => true,
            (Kind::Int, Value::Int(number)) => (self.min..=self.max).contains(&(*number as f64)),
            (Kind::Float, Value::Float(number)) => (self.min..=self.max).contains(number),
            (Kind::OneOf(words), Value::Text(text)) => words.contains(text),
            (Kind::Numbers, Value::Numbers(numbers)) => {
                !numbers.is_empty() && numbers.iter().all(|number| (self.min..=self.max).contains(number))
            }
            (Kind::Names, Value::Names(names)) => {
                let differs = |i: usize| !names[..i].contains(&names[i]);
                !names.is_empty() && (0..names.len()).all(|i| is_name(&names[i]) && differs(i))
            }
            _ => false,
        };
        if fits { Ok(value) } else { Err(self.mismatch(value.to_string())) }
    }

    /// Reads the value from text as it is given on a command line; names and numbers are separated by commas.
    ///
    /// # Errors
    /// As [`check`](Param::check).
    pub fn parse(&self, text: &str) -> Result<Value> {
        let value = match self.kind {
            Kind::Bool => text.parse().ok().map(Value::Bool),
            Kind::Int => text.parse().ok().map(Value::Int),
            Kind::Float => text.parse().ok().map(Value::Float),
            Kind::Text | Kind::OneOf(_) => Some(Value::Text(text.to_owned())),
            Kind::Numbers => {
                let numbers = text.split(',').map(|number| number.trim().parse().ok());
                numbers.collect::<Option<_>>().map(Value::Numbers)
            }
            Kind::Names => Some(Value::Names(text.split(',').map(|name| name.trim().to_owned()).collect())),
        };
        self.check(value.ok_or_else(|| self.mismatch(format!("`{text}`")))?)
    }

    fn mismatch(&self, found: String) -> Error {
        Error::BadParameter { name: self.name.clone(), expected: self.expected(), found }
    }
}

/// A limit of a range: short, whatever its size.
fn limit(number: f64) -> String {
    let (plain, short) = (number.to_string(), format!("{number:e}"));
    // `4000000000` is easier to read than `4e9`, but nobody counts more digits.
    if plain.trim_start_matches('-').len() > 10 && short.len() < plain.len() { short } else { plain }
}

/// Whether `text` can name a block, a port or the like.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !text.is_empty() && text.len() <= 32 && text.chars().all(allowed)
}

/// As a command line takes it; see [`Param::parse`].
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(value) => write!(f, "{value}"),
            Value::Int(value) => write!(f, "{value}"),
            Value::Float(value) => write!(f, "{value}"),
            Value::Text(value) => f.write_str(value),
            Value::Names(names) => f.write_str(&names.join(",")),
            Value::Numbers(numbers) => {
                f.write_str(&numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

pub(crate) fn find<'a>(spec: &'a Spec, name: &str) -> Result<&'a Param> {
    spec.params.iter().find(|param| param.name == name).ok_or_else(|| Error::UnknownParameter {
        block_type: spec.name.clone(),
        name: name.to_owned(),
        nearest: nearest(name, spec.params.iter().map(Param::name)).map(str::to_owned),
    })
}

/// Types as which a block can read a parameter.
pub trait FromValue: Sized {
    /// The value as this type, if it fits. `None` stands for an optional parameter that was not given.
    fn from_value(value: Option<&Value>) -> Option<Self>;
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        match value {
            None => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

/// Whatever it is.
impl FromValue for Value {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        value.cloned()
    }
}

macro_rules! from_value {
    ($($variant:ident($value:ident) => $type:ty: $read:expr;)*) => {$(
        impl FromValue for $type {
            fn from_value(value: Option<&Value>) -> Option<Self> {
                match value {
                    Some(Value::$variant($value)) => $read,
                    _ => None,
                }
            }
        }
    )*};
}

from_value! {
    Bool(value) => bool: Some(*value);
    Int(value) => i64: Some(*value);
    Int(value) => u64: (*value).try_into().ok();
    Int(value) => u32: (*value).try_into().ok();
    Int(value) => usize: (*value).try_into().ok();
    Float(value) => f64: Some(*value);
    Text(value) => String: Some(value.clone());
    Names(value) => Vec<String>: Some(value.clone());
    Numbers(value) => Vec<f64>: Some(value.clone());
    Text(value) => DType: value.parse().ok();
}

macro_rules! into_value {
    ($($type:ty => $variant:ident;)*) => {$(
        impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Value::$variant(value.into())
            }
        }
    )*};
}

into_value! {
    bool => Bool;
    i64 => Int;
    i32 => Int;
    u32 => Int;
    f64 => Float;
    String => Text;
    &str => Text;
    Vec<String> => Names;
    Vec<f64> => Numbers;
}
