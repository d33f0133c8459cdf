//! Specs of block types as JSON: how programs in any language tell what blocks they have. The format is described in
//! `docs/programs.md`.

use millpond_shm::{DType, Policy};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::catalog::Catalog;
use crate::param::{FileUse, Kind, Param, Presence, Value};
use crate::spec::{Port, Spec};

/// What `PROGRAM blocks --json` prints.
#[derive(Serialize, Deserialize)]
pub(crate) struct ProgramJson {
    pub(crate) blocks: Vec<SpecJson>,
    /// The program understands `worker`, so several of its blocks can share a process.
    #[serde(default)]
    pub(crate) worker: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SpecJson {
    #[serde(rename = "type")]
    name: String,
    #[serde(default)]
    doc: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    details: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    example: String,
    #[serde(default)]
    reads_stdin: bool,
    #[serde(default)]
    inputs: Vec<PortJson>,
    #[serde(default)]
    outputs: Vec<PortJson>,
    #[serde(default)]
    params: Vec<ParamJson>,
}

#[derive(Serialize, Deserialize)]
struct ParamJson {
    name: String,
    #[serde(default)]
    doc: String,
    /// `bool`, `int`, `float`, `text`, `one_of`, `names` or `numbers`.
    kind: String,
    /// With `one_of`: which.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    words: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<serde_json::Value>,
    #[serde(default)]
    optional: bool,
    /// It cannot be changed while the block runs.
    #[serde(default)]
    fixed: bool,
    /// With `numbers`: one for all, or one for each name in this parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    for_each: Option<String>,
    /// With `text`: it is the path of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<FileUse>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct PortJson {
    name: String,
    #[serde(default)]
    doc: String,
    /// Names of item types; empty: any.
    #[serde(default)]
    dtypes: Vec<String>,
    #[serde(default)]
    shape: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    like: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    follows: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    depth: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redelivers_if: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holds: Option<(String, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    one_for_each: Option<String>,
}

const POLICIES: [(&str, Policy); 3] =
    [("block", Policy::Block), ("drop-newest", Policy::DropNewest), ("drop-oldest", Policy::DropOldest)];

impl Catalog {
    /// All types as `PROGRAM blocks --json` prints them.
    pub fn to_json(&self) -> String {
        let blocks = self.iter().map(|known| SpecJson::from(known.spec())).collect();
        let program = ProgramJson { blocks, worker: true };
        // Strings, numbers and lists: nothing of it can fail to be written.
        serde_json::to_string_pretty(&program).unwrap_or_default()
    }

    /// All types, one a line, for people.
    pub fn to_text(&self) -> String {
        let width = self.iter().map(|known| known.spec().name().len()).max().unwrap_or(0);
        self.iter().map(|known| format!("{:width$}  {}\n", known.spec().name(), known.spec().doc())).collect()
    }
}

impl Spec {
    /// The type as one of the `blocks` that `PROGRAM blocks --json` prints.
    pub fn to_json(&self) -> Json {
        // Strings, numbers and lists: nothing of it can fail to be written.
        serde_json::to_value(SpecJson::from(self)).unwrap_or_default()
    }

    /// The type that such JSON describes: for types that are stated at run time, in another language for example.
    ///
    /// # Errors
    /// What is wrong with it, in words that name the port or the parameter.
    pub fn from_json(json: Json) -> Result<Self, String> {
        let read: SpecJson = serde_json::from_value(json).map_err(|error| error.to_string())?;
        read.try_into()
    }
}

impl From<&Spec> for SpecJson {
    fn from(spec: &Spec) -> Self {
        Self {
            name: spec.name.clone(),
            doc: spec.doc.clone(),
            inputs: spec.inputs.iter().map(PortJson::from).collect(),
            outputs: spec.outputs.iter().map(PortJson::from).collect(),
            details: spec.details.clone(),
            example: spec.example.clone(),
            reads_stdin: spec.reads_stdin,
            params: spec.params.iter().map(ParamJson::from).collect(),
        }
    }
}

impl TryFrom<SpecJson> for Spec {
    type Error = String;

    fn try_from(json: SpecJson) -> Result<Self, String> {
        let ports = |ports: Vec<PortJson>| ports.into_iter().map(Port::try_from).collect::<Result<_, _>>();
        let name = json.name;
        let of = |problem: String| format!("block type `{name}`: {problem}");
        let inputs: Vec<Port> = ports(json.inputs).map_err(of)?;
        let params: Vec<Param> =
            json.params.into_iter().map(Param::try_from).collect::<Result<_, _>>().map_err(of)?;
        let is_bool = |name: &String| params.iter().any(|p| p.name == *name && p.kind == Kind::Bool);
        for port in &inputs {
            if let Some(param) = port.redelivers_if.as_ref().filter(|name| !is_bool(name)) {
                return Err(of(format!(
                    "port `{}`: `redelivers_if` expects the name of a `bool` parameter, found `{param}`",
                    port.name
                )));
            }
        }
        Ok(Self {
            inputs,
            outputs: ports(json.outputs).map_err(of)?,
            doc: json.doc,
            details: json.details,
            example: json.example,
            reads_stdin: json.reads_stdin,
            params,
            name,
        })
    }
}

impl From<&Param> for ParamJson {
    fn from(param: &Param) -> Self {
        let (kind, words) = match &param.kind {
            Kind::Bool => ("bool", Vec::new()),
            Kind::Int => ("int", Vec::new()),
            Kind::Float => ("float", Vec::new()),
            Kind::Text => ("text", Vec::new()),
            Kind::OneOf(words) => ("one_of", words.clone()),
            Kind::Names => ("names", Vec::new()),
            Kind::Numbers => ("numbers", Vec::new()),
        };
        Self {
            name: param.name.clone(),
            doc: param.doc.clone(),
            kind: kind.to_owned(),
            words,
            unit: param.unit.clone(),
            default: param.default_value().map(|value| match value {
                Value::Bool(value) => (*value).into(),
                Value::Int(value) => (*value).into(),
                Value::Float(value) => (*value).into(),
                Value::Text(value) => value.clone().into(),
                Value::Names(names) => names.clone().into(),
                Value::Numbers(numbers) => numbers.clone().into(),
            }),
            optional: matches!(param.presence, Presence::Optional),
            fixed: param.fixed,
            for_each: param.for_each.clone(),
            file: param.file,
            min: param.min.is_finite().then_some(param.min),
            max: param.max.is_finite().then_some(param.max),
        }
    }
}

impl TryFrom<ParamJson> for Param {
    type Error = String;

    fn try_from(json: ParamJson) -> Result<Self, String> {
        let kind = match json.kind.as_str() {
            "bool" => Kind::Bool,
            "int" => Kind::Int,
            "float" => Kind::Float,
            "text" => Kind::Text,
            "one_of" => Kind::OneOf(json.words),
            "names" => Kind::Names,
            "numbers" => Kind::Numbers,
            other => return Err(format!("parameter `{}`: there is no kind `{other}`", json.name)),
        };
        let presence = if json.optional { Presence::Optional } else { Presence::Required };
        let mut param = Self {
            name: json.name,
            doc: json.doc,
            kind,
            unit: json.unit,
            presence,
            fixed: json.fixed,
            for_each: json.for_each,
            min: json.min.unwrap_or(f64::NEG_INFINITY),
            max: json.max.unwrap_or(f64::INFINITY),
            file: json.file,
        };
        if let Some(default) = json.default.filter(|default| !default.is_null()) {
            let expected = || {
                format!(
                    "the default of parameter `{}`: expected {}, found {default}",
                    param.name,
                    param.expected()
                )
            };
            let value = value_of(&default, &param.kind).ok_or_else(expected)?;
            let value = param.check(value).map_err(|_| expected())?;
            param.presence = Presence::Default(value);
        }
        Ok(param)
    }
}

fn value_of(json: &serde_json::Value, kind: &Kind) -> Option<Value> {
    Some(match json {
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) if *kind == Kind::Int => Value::Int(number.as_i64()?),
        serde_json::Value::Number(number) => Value::Float(number.as_f64()?),
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) if *kind == Kind::Numbers => {
            Value::Numbers(items.iter().map(serde_json::Value::as_f64).collect::<Option<_>>()?)
        }
        serde_json::Value::Array(items) => {
            Value::Names(items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>()?)
        }
        serde_json::Value::Null | serde_json::Value::Object(_) => return None,
    })
}

impl From<&Port> for PortJson {
    fn from(port: &Port) -> Self {
        let policy =
            |policy| POLICIES.iter().find(|(_, known)| *known == policy).map(|(name, _)| (*name).to_owned());
        Self {
            name: port.name.clone(),
            doc: port.doc.clone(),
            dtypes: port.dtypes.iter().map(|dtype| dtype.name().to_owned()).collect(),
            shape: port.shape.clone(),
            like: port.like.clone(),
            follows: port.follows.clone(),
            optional: port.optional,
            depth: port.depth,
            policy: port.policy.and_then(policy),
            redelivers_if: port.redelivers_if.clone(),
            holds: port.holds.clone(),
            one_for_each: port.one_for_each.clone(),
        }
    }
}

impl TryFrom<PortJson> for Port {
    type Error = String;

    fn try_from(json: PortJson) -> Result<Self, String> {
        let name = json.name;
        let dtype = |text: &String| {
            text.parse::<DType>().map_err(|_| format!("port `{name}`: there is no item type `{text}`"))
        };
        let policy = |text: &String| {
            let found = POLICIES.iter().find(|(known, _)| known == text).map(|(_, policy)| *policy);
            found.ok_or_else(|| format!("port `{name}`: there is no policy `{text}`"))
        };
        Ok(Self {
            dtypes: json.dtypes.iter().map(dtype).collect::<Result<_, _>>()?,
            policy: json.policy.as_ref().map(policy).transpose()?,
            doc: json.doc,
            shape: json.shape,
            like: json.like,
            follows: json.follows,
            optional: json.optional,
            depth: json.depth,
            redelivers_if: json.redelivers_if,
            holds: json.holds,
            redelivers: false,
            one_for_each: json.one_for_each,
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_builtin_type_survives_the_trip() {
        let catalog = Catalog::builtin();
        let text = catalog.to_json();
        let read: ProgramJson = serde_json::from_str(&text).unwrap();
        assert!(read.worker);
        let specs: Vec<Spec> = read.blocks.into_iter().map(|json| Spec::try_from(json).unwrap()).collect();
        assert_eq!(specs.len(), catalog.iter().count());
        for (read, known) in specs.iter().zip(catalog.iter()) {
            assert_eq!(format!("{read:?}"), format!("{:?}", known.spec()));
        }
    }

    #[test]
    fn little_is_enough() {
        let block = serde_json::json!({ "type": "x", "params": [{ "name": "k", "kind": "float" }] });
        let read: ProgramJson = serde_json::from_value(serde_json::json!({ "blocks": [&block] })).unwrap();
        assert!(read.blocks.len() == 1 && !read.worker);
        let spec = Spec::from_json(block).unwrap();
        assert!(spec.params()[0].is_required());
        assert_eq!(spec.params()[0].expected(), "a number");
        let block = serde_json::json!({ "type": "x", "inputs": [{ "name": "in", "redelivers_if": "k" }] });
        let refusal = Spec::from_json(block).unwrap_err();
        assert_eq!(
            refusal,
            "block type `x`: port `in`: `redelivers_if` expects the name of a `bool` parameter, found `k`"
        );
    }
}
