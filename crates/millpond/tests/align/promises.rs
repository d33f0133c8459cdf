//! `Aligner::come_to_ns` is a promise: no set to come is earlier. And it is worth something: it moves while nothing comes.

use millpond::align::{
    Aligner, Approximate, Config, Exact, Grid, Linear, Members, Nearest, Policy, Poll, PortConfig, Row,
    Statistics, Window,
};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::streams::{Streams, arrivals, disordered, ordered};

/// Beyond all stamps.
const END_NS: i64 = 100_000;

/// Feeds the streams, lets ports say how far they have come, lets them time out, and checks each promise against all later sets.
/// Returns what is promised when all ports have come to [`END_NS`].
fn promise<T: 'static, P: Policy<T> + 'static>(
    policy: P,
    config: Config,
    streams: &Streams,
    seed: &[u8],
    item: impl Fn(i64) -> T,
    earliest_ns: impl Fn(&P::Set<'_>) -> i64,
) -> i64 {
    let ports = config.ports.len();
    let mut aligner = Aligner::new(policy, config);
    let mut promised_ns = i64::MIN;
    let mut drain = |aligner: &mut Aligner<T, P>| {
        loop {
            let found_ns = match aligner.poll() {
                Poll::Set(set) => Some(earliest_ns(&set)),
                Poll::Waiting => None,
                Poll::Done => return i64::MAX,
            };
            let Some(found_ns) = found_ns else {
                promised_ns = promised_ns.max(aligner.come_to_ns());
                return promised_ns;
            };
            assert!(found_ns >= promised_ns, "a set of {found_ns} after {promised_ns} was promised");
        }
    };
    let mut left: Vec<&[i64]> = streams.iter().map(Vec::as_slice).collect();
    for (step, (port, index)) in arrivals(streams, seed).into_iter().enumerate() {
        let chance = usize::from(seed[step % seed.len()]);
        let _ = aligner.push(port, streams[port][index], item(streams[port][index]));
        left[port] = &streams[port][index + 1..];
        if chance % 3 > 0 {
            drain(&mut aligner);
        }
        if chance % 5 == 0 {
            let says = chance % ports;
            let bound_ns = left[says].iter().min().map_or(END_NS / 2, |next_ns| *next_ns);
            aligner.advance(says, bound_ns);
            drain(&mut aligner);
        }
        aligner.set_clock(step as i64 * 10);
        drain(&mut aligner);
    }
    (0..ports).for_each(|port| aligner.advance(port, END_NS));
    let promised_ns = drain(&mut aligner);
    (0..ports).for_each(|port| aligner.end(port));
    drain(&mut aligner);
    promised_ns
}

fn first(set: &Members<'_, i64>) -> i64 {
    set.stamps_ns().min().expect("a set has a member")
}

fn config(ports: usize, disorder_ns: u64, timeout_ns: Option<u64>, emit_partial: bool) -> Config {
    let port = PortConfig { disorder_ns, timeout_ns, depth: 10_000, ..PortConfig::default() };
    let mut config = Config { emit_partial, ..Config::of(ports, port) };
    config.ports[ports - 1].optional = ports > 1;
    config
}

proptest! {
    #[test]
    fn no_set_comes_before_what_is_promised(
        streams in ordered(1..4),
        seed in vec(any::<u8>(), 1..80),
        disorder in 0i64..8,
        timeout in prop_oneof![Just(None), (5u64..60).prop_map(Some)],
        emit_partial: bool,
        lateness in prop_oneof![Just(0u64), 1u64..40],
    ) {
        let ports = streams.len();
        let streams = disordered(&streams, disorder, &seed);
        let config = || config(ports, disorder as u64, timeout, emit_partial);
        let exact = promise(Exact::new(3), config(), &streams, &seed, |stamp| stamp, first);
        prop_assert_eq!(exact, END_NS);
        let reference = |set: &Members<'_, i64>| set.get(0).expect("the reference").0;
        let nearest = promise(Nearest::new(0, Some(9)), config(), &streams, &seed, |stamp| stamp, reference);
        prop_assert_eq!(nearest, END_NS);
        let approximate = promise(Approximate::new(100), config(), &streams, &seed, |stamp| stamp, first);
        prop_assert!(approximate > i64::MIN);
        let moment = |row: &Row<'_, f64>| row.stamp_ns();
        let linear = Linear::onto_reference(0, Some(20));
        prop_assert_eq!(promise(linear, config(), &streams, &seed, |stamp| stamp as f64, moment), END_NS);
        let linear = Linear::onto_grid(Grid { origin_ns: 3, rate_num: 100_000_000, rate_den: 1 }, Some(20));
        let grid = promise(linear, config(), &streams, &seed, |stamp| stamp as f64, moment);
        let has_moments = streams.iter().any(|stream| !stream.is_empty());
        // Of a grid, all moments up to the end have come.
        prop_assert!(!has_moments || grid >= END_NS - 10, "{}", grid);
        for emits_empty in [false, true] {
            let window = Window::new(10, 4, 1, Statistics::default()).lateness_ns(lateness);
            let window = if emits_empty { window.emitting_empty() } else { window };
            let start = promise(window, config(), &streams, &seed, |stamp| stamp as f64, |pane| pane.start_ns());
            prop_assert!(emits_empty || start > END_NS - 11 - lateness as i64, "{}", start);
        }
    }
}

#[test]
fn a_silent_stream_moves_the_promise() {
    let mut aligner = Aligner::new(Exact::new(5), Config::of(2, PortConfig::default()));
    assert_eq!(aligner.come_to_ns(), i64::MIN);
    aligner.push(0, 100, ()).expect_held();
    aligner.push(1, 300, ()).expect_held();
    assert!(matches!(aligner.poll(), Poll::Waiting));
    // 100 fits nothing, and port 0 goes on behind it.
    assert_eq!(aligner.come_to_ns(), 101);
    aligner.advance(0, 290);
    assert!(matches!(aligner.poll(), Poll::Waiting));
    assert_eq!(aligner.come_to_ns(), 290);
    aligner.advance(0, 400);
    assert!(matches!(aligner.poll(), Poll::Waiting));
    assert_eq!(aligner.come_to_ns(), 301, "300 has gone, and nothing is said of what port 1 has after it");
    aligner.end(0);
    assert!(matches!(aligner.poll(), Poll::Done));
}
