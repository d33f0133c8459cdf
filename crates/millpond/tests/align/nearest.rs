//! `Nearest` finds the true nearest.

use millpond::align::Nearest;
use proptest::prelude::*;

use crate::streams::{Streams, arrivals, by_time, disordered, ordered, roomy, sets};

/// For each stamp of the reference port the nearest of all of each other port.
fn all_nearest(
    streams: &Streams,
    reference: usize,
    max_distances: &[Option<u64>],
    consume: bool,
) -> Vec<Vec<Option<i64>>> {
    let mut left = streams.clone();
    let mut rows = Vec::new();
    for moment in &streams[reference] {
        let mut row = Vec::new();
        for (port, stream) in left.iter_mut().enumerate() {
            let nearest = stream.iter().copied().min_by_key(|stamp| (stamp.abs_diff(*moment), *stamp));
            let nearest =
                nearest.filter(|stamp| max_distances[port].is_none_or(|max| stamp.abs_diff(*moment) <= max));
            if port == reference {
                row.push(Some(*moment));
                continue;
            }
            row.push(nearest);
            if consume && let Some(nearest) = nearest {
                stream.retain(|stamp| *stamp > nearest);
            }
        }
        rows.push(row);
    }
    rows
}

proptest! {
    #[test]
    fn the_nearest_of_all_is_found(
        streams in ordered(1..=5), reference: prop::sample::Index, max_distance in prop::option::of(0u64..20), consume: bool,
        of_ports in [prop::option::of(0u64..20), prop::option::of(0u64..20)], seed: [u8; 16], disorder in 0i64..20,
    ) {
        // The first two ports may have their own.
        let mut max_distances = vec![max_distance; streams.len()];
        max_distances.iter_mut().zip(&of_ports).for_each(|(max, own)| *max = own.or(*max));
        let config = |disorder| {
            let mut config = roomy(streams.len(), disorder);
            config.ports.iter_mut().zip(&of_ports).for_each(|(port, own)| port.tolerance_ns = *own);
            config
        };
        let reference = reference.index(streams.len());
        let policy = || {
            let policy = Nearest::new(reference, max_distance);
            if consume { policy.consuming() } else { policy }
        };
        let expected = all_nearest(&streams, reference, &max_distances, consume);
        prop_assert_eq!(&sets(policy(), config(0), &streams, &by_time(&streams)), &expected);
        let mixed = disordered(&streams, disorder, &seed);
        let found = sets(policy(), config(disorder as u64), &mixed, &arrivals(&mixed, &seed));
        prop_assert_eq!(found, expected);
    }
}
