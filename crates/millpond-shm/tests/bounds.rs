//! Promises of how far a stream has come, beside its buffers.

mod support;

use millpond_shm::{
    ConnectionConfig, Input, InputConfig, Output, OutputConfig, Pond, PondConfig, PoolConfig, Role,
    Timestamp, Wait,
};
use std::time::Duration;
use support::unique_name;

fn ends(pond: &Pond, from: &str, to: &str) -> (Output, Input) {
    pond.connect(from, to, &ConnectionConfig::default()).unwrap();
    (pond.output(from, &OutputConfig::default()).unwrap(), pond.input(to, &InputConfig::default()).unwrap())
}

fn send(output: &mut Output) {
    let buffer = output.allocate(8).unwrap();
    output.send(buffer).unwrap();
}

const AT_5: Timestamp = Timestamp::Relative(5);
const AT_9: Timestamp = Timestamp::Relative(9);

#[test]
fn a_bound_counts_behind_what_was_sent_before_and_never_goes_back() {
    let config = PondConfig { pools: vec![PoolConfig::new(4096, 16)], ..PondConfig::default() };
    let pond = Pond::create(&unique_name("bounds"), &config, Role::Worker).unwrap();
    let (mut output, mut input) = ends(&pond, "a.out", "b.in");
    assert_eq!(input.bound(), None);
    assert!(!input.has_news());
    send(&mut output);
    output.advance(AT_5);
    assert!(input.has_news());
    assert_eq!(input.bound(), None, "a buffer that was sent before is still queued");
    input.receive().unwrap();
    assert_eq!(input.bound(), Some(AT_5));
    assert!(!input.has_news(), "what was looked at is no news");
    output.advance(Timestamp::Relative(4));
    output.advance(Timestamp::None);
    assert_eq!(input.bound(), Some(AT_5));
    output.advance(AT_9);
    assert!(input.has_news());
    assert_eq!(input.bound(), Some(AT_9));
    // A successor goes on with the promise, and nothing that it repeats changes it.
    output.abandon();
    let mut output = pond.output("a.out", &OutputConfig::default()).unwrap();
    output.advance(AT_5);
    assert_eq!(input.bound(), Some(AT_9));
    // Stamps of another kind cannot be compared: the new promise counts.
    output.advance(Timestamp::Absolute(7));
    assert_eq!(input.bound(), Some(Timestamp::Absolute(7)));
    let sample = Timestamp::Sample { index: 3, rate_num: 1000, rate_den: 1 };
    output.advance(sample);
    assert_eq!(input.bound(), Some(Timestamp::Relative(3_000_000)));
}

#[test]
fn of_several_senders_the_one_that_is_behind_counts() {
    let pond = Pond::create(&unique_name("bounds"), &PondConfig::default(), Role::Worker).unwrap();
    let (mut ahead, mut input) = ends(&pond, "a.out", "c.in");
    pond.connect("b.out", "c.in", &ConnectionConfig::default()).unwrap();
    let mut behind = pond.output("b.out", &OutputConfig::default()).unwrap();
    ahead.advance(AT_9);
    assert_eq!(input.bound(), None, "the other may send anything");
    behind.advance(AT_5);
    assert_eq!(input.bound(), Some(AT_5));
    behind.finish();
    assert_eq!(input.bound(), Some(AT_9), "an ended stream sends nothing");
}

/// Else whoever serves the port never sleeps again.
#[test]
fn a_bound_that_was_looked_at_is_no_news_whatever_the_other_senders_say() {
    let pond = Pond::create(&unique_name("bounds"), &PondConfig::default(), Role::Worker).unwrap();
    let (mut silent, mut input) = ends(&pond, "a.out", "c.in");
    pond.connect("b.out", "c.in", &ConnectionConfig::default()).unwrap();
    let mut tells = pond.output("b.out", &OutputConfig::default()).unwrap();
    input.try_receive().unwrap_err();
    tells.advance(AT_5);
    assert_eq!(input.bound(), None, "the other may send anything");
    assert!(!input.has_news());
    // One promises more and ends before that was looked at.
    silent.advance(AT_5);
    assert_eq!(input.bound(), Some(AT_5));
    silent.advance(AT_9);
    silent.finish();
    input.try_receive().unwrap_err();
    assert!(!input.has_news());
    assert_eq!(input.bound(), Some(AT_5));
    assert!(!input.has_news());
}

#[test]
fn a_new_bound_wakes_who_waits_for_one() {
    let pond = Pond::create(&unique_name("bounds"), &PondConfig::default(), Role::Worker).unwrap();
    let waiter = pond.waiter(Wait::Block).unwrap();
    pond.connect("a.out", "b.in", &ConnectionConfig::default()).unwrap();
    let config = InputConfig { waiter: Some(waiter.clone()), ..InputConfig::default() };
    let mut input = pond.input("b.in", &config).unwrap();
    let mut output = pond.output("a.out", &OutputConfig::default()).unwrap();
    assert_eq!(input.bound(), None);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let woken = waiter.wait(Some(Duration::from_secs(60)), || input.has_news());
            (woken, input.bound())
        });
        output.advance(AT_5);
        assert_eq!(sleeper.join().unwrap(), (millpond_shm::Woken::Ready, Some(AT_5)));
    });
}
