//! Random streams, and running them through an aligner.

use std::collections::BTreeSet;
use std::fmt::Debug;

use millpond::align::{Aligner, Config, Members, Overflow, Policy, Poll, PortConfig, Pushed, Reason};
use proptest::collection::vec;
use proptest::prelude::*;

/// The stamps of each port, in the order in which the port's items come.
pub type Streams = Vec<Vec<i64>>;

/// An item that comes: its port and its number within the port.
pub type Arrival = (usize, usize);

/// Streams whose stamps ascend strictly: periods with jitter, drop-outs and bursts, small enough for ties across ports.
pub fn ordered(ports: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Streams> {
    let stream = (0i64..20, vec(prop_oneof![6 => 1i64..12, 1 => Just(1), 1 => 20i64..60], 0..30));
    let stream = stream.prop_map(|(start, steps)| {
        steps.into_iter().scan(start, |stamp, step| Some(std::mem::replace(stamp, *stamp + step))).collect()
    });
    vec(stream, ports)
}

/// A random order of arrival across ports, which keeps the order within each.
pub fn arrivals(streams: &Streams, seed: &[u8]) -> Vec<Arrival> {
    let mut next = vec![0; streams.len()];
    let mut seed = seed.iter().copied().cycle();
    let mut arrivals = Vec::new();
    loop {
        let left: Vec<usize> = (0..streams.len()).filter(|port| next[*port] < streams[*port].len()).collect();
        if left.is_empty() {
            return arrivals;
        }
        let port = left[usize::from(seed.next().unwrap_or(0)) % left.len()];
        arrivals.push((port, next[port]));
        next[port] += 1;
    }
}

/// The order of arrival of streams that are all delivered at once.
pub fn by_time(streams: &Streams) -> Vec<Arrival> {
    let mut arrivals: Vec<Arrival> = (0..streams.len())
        .flat_map(|port| (0..streams[port].len()).map(move |index| (port, index)))
        .collect();
    arrivals.sort_by_key(|(port, index)| (streams[*port][*index], *port));
    arrivals
}

/// Swaps items within a port so that none is earlier than the newest before it by more than `disorder`.
pub fn disordered(streams: &Streams, disorder: i64, seed: &[u8]) -> Streams {
    let mut seed = seed.iter().copied().cycle();
    let mut delayed = |stamp: i64| (stamp + i64::from(seed.next().unwrap_or(0)) % (disorder + 1), stamp);
    streams
        .iter()
        .map(|stream| {
            let mut by_arrival: Vec<(i64, i64)> = stream.iter().map(|stamp| delayed(*stamp)).collect();
            by_arrival.sort_by_key(|(arrival, _)| *arrival);
            by_arrival.into_iter().map(|(_, stamp)| stamp).collect()
        })
        .collect()
}

/// A configuration without overflow.
pub fn roomy(ports: usize, disorder_ns: u64) -> Config {
    Config::of(ports, PortConfig { disorder_ns, depth: 10_000, ..PortConfig::default() })
}

/// Runs all items through a policy, ends the streams, and returns what `read` makes of each set, with the aligner.
pub fn run<T: 'static, P, R, F>(
    policy: P,
    config: Config,
    streams: &Streams,
    arrivals: &[Arrival],
    item: impl Fn(Arrival) -> T,
    mut read: F,
) -> (Vec<R>, Aligner<T, P>)
where
    P: Policy<T> + 'static,
    F: FnMut(P::Set<'_>) -> R,
{
    let ports = config.ports.len();
    let is_sync = config.overflow == Overflow::Sync;
    let mut aligner = Aligner::new(policy, config);
    let mut sets = Vec::new();
    for arrival in arrivals {
        match aligner.push(arrival.0, streams[arrival.0][arrival.1], item(*arrival)) {
            Pushed::Full(_) => panic!("no port of this test is ever full"),
            Pushed::Replaced(_) => assert!(!is_sync),
            Pushed::Held | Pushed::Dropped(..) | Pushed::TakenLate => {}
        }
        while let Poll::Set(set) = aligner.poll() {
            sets.push(read(set));
        }
    }
    (0..ports).for_each(|port| aligner.end(port));
    loop {
        match aligner.poll() {
            Poll::Set(set) => sets.push(read(set)),
            Poll::Waiting => panic!("all streams have ended, nothing can be waited for"),
            Poll::Done => break,
        }
    }
    assert_eq!(aligner.sets(), sets.len() as u64);
    (sets, aligner)
}

/// The stamps of a set, `None` where a port is missing.
pub fn stamps<T: Debug>(set: &Members<'_, T>) -> Vec<Option<i64>> {
    (0..set.len()).map(|port| set.get(port).map(|(stamp, _)| stamp)).collect()
}

/// The sets of stamps that a policy makes of streams. Checks that every item is accounted for: it was in a set, or was dropped for a
/// reason, and never both.
pub fn sets<P>(policy: P, config: Config, streams: &Streams, arrivals: &[Arrival]) -> Vec<Vec<Option<i64>>>
where
    P: for<'a> Policy<Arrival, Set<'a> = Members<'a, Arrival>> + 'static,
{
    let of_streams = streams.clone();
    let (sets, aligner) = run(
        policy,
        config,
        streams,
        arrivals,
        |arrival| arrival,
        move |set| {
            // Item and stamp still belong together.
            for (port, stream) in of_streams.iter().enumerate() {
                if let Some((stamp, (of, index))) = set.get(port) {
                    assert_eq!((*of, stream[*index]), (port, stamp));
                }
            }
            stamps(&set)
        },
    );
    for (port, stream) in streams.iter().enumerate() {
        let used: BTreeSet<i64> = sets.iter().filter_map(|set: &Vec<Option<i64>>| set[port]).collect();
        let dropped: u64 = Reason::ALL.iter().map(|reason| aligner.counters(port).dropped(*reason)).sum();
        assert_eq!(aligner.counters(port).received, stream.len() as u64);
        assert_eq!(used.len() as u64 + dropped, stream.len() as u64, "port {port}");
    }
    sets
}
