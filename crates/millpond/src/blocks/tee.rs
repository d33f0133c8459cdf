//! `tee`: sends a stream to several outputs.

use crate::prelude::*;

/// Sends every buffer on every output, without copying it: receivers share it.
pub(super) struct Tee {
    outputs: Vec<String>,
}

impl Block for Tee {
    fn spec() -> Spec {
        Spec::new("tee", "Sends every buffer on all of its outputs, without copying")
            .details(
                "Any output port can have several connections, which does the same; a tee gives the branches names. The \
                 slowest branch holds up the others, unless its connection drops.",
            )
            .example(
                r#"
connect = ["tone -> both", "both.file -> file", "both.screen -> lines"]
blocks.tone = { type = "signal", count = 10 }
blocks.both = { type = "tee", outputs = ["file", "screen"] }
blocks.file = { type = "wav-sink", path = "tone.wav" }
blocks.lines = { type = "print" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::one_for_each("outputs", "the same").like("in").follows("in"))
            .param(Param::names("outputs", "names of the outputs"))
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { outputs: params.get("outputs") })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let buffer = io.take("in")?;
        self.outputs.iter().try_for_each(|output| io.send(output, buffer.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn all_outputs_have_the_same_buffer() {
        let outputs = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut bench = Bench::of::<Tee>(&[("outputs", outputs.into())]).unwrap();
        let pushed = bench.push("in", &[1u64, 2]).unwrap();
        bench.end("in");
        bench.run().unwrap();
        for output in ["a", "b", "c"] {
            let buffer = bench.pull_buffer(output).unwrap().expect("a buffer");
            assert_eq!(buffer.id(), pushed.id());
            assert!(bench.pull_buffer(output).unwrap().is_none());
        }
        assert!(bench.has_ended());
    }
}
