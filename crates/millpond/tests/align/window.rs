//! `Window` gives what grouping all items by their windows gives.

use millpond::align::{
    Accumulate as _, Aligner, Config, Pane, Poll, PortConfig, Pushed, Reason, Statistics, Window,
};
use proptest::prelude::*;

use crate::streams::{Arrival, Streams, arrivals, by_time, disordered, ordered, roomy, run};

/// Start, port or `None` for all, count, mean, min, max, sum, last.
type Line = (i64, Option<usize>, u64, [f64; 5]);

fn value((port, stamp): (usize, i64)) -> f64 {
    (stamp as f64 * 1.3 + port as f64).cos() * 1e3
}

fn lines(pane: &Pane<'_, Statistics>, ports: usize) -> Vec<Line> {
    let of = |port: Option<usize>| {
        let s = port.map_or(pane.all(), |port| pane.port(port)).expect("there is that port");
        (pane.start_ns(), port, s.count(), [s.mean(), s.min(), s.max(), s.sum(), s.last()])
    };
    (0..ports).map(|port| of(Some(port))).chain([of(None)]).filter(|line| line.2 > 0).collect()
}

fn found(policy: Window<Statistics>, streams: &Streams, arrivals: &[Arrival], disorder: u64) -> Vec<Line> {
    let ports = streams.len();
    let item = |(port, index): Arrival| value((port, streams[port][index]));
    run(policy, roomy(ports, disorder), streams, arrivals, item, |pane| lines(&pane, ports)).0.concat()
}

/// As pandas would: rows sorted by (stamp, port), grouped by window and port.
fn grouped(streams: &Streams, size: i64, slide: i64, origin: i64) -> Vec<Line> {
    let mut rows: Vec<(i64, usize)> =
        streams.iter().enumerate().flat_map(|(port, s)| s.iter().map(move |stamp| (*stamp, port))).collect();
    rows.sort();
    let mut lines = Vec::new();
    let (Some((earliest, _)), Some((latest, _))) = (rows.first(), rows.last()) else { return lines };
    // Every window that may have an item, and some that have none.
    for index in (earliest - origin - size).div_euclid(slide)..=(latest - origin).div_euclid(slide) {
        let start = origin + index * slide;
        let in_window: Vec<_> =
            rows.iter().filter(|(stamp, _)| (start..start + size).contains(stamp)).collect();
        for port in (0..streams.len()).map(Some).chain([None]) {
            let group: Vec<f64> = in_window
                .iter()
                .filter(|row| port.is_none_or(|port| row.1 == port))
                .map(|(stamp, port)| value((*port, *stamp)))
                .collect();
            let Some(last) = group.last() else { continue };
            let sum: f64 = group.iter().sum();
            let (min, max) = (
                group.iter().copied().fold(f64::INFINITY, f64::min),
                group.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            );
            lines.push((start, port, group.len() as u64, [sum / group.len() as f64, min, max, sum, *last]));
        }
    }
    lines
}

fn same(found: &[Line], expected: &[Line]) {
    let keys = |lines: &[Line]| {
        lines.iter().map(|(start, port, count, _)| (*start, *port, *count)).collect::<Vec<_>>()
    };
    assert_eq!(keys(found), keys(expected));
    for (found, expected) in found.iter().zip(expected) {
        let [mean, min, max, sum, last] = found.3;
        let [mean_, min_, max_, sum_, last_] = expected.3;
        assert_eq!((min, max, last), (min_, max_, last_));
        assert!((mean - mean_).abs() < 1e-10 && (sum - sum_).abs() < 1e-9, "{found:?} is not {expected:?}");
    }
}

proptest! {
    #[test]
    fn windows_are_groups(
        streams in ordered(1..=4), size in 1i64..40, slide in 1i64..40, origin in -50i64..50, seed: [u8; 16], disorder in 0i64..20,
    ) {
        let policy = || Window::new(size, slide, origin, Statistics::default());
        let expected = grouped(&streams, size, slide, origin);
        same(&found(policy(), &streams, &by_time(&streams), 0), &expected);
        let mixed = disordered(&streams, disorder, &seed);
        let mixed_found = found(policy(), &mixed, &arrivals(&mixed, &seed), disorder as u64);
        same(&mixed_found, &expected);
        // Not only nearly: the order of arrival changes no bit.
        prop_assert_eq!(mixed_found, found(policy(), &streams, &by_time(&streams), 0));
    }

    #[test]
    fn with_enough_lateness_the_last_pane_has_everything(
        streams in ordered(1..=3), size in 1i64..40, slide in 1i64..40, seed: [u8; 16], disorder in 1i64..20,
    ) {
        let policy = Window::new(size, slide, 0, Statistics::default()).lateness_ns(1_000_000);
        let mixed = disordered(&streams, disorder, &seed);
        let mut last = std::collections::BTreeMap::new();
        for line in found(policy, &mixed, &arrivals(&mixed, &seed), 0) {
            last.insert((line.0, line.1.unwrap_or(usize::MAX)), line);
        }
        same(&last.into_values().collect::<Vec<_>>(), &grouped(&streams, size, slide, 0));
    }
}

#[test]
fn late_items_reopen_a_window_only_as_long_as_allowed() {
    let policy = Window::new(10, 10, 0, Statistics::default()).lateness_ns(20);
    let mut aligner = Aligner::new(policy, roomy(1, 0));
    let mut panes = Vec::new();
    let mut fates = Vec::new();
    for stamp in [1, 5, 12, 3, 25, 4, 40, 6] {
        fates.push(match aligner.push(0, stamp, 1.0) {
            Pushed::Held => "held",
            Pushed::TakenLate => "late",
            _ => "dropped",
        });
        while let Poll::Set(pane) = aligner.poll() {
            panes.push((pane.start_ns(), pane.is_late(), pane.all().map_or(0, |all| all.count())));
        }
    }
    assert_eq!(fates, ["held", "held", "held", "late", "held", "late", "held", "dropped"]);
    assert_eq!(panes, [(0, false, 2), (0, true, 3), (10, false, 1), (0, true, 4), (20, false, 1)]);
    assert_eq!(aligner.counters(0).late, 3);
}

#[test]
fn a_window_that_was_given_up_does_not_come_again_when_more_lateness_is_allowed() {
    let mut aligner = Aligner::new(Window::new(10, 10, 0, Statistics::default()), roomy(1, 0));
    let mut push = |stamp: i64, lateness: Option<u64>| {
        if let Some(lateness) = lateness {
            aligner.change_policy(|window| window.set_lateness_ns(lateness));
        }
        let taken = !matches!(aligner.push(0, stamp, 1.0), Pushed::Dropped(..));
        let mut panes = Vec::new();
        while let Poll::Set(pane) = aligner.poll() {
            panes.push((pane.start_ns(), pane.is_late(), pane.all().map_or(0, |all| all.count())));
        }
        (taken, panes)
    };
    assert_eq!(push(1, None), (true, vec![]));
    assert_eq!(push(12, None), (true, vec![(0, false, 1)]));
    // The first window is gone: one with the late item alone would be wrong.
    assert_eq!(push(2, Some(100)), (false, vec![]));
    assert_eq!(push(25, None), (true, vec![(10, false, 1)]));
    assert_eq!(push(13, None), (true, vec![(10, true, 2)]));
    assert_eq!(push(14, Some(0)), (false, vec![]));
}

#[test]
fn what_an_input_brings_after_its_timeout_still_brings_its_window_again() {
    fn push(
        aligner: &mut Aligner<f64, Window<Statistics>>,
        (port, stamp): (usize, i64),
    ) -> (Pushed<f64>, Vec<(i64, bool, u64)>) {
        let fate = aligner.push(port, stamp, 1.0);
        let mut panes = Vec::new();
        while let Poll::Set(pane) = aligner.poll() {
            panes.push((pane.start_ns(), pane.is_late(), pane.all().map_or(0, |all| all.count())));
        }
        (fate, panes)
    }
    let port = PortConfig { timeout_ns: Some(5), ..PortConfig::default() };
    let policy = Window::new(10, 10, 0, Statistics::default()).lateness_ns(30);
    let mut aligner = Aligner::new(policy, Config::of(2, port));
    aligner.set_clock(0);
    for item in [(0, 1), (1, 2), (0, 25)] {
        assert_eq!(push(&mut aligner, item), (Pushed::Held, vec![]));
    }
    aligner.set_clock(5);
    assert!(aligner.inactive().contains(1));
    assert_eq!(push(&mut aligner, (0, 26)), (Pushed::Held, vec![(0, false, 2)]));
    // So far behind that it is not waited for again, and then a little less.
    assert_eq!(push(&mut aligner, (1, 4)), (Pushed::TakenLate, vec![(0, true, 3)]));
    assert!(aligner.inactive().contains(1));
    assert_eq!(push(&mut aligner, (1, 5)), (Pushed::TakenLate, vec![(0, true, 4)]));
    assert!(aligner.inactive().is_empty());
    assert_eq!(push(&mut aligner, (0, 45)), (Pushed::Held, vec![]));
    aligner.set_clock(10);
    assert_eq!(push(&mut aligner, (0, 46)), (Pushed::Held, vec![(20, false, 2)]));
    // The first window is given up by now, the other one is not.
    assert_eq!(push(&mut aligner, (1, 6)), (Pushed::Dropped(Reason::Late, 1.0), vec![]));
    assert!(aligner.inactive().contains(1));
    assert_eq!(push(&mut aligner, (1, 24)), (Pushed::TakenLate, vec![(20, true, 3)]));
    let counters = aligner.counters(1);
    assert_eq!((counters.received, counters.late, counters.dropped(Reason::Late)), (5, 4, 1));
}

#[test]
fn empty_windows_come_on_request_between_two_with_items() {
    let policy = Window::new(10, 10, 0, Statistics::default()).emitting_empty();
    let streams = vec![vec![1, 35]];
    let (starts, _) = run(
        policy,
        roomy(1, 0),
        &streams,
        &[(0, 0), (0, 1)],
        |_| 1.0,
        |pane| (pane.start_ns(), pane.all().unwrap().count()),
    );
    assert_eq!(starts, [(0, 1), (10, 0), (20, 0), (30, 1)]);
}

#[test]
fn sums_do_not_lose_small_values() {
    let mut statistics = Statistics::default();
    for value in [1.0, 1e100, 1.0, -1e100] {
        statistics.add(0, 0, &value);
    }
    assert_eq!(statistics.sum(), 2.0);
    statistics.add(1, 0, &f64::INFINITY);
    assert_eq!(statistics.sum(), f64::INFINITY);
}
