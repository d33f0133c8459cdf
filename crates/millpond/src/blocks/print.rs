//! `print`: shows buffers in words.

use std::fmt::Write as _;

use crate::prelude::*;

/// Shows a line for each buffer: number, stamp, type, shape, first items.
pub(super) struct Print {
    taken: u64,
    samples: Vec<f64>,
}

impl Block for Print {
    fn spec() -> Spec {
        Spec::new("print", "Shows a line for each buffer: its number, stamp, type, shape and first items")
            .details("Lines appear among the pipeline's messages. For streams that are too fast to read, set `every`.")
            .example(
                r#"
connect = ["cpu -> lines"]
blocks.cpu = { type = "proc-cpu", rate_hz = 2, count = 10 }
blocks.lines = { type = "print" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .param(Param::int("items", "items to show, at most").default(8).range(0.0, 1000.0))
            .param(Param::int("every", "one of how many buffers is shown").default(1).range(1.0, 1e12))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self { taken: 0, samples: Vec::new() })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let buffer = io.take("in")?;
        let (items, every): (usize, u64) = (io.param("items"), io.param("every"));
        if self.taken.is_multiple_of(every) {
            io.note(&self.describe(&buffer, items));
        }
        self.taken += 1;
        Ok(())
    }
}

impl Print {
    fn describe(&mut self, buffer: &Buffer, items: usize) -> String {
        let mut line = format!("#{}", buffer.sequence());
        let _ = match buffer.timestamp() {
            Timestamp::Absolute(ns) => {
                write!(line, " at {}.{:09} s", ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000))
            }
            Timestamp::Relative(ns) => write!(line, " at {} ns", ns),
            Timestamp::Sample { index, .. } => write!(line, " at sample {index}"),
            _ => Ok(()),
        };
        let _ = write!(line, ", {} {:?}", buffer.dtype(), buffer.shape());
        if buffer.read_samples(&mut self.samples).is_err() {
            // No real numbers: bytes, then.
            self.samples.clear();
            self.samples.extend(buffer.as_bytes().iter().map(|byte| f64::from(*byte)));
            let _ = write!(line, ", {} bytes", buffer.len());
        }
        if !self.samples.is_empty() && items > 0 {
            line.push(':');
            for sample in self.samples.iter().take(items) {
                // Items of f32 have seven digits, not the seventeen of an f64.
                let _ = match buffer.dtype() {
                    DType::F32 => write!(line, " {}", *sample as f32),
                    _ => write!(line, " {sample}"),
                };
            }
            if self.samples.len() > items {
                line.push_str(" ...");
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    #[test]
    fn lines_say_what_is_in_a_buffer() {
        let mut bench = Bench::of::<Print>(&[]).unwrap();
        let mut print = Print { taken: 0, samples: Vec::new() };
        let frames = bench.push_frames("in", 7, 2, &[0.1f32, -1.0, 2.5, 3.0]).unwrap();
        assert_eq!(print.describe(&frames, 3), "#0 at sample 7, f32 [2, 2]: 0.1 -1 2.5 ...");
        bench.end("in");
        bench.run().unwrap();
        assert!(bench.has_ended());
        let mut bench = Bench::of::<Print>(&[]).unwrap();
        let row = bench.push_at("in", 1_500_000_001, &[0.1]).unwrap();
        assert_eq!(print.describe(&row, 8), "#0 at 1.500000001 s, f64 [1]: 0.1");
        let mut bench = Bench::of::<Print>(&[]).unwrap();
        let empty = bench.push("in", &[] as &[u8]).unwrap();
        assert_eq!(print.describe(&empty, 8), "#0, u8 [0]");
        let mut bench = Bench::of::<Print>(&[]).unwrap();
        let wide = bench.push("in", &[258u64]).unwrap();
        assert_eq!(print.describe(&wide, 3), "#0, u64 [1], 8 bytes: 2 1 0 ...");
    }
}
