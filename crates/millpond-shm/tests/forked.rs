//! Handles in a forked child: nothing that a child does with what it inherited disturbs the parent, and everything says so.

#![allow(unsafe_code)]

mod support;

use millpond_shm::{
    Allocator, BlockCounters, Buffer, BufferMut, ConnectionConfig, DType, Error, Input, InputConfig, Monitor,
    Output, OutputConfig, Pond, PondConfig, PoolConfig, ReceiveError, Role, SendReason, Timestamp, Wait,
    Waiter, Woken,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use support::{Child, Parent, unique_name};

#[test]
#[ignore = "run as a child process by the other test"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    assert_eq!(scenario, "fork");
    fork_with_everything(&parent);
}

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn _exit(code: i32) -> !;
}

/// Runs `body` in a forked child of this process; whether it went through without a panic or a signal.
fn in_forked_child(body: impl FnOnce()) -> Result<(), String> {
    // SAFETY: plain fork. The child runs on the only thread it has; glibc makes its allocator usable there, and nothing
    // else of this program holds a lock that the child could need (the test runner's other thread waits).
    let pid = unsafe { fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        let outcome = catch_unwind(AssertUnwindSafe(body));
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { _exit(i32::from(outcome.is_err())) };
    }
    let mut status = 0;
    // SAFETY: waits for our own child; `status` is a valid place.
    let waited = unsafe { waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    if status == 0 { Ok(()) } else { Err(format!("the forked child ended with status {status:#x}")) }
}

/// One of everything that can be held of a pond. A child takes what it drops out of its own copy.
struct Handles {
    pond: Option<Pond>,
    monitor: Option<Monitor>,
    out: Option<Output>,
    unconnected: Option<Output>,
    sink: Option<Input>,
    waiter: Option<Waiter>,
    counters: Option<BlockCounters>,
    allocator: Option<Allocator>,
    received: Option<Buffer>,
    frozen: Option<Buffer>,
    made: Option<BufferMut>,
    /// Where its contents are.
    seen: *mut u8,
}

/// Uses every handle of a kind, then drops it: nothing may touch what a forked child has not, or give back what is the parent's.
type Use = fn(&mut Handles);
const USES: [(&str, Use); 13] = [
    ("a received buffer", |h| {
        let received = h.received.take().unwrap();
        assert!(received.as_bytes().is_empty() && received.is_empty());
        assert!(matches!(received.as_slice::<f32>(), Err(Error::Forked)), "a typed view");
        let _ = (received.dtype(), received.shape(), received.timestamp(), received.time_range());
        let _ = (received.sequence(), received.id(), received.references(), received.redelivered());
        let _ = format!("{received:?}");
        drop(received.clone().try_into_mut().expect_err("made writable in a child"));
    }),
    ("what a writable buffer was seen through", |h| {
        // What the parent had, as its own: it neither dies of it nor disturbs the parent.
        let seen = h.seen;
        // SAFETY: what is at the address in a forked child is the child's own.
        let seen = unsafe { std::slice::from_raw_parts_mut(seen, 8) };
        assert_eq!(seen, [1; 8]);
        seen.fill(2);
        // A child of the child's, which has no mapping of its own there, has what the child has.
        in_forked_child(|| {
            assert_eq!(seen, [2; 8]);
            seen.fill(3);
        })
        .unwrap();
        drop(h.made.take());
        assert_eq!(seen, [2; 8], "gone with the handle");
    }),
    ("a writable buffer", |h| {
        let mut made = h.made.take().unwrap();
        assert!(made.as_bytes().is_empty() && made.is_empty() && made.as_bytes_mut().is_empty());
        assert_eq!((made.len(), made.capacity()), (0, 0));
        assert!(matches!(made.as_slice::<f32>(), Err(Error::Forked)));
        assert!(matches!(made.as_mut_slice::<f32>(), Err(Error::Forked)));
        assert!(matches!(made.set_len(4), Err(Error::Forked)));
        assert!(matches!(made.set_array(DType::F32, &[1]), Err(Error::Forked)));
        made.set_timestamp(Timestamp::now());
        made.set_time_range(Some((1, 2)));
        made.set_sequence(3);
        let _ = (made.dtype(), made.shape(), made.timestamp(), made.time_range(), made.sequence());
        let _ = (made.id(), format!("{made:?}"));
        drop(made.freeze());
    }),
    ("a copy", |h| {
        let error = h.frozen.take().unwrap().into_mut(h.allocator.as_mut().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Forked));
    }),
    ("an allocator", |h| {
        let mut own = h.allocator.take().unwrap();
        let mut fresh = h.pond.as_ref().unwrap().allocator();
        for allocator in [&mut own, &mut fresh] {
            assert!(matches!(allocator.allocate(1), Err(Error::Forked)));
            let timed = allocator.allocate_timeout(1, Duration::from_secs(1));
            assert!(matches!(timed, Err(Error::Forked)));
        }
    }),
    ("an output", |h| {
        let mut out = h.out.take().unwrap();
        let buffer = h.frozen.take().unwrap();
        let error = out.send(buffer.clone()).unwrap_err();
        assert_eq!(error.reason, SendReason::Forked);
        assert!(!error.to_string().is_empty() && !format!("{error:?}").is_empty());
        assert_eq!(out.try_send(buffer.clone()).unwrap_err().reason, SendReason::Forked);
        assert_eq!(out.send_batch(&mut [buffer].into()).unwrap_err().reason, SendReason::Forked);
        assert!(matches!(out.allocate(1), Err(Error::Forked)));
        assert!(!out.can_send());
        let _ = out.connections();
        out.advance(Timestamp::Relative(1));
        out.finish();
    }),
    ("an unconnected output", |h| {
        let error = h.unconnected.take().unwrap().send(h.frozen.take().unwrap()).unwrap_err();
        assert_eq!(error.reason, SendReason::Forked);
    }),
    ("an input", |h| {
        let mut sink = h.sink.take().unwrap();
        for result in [sink.receive(), sink.try_receive(), sink.receive_timeout(Duration::from_secs(1))] {
            assert_eq!(result.unwrap_err(), ReceiveError::Forked);
        }
        assert_eq!(sink.receive_batch(9, &mut Vec::new()).unwrap_err(), ReceiveError::Forked);
        assert_eq!((sink.format(), sink.queued()), (None, 0));
        let _ = sink.connections();
        assert_eq!((sink.depth(), sink.bound()), (None, None));
        assert!(sink.has_news());
    }),
    ("a waiter", |h| {
        let waiter = h.waiter.take().unwrap();
        assert_eq!(waiter.wait(Some(Duration::from_secs(1)), || false), Woken::Stopped);
        waiter.ring();
        assert!(matches!(waiter.event_fd(), Err(Error::Forked)));
        waiter.forget_event_fd(0);
    }),
    ("counters", |h| {
        let counters = h.counters.take().unwrap();
        counters.set(0, 7);
        assert_eq!(counters.get(0), 0);
    }),
    // It only looks, so it may go on looking.
    ("a monitor", |h| {
        let monitor = h.monitor.take().unwrap();
        assert_eq!(monitor.snapshot().name, h.pond.as_ref().unwrap().name());
        assert!(monitor.check().is_clean());
    }),
    ("the pond", |h| {
        let pond = h.pond.take().unwrap();
        let _ = (pond.name(), pond.process());
        assert!(pond.stop_requested());
        pond.request_stop();
        for result in [
            pond.connect("x.out", "y.in", &ConnectionConfig::default()),
            pond.disconnect("source.out", "sink.in"),
            pond.add_pool(PoolConfig::new(64, 1)),
            pond.declare_block("x", ""),
            pond.remove_block("idle"),
            pond.recover_dead().map(drop),
            pond.output("x.out", &OutputConfig::default()).map(drop),
            pond.input("x.in", &InputConfig::default()).map(drop),
            pond.waiter(Wait::Block).map(drop),
            pond.block_counters("x").map(drop),
        ] {
            assert!(matches!(result, Err(Error::Forked)), "{result:?}");
        }
    }),
    ("an attachment of its own", |h| {
        let own = Pond::attach(h.pond.as_ref().unwrap().name(), Role::Block).unwrap();
        let mut buffer = own.allocator().allocate(8).unwrap();
        buffer.as_bytes_mut().fill(2);
    }),
];

fn fork_with_everything(parent: &Parent) {
    let name = parent.get("pond");
    let config = PondConfig { pools: vec![PoolConfig::new(4096, 64)], table_slots: 64 };
    let pond = Pond::create(name, &config, Role::Worker).unwrap();
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    let redeliver = InputConfig { redeliver: true, ..InputConfig::default() };
    let mut sink = pond.input("sink.in", &redeliver).unwrap();
    let buffer = out.allocate(8).unwrap();
    out.send(buffer).unwrap();
    let received = sink.receive().unwrap();
    let clone = received.clone();
    let mut allocator = pond.allocator();
    let mut made = allocator.allocate(8).unwrap();
    made.as_bytes_mut().fill(1);
    let seen = made.as_bytes_mut().as_mut_ptr();
    let counters = pond.block_counters("source").unwrap();
    counters.set(0, 5);
    let mut handles = Handles {
        monitor: Some(Monitor::open(name).unwrap()),
        unconnected: Some(pond.output("idle.out", &OutputConfig::default()).unwrap()),
        waiter: Some(pond.waiter(Wait::Block).unwrap()),
        frozen: Some(allocator.allocate(8).unwrap().freeze()),
        pond: Some(pond),
        out: Some(out),
        sink: Some(sink),
        counters: Some(counters),
        allocator: Some(allocator),
        received: Some(received),
        made: Some(made),
        seen,
    };
    let monitor = Monitor::open(name).unwrap();
    let before = monitor.check();
    for (what, body) in USES {
        match in_forked_child(|| body(&mut handles)) {
            Ok(()) => parent.say("fine"),
            Err(problem) => parent.say(&format!("{what}: {problem}")),
        }
    }
    // The parent did not notice any of it.
    let after = monitor.check();
    assert!(after.is_clean(), "{:?}", after.problems);
    assert_eq!((after.used, &after.held), (before.used, &before.held), "a child gave something back");
    let (pond, mut out, mut sink) = (handles.pond.unwrap(), handles.out.unwrap(), handles.sink.unwrap());
    assert!(!pond.stop_requested());
    assert_eq!(handles.counters.unwrap().get(0), 5);
    assert_eq!(handles.made.as_ref().unwrap().as_bytes(), [1; 8]);
    drop((handles.received, clone));
    out.send(handles.made.unwrap()).unwrap();
    assert_eq!(sink.receive().unwrap().as_bytes(), [1; 8]);
    parent.say("unharmed");
}

#[test]
fn handles_are_inert_in_a_forked_child() {
    let mut forker = Child::spawn("fork", &[("pond", &unique_name("fork"))]);
    let answers: Vec<String> = (0..USES.len()).map(|_| forker.line()).collect();
    assert!(answers.iter().all(|a| a == "fine"), "{answers:#?}");
    forker.expect("unharmed");
    assert!(forker.wait().success());
}
