//! `Approximate` makes the sets that ROS users know.

use std::collections::VecDeque;

use millpond::align::{Aligner, Approximate, Members, Poll};
use proptest::prelude::*;

use crate::streams::{Arrival, Streams, arrivals, by_time, disordered, ordered, roomy, sets, stamps};

/// The `ApproximateTime` policy as its documentation describes it, with queues that are never full: messages that the search has
/// passed wait in `past`, a candidate is a copy, and an empty queue stands for a message at the earliest time that is possible.
struct Described {
    age_penalty_permille: i64,
    max_interval: i64,
    lower_bounds: Vec<i64>,
    deques: Vec<VecDeque<i64>>,
    past: Vec<Vec<i64>>,
    candidate: Vec<i64>,
    pivot: Option<(usize, i64)>,
    published: Vec<Vec<i64>>,
}

impl Described {
    fn new(ports: usize, age_penalty_permille: i64, max_interval: i64, lower_bounds: Vec<i64>) -> Self {
        Self {
            age_penalty_permille,
            max_interval,
            lower_bounds,
            deques: vec![VecDeque::new(); ports],
            past: vec![Vec::new(); ports],
            candidate: Vec::new(),
            pivot: None,
            published: Vec::new(),
        }
    }

    fn add(&mut self, port: usize, stamp: i64) {
        self.deques[port].push_back(stamp);
        if self.deques[port].len() == 1 && self.all_have_one() {
            self.process();
        }
    }

    fn all_have_one(&self) -> bool {
        self.deques.iter().all(|deque| !deque.is_empty())
    }

    /// Time and index of the latest and of the earliest; of equal ones the last and the first.
    fn end_and_start(times: &[i64]) -> ((i64, usize), (i64, usize)) {
        let with_index = || times.iter().copied().zip(0..);
        let end = with_index().max_by_key(|(time, index)| (*time, *index)).unwrap();
        let start = with_index().min_by_key(|(time, index)| (*time, *index)).unwrap();
        (end, start)
    }

    fn penalized(&self, time: i64) -> i64 {
        time * (1000 + self.age_penalty_permille)
    }

    fn pass(&mut self, port: usize) {
        let passed = self.deques[port].pop_front().unwrap();
        self.past[port].push(passed);
    }

    fn make_candidate(&mut self, times: &[i64]) {
        self.candidate = times.to_vec();
        self.past.iter_mut().for_each(Vec::clear);
    }

    fn candidate_end(&self) -> i64 {
        *self.candidate.iter().max().unwrap()
    }

    fn candidate_start(&self) -> i64 {
        *self.candidate.iter().min().unwrap()
    }

    fn process(&mut self) {
        while self.all_have_one() {
            let times: Vec<i64> = self.deques.iter().map(|deque| deque[0]).collect();
            let ((end, end_port), (start, start_port)) = Self::end_and_start(&times);
            match self.pivot {
                None => {
                    if end - start > self.max_interval {
                        self.deques[start_port].pop_front();
                        continue;
                    }
                    self.make_candidate(&times);
                    self.pivot = Some((end_port, end));
                }
                Some(_) => {
                    if self.penalized(end - self.candidate_end()) < 1000 * (start - self.candidate_start()) {
                        self.make_candidate(&times);
                    }
                }
            }
            self.pass(start_port);
            let (pivot, pivot_time) = self.pivot.unwrap();
            if start_port == pivot
                || self.penalized(end - self.candidate_end()) >= 1000 * (pivot_time - self.candidate_start())
            {
                self.publish();
            } else if !self.all_have_one() {
                self.look_ahead(pivot_time);
            }
        }
    }

    fn look_ahead(&mut self, pivot_time: i64) {
        let mut moves = Vec::new();
        loop {
            let times: Vec<i64> = (0..self.deques.len())
                .map(|port| match self.deques[port].front() {
                    Some(time) => *time,
                    None => pivot_time.max(self.past[port].last().unwrap() + self.lower_bounds[port]),
                })
                .collect();
            let ((end, _), (start, start_port)) = Self::end_and_start(&times);
            let later = self.penalized(end - self.candidate_end());
            if later >= 1000 * (pivot_time - self.candidate_start()) {
                return self.publish();
            }
            if later < 1000 * (start - self.candidate_start()) {
                break;
            }
            self.pass(start_port);
            moves.push(start_port);
        }
        for port in moves.into_iter().rev() {
            let back = self.past[port].pop().unwrap();
            self.deques[port].push_front(back);
        }
    }

    fn publish(&mut self) {
        self.published.push(std::mem::take(&mut self.candidate));
        self.pivot = None;
        for (deque, past) in self.deques.iter_mut().zip(&mut self.past) {
            past.drain(..).rev().for_each(|stamp| deque.push_front(stamp));
            deque.pop_front();
        }
    }
}

/// All sets, and how many of them came before the streams ended.
fn found(policy: Approximate<Arrival>, streams: &Streams, arrivals: &[Arrival]) -> (Vec<Vec<i64>>, usize) {
    let mut aligner = Aligner::new(policy, roomy(streams.len(), 0));
    let mut sets = Vec::new();
    let read = |set: Members<'_, Arrival>| {
        stamps(&set).into_iter().map(|stamp| stamp.expect("all are required")).collect()
    };
    for arrival in arrivals {
        aligner.push(arrival.0, streams[arrival.0][arrival.1], *arrival).expect_held();
        while let Poll::Set(set) = aligner.poll() {
            sets.push(read(set));
        }
    }
    let before_the_end = sets.len();
    (0..streams.len()).for_each(|port| aligner.end(port));
    while let Poll::Set(set) = aligner.poll() {
        sets.push(read(set));
    }
    (sets, before_the_end)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// With the same sets at the same arrivals; only at the end of the streams, which ROS does not know, more can come.
    #[test]
    fn the_sets_are_those_of_ros(
        streams in ordered(2..=8), age_penalty in prop_oneof![Just(0u32), Just(100), 0u32..5000],
        max_interval in prop::option::of(0u64..40), knows_bounds: bool, seed: [u8; 16],
    ) {
        let arrivals = arrivals(&streams, &seed);
        let shortest = |stream: &Vec<i64>| stream.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(0);
        let lower_bounds: Vec<i64> =
            streams.iter().map(|stream| if knows_bounds { shortest(stream) } else { 0 }).collect();
        let max = max_interval.map_or(i64::MAX, |max| max as i64);
        let mut described = Described::new(streams.len(), i64::from(age_penalty), max, lower_bounds.clone());
        let mut policy = Approximate::new(age_penalty);
        if let Some(max) = max_interval {
            policy = policy.max_interval_ns(max);
        }
        if knows_bounds {
            policy = policy.lower_bounds_ns(lower_bounds.iter().map(|bound| *bound as u64).collect());
        }
        for (port, index) in &arrivals {
            described.add(*port, streams[*port][*index]);
        }
        let (found, before_the_end) = found(policy, &streams, &arrivals);
        prop_assert_eq!(&found[..before_the_end], &described.published[..]);
    }

    #[test]
    fn the_order_of_arrival_does_not_matter(
        streams in ordered(1..=6), age_penalty in 0u32..1000, max_interval in prop::option::of(0u64..40), seed: [u8; 16], disorder in 0i64..20,
    ) {
        let policy = || {
            let policy = Approximate::new(age_penalty);
            match max_interval {
                Some(max) => policy.max_interval_ns(max),
                None => policy,
            }
        };
        let expected = sets(policy(), roomy(streams.len(), 0), &streams, &by_time(&streams));
        let streams = disordered(&streams, disorder, &seed);
        prop_assert_eq!(sets(policy(), roomy(streams.len(), disorder as u64), &streams, &arrivals(&streams, &seed)), expected);
    }
}

#[test]
fn the_example_of_the_picture() {
    // The pivot is 30 on port 1; {20, 30} is smaller than {10, 30}; {20, 30} cannot be improved.
    let streams = vec![vec![10, 28, 50], vec![30, 52]];
    let (found, before_the_end) = found(Approximate::new(0), &streams, &by_time(&streams));
    assert_eq!(found, [[28, 30], [50, 52]]);
    assert_eq!(before_the_end, 1);
}
