//! `copy`: copies every buffer, byte for byte.

use crate::prelude::*;

/// Copies each buffer into a new one: what a block costs that cannot work in place.
pub(super) struct Copy;

impl Block for Copy {
    fn spec() -> Spec {
        Spec::new("copy", "Copies every buffer into a new one")
            .example(
                r#"
connect = ["source -> copy -> sink"]
blocks.source = { type = "null-source", count = 1000 }
blocks.copy = { type = "copy" }
blocks.sink = { type = "null-sink" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::new("out", "the copies").like("in").follows("in"))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let original = io.peek("in")?;
        let (dtype, shape) = (original.dtype(), original.shape());
        let mut copy = io.new_buffer("out", dtype, &shape)?;
        let original = io.take("in")?;
        copy.as_bytes_mut().copy_from_slice(original.as_bytes());
        copy.set_timestamp(original.timestamp());
        copy.set_time_range(original.time_range());
        io.send("out", copy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn copies_everything_but_the_buffer() {
        let mut bench = Bench::of::<Copy>(&[]).unwrap();
        let original = bench.push("in", &[1u16, 2, 3]).unwrap();
        bench.run().unwrap();
        let copy = bench.pull_buffer("out").unwrap().expect("a copy");
        assert_eq!(copy.as_slice::<u16>().unwrap(), [1, 2, 3]);
        assert_eq!((copy.dtype(), copy.timestamp()), (original.dtype(), original.timestamp()));
        assert_ne!(copy.id(), original.id());
    }
}
