//! `null-source`: buffers full of zeros, at a rate or as fast as they are taken.

use crate::prelude::*;

/// Sends numbered, stamped buffers of zeros.
pub(super) struct NullSource {
    pace: Option<Pace>,
    count: Option<u64>,
    items: u32,
}

impl Block for NullSource {
    fn spec() -> Spec {
        Spec::new("null-source", "Sends buffers of zeros")
            .example(
                r#"
connect = ["source -> sink"]
blocks.source = { type = "null-source", rate_hz = 100, count = 1000, items = 65536 }
blocks.sink = { type = "null-sink" }
"#,
            )
            .output(Port::new("out", "zeros, stamped when sent").dtypes([DType::F32]).shape(["items"]))
            .param(
                Param::float("rate_hz", "buffers a second; without it, as fast as they are taken")
                    .range(1e-3, 1e6)
                    .unit("Hz")
                    .optional()
                    .fixed(),
            )
            .param(
                Param::int("count", "buffers to send; without it, until stopped")
                    .range(0.0, f64::INFINITY)
                    .optional()
                    .fixed(),
            )
            .param(Param::int("items", "items in a buffer").default(1024).range(0.0, 1e9).fixed())
    }

    fn new(params: &Params) -> Result<Self> {
        let rate_hz: Option<f64> = params.get("rate_hz");
        Ok(Self { pace: rate_hz.map(Pace::new), count: params.get("count"), items: params.get("items") })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        if self.count.is_some_and(|count| io.next_sequence("out") >= count) {
            return Err(Pause::Done);
        }
        if let Some(pace) = &mut self.pace {
            pace.tick()?;
        }
        let mut buffer = io.new_buffer("out", DType::F32, &[self.items])?;
        buffer.as_bytes_mut().fill(0);
        buffer.set_timestamp(Timestamp::now());
        io.send("out", buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn sends_as_many_as_asked_for() {
        let mut bench = Bench::of::<NullSource>(&[("count", 3.into()), ("items", 2.into())]).unwrap();
        bench.run().unwrap();
        for sequence in 0..3 {
            let buffer = bench.pull_buffer("out").unwrap().expect("a buffer");
            assert_eq!(buffer.sequence(), sequence);
            assert_eq!(buffer.as_slice::<f32>().unwrap(), [0.0; 2]);
        }
        assert_eq!(bench.pull::<f32>("out").unwrap(), None);
        assert!(bench.has_ended());
    }
}
