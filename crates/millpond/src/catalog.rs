//! The block types that a program knows.

use std::sync::Arc;

use crate::block::Block;
use crate::blocks;
use crate::error::{Error, Result};
use crate::flowgraph::RESERVED_KEYS;
use crate::nearest::nearest;
use crate::param::Param;
use crate::params::Params;
use crate::spec::Spec;

/// A type of block: what it states and how one is made.
#[derive(Clone)]
pub struct BlockType {
    spec: Spec,
    make: Make,
}

type Make = Arc<dyn Fn(&Params) -> Result<Box<dyn Block>> + Send + Sync>;

impl BlockType {
    /// The type of block that `B` implements.
    ///
    /// # Panics
    /// If its spec contradicts itself: doubled names, a port like one that does not exist, a parameter whose name pipeline
    /// files use for something else.
    pub fn of<B: Block>() -> Self {
        let spec = B::spec();
        if let Some(problem) = contradiction(&spec) {
            panic!("the spec of block type `{}` is wrong: {problem}", spec.name);
        }
        Self { spec, make: Arc::new(|params| Ok(Box::new(B::new(params)?))) }
    }

    /// A type of block that is known only at run time, of a program in another language for example: `make` makes its blocks.
    ///
    /// # Errors
    /// [`Error::Refused`] if the spec contradicts itself, as in [`of`](BlockType::of).
    pub fn new(
        spec: Spec,
        make: impl Fn(&Params) -> Result<Box<dyn Block>> + Send + Sync + 'static,
    ) -> Result<Self> {
        match contradiction(&spec) {
            Some(problem) => {
                Err(Error::Refused(format!("the spec of block type `{}` is wrong: {problem}", spec.name)))
            }
            None => Ok(Self { spec, make: Arc::new(make) }),
        }
    }

    /// Name, ports and parameters.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Makes a block of this type.
    ///
    /// # Errors
    /// Those of [`Block::new`].
    pub fn make(&self, params: &Params) -> Result<Box<dyn Block>> {
        (self.make)(params)
    }
}

fn contradiction(spec: &Spec) -> Option<String> {
    let ports = spec.inputs.iter().chain(&spec.outputs);
    let ports: Vec<&str> = ports.map(|port| port.for_each_of().unwrap_or(port.name())).collect();
    let params: Vec<&str> = spec.params.iter().map(Param::name).collect();
    for names in [&ports, &params] {
        if let Some(i) = (0..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Some(format!("`{}` is there twice", names[i]));
        }
    }
    if let Some(name) = params.iter().find(|name| RESERVED_KEYS.contains(name)) {
        return Some(format!("no parameter can be called `{name}`"));
    }
    let is_input = |name: &String| spec.inputs.iter().any(|input| input.name == *name);
    let mut likes = spec.outputs.iter().filter_map(|port| port.like.as_ref());
    likes.find(|name| !is_input(name)).map(|name| format!("no input `{name}` for an output to be like"))
}

/// The block types that pipeline files can name: those that come with Millpond and the program's own.
#[derive(Clone, Default)]
pub struct Catalog {
    types: Vec<BlockType>,
}

impl Catalog {
    /// No block types.
    pub fn new() -> Self {
        Self::default()
    }

    /// The block types that come with Millpond.
    pub fn builtin() -> Self {
        let mut catalog = Self::new();
        blocks::add_to(&mut catalog);
        catalog
    }

    /// Adds the type of block that `B` implements; it takes the place of an earlier one with the same name.
    ///
    /// # Panics
    /// As [`BlockType::of`].
    pub fn add<B: Block>(&mut self) -> &mut Self {
        self.add_type(BlockType::of::<B>())
    }

    /// Adds a type of block; it takes the place of an earlier one with the same name.
    pub fn add_type(&mut self, new: BlockType) -> &mut Self {
        self.types.retain(|known| known.spec.name != new.spec.name);
        self.types.push(new);
        self
    }

    /// All types, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &BlockType> {
        self.types.iter()
    }

    /// The type of that name.
    ///
    /// # Errors
    /// [`Error::UnknownBlockType`] with the nearest name.
    pub fn find(&self, name: &str) -> Result<&BlockType> {
        let names = || self.types.iter().map(|known| known.spec.name.as_str());
        self.types.iter().find(|known| known.spec.name == name).ok_or_else(|| Error::UnknownBlockType {
            name: name.to_owned(),
            nearest: nearest(name, names()).map(str::to_owned),
            known: names().map(str::to_owned).collect(),
        })
    }
}
