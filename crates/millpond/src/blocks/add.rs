//! `add`: adds streams, sample by sample.

use super::combine::{Combine, Operation};

/// Adds streams, sample by sample.
pub(super) type Add = Combine<Sum>;

pub(super) struct Sum;

impl Operation for Sum {
    const NAME: &str = "add";
    const SUMMARY: &str = "Adds streams, sample by sample; integers saturate";
    const RESULT: &str = "the sum of all";
    const EXAMPLE: &str = r#"
connect = ["low -> mix.a", "high -> mix.b", "mix -> file"]
blocks.low = { type = "signal", freq_hz = 440, amplitude = 0.4, duration_s = 1.0 }
blocks.high = { type = "signal", freq_hz = 660, amplitude = 0.4, duration_s = 1.0 }
blocks.mix = { type = "add", inputs = ["a", "b"] }
blocks.file = { type = "wav-sink", path = "fifth.wav" }
"#;
    const NEUTRAL: f64 = 0.0;

    fn apply(result: f64, sample: f64) -> f64 {
        result + sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Frames as _, position};
    use crate::testing::Bench;

    fn bench() -> Bench {
        Bench::of::<Add>(&[("inputs", vec!["a".to_owned(), "b".to_owned()].into())]).unwrap()
    }

    #[test]
    fn adds_whatever_the_buffers() {
        let a: Vec<f32> = (0..60).map(|i| (i as f32 * 0.3).sin()).collect();
        let b: Vec<f32> = (0..60).map(|i| (i as f32 * 0.7).cos()).collect();
        let expected: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        for (chunk_a, chunk_b) in [(2, 2), (2, 6), (14, 4), (60, 1000), (20, 60)] {
            let mut bench = bench();
            for (input, items, chunk) in [("a", &a, chunk_a), ("b", &b, chunk_b)] {
                let mut index = 7;
                for items in items.chunks(chunk) {
                    bench.push_frames(input, index, 2, items).unwrap();
                    index += items.len() as i64 / 2;
                }
                bench.end(input);
            }
            bench.run().unwrap();
            assert!(bench.has_ended());
            let (mut out, mut next) = (Vec::new(), 7);
            while let Some(buffer) = bench.pull_buffer("out").unwrap() {
                assert_eq!(position(buffer.timestamp()), Some(next));
                next += i64::from(buffer.frames());
                out.extend_from_slice(buffer.as_slice::<f32>().unwrap());
            }
            assert_eq!(out, expected, "{chunk_a}, {chunk_b}");
        }
    }

    #[test]
    fn works_in_the_first_buffer_unless_others_see_it() {
        for seen in [false, true] {
            let mut bench = bench();
            let first = bench.push("a", &[1i16, i16::MAX]).unwrap();
            let id = first.id();
            let first = seen.then_some(first);
            bench.push("b", &[-2i16, 1]).unwrap();
            bench.push("b", &[] as &[i16]).unwrap();
            bench.end("b");
            bench.run().unwrap();
            let out = bench.pull_buffer("out").unwrap().unwrap();
            assert_eq!(out.as_slice::<i16>().unwrap(), [-1, i16::MAX]);
            assert_eq!(out.id() == id, !seen);
            assert!(first.is_none_or(|first| first.as_slice::<i16>().unwrap() == [1, i16::MAX]));
            assert!(bench.has_ended());
        }
    }

    #[test]
    fn refuses_streams_that_differ() {
        let mut bench = bench();
        bench.push_frames("a", 0, 2, &[1i16, 2]).unwrap();
        bench.push_frames("b", 0, 1, &[1i16]).unwrap();
        assert_eq!(
            bench.run().expect_err("refused").to_string(),
            "expected streams of the same kind, found i16 of 2 channels at 48000 Hz at `a` and i16 of 1 channel at \
             48000 Hz at `b`: `convert`, `resampler` and `deinterleave` make them fit"
        );
    }
}
