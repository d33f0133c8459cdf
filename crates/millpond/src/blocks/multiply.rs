//! `multiply`: multiplies streams, sample by sample.

use super::combine::{Combine, Operation};

/// Multiplies streams, sample by sample.
pub(super) type Multiply = Combine<Product>;

pub(super) struct Product;

impl Operation for Product {
    const NAME: &str = "multiply";
    const SUMMARY: &str = "Multiplies streams, sample by sample; integers saturate";
    const RESULT: &str = "the product of all";
    const EXAMPLE: &str = r#"
connect = ["tone -> tremolo.tone", "slow -> tremolo.slow", "tremolo -> file"]
blocks.tone = { type = "signal", freq_hz = 440, duration_s = 1.0 }
blocks.slow = { type = "signal", freq_hz = 5, duration_s = 1.0 }
blocks.tremolo = { type = "multiply", inputs = ["tone", "slow"] }
blocks.file = { type = "wav-sink", path = "tremolo.wav" }
"#;
    const NEUTRAL: f64 = 1.0;

    fn apply(result: f64, sample: f64) -> f64 {
        result * sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use crate::testing::Bench;

    #[test]
    fn multiplies_three_streams() {
        let inputs = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut bench = Bench::of::<Multiply>(&[("inputs", inputs.into())]).unwrap();
        bench.push("a", &[1.5f64, 2.0, -1.0]).unwrap();
        bench.push("b", &[2.0f64]).unwrap();
        bench.push("b", &[0.5f64, f64::NAN]).unwrap();
        bench.push("c", &[-1.0f64, 3.0, 1.0, 9.0]).unwrap();
        bench.end("a");
        bench.run().unwrap();
        assert!(bench.has_ended());
        let out = bench.pull_all::<f64>("out").unwrap();
        assert_eq!(out[..2], [-3.0, 3.0]);
        assert!(out[2].is_nan() && out.len() == 3);
    }

    #[test]
    fn receivers_learn_how_far_the_first_stream_has_come() {
        let mut bench =
            Bench::of::<Multiply>(&[("inputs", vec!["a".to_owned(), "b".to_owned()].into())]).unwrap();
        bench.push_frames("a", 48, 1, &[1.0f64; 4]).unwrap();
        bench.push_frames("b", 0, 1, &[2.0f64]).unwrap();
        bench.run().unwrap();
        assert_eq!(bench.pull::<f64>("out").unwrap(), Some(vec![2.0]));
        // The frame after the one that was used, 49 / 48000 s.
        assert_eq!(bench.bound("out"), Some(Timestamp::Relative(1_020_833)));
        bench.push_frames("b", 1, 1, &[2.0f64; 3]).unwrap();
        bench.advance("a", Timestamp::Relative(5_000_000));
        bench.run().unwrap();
        assert_eq!(bench.pull::<f64>("out").unwrap(), Some(vec![2.0; 3]));
        assert_eq!(bench.bound("out"), Some(Timestamp::Relative(5_000_000)));
    }
}
