//! `null-sink`: takes everything and does nothing with it.

use crate::prelude::*;

/// Takes and drops every buffer.
pub(super) struct NullSink;

impl Block for NullSink {
    fn spec() -> Spec {
        Spec::new("null-sink", "Takes everything and does nothing with it")
            .example(
                r#"
connect = ["source -> sink"]
blocks.source = { type = "null-source", count = 1000 }
blocks.sink = { type = "null-sink" }
"#,
            )
            .input(Port::new("in", "any stream"))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        io.take("in").map(drop)
    }
}
