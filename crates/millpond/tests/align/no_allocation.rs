//! Once its queues have grown, an aligner allocates nothing, counted.

use std::hint::black_box;

use millpond::align::{Aligner, Approximate, Exact, Grid, Linear, Nearest, Policy, Poll, Statistics, Window};

use crate::streams::roomy;

/// Three streams with an item each 100, 90 and 83 ns.
fn feed<P: Policy<f64> + 'static>(
    aligner: &mut Aligner<f64, P>,
    times: std::ops::Range<i64>,
    read: &impl Fn(P::Set<'_>),
) {
    for time in times {
        for (port, period) in [100, 90, 83].into_iter().enumerate() {
            if time % period == 0 {
                let _ = black_box(aligner.push(port, time, time as f64));
                while let Poll::Set(set) = aligner.poll() {
                    read(set);
                }
            }
        }
    }
}

/// Not optimised away.
fn consume<T>(result: T) {
    black_box(&result);
}

fn check<P: Policy<f64> + 'static>(policy: P, read: impl Fn(P::Set<'_>)) {
    let mut aligner = Aligner::new(policy, roomy(3, 200));
    feed(&mut aligner, 0..50_000, &read);
    let sets = aligner.sets();
    let counted = allocation_counter::measure(|| feed(&mut aligner, 50_000..250_000, &read));
    assert!(aligner.sets() > sets + 500, "{} sets", aligner.sets());
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
}

#[test]
fn nothing_is_allocated_for_an_event() {
    check(Exact::new(40), |set| consume(set));
    check(Nearest::new(0, Some(100)), |set| consume(set));
    check(Nearest::new(1, Some(60)).consuming(), |set| consume(set));
    check(Linear::onto_reference(0, None), |row| consume(row.neighbours(1) == row.neighbours(2)));
    let grid = Grid { origin_ns: 0, rate_num: 10_000_000, rate_den: 1 };
    check(Linear::onto_grid(grid, None), |row| consume(row.neighbours(1) == row.neighbours(2)));
    check(Window::new(500, 250, 0, Statistics::default()).lateness_ns(2_000), |pane| consume(pane));
    check(Approximate::new(100), |set| consume(set));
}
