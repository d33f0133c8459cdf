//! A program with block types of its own, which pipeline files can name: `program = "target/debug/examples/own_blocks"`.

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

/// Counts up, a buffer of `f32` at a time.
struct Ramp {
    next: u64,
}

impl Block for Ramp {
    fn spec() -> Spec {
        Spec::new("ramp", "Counts up")
            .output(Port::new("out", "whole numbers").dtypes([DType::F32]).shape(["frames", "1"]))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Ramp { next: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        // After a restart it goes on behind what its earlier process has sent.
        self.next = io.next_sequence("out") * 480;
        let format = StreamFormat {
            dtype: DType::F32,
            shape: vec![0, 1], // 0: as many frames as each buffer has
            rate_hz: Some((48_000, 1)),
            ..StreamFormat::default()
        };
        io.set_format("out", format)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let mut buffer = io.new_buffer("out", DType::F32, &[480, 1])?;
        for (sample, number) in buffer.as_mut_slice::<f32>()?.iter_mut().zip(self.next..) {
            *sample = number as f32;
        }
        buffer.set_timestamp(Timestamp::now());
        self.next += 480;
        io.send("out", buffer)
    }
}

/// The mean of each buffer: another type, shape and rate than what comes.
struct Mean;

impl Block for Mean {
    fn spec() -> Spec {
        Spec::new("mean", "The mean of each buffer")
            .input(Port::new("in", "samples").dtypes([DType::F32]))
            .output(
                Port::new("out", "one number for each buffer")
                    .dtypes([DType::F64])
                    .shape(["1"])
                    .follows("in"),
            )
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Mean)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        // Whatever may have to wait comes first; then nothing is lost when `work` is called again.
        io.peek("in")?;
        let mut mean = io.new_buffer("out", DType::F64, &[1])?;
        let buffer = io.take("in")?;
        let samples = buffer.as_slice::<f32>()?;
        let sum: f64 = samples.iter().map(|sample| f64::from(*sample)).sum();
        mean.as_mut_slice::<f64>()?[0] = sum / samples.len().max(1) as f64;
        mean.set_timestamp(buffer.timestamp());
        io.send("out", mean)
    }
}

fn main() -> ExitCode {
    millpond::main(Catalog::new().add::<Halve>().add::<Ramp>().add::<Mean>())
}
