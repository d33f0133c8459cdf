//! Every block that makes one stream of another, held against its definition in one place: nothing, one sample, odd numbers of them, and
//! more than a buffer, cut into buffers of any size; and streams of items that are no numbers.

use std::f64::consts::PI;

use millpond_shm::{DType, StreamFormat};

use crate::param::Value;
use crate::testing::Bench;

/// A block with its parameters, and what its output is by definition.
struct Case {
    name: &'static str,
    bench: fn() -> Bench,
    definition: fn(&[f64]) -> Vec<f64>,
    /// Nothing but numbers makes sense.
    only_numbers: bool,
}

fn bench<B: crate::Block>(params: &[(&str, Value)]) -> Bench {
    Bench::of::<B>(params).expect("a block")
}

/// Each output is the sum of the taps times the latest inputs.
fn convolved(taps: &[f64], x: &[f64]) -> Vec<f64> {
    let y = |i: usize| taps.iter().enumerate().filter(|(k, _)| *k <= i).map(|(k, tap)| tap * x[i - k]).sum();
    (0..x.len()).map(y).collect()
}

/// Magnitudes of windows of 8 frames that follow each other, unweighted; what does not fill one is left out.
fn spectra(x: &[f64]) -> Vec<f64> {
    let magnitude = |x: &[f64], k: usize| {
        let angle = |i: usize| 2.0 * PI * (k * i) as f64 / 8.0;
        let re: f64 = x.iter().enumerate().map(|(i, x)| x * angle(i).cos()).sum();
        let im: f64 = x.iter().enumerate().map(|(i, x)| x * angle(i).sin()).sum();
        re.hypot(im)
    };
    x.as_chunks::<8>().0.iter().flat_map(|x| (0..=4).map(move |k| magnitude(x, k))).collect()
}

fn cases() -> Vec<Case> {
    let case = |name, only_numbers, bench, definition| Case { name, bench, definition, only_numbers };
    vec![
        case("copy", false, || bench::<super::copy::Copy>(&[]), <[f64]>::to_vec),
        case(
            "gain",
            true,
            || bench::<super::gain::Gain>(&[("k", 0.5.into())]),
            |x| x.iter().map(|x| 0.5 * x).collect(),
        ),
        case(
            "clip",
            true,
            || bench::<super::clip::Clip>(&[("min", (-0.25).into()), ("max", 0.5.into())]),
            |x| x.iter().map(|x| x.clamp(-0.25, 0.5)).collect(),
        ),
        case(
            "convert",
            true,
            || bench::<super::convert::Convert>(&[("dtype", "f64".into()), ("scale", (-3.0).into())]),
            |x| x.iter().map(|x| -3.0 * x).collect(),
        ),
        case(
            "head",
            false,
            || bench::<super::head::Head>(&[("frames", 5.into())]),
            |x| x.iter().take(5).copied().collect(),
        ),
        case(
            "skip",
            false,
            || bench::<super::skip::Skip>(&[("frames", 5.into())]),
            |x| x.iter().skip(5).copied().collect(),
        ),
        case(
            "delay",
            false,
            || bench::<super::delay::Delay>(&[("frames", 1025.into())]),
            // Nothing comes out of which nobody knows the kind.
            |x| if x.is_empty() { vec![0.0; 1025] } else { [vec![0.0; 1025], x.to_vec()].concat() },
        ),
        case(
            "keep-one-in-n",
            false,
            || bench::<super::keep_one_in_n::KeepOneInN>(&[("n", 3.into())]),
            |x| x.iter().step_by(3).copied().collect(),
        ),
        case(
            "moving-average",
            true,
            || bench::<super::moving_average::MovingAverage>(&[("length", 5.into())]),
            |x| convolved(&[0.2; 5], x),
        ),
        case(
            "fir",
            true,
            || bench::<super::fir::Fir>(&[("taps", vec![0.5, -0.25, 2.0].into())]),
            |x| convolved(&[0.5, -0.25, 2.0], x),
        ),
        case(
            "fft",
            true,
            || bench::<super::fft::Fft>(&[("size", 8.into()), ("window", "rectangular".into())]),
            spectra,
        ),
    ]
}

#[test]
fn any_number_of_samples_in_buffers_of_any_size() {
    for case in cases() {
        for length in [0usize, 1, 7, 64, 5001] {
            let x: Vec<f64> = (0..length).map(|i| (i * 7919 % 2001) as f64 / 1000.0 - 1.0).collect();
            let expected = (case.definition)(&x);
            let small = if length < 100 { 1 } else { 333 };
            for chunk in [small, 7.max(small), 4096, 6000] {
                let found: Vec<f64> = (case.bench)()
                    .run_through(1, chunk, &x)
                    .unwrap_or_else(|error| panic!("{}: {error}", case.name));
                let context = format!("{}, {length} samples in buffers of {chunk}", case.name);
                assert_eq!(found.len(), expected.len(), "{context}");
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    assert!((found - expected).abs() < 1e-12, "{context}: {i} is {found} and not {expected}");
                }
            }
        }
    }
}

#[test]
fn streams_of_anything_but_numbers_are_refused() {
    for case in cases().iter().filter(|case| case.only_numbers) {
        let format = StreamFormat { dtype: DType::Bytes, shape: vec![0, 1], ..StreamFormat::default() };
        let mut bench = (case.bench)();
        let refused = bench.set_format("in", format).and_then(|()| bench.run());
        let refusal = refused.expect_err(case.name).to_string();
        assert!(refusal.contains("bytes") && refusal.contains("f32"), "{}: {refusal}", case.name);
    }
}
