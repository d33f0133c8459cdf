//! The ports and parameters that the blocks have in common.

use super::TimedInputs;
use crate::prelude::*;

const OVERFLOWS: &[&str] = &["sync", "async", "hybrid"];

/// A parameter with a number for all inputs, or one for each.
pub(in super::super) fn for_each_input(name: &str, doc: &str) -> Param {
    Param::numbers_for_each(name, doc, "inputs").range(0.0, 9e12)
}

/// The input ports.
pub(in super::super) fn timed_ports() -> Port {
    Port::one_for_each("inputs", "rows of numbers, one in a buffer, stamped").dtypes(REAL)
}

/// Adds the input ports, the outputs for what was late, and the parameters that say how they are waited for.
pub(in super::super) fn with_timed_inputs(spec: Spec, ports: Port) -> Spec {
    let each = for_each_input;
    spec.input(ports)
        .output(late_ports())
        .param(Param::names("inputs", "names of the inputs"))
        .param(late_param())
        .param(
            each("disorder_ms", "by how much a buffer may be earlier than the newest before it")
                .unit("ms")
                .default(vec![0.0]),
        )
        .param(each("timeout_ms", "how long an input may keep the others waiting").unit("ms").optional())
        .param(each("depth", "buffers held at most, 2 or more").default(vec![64.0]))
        .param(Param::names("optional", "inputs that rows can do without").optional())
        .param(Param::names("stamp_on_arrival", "inputs whose buffers are stamped when they come").optional())
        .param(
            Param::one_of("overflow", "what happens when an input holds `depth` buffers", OVERFLOWS)
                .default("sync"),
        )
        .param(
            Param::float("deadline_ms", "hybrid: how long a full input waits before its oldest is dropped")
                .range(0.0, 9e12)
                .unit("ms")
                .default(100.0),
        )
}

/// The outputs for late buffers. Whoever does not keep up with them holds up nothing.
pub(in super::super) fn late_ports() -> Port {
    Port::one_for_each("late", "buffers of an input that were late, unchanged")
        .dtypes(REAL)
        .policy(crate::Policy::DropNewest)
}

/// The parameter that names them.
pub(in super::super) fn late_param() -> Param {
    Param::names(
        "late",
        "names of outputs, one for each input: its late buffers come there, unchanged; what a full one has no room for is dropped \
         and counted by its connection",
    )
    .optional()
    .fixed()
}

impl TimedInputs {
    /// Learns where late buffers go.
    pub(in super::super) fn name_late_outputs(&mut self, params: &Params) -> Result<()> {
        let Some(outputs) = params.get::<Option<Vec<String>>>("late") else { return Ok(()) };
        let refused = |expected: String, found: String| {
            Err(Error::BadParameter { name: "late".to_owned(), expected, found })
        };
        if outputs.len() != self.inputs.len() {
            let inputs: Vec<&str> = self.inputs.iter().map(|input| input.name.as_str()).collect();
            return refused(
                format!("{} names of outputs, one for each input ({})", inputs.len(), inputs.join(", ")),
                outputs.len().to_string(),
            );
        }
        let is_taken = |name: &String| name == "out" || self.inputs.iter().any(|input| input.name == *name);
        if let Some(output) = outputs.iter().find(|output| is_taken(output)) {
            return refused("names that no other port has".to_owned(), format!("`{output}`"));
        }
        self.inputs.iter_mut().zip(outputs).for_each(|(input, output)| input.late = Some(output));
        Ok(())
    }
}
