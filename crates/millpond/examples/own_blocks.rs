//! A program with a block type of its own, which pipeline files can name: `program = "target/debug/examples/own_blocks"`.

use std::process::ExitCode;

use millpond::{Catalog, prelude::*};

/// Halves every sample, in place.
struct Halve;

impl Block for Halve {
    fn spec() -> Spec {
        Spec::new("halve", "Halves every sample")
            .input(Port::new("in", "samples").dtypes(REAL))
            .output(Port::new("out", "the same, halved").like("in"))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Halve)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let mut buffer = io.take_mut("in")?;
        buffer.map_samples(|x| x / 2.0)?;
        io.send("out", buffer)
    }
}

fn main() -> ExitCode {
    millpond::main(Catalog::new().add::<Halve>())
}
