//! Whether what a pipeline file says can be: names that exist, parameters that fit, ports that understand each other.

use std::ops::Range;

use millpond_shm::{DType, Policy};

use super::cycles::cycle;
use super::files::{self, UsedFile};
use super::programs::{NoAnswer, Program};
use super::reader::{Draft, DraftBlock, DraftConnection, Located};
use super::{Connection, Diagnostics, Flowgraph, Node, PortName, RestartWhen};
use crate::catalog::Catalog;
use crate::error::Error;
use crate::nearest::nearest;
use crate::param::{Param, Value, is_name};
use crate::params::Params;
use crate::placement::Placement;
use crate::spec::{Port, Spec, dtype_names};

/// Makes a flowgraph of what could be read, and adds everything that is wrong with it to the diagnostics.
pub(super) fn check(
    draft: Draft,
    file_stem: &str,
    catalog: &Catalog,
    diagnostics: &mut Diagnostics,
) -> Flowgraph {
    let mut checker =
        Checker { catalog, diagnostics, programs: Vec::new(), blocks: Vec::new(), connections: Vec::new() };
    let name = checker.flowgraph_name(draft.name, file_stem);
    for block in draft.blocks {
        checker.block(block);
    }
    checker.processes(&draft.processes);
    checker.programs_of_processes();
    let blocks =
        checker.blocks.iter().map(|block| (block.node.name.as_str(), &block.span, block.files.as_slice()));
    for (span, message, help) in files::clashes(blocks) {
        checker.error(&span, message, Some(help));
    }
    let mut all_understood = draft.connections_complete;
    for connection in draft.connections {
        all_understood &= checker.connection(connection);
    }
    checker.types();
    checker.cycles();
    // A connection that was not understood may be the one that is missing.
    if all_understood {
        checker.required_inputs();
    }
    Flowgraph {
        name,
        duration: draft.duration,
        detach: draft.detach,
        pools: draft.pools,
        blocks: checker.blocks.into_iter().map(|block| block.node).collect(),
        connections: checker.connections.into_iter().map(|checked| checked.connection).collect(),
        processes: draft.processes.into_iter().map(|(name, placement)| (name.value, placement)).collect(),
    }
}

struct Checker<'a> {
    catalog: &'a Catalog,
    diagnostics: &'a mut Diagnostics,
    /// The programs that have been asked; `None`: there was no answer.
    programs: Vec<(String, Option<Program>)>,
    blocks: Vec<CheckedBlock>,
    connections: Vec<CheckedConnection>,
}

struct CheckedBlock {
    node: Node,
    span: Range<usize>,
    /// `None` if the type or a parameter is wrong: then the ports are unknown, and nothing is said about them.
    ports: Option<Ports>,
    files: Vec<UsedFile>,
}

struct Ports {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

struct CheckedConnection {
    connection: Connection,
    span: Range<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Input,
    Output,
}

impl Ports {
    fn of(&self, direction: Direction) -> &[Port] {
        match direction {
            Direction::Input => &self.inputs,
            Direction::Output => &self.outputs,
        }
    }
}

impl Checker<'_> {
    fn error(&mut self, span: &Range<usize>, message: impl Into<String>, help: Option<String>) {
        self.diagnostics.add(Some(span.clone()), message, help);
    }

    fn flowgraph_name(&mut self, name: Option<Located<String>>, file_stem: &str) -> String {
        let (name, span) = name.map_or((file_stem.to_owned(), None), |name| (name.value, Some(name.span)));
        if !is_name(&name) {
            let message = format!("a flowgraph cannot be called `{name}`");
            self.diagnostics.add(span, message, Some(format!("set `name` to {NAME_RULE}")));
        }
        name
    }

    fn block(&mut self, draft: DraftBlock) {
        let Located { value: name, span } = draft.name;
        if !is_name(&name) {
            self.error(&span, format!("a block cannot be called `{name}`"), Some(format!("use {NAME_RULE}")));
        }
        let (spec, params) = match &draft.block_type {
            Some(block_type) => self.block_type(&name, block_type, draft.program.as_ref(), &draft.params),
            None => (None, None),
        };
        if let Some(spec) = &spec {
            self.missing_params(spec, &name, &span, &draft.params);
        }
        let given: Vec<_> = draft.params.into_iter().map(|(name, value)| (name.value, value)).collect();
        let files = spec.as_ref().map_or_else(Vec::new, |spec| files::used(spec, &given));
        let reads_stdin = spec.as_ref().is_some_and(|spec| spec.reads_stdin);
        let ports = spec
            .zip(params)
            .map(|(spec, params)| Ports { inputs: spec.inputs(&params), outputs: spec.outputs(&params) });
        if reads_stdin && let Some(other) = self.blocks.iter().find(|block| block.node.reads_stdin) {
            let message = format!("`{}` reads the standard input as well", other.node.name);
            self.error(&span, message, Some("one block can read it; a `tee` hands it on".to_owned()));
        }
        let block_type = draft.block_type.map_or_else(String::new, |located| located.value);
        if let Some(process) = draft.process.as_ref().filter(|process| !is_name(&process.value)) {
            let message = format!("a process cannot be called `{}`", process.value);
            self.error(&process.span, message, Some(format!("use {NAME_RULE}")));
        }
        let process = draft.process.map(|process| process.value);
        let program = draft.program.map(|program| program.value.into());
        if let (RestartWhen::Always, Some(process)) = (draft.restart.when, &process) {
            let help = format!("leave `process = \"{process}\"` out: a process starts and ends as a whole");
            self.error(
                &span,
                format!("`{name}` shares a process and cannot always be started again"),
                Some(help),
            );
        }
        if let (true, Some(process)) = (reads_stdin, &process) {
            let help = format!(
                "leave `process = \"{process}\"` out: the blocks of a process are told through it when to end"
            );
            let message = format!("`{name}` reads the standard input and cannot share a process");
            self.error(&span, message, Some(help));
        }
        let node = Node {
            name,
            block_type,
            given,
            restart: draft.restart,
            kill_stalled: draft.kill_stalled,
            reads_stdin,
            process,
            program,
        };
        self.blocks.push(CheckedBlock { node, span, ports, files });
    }

    /// A process that is described has to have blocks.
    fn processes(&mut self, processes: &[(Located<String>, Placement)]) {
        for (name, _) in processes {
            let mut used = self.blocks.iter().filter_map(|block| block.node.process.as_deref());
            if used.any(|used| used == name.value) {
                continue;
            }
            let used = self.blocks.iter().filter_map(|block| block.node.process.as_deref());
            let help = match nearest(&name.value, used) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("add process = \"{}\" to the blocks that are to share it", name.value),
            };
            self.error(&name.span, format!("no block is in the process `{}`", name.value), Some(help));
        }
    }

    /// The spec of a type, and a block's parameters if all of them are right.
    fn block_type(
        &mut self,
        block: &str,
        block_type: &Located<String>,
        program: Option<&Located<String>>,
        given: &[(Located<String>, Value)],
    ) -> (Option<Spec>, Option<Params>) {
        let Some(spec) = self.find_type(block_type, program) else { return (None, None) };
        for (name, value) in given {
            let params = spec.params();
            match params.iter().find(|param| param.name() == name.value) {
                Some(param) => {
                    if let Err(error) = param.check(value.clone()) {
                        self.error(
                            &name.span,
                            format!("block `{block}`: {error}"),
                            Some(format!("`{}` is {}", param.name(), param.doc())),
                        );
                    }
                }
                None => {
                    let help = match nearest(&name.value, params.iter().map(Param::name)) {
                        Some(nearest) => format!("did you mean `{nearest}`?"),
                        None if params.is_empty() => "it has no parameters".to_owned(),
                        None => format!("its parameters: {}", names(params.iter().map(Param::name))),
                    };
                    let message = format!("`{}` has no parameter `{}`", spec.name(), name.value);
                    self.error(&name.span, message, Some(help));
                }
            }
        }
        let values = given.iter().map(|(name, value)| (name.value.clone(), value.clone()));
        match Params::new(&spec, values) {
            Ok(params) => (Some(spec), Some(params)),
            Err(error) => {
                // Of what is wrong, only this shows in all parameters together.
                if let Error::BadParameter { name, .. } = &error
                    && let Some((name, value)) = given.iter().find(|(given, _)| given.value == *name)
                    && spec
                        .params()
                        .iter()
                        .any(|param| param.name() == name.value && param.check(value.clone()).is_ok())
                {
                    self.error(&name.span, format!("block `{block}`: {error}"), None);
                }
                (Some(spec), None)
            }
        }
    }

    /// The spec of a type of the catalog, or of another program.
    fn find_type(&mut self, block_type: &Located<String>, program: Option<&Located<String>>) -> Option<Spec> {
        let specs: Vec<&Spec> = match program {
            None => self.catalog.iter().map(|known| known.spec()).collect(),
            Some(path) => {
                self.ask(path);
                let (_, program) = self.programs.iter().find(|(known, _)| *known == path.value)?;
                program.as_ref()?.specs.iter().collect()
            }
        };
        let known = || specs.iter().map(|spec| spec.name());
        if let Some(found) = specs.iter().find(|spec| spec.name() == block_type.value) {
            return Some((*found).clone());
        }
        let help = match nearest(&block_type.value, known()) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("known types: {}", names(known())),
        };
        let where_ = program.map_or_else(String::new, |path| format!(" in `{}`", path.value));
        let message = format!("there is no block type `{}`{where_}", block_type.value);
        self.error(&block_type.span, message, Some(help));
        None
    }

    /// Asks a program for its types, once.
    fn ask(&mut self, path: &Located<String>) {
        if self.programs.iter().any(|(known, _)| *known == path.value) {
            return;
        }
        let answer = Program::ask(&path.value);
        if let Err(NoAnswer { problem, help }) = &answer {
            let message = format!("cannot use the program `{}`: {problem}", path.value);
            self.error(&path.span, message, Some(help.clone()));
        }
        self.programs.push((path.value.clone(), answer.ok()));
    }

    /// The blocks of one process have to be of one program, which can run several.
    fn programs_of_processes(&mut self) {
        let mut complaints = Vec::new();
        for (index, block) in self.blocks.iter().enumerate() {
            let Some(process) = &block.node.process else { continue };
            let shares = |other: &&CheckedBlock| other.node.process.as_ref() == Some(process);
            if let Some(first) = self.blocks[..index].iter().find(shares)
                && first.node.program != block.node.program
            {
                let (one, other) = (&first.node.name, &block.node.name);
                let message = format!(
                    "`{one}` and `{other}` are of different programs and cannot share the process `{process}`"
                );
                complaints.push((block.span.clone(), message));
            }
            let program = block.node.program.as_ref().map(|path| path.to_string_lossy());
            let asked = self.programs.iter().filter_map(|(_, asked)| asked.as_ref());
            let mut asked = asked.filter(|asked| program.as_deref() == Some(asked.path.as_str()));
            if asked.any(|asked| !asked.worker) {
                let message =
                    format!("the program of `{}` runs each block in its own process", block.node.name);
                complaints.push((block.span.clone(), message));
            }
        }
        for (span, message) in complaints {
            self.error(&span, message, None);
        }
    }

    fn missing_params(
        &mut self,
        spec: &Spec,
        block: &str,
        span: &Range<usize>,
        given: &[(Located<String>, Value)],
    ) {
        for param in spec.params().iter().filter(|param| param.is_required()) {
            if given.iter().all(|(name, _)| name.value != param.name()) {
                let message = format!("block `{block}` needs the parameter `{}`", param.name());
                let help = format!("`{}` is {}: {}", param.name(), param.doc(), param.expected());
                self.error(span, message, Some(help));
            }
        }
    }

    /// True if both ends were understood.
    fn connection(&mut self, draft: DraftConnection) -> bool {
        let from = self.port(&draft.from, Direction::Output);
        let to = self.port(&draft.to, Direction::Input);
        let (Some((from, output)), Some((to, input))) = (from, to) else { return false };
        let redelivers = input.as_ref().is_some_and(|port| port.redelivers);
        let config = Port::complete(draft.config, output.as_ref(), input.as_ref());
        let span = draft.from.span.start..draft.to.span.end.max(draft.from.span.end);
        if redelivers && config.policy == Some(Policy::DropOldest) {
            let message = format!("a connection to `{to}` cannot drop the oldest");
            let help = "the input delivers again what is held when its process is killed, so that stays queued: leave `policy` out, \
                        use `drop-newest`, or do without redelivery";
            self.error(&span, message, Some(help.to_owned()));
        }
        if self.connections.iter().any(|other| other.connection.from == from && other.connection.to == to) {
            self.error(&span, format!("`{from}` and `{to}` are connected twice"), None);
        } else {
            self.connections.push(CheckedConnection { connection: Connection { from, to, config }, span });
        }
        true
    }

    /// The port that `block.port`, or `block` alone, means. Its spec is `None` when the block's ports are unknown.
    fn port(&mut self, end: &Located<String>, direction: Direction) -> Option<(PortName, Option<Port>)> {
        let (block, port) = match end.value.split_once('.') {
            Some((block, port)) => (block, Some(port)),
            None => (end.value.as_str(), None),
        };
        let Some(found) = self.blocks.iter().find(|known| known.node.name == block) else {
            let known = || self.blocks.iter().map(|known| known.node.name.as_str());
            let help = match nearest(block, known()) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => format!("the blocks: {}", names(known())),
            };
            self.error(&end.span, format!("there is no block `{block}`"), Some(help));
            return None;
        };
        let named = |port: &str| PortName { block: block.to_owned(), port: port.to_owned() };
        let Some(ports) = &found.ports else { return Some((named(port.unwrap_or("?")), None)) };
        let candidates = ports.of(direction);
        let (one, other) = match direction {
            Direction::Input => ("input", Direction::Output),
            Direction::Output => ("output", Direction::Input),
        };
        let listed = || match candidates {
            [] => format!("`{block}` has no {one}s"),
            ports => format!("its {one}s: {}", names(ports.iter().map(Port::name))),
        };
        match (port, candidates) {
            (None, [only]) => Some((named(only.name()), Some(only.clone()))),
            (None, []) => {
                let message = format!("`{block}` has no {one}s, so nothing can be connected there");
                self.error(&end.span, message, None);
                None
            }
            (None, _) => {
                let message = format!("which {one} of `{block}`? Write `{block}.PORT`");
                let help = listed();
                self.error(&end.span, message, Some(help));
                None
            }
            (Some(port), candidates) => {
                if let Some(found) = candidates.iter().find(|candidate| candidate.name() == port) {
                    return Some((named(port), Some(found.clone())));
                }
                let wrong_way = ports.of(other).iter().any(|candidate| candidate.name() == port);
                let help = match nearest(port, candidates.iter().map(Port::name)) {
                    _ if wrong_way => "connections go from an output to an input".to_owned(),
                    Some(nearest) => format!("did you mean `{block}.{nearest}`?"),
                    None => listed(),
                };
                self.error(&end.span, format!("block `{block}` has no {one} `{port}`"), Some(help));
                None
            }
        }
    }

    /// What one side of a connection can send must be something that the other side takes.
    fn types(&mut self) {
        for index in 0..self.connections.len() {
            let CheckedConnection { connection: Connection { from, to, .. }, span } =
                &self.connections[index];
            let (from, to, span) = (from.clone(), to.clone(), span.clone());
            let (Some(output), Some(input)) =
                (self.spec_of(&from, Direction::Output), self.spec_of(&to, Direction::Input))
            else {
                continue;
            };
            let sent = self.possible_dtypes(&from, self.connections.len());
            if !overlap(&sent, &input.dtypes) {
                let message = format!(
                    "`{from}` sends {}, but `{to}` takes {}",
                    dtype_names(&sent),
                    dtype_names(&input.dtypes)
                );
                self.error(&span, message, None);
            } else if !shapes_fit(&output.shape, &input.shape) {
                let message = format!(
                    "`{from}` sends buffers of shape [{}], but `{to}` takes [{}]",
                    output.shape.join(", "),
                    input.shape.join(", ")
                );
                self.error(&span, message, None);
            }
        }
    }

    /// A block starts when it knows the formats of all inputs that it needs. So a cycle through such inputs only never starts.
    fn cycles(&mut self) {
        let needs = |port: &PortName| self.spec_of(port, Direction::Input).is_some_and(|port| !port.optional);
        let needed: Vec<_> = self.connections.iter().filter(|c| needs(&c.connection.to)).collect();
        let ends = |c: &&CheckedConnection| (c.connection.from.block.clone(), c.connection.to.block.clone());
        let edges: Vec<(String, String)> = needed.iter().map(ends).collect();
        let Some(cycle) = cycle(&edges) else { return };
        let way: Vec<&str> = cycle.iter().map(|&edge| edges[edge].0.as_str()).collect();
        let (way, last) = (way.join(" -> "), needed[cycle[cycle.len() - 1]]);
        let message = format!(
            "the cycle {way} -> {} can never start: each of its blocks waits for the one before it",
            last.connection.to.block
        );
        let help =
            format!("end it at an input that its block can do without; `{}` is not one", last.connection.to);
        let span = last.span.clone();
        self.error(&span, message, Some(help));
    }

    /// The item types that can come out of an output; empty: any. An output like an input can only send what that input
    /// receives. `hops` ends the search in flowgraphs with loops.
    fn possible_dtypes(&self, output: &PortName, hops: usize) -> Vec<DType> {
        let Some(port) = self.spec_of(output, Direction::Output) else { return Vec::new() };
        let Some(like) = port.like.as_ref().filter(|_| hops > 0) else { return port.dtypes };
        let input = PortName { block: output.block.clone(), port: like.clone() };
        let accepted = self.spec_of(&input, Direction::Input).map_or_else(Vec::new, |port| port.dtypes);
        let Some(feed) = self.connections.iter().find(|c| c.connection.to == input) else { return accepted };
        let received = self.possible_dtypes(&feed.connection.from, hops - 1);
        match (received.is_empty(), accepted.is_empty()) {
            (true, _) => accepted,
            (_, true) => received,
            // If nothing is in common, the mistake is at the input, and is reported there.
            _ if !overlap(&received, &accepted) => accepted,
            _ => received.into_iter().filter(|dtype| accepted.contains(dtype)).collect(),
        }
    }

    fn spec_of(&self, name: &PortName, direction: Direction) -> Option<Port> {
        let block = self.blocks.iter().find(|block| block.node.name == name.block)?;
        block.ports.as_ref()?.of(direction).iter().find(|port| port.name() == name.port).cloned()
    }

    fn required_inputs(&mut self) {
        let mut missing = Vec::new();
        for block in &self.blocks {
            let inputs = block.ports.iter().flat_map(|ports| &ports.inputs);
            for input in inputs.filter(|input| !input.optional) {
                let name = PortName { block: block.node.name.clone(), port: input.name().to_owned() };
                if self.connections.iter().all(|c| c.connection.to != name) {
                    missing.push((block.span.clone(), name, input.doc().to_owned()));
                }
            }
        }
        for (span, name, doc) in missing {
            let help = format!("add a connection to it in `connect`; it takes {doc}");
            self.error(&span, format!("nothing is connected to the input `{name}`"), Some(help));
        }
    }
}

const NAME_RULE: &str = "letters, digits, `_` and `-`, at most 32 of them";

/// Whether a buffer can have both shapes: as many dimensions, and no two fixed extents that differ. Names may stand for any extent.
fn shapes_fit(sent: &[String], taken: &[String]) -> bool {
    let differ = |(a, b): (&String, &String)| match (a.parse::<u32>(), b.parse::<u32>()) {
        (Ok(a), Ok(b)) => a != b,
        _ => false,
    };
    sent.is_empty() || taken.is_empty() || sent.len() == taken.len() && !sent.iter().zip(taken).any(differ)
}

fn overlap(a: &[DType], b: &[DType]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|dtype| b.contains(dtype))
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
