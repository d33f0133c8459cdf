//! `Exact` makes the largest possible number of sets.

use millpond::align::{Aligner, Config, Exact, Poll, PortConfig, Reason};
use proptest::prelude::*;

use crate::streams::{arrivals, by_time, disordered, ordered, roomy, sets};

/// None is earlier than the latest by more than its port's tolerance.
fn fits(set: &[i64], tolerances: &[i64]) -> bool {
    let latest = set.iter().max().unwrap();
    set.iter().zip(tolerances).all(|(stamp, tolerance)| latest - stamp <= *tolerance)
}

/// The largest number of sets whose members fit, each item used once, by trying everything: for each port's next item, either the
/// next items are a set or one of them is in none.
fn most_sets(streams: &[Vec<i64>], tolerances: &[i64]) -> usize {
    fn most(
        streams: &[Vec<i64>],
        next: &mut Vec<usize>,
        tolerances: &[i64],
        known: &mut std::collections::HashMap<Vec<usize>, usize>,
    ) -> usize {
        if let Some(most) = known.get(next) {
            return *most;
        }
        let heads: Option<Vec<i64>> =
            streams.iter().zip(next.iter()).map(|(s, i)| s.get(*i).copied()).collect();
        let Some(heads) = heads else { return 0 };
        let mut best = 0;
        if fits(&heads, tolerances) {
            next.iter_mut().for_each(|index| *index += 1);
            best = 1 + most(streams, next, tolerances, known);
            next.iter_mut().for_each(|index| *index -= 1);
        }
        for port in 0..streams.len() {
            next[port] += 1;
            best = best.max(most(streams, next, tolerances, known));
            next[port] -= 1;
        }
        known.insert(next.clone(), best);
        best
    }
    most(streams, &mut vec![0; streams.len()], tolerances, &mut std::collections::HashMap::new())
}

proptest! {
    #[test]
    fn no_choice_makes_more_sets(streams in ordered(2..=3), tolerance in 0i64..8) {
        let found = sets(Exact::new(tolerance as u64), roomy(streams.len(), 0), &streams, &by_time(&streams));
        for set in &found {
            let stamps: Vec<i64> = set.iter().map(|stamp| stamp.expect("every port is required")).collect();
            prop_assert!(stamps.iter().max().unwrap() - stamps.iter().min().unwrap() <= tolerance);
        }
        prop_assert_eq!(found.len(), most_sets(&streams, &vec![tolerance; streams.len()]));
    }

    #[test]
    fn no_choice_makes_more_sets_with_a_tolerance_of_each_port(
        streams in ordered(2..=3), tolerances in [0i64..12, 0i64..12, 0i64..12], seed: [u8; 16], disorder in 0i64..20,
    ) {
        let tolerances = &tolerances[..streams.len()];
        let config = |disorder| {
            let mut config = roomy(streams.len(), disorder);
            for (port, tolerance) in config.ports.iter_mut().zip(tolerances) {
                port.tolerance_ns = Some(*tolerance as u64);
            }
            config
        };
        // The policy's own tolerance is that of no port.
        let found = sets(Exact::new(1000), config(0), &streams, &by_time(&streams));
        for set in &found {
            let stamps: Vec<i64> = set.iter().map(|stamp| stamp.expect("every port is required")).collect();
            prop_assert!(fits(&stamps, tolerances), "{stamps:?}");
        }
        prop_assert_eq!(found.len(), most_sets(&streams, tolerances));
        let mixed = disordered(&streams, disorder, &seed);
        prop_assert_eq!(sets(Exact::new(0), config(disorder as u64), &mixed, &arrivals(&mixed, &seed)), found);
    }

    #[test]
    fn the_order_across_ports_does_not_matter(
        streams in ordered(1..=6), tolerance in 0u64..8, seed: [u8; 16], disorder in 0i64..20,
    ) {
        let expected = sets(Exact::new(tolerance), roomy(streams.len(), 0), &streams, &by_time(&streams));
        let streams = disordered(&streams, disorder, &seed);
        let found = sets(Exact::new(tolerance), roomy(streams.len(), disorder as u64), &streams, &arrivals(&streams, &seed));
        prop_assert_eq!(found, expected);
    }

    /// A set is made without an optional port exactly if that has nothing that fits; with required ones only it is a set anyway.
    #[test]
    fn optional_ports_take_nothing_away(streams in ordered(3), tolerance in 0u64..8, seed: [u8; 16]) {
        let mut config = roomy(3, 0);
        config.ports[2].optional = true;
        let found = sets(Exact::new(tolerance), config, &streams, &arrivals(&streams, &seed));
        let required = streams[..2].to_vec();
        // The optional one can only make sets begin earlier, so there are never more than without it.
        prop_assert!(found.len() <= most_sets(&required, &[tolerance as i64; 2]));
        for set in &found {
            let (a, b) = (set[0].unwrap(), set[1].unwrap());
            let (start, end) = (a.min(b), a.max(b));
            prop_assert!(end.abs_diff(start) <= tolerance);
            if let Some(c) = set[2] {
                prop_assert!(end.max(c).abs_diff(start.min(c)) <= tolerance);
            }
        }
        let all = sets(Exact::new(tolerance), roomy(3, 0), &streams, &by_time(&streams));
        prop_assert!(found.len() >= all.len());
    }
}

#[test]
fn every_item_is_in_a_set_or_counted() {
    let mut aligner =
        Aligner::new(Exact::new(2), Config::of(2, PortConfig { disorder_ns: 5, ..PortConfig::default() }));
    for (port, stamp) in [(0, 10), (0, 10), (0, 8), (1, 9), (0, 30), (0, 24), (1, 31), (1, 50)] {
        let _ = aligner.push(port, stamp, ());
        while let Poll::Set(_) = aligner.poll() {}
    }
    (0..2).for_each(|port| aligner.end(port));
    while let Poll::Set(_) = aligner.poll() {}
    assert_eq!(aligner.sets(), 2);
    let dropped = |port: usize| Reason::ALL.map(|reason| aligner.counters(port).dropped(reason));
    // late, duplicate, unmatched, overflow, timeout. The second set is {30, 31}; 8 and 9 are the first, 10 fits nothing any more.
    assert_eq!(dropped(0), [1, 1, 1, 0, 0]);
    assert_eq!(dropped(1), [0, 0, 1, 0, 0]);
    assert_eq!(aligner.counters(0).received, 5);
}

#[test]
fn an_item_does_not_wait_for_an_empty_port_that_has_nothing_for_it() {
    let mut aligner = Aligner::new(Exact::new(2), Config::of(2, PortConfig::default()));
    aligner.push(0, 10, ()).expect_held();
    assert!(matches!(aligner.poll(), Poll::Waiting));
    aligner.advance(1, 12);
    assert!(matches!(aligner.poll(), Poll::Waiting));
    assert_eq!(aligner.counters(0).dropped(Reason::Unmatched), 0);
    aligner.advance(1, 13);
    assert!(matches!(aligner.poll(), Poll::Waiting));
    assert_eq!(aligner.counters(0).dropped(Reason::Unmatched), 1);
}
