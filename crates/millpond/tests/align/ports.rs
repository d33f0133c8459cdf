//! What happens when ports are late, silent, full, ended or reset.

use millpond::align::{
    Aligner, Approximate, Config, Exact, Linear, Members, Nearest, Overflow, Policy, Poll, PortConfig,
    Pushed, Reason, Stall, Statistics, Warning, Window,
};

use crate::streams::stamps;

fn drain<P>(aligner: &mut Aligner<i64, P>) -> Vec<Vec<Option<i64>>>
where
    P: for<'a> Policy<i64, Set<'a> = Members<'a, i64>> + 'static,
{
    let mut sets = Vec::new();
    while let Poll::Set(set) = aligner.poll() {
        sets.push(stamps(&set));
    }
    sets
}

fn with_timeout(ports: usize, optional: &[usize]) -> Config {
    let mut config = Config::of(ports, PortConfig { timeout_ns: Some(100), ..PortConfig::default() });
    optional.iter().for_each(|port| config.ports[*port].optional = true);
    config
}

/// A stream of three dies, and comes back.
fn dying<P>(policy: P, config: Config) -> (Vec<Vec<Option<i64>>>, Aligner<i64, P>)
where
    P: for<'a> Policy<i64, Set<'a> = Members<'a, i64>> + 'static,
{
    let mut aligner = Aligner::new(policy, config);
    let mut sets = Vec::new();
    for stamp in (0..1000).step_by(50) {
        aligner.set_clock(stamp);
        sets.extend(drain(&mut aligner));
        for port in 0..3 {
            if port != 2 || !(200..600).contains(&stamp) {
                let _ = aligner.push(port, stamp, stamp);
            }
        }
        sets.extend(drain(&mut aligner));
    }
    (sets, aligner)
}

#[test]
fn an_optional_port_that_falls_silent_is_left_out_until_it_is_back() {
    fn check<P>(policy: P)
    where
        P: for<'a> Policy<i64, Set<'a> = Members<'a, i64>> + 'static,
    {
        let (sets, aligner) = dying(policy, with_timeout(3, &[2]));
        let all = |stamp| vec![Some(stamp), Some(stamp), Some(stamp)];
        let without = |stamp| vec![Some(stamp), Some(stamp), None];
        // 200 has to wait until 300, and so do 250 and what follows until nobody waits any more.
        let expected: Vec<_> = (0..1000)
            .step_by(50)
            .map(|stamp| if (200..600).contains(&stamp) { without(stamp) } else { all(stamp) })
            .collect();
        assert_eq!(sets, expected);
        assert_eq!(aligner.degraded(), 8);
        assert!(aligner.inactive().is_empty());
    }
    check(Exact::new(0));
    check(Nearest::new(0, Some(0)));
}

#[test]
fn approximate_goes_on_without_a_silent_port() {
    let (sets, aligner) = dying(Approximate::new(100).max_interval_ns(10), with_timeout(3, &[2]));
    let complete = sets.iter().filter(|set| set[2].is_some()).count();
    // The last set may still be waited for.
    assert!(sets.len() >= 19, "{sets:?}");
    assert!((11..=12).contains(&complete), "{sets:?}");
    assert!(sets.iter().all(|set| set[0].is_some() && set[0] == set[1]));
    assert!(aligner.degraded() >= 7);
}

#[test]
fn sets_without_a_silent_required_port_are_dropped_or_partial() {
    let (sets, aligner) = dying(Exact::new(0), with_timeout(3, &[]));
    assert_eq!(sets.len(), 12);
    assert!(sets.iter().flatten().all(Option::is_some));
    assert_eq!([0, 1, 2].map(|port| aligner.counters(port).dropped(Reason::Timeout)), [8, 8, 0]);
    let (sets, aligner) = dying(Exact::new(0), Config { emit_partial: true, ..with_timeout(3, &[]) });
    assert_eq!(sets.len(), 20);
    assert_eq!(aligner.degraded(), 8);
}

#[test]
fn a_silent_port_comes_back_only_behind_what_is_decided() {
    let mut aligner = Aligner::new(Exact::new(0), with_timeout(2, &[1]));
    aligner.set_clock(0);
    aligner.push(0, 1000, 0).expect_held();
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.deadline_ns(), Some(100));
    aligner.set_clock(99);
    assert!(drain(&mut aligner).is_empty());
    aligner.set_clock(100);
    assert_eq!(drain(&mut aligner), [[Some(1000), None]]);
    assert!(aligner.inactive().contains(1));
    // So far behind that waiting for it would be in vain.
    assert_eq!(aligner.push(1, 900, 7), Pushed::Dropped(Reason::Late, 7));
    assert!(aligner.inactive().contains(1));
    // Late, but the next one may be in time.
    assert_eq!(aligner.push(1, 901, 7), Pushed::Dropped(Reason::Late, 7));
    assert!(aligner.inactive().is_empty());
    assert_eq!(aligner.push(1, 1000, 7), Pushed::Dropped(Reason::Late, 7));
    aligner.push(1, 1001, 8).expect_held();
    assert!(aligner.inactive().is_empty());
    aligner.push(0, 1001, 8).expect_held();
    assert_eq!(drain(&mut aligner), [[Some(1001), Some(1001)]]);
}

#[test]
fn a_timeout_counts_only_while_others_wait() {
    let mut aligner = Aligner::new(Exact::new(0), with_timeout(2, &[1]));
    aligner.set_clock(0);
    assert!(drain(&mut aligner).is_empty());
    // Nobody has anything: nobody is waited for, however long that takes.
    assert_eq!(aligner.deadline_ns(), None);
    aligner.set_clock(1_000_000);
    assert!(aligner.inactive().is_empty());
    aligner.push(0, 5, 0).expect_held();
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.deadline_ns(), Some(1_000_100));
    // It is alive, though it has nothing for this set.
    aligner.set_clock(1_000_050);
    aligner.advance(1, 3);
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.deadline_ns(), Some(1_000_150));
    // Saying the same again is no sign of life.
    aligner.set_clock(1_000_100);
    aligner.advance(1, 3);
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.deadline_ns(), Some(1_000_150));
}

#[test]
fn several_silent_ports_are_given_up_together() {
    let mut aligner = Aligner::new(Nearest::new(0, None), with_timeout(3, &[1, 2]));
    aligner.set_clock(0);
    aligner.push(0, 5, 0).expect_held();
    assert!(drain(&mut aligner).is_empty());
    aligner.set_clock(100);
    assert_eq!(drain(&mut aligner), [[Some(5), None, None]]);
}

#[test]
fn a_full_port_waits_or_drops_its_oldest() {
    let config =
        |overflow| Config { overflow, ..Config::of(2, PortConfig { depth: 2, ..PortConfig::default() }) };
    let mut aligner = Aligner::new(Exact::new(0), config(Overflow::Sync));
    (0..2).for_each(|stamp| aligner.push(0, stamp, stamp).expect_held());
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.stall(), None);
    assert_eq!(aligner.push(0, 2, 2), Pushed::Full(2));
    let Some(Stall { full: 0, waits_for }) = aligner.stall() else { panic!("port 0 waits for port 1") };
    assert_eq!(waits_for.iter().collect::<Vec<_>>(), [1]);
    aligner.push(1, 1, 1).expect_held();
    assert_eq!(drain(&mut aligner), [[Some(1), Some(1)]]);
    aligner.push(0, 2, 2).expect_held();
    assert_eq!(aligner.stall(), None);
    assert_eq!(aligner.counters(0).received, 3);
    assert_eq!(aligner.counters(0).peak_depth, 2);

    let mut aligner = Aligner::new(Exact::new(0), config(Overflow::Async));
    (0..2).for_each(|stamp| aligner.push(0, stamp, stamp).expect_held());
    assert_eq!(aligner.push(0, 2, 2), Pushed::Replaced(0));
    assert_eq!(aligner.counters(0).dropped(Reason::Overflow), 1);
    aligner.push(1, 2, 2).expect_held();
    assert_eq!(drain(&mut aligner), [[Some(2), Some(2)]]);

    let mut aligner = Aligner::new(Exact::new(0), config(Overflow::Hybrid { deadline_ns: 10 }));
    aligner.set_clock(0);
    (0..2).for_each(|stamp| aligner.push(0, stamp, stamp).expect_held());
    assert_eq!(aligner.push(0, 2, 2), Pushed::Full(2));
    aligner.set_clock(9);
    assert_eq!(aligner.push(0, 2, 2), Pushed::Full(2));
    aligner.set_clock(10);
    assert_eq!(aligner.push(0, 2, 2), Pushed::Replaced(0));
    assert_eq!(aligner.counters(0).received, 3);
}

#[test]
fn overflow_of_approximate_starts_the_search_anew() {
    let config = Config {
        overflow: Overflow::Async,
        ..Config::of(2, PortConfig { depth: 3, ..PortConfig::default() })
    };
    let mut aligner = Aligner::new(Approximate::new(0), config);
    for stamp in [0, 10, 20, 30, 40, 50] {
        let _ = aligner.push(0, stamp, stamp);
        assert!(drain(&mut aligner).is_empty());
    }
    // The items before 30 are lost, so port 0 must not be the pivot, and 5 has no partner any more.
    for stamp in [5, 41] {
        aligner.push(1, stamp, stamp).expect_held();
    }
    let mut sets = drain(&mut aligner);
    (0..2).for_each(|port| aligner.end(port));
    sets.extend(drain(&mut aligner));
    assert_eq!(sets, [[Some(40), Some(41)]]);
    assert_eq!(aligner.counters(0).dropped(Reason::Overflow), 3);
}

#[test]
fn disorder_beyond_the_depth_does_not_stall() {
    let config = Config::of(1, PortConfig { depth: 2, disorder_ns: 1000, ..PortConfig::default() });
    let mut aligner = Aligner::new(Exact::new(0), config);
    (0..2).for_each(|stamp| aligner.push(0, stamp, stamp).expect_held());
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.push(0, 2, 2), Pushed::Full(2));
    assert_eq!(drain(&mut aligner), [[Some(0)]]);
    aligner.push(0, 2, 2).expect_held();
}

#[test]
fn a_port_whose_item_was_taken_late_in_the_end_is_full_no_more() {
    let port = PortConfig { depth: 2, disorder_ns: 100, ..PortConfig::default() };
    let policy = Window::new(10, 10, 0, Statistics::default()).lateness_ns(100);
    let mut aligner: Aligner<f64, _> = Aligner::new(policy, Config::of(2, port));
    [20, 30].into_iter().for_each(|stamp| aligner.push(0, stamp, 1.0).expect_held());
    assert_eq!(aligner.push(0, 25, 1.0), Pushed::Full(1.0));
    aligner.advance(0, 31);
    assert_eq!(aligner.push(0, 25, 1.0), Pushed::TakenLate);
    // This is no second try of the same.
    assert_eq!(aligner.push(0, 26, 1.0), Pushed::TakenLate);
    assert_eq!((aligner.counters(0).received, aligner.counters(0).late), (4, 2));
}

#[test]
fn a_new_epoch_begins_anywhere() {
    let mut aligner = Aligner::new(Exact::new(0), Config::of(2, PortConfig::default()));
    aligner.push(0, 1000, 0).expect_held();
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.push(0, 5, 0), Pushed::Dropped(Reason::Late, 0));
    aligner.reset();
    assert_eq!(aligner.counters(0).dropped(Reason::Unmatched), 1);
    for stamp in [5, 6] {
        (0..2).for_each(|port| aligner.push(port, stamp, 0).expect_held());
    }
    assert_eq!(drain(&mut aligner), [[Some(5), Some(5)], [Some(6), Some(6)]]);
    // What came before the reset is no part of the new epoch's period.
    assert_eq!((aligner.period_ns(0), aligner.skew_ns()), (Some(1.0), 0));
}

#[test]
fn settings_that_do_not_fit_are_named() {
    let port = |depth, disorder_ns, timeout_ns| PortConfig {
        depth,
        disorder_ns,
        timeout_ns,
        ..PortConfig::default()
    };
    let config = |overflow| Config {
        ports: vec![port(10, 0, Some(90)), port(9, 50, Some(9_000_000_000_000_000_000))],
        overflow,
        emit_partial: false,
    };
    let fed = |tolerance_ns, overflow| {
        let mut aligner = Aligner::new(Exact::new(tolerance_ns), config(overflow));
        for i in 0..4 {
            (0..2).for_each(|port| aligner.push(port, 10 * i, 0).expect_held());
        }
        aligner
    };
    // Port 1 waits for 90 ns and has 50 ns of disorder at a period of 10 ns; what is for ever is no reason for depth.
    let depth = Warning::Depth { port: 1, depth: 9, needed: 14, skew_ns: 0 };
    assert_eq!(fed(4, Overflow::Sync).warnings(200), [depth]);
    let tolerance = Warning::Tolerance { tolerance_ns: 5, period_ns: 10.0 };
    assert_eq!(fed(5, Overflow::Sync).warnings(0), [tolerance, depth]);
    let told = fed(4, Overflow::Async).warnings(200);
    let skewed = |port, depth, needed| Warning::Depth { port, depth, needed, skew_ns: 200 };
    assert_eq!(told, [skewed(0, 10, 20), skewed(1, 9, 34)]);
    assert_eq!(
        told[0].text(|port| format!("port {port}")),
        "port 0: a depth of 10 is less than the 20 that come during skew (200 ns), disorder and timeout"
    );
}

/// Of two ports, both changed.
fn reconfigure<P: Policy<i64>>(aligner: &mut Aligner<i64, P>, overflow: Overflow, port: &PortConfig) {
    aligner.reconfigure(Config { overflow, ..Config::of(2, port.clone()) });
}

#[test]
fn what_is_changed_holds_for_what_is_decided_from_then_on() {
    let default = PortConfig::default();
    let mut aligner = Aligner::new(Exact::new(0), Config::of(2, default.clone()));
    (0..2).for_each(|port| aligner.push(port, 10 + port as i64, 0).expect_held());
    assert!(drain(&mut aligner).is_empty());
    // 10 was dropped when 11 came, and stays so.
    reconfigure(&mut aligner, Overflow::Sync, &PortConfig { tolerance_ns: Some(2), ..default.clone() });
    assert!(drain(&mut aligner).is_empty());
    aligner.push(0, 13, 0).expect_held();
    assert_eq!(drain(&mut aligner), [[Some(13), Some(11)]]);
    assert_eq!(aligner.counters(0).dropped(Reason::Unmatched), 1);
}

#[test]
fn a_timeout_that_is_set_counts_from_then_on() {
    let mut aligner = Aligner::new(Exact::new(0), Config::of(2, PortConfig::default()));
    aligner.set_clock(0);
    aligner.push(0, 5, 0).expect_held();
    assert!(drain(&mut aligner).is_empty());
    aligner.set_clock(1000);
    assert_eq!(aligner.deadline_ns(), None);
    let mut config = with_timeout(2, &[1]);
    aligner.reconfigure(config.clone());
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.deadline_ns(), Some(1100));
    aligner.set_clock(1100);
    assert_eq!(drain(&mut aligner), [[Some(5), None]]);
    // A longer one does not bring the port back; its next item does.
    config.ports[1].timeout_ns = Some(1_000_000);
    aligner.reconfigure(config);
    assert!(aligner.inactive().contains(1));
    aligner.push(1, 6, 0).expect_held();
    assert!(aligner.inactive().is_empty());
}

#[test]
fn a_smaller_depth_drops_nothing_by_itself() {
    let port = |depth| PortConfig { depth, ..PortConfig::default() };
    let mut aligner = Aligner::new(Exact::new(0), Config::of(2, port(4)));
    (0..4).for_each(|stamp| aligner.push(0, stamp, stamp).expect_held());
    reconfigure(&mut aligner, Overflow::Sync, &port(2));
    assert_eq!(aligner.push(0, 4, 4), Pushed::Full(4));
    aligner.push(1, 2, 2).expect_held();
    assert_eq!(drain(&mut aligner), [[Some(2), Some(2)]]);
    aligner.push(0, 4, 4).expect_held();
    assert_eq!(aligner.push(0, 5, 5), Pushed::Full(5));
    // Room is made down to the new depth, and every item that went is counted.
    reconfigure(&mut aligner, Overflow::Sync, &port(4));
    aligner.push(0, 5, 5).expect_held();
    aligner.push(0, 6, 6).expect_held();
    reconfigure(&mut aligner, Overflow::Async, &port(2));
    assert_eq!(aligner.push(0, 7, 7), Pushed::Replaced(5));
    assert_eq!(aligner.counters(0).dropped(Reason::Overflow), 3);
    (6..8).for_each(|stamp| aligner.push(1, stamp, stamp).expect_held());
    assert_eq!(drain(&mut aligner), [[Some(6), Some(6)], [Some(7), Some(7)]]);
}

#[test]
fn a_bound_follows_the_disorder_but_never_goes_back() {
    let port = |disorder_ns| PortConfig { disorder_ns, ..PortConfig::default() };
    let mut aligner = Aligner::new(Exact::new(0), Config::of(2, port(50)));
    (0..2).for_each(|port| aligner.push(port, 100, 0).expect_held());
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.bound_ns(0), 51);
    reconfigure(&mut aligner, Overflow::Sync, &port(10));
    assert_eq!(aligner.bound_ns(0), 91);
    reconfigure(&mut aligner, Overflow::Sync, &port(1000));
    assert_eq!(aligner.bound_ns(0), 91);
    assert_eq!(aligner.push(0, 90, 0), Pushed::Dropped(Reason::Late, 0));
    aligner.push(0, 91, 0).expect_held();
    reconfigure(&mut aligner, Overflow::Sync, &port(0));
    assert_eq!(drain(&mut aligner), [[Some(100), Some(100)]]);
}

#[test]
fn the_limits_of_approximate_can_be_changed() {
    let mut aligner = Aligner::new(Approximate::new(0), Config::of(2, PortConfig::default()));
    aligner.push(0, 0, 0).expect_held();
    aligner.push(1, 100, 0).expect_held();
    assert!(drain(&mut aligner).is_empty());
    // What was the candidate is too long now.
    aligner.change_policy(|policy| policy.set_limits(0, Some(10)));
    aligner.push(0, 95, 0).expect_held();
    aligner.push(0, 200, 0).expect_held();
    assert_eq!(drain(&mut aligner), [[Some(95), Some(100)]]);
    assert_eq!(aligner.counters(0).dropped(Reason::Unmatched), 1);
}

#[test]
fn a_full_port_of_hybrid_is_waited_for_no_longer_than_its_deadline() {
    let overflow = Overflow::Hybrid { deadline_ns: 10 };
    let config = Config { overflow, ..Config::of(2, PortConfig { depth: 2, ..PortConfig::default() }) };
    let mut aligner = Aligner::new(Exact::new(0), config);
    aligner.set_clock(5);
    (0..2).for_each(|stamp| aligner.push(0, stamp, stamp).expect_held());
    assert!(drain(&mut aligner).is_empty());
    assert_eq!(aligner.deadline_ns(), None);
    assert_eq!(aligner.push(0, 2, 2), Pushed::Full(2));
    assert_eq!(aligner.deadline_ns(), Some(15));
}

#[test]
fn the_end_of_a_required_port_ends_the_sets() {
    let mut aligner = Aligner::new(Exact::new(0), Config::of(2, PortConfig::default()));
    (0..3).for_each(|stamp| aligner.push(0, stamp, stamp).expect_held());
    aligner.push(1, 1, 1).expect_held();
    aligner.end(1);
    assert_eq!(drain(&mut aligner), [[Some(1), Some(1)]]);
    assert!(matches!(aligner.poll(), Poll::Done));
    assert_eq!(aligner.push(0, 7, 7), Pushed::Dropped(Reason::Unmatched, 7));
    assert_eq!(aligner.counters(0).dropped(Reason::Unmatched), 3);
}

#[test]
fn extreme_stamps_are_stamps() {
    let extremes = [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX];
    fn feed<P: Policy<f64> + 'static>(policy: P, read: impl Fn(P::Set<'_>)) -> u64 {
        let mut aligner =
            Aligner::new(policy, Config::of(2, PortConfig { disorder_ns: 3, ..PortConfig::default() }));
        for stamp in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
            for port in 0..2 {
                let _ = aligner.push(port, stamp, 1.0);
                while let Poll::Set(set) = aligner.poll() {
                    read(set);
                }
            }
        }
        (0..2).for_each(|port| aligner.end(port));
        while let Poll::Set(set) = aligner.poll() {
            read(set);
        }
        assert!(matches!(aligner.poll(), Poll::Done));
        aligner.sets()
    }
    assert_eq!(feed(Exact::new(u64::MAX), |_| ()), extremes.len() as u64);
    assert_eq!(feed(Nearest::new(0, Some(u64::MAX)), |_| ()), extremes.len() as u64);
    assert_eq!(feed(Linear::onto_reference(1, Some(u64::MAX)), |_| ()), extremes.len() as u64);
    assert_eq!(feed(Approximate::new(u32::MAX), |_| ()), extremes.len() as u64);
    assert!(feed(Window::new(i64::MAX, i64::MAX, -1, Statistics::default()), |_| ()) > 0);
}
