//! What a block type states about itself: name, ports, parameters.

use std::fmt;

use millpond_shm::{ConnectionConfig, DType, Policy, StreamFormat};

use crate::param::{Param, Value};
use crate::params::Params;

/// Name, ports and parameters of a block type. Made in [`Block::spec`](crate::Block::spec).
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) name: String,
    pub(crate) doc: String,
    pub(crate) details: String,
    pub(crate) example: String,
    pub(crate) reads_stdin: bool,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) params: Vec<Param>,
}

impl Spec {
    /// A block type without ports and parameters yet. `doc` is one line, a sentence without its final stop.
    pub fn new(name: &str, doc: &str) -> Self {
        Self {
            name: name.into(),
            doc: doc.into(),
            details: String::new(),
            example: String::new(),
            reads_stdin: false,
            inputs: Vec::new(),
            outputs: Vec::new(),
            params: Vec::new(),
        }
    }

    /// What one line does not say: stamps, the end of the stream, what happens after a restart. Plain sentences.
    pub fn details(mut self, text: &str) -> Self {
        self.details = text.into();
        self
    }

    /// A pipeline file that shows the block at work.
    pub fn example(mut self, pipeline: &str) -> Self {
        self.example = pipeline.into();
        self
    }

    /// The block reads the program's standard input, which others have no access to.
    pub fn reads_stdin(mut self) -> Self {
        self.reads_stdin = true;
        self
    }

    /// Adds an input port.
    pub fn input(mut self, port: Port) -> Self {
        self.inputs.push(port);
        self
    }

    /// Adds an output port.
    pub fn output(mut self, port: Port) -> Self {
        self.outputs.push(port);
        self
    }

    /// Adds a parameter.
    pub fn param(mut self, param: Param) -> Self {
        self.params.push(param);
        self
    }

    /// The type's name, as pipeline files write it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What such a block does, in one line.
    pub fn doc(&self) -> &str {
        &self.doc
    }

    /// What one line does not say; empty if there is no more to say.
    pub fn more(&self) -> &str {
        &self.details
    }

    /// A pipeline file that shows the block at work; empty if there is none.
    pub fn example_text(&self) -> &str {
        &self.example
    }

    /// The parameters, in the order in which they were added.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// The input ports as they are stated, those that stand for several included.
    pub fn input_ports(&self) -> &[Port] {
        &self.inputs
    }

    /// The output ports as they are stated.
    pub fn output_ports(&self) -> &[Port] {
        &self.outputs
    }

    /// The input ports of a block with these parameters.
    pub fn inputs(&self, params: &Params) -> Vec<Port> {
        self.inputs.iter().flat_map(|port| port.expand(params)).collect()
    }

    /// Whether an input port of that name takes streams of this format; if not, what it takes. `None`: there is no such port, or its
    /// name depends on parameters.
    pub fn input_accepts(&self, port: &str, format: &StreamFormat) -> Option<Result<(), String>> {
        let port = self.inputs.iter().find(|known| known.name == port)?;
        Some(if port.admits(format) { Ok(()) } else { Err(port.to_string()) })
    }

    /// The output ports of a block with these parameters.
    pub fn outputs(&self, params: &Params) -> Vec<Port> {
        self.outputs.iter().flat_map(|port| port.expand(params)).collect()
    }
}

/// A port as its block type states it.
#[derive(Clone, Debug)]
pub struct Port {
    pub(crate) name: String,
    pub(crate) doc: String,
    /// Item types that the port takes or sends; empty: any.
    pub(crate) dtypes: Vec<DType>,
    /// Dimensions by name; a number is a fixed extent; empty: any shape.
    pub(crate) shape: Vec<String>,
    /// Output: the input whose format it has.
    pub(crate) like: Option<String>,
    /// Output: the input whose time it carries on.
    pub(crate) follows: Option<String>,
    pub(crate) optional: bool,
    pub(crate) depth: Option<u32>,
    pub(crate) policy: Option<Policy>,
    /// Input: the parameter that says whether what is held when the process is killed comes again.
    pub(crate) redelivers_if: Option<String>,
    /// Input: with redelivery, a connection that does not say is deeper than the number in this parameter by so much.
    pub(crate) holds: Option<(String, u32)>,
    /// Input of a block: it does come again.
    pub(crate) redelivers: bool,
    /// The port stands for one port for each name in this parameter.
    pub(crate) one_for_each: Option<String>,
}

impl Port {
    /// A port for streams of any type and shape. `doc` says in a few words what flows there.
    pub fn new(name: &str, doc: &str) -> Self {
        Self {
            name: name.into(),
            doc: doc.into(),
            dtypes: Vec::new(),
            shape: Vec::new(),
            like: None,
            follows: None,
            optional: false,
            depth: None,
            policy: None,
            redelivers_if: None,
            holds: None,
            redelivers: false,
            one_for_each: None,
        }
    }

    /// One port for each name in the parameter `names_param`, which must be of the kind [`Param::names`]; none if it is optional and
    /// not given.
    pub fn one_for_each(names_param: &str, doc: &str) -> Self {
        Self { one_for_each: Some(names_param.into()), ..Self::new("*", doc) }
    }

    /// The item types that the port takes or sends.
    pub fn dtypes(mut self, dtypes: impl IntoIterator<Item = DType>) -> Self {
        self.dtypes = dtypes.into_iter().collect();
        self
    }

    /// The dimensions of a buffer, by name; a number stands for a fixed extent: `["frames", "2"]`.
    pub fn shape<'a>(mut self, dimensions: impl IntoIterator<Item = &'a str>) -> Self {
        self.shape = dimensions.into_iter().map(str::to_owned).collect();
        self
    }

    /// An output that sends streams of the same format as the input port `input`.
    pub fn like(mut self, input: &str) -> Self {
        self.like = Some(input.into());
        self
    }

    /// An output on which time goes by as on the input port `input`, even while nothing is sent: receivers learn how far the block has
    /// come (see [`Io::advance`](crate::Io::advance)). Only for blocks that have done with what they took whenever
    /// [`work`](crate::Block::work) returns anything but [`OutputFull`](crate::Pause::OutputFull) or
    /// [`Event`](crate::Pause::Event): it was sent, or never will be, and nothing is stamped earlier than the buffer that
    /// it came from. What arrives earlier than was told is late.
    pub fn follows(mut self, input: &str) -> Self {
        self.follows = Some(input.into());
        self
    }

    /// An input that the block can do without.
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// How many buffers wait at this input at most, unless the connection says otherwise.
    pub fn depth(mut self, buffers: u32) -> Self {
        self.depth = Some(buffers);
        self
    }

    /// What a sender does when this input, or the receiver of this output, is full, unless the connection says otherwise; of both, what the
    /// input says.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// An input that, if the parameter `bool_param` is true, delivers again what the block held when its process was killed:
    /// [`Buffer::redelivered`](crate::Buffer::redelivered) tells. Until it is dropped, what was taken counts as queued, so the block
    /// cannot hold more than the connection is deep ([`Io::holds_at_most`](crate::Io::holds_at_most)). Connections to it cannot drop the
    /// oldest.
    pub fn redelivers_if(mut self, bool_param: &str) -> Self {
        self.redelivers_if = Some(bool_param.into());
        self
    }

    /// An input of which the block holds as many buffers as a parameter says, a whole number or numbers for each of the ports, and `beside`
    /// more. As what is held counts as queued where the input [redelivers](Port::redelivers_if), a connection to it that states no
    /// depth is so deep then.
    pub fn holds(mut self, param: &str, beside: u32) -> Self {
        self.holds = Some((param.into(), beside));
        self
    }

    /// The port's name within its block.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameter for each of whose names there is such a port.
    pub fn for_each_of(&self) -> Option<&str> {
        self.one_for_each.as_deref()
    }

    /// The input whose kind of stream an output has.
    pub fn like_input(&self) -> Option<&str> {
        self.like.as_deref()
    }

    /// The input whose time an output carries on.
    pub fn follows_input(&self) -> Option<&str> {
        self.follows.as_deref()
    }

    /// Whether the block can do without.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// What flows there.
    pub fn doc(&self) -> &str {
        &self.doc
    }

    fn expand(&self, params: &Params) -> Vec<Port> {
        let redelivers =
            self.redelivers_if.as_ref().is_some_and(|param| params.get::<Option<bool>>(param) == Some(true));
        let depth = |index: usize| self.depth.or_else(|| self.held(params, index).filter(|_| redelivers));
        match &self.one_for_each {
            None => vec![Port { redelivers, depth: depth(0), ..self.clone() }],
            Some(param) => {
                let names: Option<Vec<String>> = params.get(param);
                let names = names.into_iter().flatten().enumerate();
                names
                    .map(|(index, name)| {
                        let depth = depth(index);
                        Port { name, redelivers, depth, one_for_each: None, ..self.clone() }
                    })
                    .collect()
            }
        }
    }

    /// How many buffers the block may have of the port with this number.
    fn held(&self, params: &Params, index: usize) -> Option<u32> {
        let (param, beside) = self.holds.as_ref()?;
        let held = match params.value(param)? {
            Value::Int(held) => *held as f64,
            Value::Numbers(held) if held.len() == 1 => held[0],
            Value::Numbers(held) => *held.get(index)?,
            _ => return None,
        };
        // What is too large for a connection is refused with the connection's own words.
        Some((held.max(2.0) as u32).saturating_add(*beside))
    }

    /// Whether connections to such ports are unlike others, unless they say themselves what they are like.
    pub fn states_connection(&self) -> bool {
        self.depth.is_some() || self.policy.is_some() || self.holds.is_some()
    }

    /// A connection between ports of blocks: what it does not say is as they state. `None`: nothing is known of that end.
    pub fn complete(
        config: ConnectionConfig,
        output: Option<&Port>,
        input: Option<&Port>,
    ) -> ConnectionConfig {
        let policy = [input, output].into_iter().flatten().find_map(|port| port.policy);
        ConnectionConfig {
            depth: config.depth.or(input.and_then(|port| port.depth)),
            policy: config.policy.or(policy),
            ..config
        }
    }

    /// Whether streams of this format may flow here.
    pub(crate) fn admits(&self, format: &StreamFormat) -> bool {
        let dtype = self.dtypes.is_empty() || self.dtypes.contains(&format.dtype);
        let shape = self.shape.is_empty()
            || format.shape.is_empty()
            || self.shape.len() == format.shape.len()
                && self.shape.iter().zip(&format.shape).all(|(stated, found)| {
                    // A named dimension may have any extent, and a stream's extent of 0 may vary.
                    stated.parse::<u32>().map_or(true, |fixed| *found == 0 || fixed == *found)
                });
        dtype && shape
    }
}

/// The stream that a port takes or sends: `f32 or f64 [frames, channels]`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&dtype_names(&self.dtypes))?;
        if !self.shape.is_empty() {
            write!(f, " [{}]", self.shape.join(", "))?;
        }
        Ok(())
    }
}

/// Item types in words: `i16, i32 or f32`.
pub(crate) fn dtype_names(dtypes: &[DType]) -> String {
    let names: Vec<&str> = dtypes.iter().map(|dtype| dtype.name()).collect();
    match names.as_slice() {
        [] => "any type".to_owned(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
