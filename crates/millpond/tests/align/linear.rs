//! `Linear` gives what a straight line between the true neighbours gives.

use millpond::align::{Grid, Linear, Neighbours, Policy, Row, interpolate};
use proptest::prelude::*;

use crate::streams::{Arrival, Streams, arrivals, by_time, disordered, ordered, roomy, run};

/// A value that depends on the stamp only, not on where in the stream it comes.
fn value(stamp: i64) -> f64 {
    (stamp as f64 * 0.7).sin() * 1000.0
}

fn rows<P>(policy: P, streams: &Streams, arrivals: &[Arrival], disorder: u64) -> Vec<(i64, Vec<Option<f64>>)>
where
    P: for<'a> Policy<f64, Set<'a> = Row<'a, f64>> + 'static,
{
    let read = |row: Row<'_, f64>| {
        let value = |port| match row.neighbours(port) {
            Neighbours::Missing => None,
            Neighbours::Exact(value) => Some(*value),
            Neighbours::Between { before, after, offset_ns, gap_ns } => {
                Some(interpolate(*before, *after, offset_ns, gap_ns))
            }
        };
        (row.stamp_ns(), (0..row.len()).map(value).collect())
    };
    run(
        policy,
        roomy(streams.len(), disorder),
        streams,
        arrivals,
        |(port, index)| value(streams[port][index]),
        read,
    )
    .0
}

/// As numpy's `interp` does it, with the neighbours looked up among all; with the larger of the two neighbours' magnitudes.
fn line(stream: &[i64], moment: i64, max_gap: Option<u64>) -> Option<(f64, f64)> {
    if stream.contains(&moment) {
        return Some((value(moment), value(moment).abs()));
    }
    let before = *stream.iter().filter(|stamp| **stamp < moment).max()?;
    let after = *stream.iter().filter(|stamp| **stamp > moment).min()?;
    if max_gap.is_some_and(|max| after.abs_diff(before) > max) {
        return None;
    }
    let slope = (value(after) - value(before)) / (after - before) as f64;
    let at = slope * (moment - before) as f64 + value(before);
    Some((at, value(before).abs().max(value(after).abs())))
}

fn check(found: &[(i64, Vec<Option<f64>>)], moments: &[i64], streams: &Streams, max_gap: Option<u64>) {
    assert_eq!(found.iter().map(|(stamp, _)| *stamp).collect::<Vec<_>>(), moments);
    for (moment, values) in found {
        for (port, found) in values.iter().enumerate() {
            match (found, line(&streams[port], *moment, max_gap)) {
                (None, None) => {}
                (Some(found), Some((expected, larger))) => {
                    assert!((found - expected).abs() <= 2e-15 * larger, "{found} is not {expected}");
                }
                (found, expected) => panic!("port {port} at {moment}: {found:?} is not {expected:?}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn at_the_stamps_of_a_reference(
        streams in ordered(1..=4), reference: prop::sample::Index, max_gap in prop::option::of(0u64..30),
        seed: [u8; 16], disorder in 0i64..20,
    ) {
        let reference = reference.index(streams.len());
        let policy = || Linear::onto_reference(reference, max_gap);
        check(&rows(policy(), &streams, &by_time(&streams), 0), &streams[reference], &streams, max_gap);
        let mixed = disordered(&streams, disorder, &seed);
        let found = rows(policy(), &mixed, &arrivals(&mixed, &seed), disorder as u64);
        check(&found, &streams[reference], &streams, max_gap);
    }

    #[test]
    fn at_the_moments_of_a_grid(
        streams in ordered(1..=4), origin_ns in -50i64..50, rate_num in 50_000_000u32..2_000_000_000, rate_den in 1u32..4,
        max_gap in prop::option::of(0u64..30), seed: [u8; 16], disorder in 0i64..20,
    ) {
        let grid = Grid { origin_ns, rate_num, rate_den };
        let (first, last) = (streams.iter().flatten().min(), streams.iter().flatten().max());
        let moments: Vec<i64> = match (first, last) {
            (Some(first), Some(last)) => {
                (-10_000..10_000).filter_map(|i| grid.moment_ns(i)).filter(|moment| (first..=last).contains(&moment)).collect()
            }
            _ => Vec::new(),
        };
        let policy = || Linear::onto_grid(grid, max_gap);
        check(&rows(policy(), &streams, &by_time(&streams), 0), &moments, &streams, max_gap);
        let mixed = disordered(&streams, disorder, &seed);
        check(&rows(policy(), &mixed, &arrivals(&mixed, &seed), disorder as u64), &moments, &streams, max_gap);
    }
}

#[test]
fn neighbours_that_are_far_apart_do_not_overflow() {
    assert_eq!(interpolate(-f64::MAX, f64::MAX, 1, 2), 0.0);
    assert_eq!(interpolate(1.0, 3.0, 1, 4), 1.5);
    assert!(interpolate(f64::NAN, 3.0, 1, 4).is_nan());
}
