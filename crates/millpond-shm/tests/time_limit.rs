//! A connection's limit of time: how far the timestamps of what waits may be apart.

mod support;

use std::time::Duration;

use millpond_shm::{
    Buffer, BufferMut, ConnectionConfig, Error, Input, InputConfig, Monitor, Output, OutputConfig, Policy,
    Pond, PondConfig, PoolConfig, Role, SendReason, Timestamp,
};
use support::{Child, DEADLINE, Parent, eventually, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    assert_eq!(scenario, "send for ever");
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut output = pond.output("a.out", &OutputConfig::default()).unwrap();
    let first: i64 = parent.get("first").parse().unwrap();
    for ms in first.. {
        let buffer = stamped(&mut output, absolute(ms));
        output.send(buffer).unwrap();
    }
}

fn absolute(ms: i64) -> Timestamp {
    Timestamp::Absolute(ms * 1_000_000)
}

fn stamped(output: &mut Output, stamp: Timestamp) -> BufferMut {
    let mut buffer = output.allocate_timeout(8, DEADLINE).unwrap();
    buffer.set_timestamp(stamp);
    buffer
}

/// Sends if there is room.
fn offer(output: &mut Output, stamp: Timestamp) -> bool {
    let buffer = stamped(output, stamp);
    match output.try_send(buffer) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.reason, SendReason::Full);
            false
        }
    }
}

/// Takes one and says when it is from, in milliseconds.
fn take(input: &mut Input) -> i64 {
    let buffer: Buffer = input.try_receive().unwrap();
    buffer.timestamp().to_ns(None).unwrap() / 1_000_000
}

struct Pair {
    name: String,
    pond: Pond,
    output: Output,
    input: Input,
}

impl Pair {
    fn new(what: &str, policy: Policy) -> Self {
        let name = unique_name(what);
        let config = PondConfig { pools: vec![PoolConfig::new(64, 256)], table_slots: 256 };
        let pond = Pond::create(&name, &config, Role::Worker).unwrap();
        pond.connect("a.out", "b.in", &limited(policy)).unwrap();
        let output = pond.output("a.out", &OutputConfig::default()).unwrap();
        let input = pond.input("b.in", &InputConfig::default()).unwrap();
        Self { name, pond, output, input }
    }
}

fn limited(policy: Policy) -> ConnectionConfig {
    let max_time = Some(Duration::from_millis(25));
    ConnectionConfig { depth: Some(64), max_time, policy: Some(policy), ..ConnectionConfig::default() }
}

#[test]
fn the_sender_waits_when_its_stamp_is_too_far_ahead() {
    let Pair { mut output, mut input, .. } = Pair::new("time-block", Policy::Block);
    assert!([0, 10, 20, 25].iter().all(|&ms| offer(&mut output, absolute(ms))));
    assert!(output.can_send());
    assert!(!offer(&mut output, absolute(26)));
    assert!(!output.can_send(), "not before something was taken");
    assert_eq!(take(&mut input), 0);
    assert!(output.can_send());
    assert!(offer(&mut output, absolute(35)) && !offer(&mut output, absolute(36)));
    assert_eq!([(); 4].map(|()| take(&mut input)), [10, 20, 25, 35]);
    assert!(offer(&mut output, absolute(1_000_000)), "an empty queue takes any buffer");
    assert!(!offer(&mut output, absolute(1_000_100)));
    assert!(offer(&mut output, absolute(0)), "the past is not too far ahead");
}

#[test]
fn only_stamps_that_can_be_compared_are() {
    let Pair { mut output, mut input, .. } = Pair::new("time-kinds", Policy::Block);
    let sample = |index| Timestamp::Sample { index, rate_num: 1000, rate_den: 1 };
    assert!(offer(&mut output, sample(0)) && offer(&mut output, sample(25)));
    assert!(!offer(&mut output, sample(26)));
    for other in [Timestamp::None, absolute(1_000_000), Timestamp::Relative(i64::MAX)] {
        assert!(offer(&mut output, other), "{other:?}");
    }
    drop(input.try_receive().unwrap());
    assert!(offer(&mut output, sample(50)));
    let mut batch = [51, 52].map(|at| Buffer::from(stamped(&mut output, sample(at)))).into();
    assert_eq!(output.send_batch(&mut batch).unwrap(), 0, "a batch has no way around it");
}

#[test]
fn drops_are_counted() {
    for policy in [Policy::DropNewest, Policy::DropOldest] {
        let Pair { name, mut output, mut input, pond } = Pair::new("time-drops", policy);
        // One that has no limit gets everything.
        pond.connect("a.out", "c.in", &ConnectionConfig::default()).unwrap();
        assert!((0..=100).all(|ms| offer(&mut output, absolute(ms))));
        let connections = Monitor::open(&name).unwrap().snapshot().connections;
        let of = |to: &str| connections.iter().find(|c| c.to == to).unwrap();
        let (limited, free) = (of("b.in"), of("c.in"));
        assert_eq!((limited.max_time_ns, free.max_time_ns), (Some(25_000_000), None));
        assert_eq!((free.queued, limited.queued), (101, 26));
        let (first, drops) = match policy {
            Policy::DropNewest => (0, (75, 0)),
            _ => (75, (0, 75)),
        };
        assert_eq!((limited.dropped_newest, limited.dropped_oldest), drops);
        assert_eq!(take(&mut input), first);
    }
}

#[test]
fn a_sender_that_was_killed_and_started_again_keeps_to_the_limit() {
    let Pair { name, pond, output, mut input } = Pair::new("time-killed", Policy::Block);
    drop(output);
    let monitor = Monitor::open(&name).unwrap();
    let queued = || monitor.snapshot().connections[0].queued;
    let mut expected = 0;
    for _ in 0..2 {
        let first = (expected + queued() as i64).to_string();
        let mut sender = Child::spawn("send for ever", &[("pond", &name), ("first", &first)]);
        eventually("it waits for room", || queued() == 26);
        // Each that is taken lets the sleeping sender send one more.
        for _ in 0..100 {
            let buffer = input.receive_timeout(DEADLINE).unwrap();
            assert_eq!(buffer.timestamp(), absolute(expected));
            expected += 1;
            drop(buffer);
            eventually("it has sent the next", || queued() == 26);
        }
        sender.kill();
        eventually("its death is recovered", || {
            pond.recover_dead().unwrap();
            monitor.snapshot().connections[0].sender_pid.is_none()
        });
        assert!(input.try_receive().is_ok_and(|buffer| buffer.timestamp() == absolute(expected)));
        expected += 1;
    }
}

#[test]
fn no_time_is_no_limit_that_makes_sense() {
    let Pair { pond, .. } = Pair::new("time-zero", Policy::Block);
    for time in [Duration::ZERO, Duration::MAX] {
        let config = ConnectionConfig { max_time: Some(time), ..ConnectionConfig::default() };
        let refused = pond.connect("a.out", "d.in", &config);
        assert!(
            matches!(&refused, Err(Error::InvalidConfig { expected, .. }) if expected.contains("max_time"))
        );
    }
}

/// The oldest that waits changes while a buffer is being sent: what was let in is not dropped because of the next one.
#[test]
fn a_waiting_connection_drops_nothing_while_its_receiver_takes() {
    const BUFFERS: i64 = 300_000;
    let name = unique_name("limit-race");
    let config = PondConfig { pools: vec![PoolConfig::new(64, 256)], table_slots: 256 };
    let pond = Pond::create(&name, &config, Role::Worker).unwrap();
    let limited = ConnectionConfig {
        depth: Some(64),
        max_time: Some(Duration::from_millis(25)),
        policy: Some(Policy::Block),
        ..ConnectionConfig::default()
    };
    pond.connect("a.out", "b.in", &limited).unwrap();
    let mut output = pond.output("a.out", &OutputConfig::default()).unwrap();
    let mut input = pond.input("b.in", &InputConfig::default()).unwrap();
    let received = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut received = 0;
            while input.receive_timeout(DEADLINE).is_ok() {
                received += 1;
            }
            received
        });
        for n in 0..BUFFERS {
            // Every other one is 20 ms early.
            let buffer = stamped(&mut output, absolute(n * 3 - if n % 2 == 1 { 20 } else { 0 }));
            output.send(buffer).unwrap();
        }
        output.finish();
        receiver.join().unwrap()
    });
    let connection = &Monitor::open(&name).unwrap().snapshot().connections[0];
    assert_eq!((received, connection.dropped_newest), (BUFFERS, 0));
}
