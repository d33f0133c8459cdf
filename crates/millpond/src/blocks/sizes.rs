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

/// A block with several ports, or none on one side, and what all of its outputs carry by definition. Input number `i` gets the
/// samples plus `i`.
struct Joined {
    name: &'static str,
    params: Vec<(&'static str, Value)>,
    inputs: &'static [&'static str],
    outputs: &'static [&'static str],
    definition: fn(&[f64]) -> Vec<Vec<f64>>,
}

fn joined() -> Vec<Joined> {
    let names = |names: &[&str]| Value::from(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let (a_b, two) = (|| names(&["a", "b"]), &["a", "b"]);
    let sum = |x: &[f64]| vec![x.iter().map(|x| x + (x + 1.0)).collect()];
    let product = |x: &[f64]| vec![x.iter().map(|x| x * (x + 1.0)).collect()];
    let alternating = |x: &[f64]| vec![x.iter().flat_map(|x| [*x, x + 1.0]).collect()];
    let same = |x: &[f64]| vec![x.to_vec()];
    let case =
        |name, params, inputs, outputs, definition| Joined { name, params, inputs, outputs, definition };
    vec![
        case("add", vec![("inputs", a_b())], two, &["out"], sum),
        case("multiply", vec![("inputs", a_b())], two, &["out"], product),
        case("interleave", vec![("inputs", a_b())], two, &["out"], alternating),
        case("selector", vec![("inputs", a_b()), ("select", "b".into())], two, &["out"], |x| {
            vec![x.iter().map(|x| x + 1.0).collect()]
        }),
        case("tee", vec![("outputs", a_b())], &["in"], two, |x| vec![x.to_vec(), x.to_vec()]),
        case("router", vec![("outputs", a_b()), ("select", "b".into())], &["in"], two, |x| {
            vec![vec![], x.to_vec()]
        }),
        case("deinterleave", vec![("outputs", names(&["a"]))], &["in"], &["a"], same),
        case("throttle", vec![("rate_hz", 1e12.into())], &["in"], &["out"], same),
        case("restamp", vec![("delay_ms", 1000.0.into())], &["in"], &["out"], same),
        case("exec", vec![("command", "cat".into()), ("dtype", "f64".into())], &["in"], &["out"], same),
        case("rate-probe", vec![("interval_s", 1e-3.into())], &["in"], &["out"], same),
        case("null-sink", vec![], &["in"], &[], |_| vec![]),
        case("decimate", vec![("factor", 3.into())], &["in"], &["out"], |x| {
            vec![convolved(&low_pass(3), x).into_iter().step_by(3).collect()]
        }),
    ]
}

/// A windowed sinc of 20 x factor + 1 taps with a Hamming window, whose sum is 1.
fn low_pass(factor: usize) -> Vec<f64> {
    let half = 10.0 * factor as f64;
    let tap = |i: usize| {
        let t = (i as f64 - half) / factor as f64;
        let sinc = if t == 0.0 { 1.0 } else { (PI * t).sin() / (PI * t) };
        sinc * (0.54 - 0.46 * (PI * i as f64 / half).cos())
    };
    let taps: Vec<f64> = (0..=20 * factor).map(tap).collect();
    let sum: f64 = taps.iter().sum();
    taps.iter().map(|tap| tap / sum).collect()
}

fn run_joined(case: &Joined, x: &[f64], chunk: usize) -> crate::Result<Vec<Vec<f64>>> {
    let catalog = crate::Catalog::builtin();
    let mut bench = Bench::of_type(catalog.find(case.name)?, &case.params)?;
    let mut out = vec![Vec::new(); case.outputs.len()];
    let mut take = |bench: &mut Bench| -> crate::Result<()> {
        bench.run()?;
        for (name, out) in case.outputs.iter().zip(&mut out) {
            out.extend(bench.pull_all::<f64>(name)?);
        }
        Ok(())
    };
    // An empty stream has a format all the same.
    for (at, part) in x.chunks(chunk).enumerate().chain(x.is_empty().then_some((0, x))) {
        for (i, input) in case.inputs.iter().enumerate() {
            let part: Vec<f64> = part.iter().map(|x| x + i as f64).collect();
            bench.push_frames(input, (at * chunk) as i64, 1, &part)?;
        }
        take(&mut bench)?;
    }
    case.inputs.iter().for_each(|input| bench.end(input));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !bench.has_ended() {
        assert!(std::time::Instant::now() < deadline, "{}: does not end", case.name);
        take(&mut bench)?;
    }
    take(&mut bench)?;
    Ok(out)
}

#[test]
fn several_streams_of_any_length_in_buffers_of_any_size() {
    for case in joined() {
        for (length, chunk) in [(0, 7), (1, 7), (7, 3), (64, 64), (5001, 1000), (5001, 5001)] {
            let x: Vec<f64> = (0..length).map(|i| (i * 7919 % 2001) as f64 / 1000.0 - 1.0).collect();
            let context = format!("{}, {length} samples in buffers of {chunk}", case.name);
            let found = run_joined(&case, &x, chunk).unwrap_or_else(|error| panic!("{context}: {error}"));
            let expected = (case.definition)(&x);
            assert_eq!(found.len(), expected.len(), "{context}");
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.len(), expected.len(), "{context}");
                let differs =
                    found.iter().zip(expected).position(|(found, expected)| (found - expected).abs() > 1e-12);
                assert_eq!(differs, None, "{context}");
            }
        }
    }
}

/// Types that are held against their definition elsewhere, as their streams are no samples or do not stay within the program.
const ELSEWHERE: [(&str, &str); 28] = [
    ("signal", "waveforms of scipy, any chunks: signal.rs"),
    ("resampler", "sines of any frequency, pieces of any size, exact lengths: resampler.rs"),
    ("correlate", "coefficients of the definition, any chunks: correlate.rs"),
    ("async-merge", "rows of stamped values: async_merge.rs"),
    (
        "sync-merge",
        "rows by each policy: sync_merge/tests.rs, and against oracles in millpond-cli/tests/alignment.rs",
    ),
    ("window-aggregate", "statistics by their definition: window_aggregate.rs"),
    ("interpolate", "values on a line: interpolate.rs"),
    ("file-source", "items of every size, empty files: file_source.rs"),
    ("file-sink", "items of every size: file_sink.rs"),
    ("csv-source", "known tables: csv_source.rs"),
    ("csv-sink", "known tables, empty ones: csv_sink.rs"),
    ("wav-source", "every format and 0, 1, odd and many frames, bit by bit: millpond-cli/tests/run.rs"),
    ("wav-sink", "every format and 0, 1, odd and many frames, bit by bit: millpond-cli/tests/run.rs"),
    ("stdin-source", "a real pipe: millpond-cli/tests/programs.rs"),
    ("stdout-sink", "a real pipe: millpond-cli/tests/programs.rs"),
    ("tcp-source", "a real socket: tcp_source.rs"),
    ("tcp-sink", "a real socket: tcp_sink.rs"),
    ("udp-source", "real datagrams, empty and odd ones: udp_source.rs"),
    ("udp-sink", "real datagrams: udp_sink.rs"),
    ("exec-source", "a real program: exec_source.rs"),
    ("exec-sink", "a real program: exec_sink.rs"),
    ("print", "known lines: print.rs"),
    ("strobe", "known messages: strobe.rs"),
    ("message-debug", "known messages: message_debug.rs"),
    ("null-source", "as many zeros as asked for: null_source.rs"),
    ("proc-cpu", "a known /proc/stat and this machine's: proc_cpu.rs"),
    ("proc-memory", "a known /proc/meminfo and this machine's: proc_memory.rs"),
    ("proc-network", "a known /proc/net/dev and this machine's: proc_network.rs"),
];

#[test]
fn every_type_is_held_against_its_definition() {
    let here: Vec<&str> =
        cases().iter().map(|case| case.name).chain(joined().iter().map(|case| case.name)).collect();
    let catalog = crate::Catalog::builtin();
    for name in catalog.iter().map(|known| known.spec().name()) {
        let elsewhere = ELSEWHERE.iter().any(|(known, _)| *known == name);
        assert!(
            here.contains(&name) != elsewhere,
            "`{name}`: expected a definition in sizes.rs, or else where it is tested, found {}",
            if elsewhere { "both" } else { "neither" }
        );
    }
    for (name, reason) in ELSEWHERE {
        assert!(catalog.find(name).is_ok() && reason.contains(".rs"), "`{name}`: {reason}");
    }
}
