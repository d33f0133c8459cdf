//! Waiting: one bell for several ports, a pollable descriptor, a stop for everybody, and what a late receiver finds out.

mod support;

use millpond_shm::{
    ConnectionConfig, DType, Input, InputConfig, Output, OutputConfig, Pond, PondConfig, PoolConfig,
    ReceiveError, Role, SendReason, StreamFormat, Wait, Woken,
};
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::time::Timespec;
use std::sync::mpsc::channel;
use std::time::Duration;
use support::{Child, DEADLINE, Parent, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    match scenario.as_str() {
        "sender" => {
            let mut out = output(&pond, parent.get("port"));
            parent.say("ready");
            while parent.listen() == "send" {
                send(&mut out, 1);
                parent.say("sent");
            }
        }
        "descriptors" => open_descriptors(&parent, &pond),
        "late" => {
            let mut sink = pond.input(parent.get("port"), &InputConfig::default()).unwrap();
            parent.say(&format!("{:?}", sink.format().unwrap()));
            parent.say(&sink.receive_timeout(DEADLINE).unwrap().sequence().to_string());
        }
        "sleeper" => {
            let mut sink = pond.input(parent.get("port"), &InputConfig::default()).unwrap();
            parent.say("ready");
            parent.say(&format!("{:?}", sink.receive().unwrap_err()));
        }
        other => panic!("no scenario {other}"),
    }
}

fn new_pond(what: &str) -> (String, Pond) {
    let name = unique_name(what);
    let config = PondConfig { pools: vec![PoolConfig::new(64, 256)], table_slots: 256 };
    let pond = Pond::create(&name, &config, Role::Worker).unwrap();
    (name, pond)
}

fn output(pond: &Pond, port: &str) -> Output {
    pond.output(port, &OutputConfig::default()).unwrap()
}

fn send(out: &mut Output, sequence: u64) {
    let mut buffer = out.allocate_timeout(8, DEADLINE).unwrap();
    buffer.set_sequence(sequence);
    out.send_timeout(buffer, DEADLINE).unwrap();
}

fn sender(pond: &str, port: &str) -> Child {
    let mut child = Child::spawn("sender", &[("pond", pond), ("port", port)]);
    child.expect("ready");
    child
}

fn is_readable(fd: &OwnedFd, timeout: Duration) -> bool {
    let timeout = Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

#[test]
fn one_party_waits_for_several_ports() {
    for wait in [Wait::Block, Wait::Adaptive, Wait::Spin] {
        let (name, pond) = new_pond("several");
        let waiter = pond.waiter(wait).unwrap();
        let mut senders = Vec::new();
        let mut inputs: Vec<Input> = Vec::new();
        for i in 0..3 {
            let (from, to) = (format!("source{i}.out"), format!("sink.in{i}"));
            pond.connect(&from, &to, &ConnectionConfig::default()).unwrap();
            let config = InputConfig { waiter: Some(waiter.clone()), ..InputConfig::default() };
            inputs.push(pond.input(&to, &config).unwrap());
            senders.push(sender(&name, &from));
        }
        // The senders have come: that is news of its own, to be looked at first.
        for input in &mut inputs {
            assert_eq!(input.try_receive().unwrap_err(), ReceiveError::Empty);
        }
        let nothing = waiter.wait(Some(Duration::from_millis(20)), || inputs.iter().any(Input::has_news));
        assert_eq!(nothing, Woken::Timeout);
        for round in 0..30 {
            let which = round % 3;
            senders[which].tell("send");
            let woken = waiter.wait(Some(DEADLINE), || inputs.iter().any(Input::has_news));
            assert_eq!(woken, Woken::Ready);
            let came: Vec<bool> = inputs.iter_mut().map(|i| i.try_receive().is_ok()).collect();
            assert_eq!(came, (0..3).map(|i| i == which).collect::<Vec<_>>());
            senders[which].expect("sent");
        }
    }
}

#[test]
fn a_descriptor_becomes_readable_when_something_comes() {
    let (name, pond) = new_pond("epoll");
    let waiter = pond.waiter(Wait::Block).unwrap();
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let config = InputConfig { waiter: Some(waiter.clone()), ..InputConfig::default() };
    let mut sink = pond.input("sink.in", &config).unwrap();
    let fd = waiter.event_fd().unwrap();
    let mut source = sender(&name, "source.out");

    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    epoll::add(&poller, &fd, epoll::EventData::new_u64(7), epoll::EventFlags::IN).unwrap();
    let mut received = 0;
    let drain = |sink: &mut Input, received: &mut u32| {
        let mut count = [0; 8];
        let _ = rustix::io::read(&fd, &mut count); // first, so that whatever comes from now on is told
        loop {
            match sink.try_receive() {
                Ok(_) => *received += 1,
                Err(ReceiveError::Empty) => return None,
                Err(other) => return Some(other),
            }
        }
    };
    assert_eq!(drain(&mut sink, &mut received), None);
    for round in 1..=50 {
        source.tell("send");
        while received < round {
            let mut events =
                [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
            let timeout = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
            let count = epoll::wait(&poller, &mut events[..], Some(&timeout)).unwrap();
            assert_eq!(count, 1, "round {round}: nothing told that a buffer had come");
            assert_eq!({ events[0].data }.u64(), 7);
            assert_eq!(drain(&mut sink, &mut received), None);
        }
        source.expect("sent");
    }
    assert_eq!(received, 50);
    // The end of the stream, and a death, are told the same way.
    source.kill();
    let mut end = None;
    while end.is_none() {
        assert!(is_readable(&fd, DEADLINE), "nothing told that the sender had died");
        end = drain(&mut sink, &mut received);
    }
    assert_eq!(end, Some(ReceiveError::SenderDied { port: "source.out".to_owned() }));
    pond.request_stop();
    assert!(is_readable(&fd, DEADLINE), "nothing told that the pond is to stop");
}

/// Threads that carry rings, and event descriptors, of this process.
fn carriers() -> (usize, usize) {
    let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let threads = names
        .filter_map(|t| std::fs::read_to_string(t.path().join("comm")).ok())
        .filter(|n| n.trim() == "millpond-bell");
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let fds = links
        .filter_map(|f| std::fs::read_link(f.path()).ok())
        .filter(|l| l.ends_with("anon_inode:[eventfd]"));
    (threads.count(), fds.count())
}

/// In a process of its own, as it counts threads and descriptors.
fn open_descriptors(parent: &Parent, pond: &Pond) {
    assert_eq!(carriers(), (0, 0));
    let waiter = pond.waiter(Wait::Block).unwrap();
    let mut fds: Vec<OwnedFd> = (0..3).map(|_| waiter.event_fd().unwrap()).collect();
    waiter.ring();
    // A thread names itself, some time after it was started.
    support::eventually("one thread for all", || carriers() == (1, 6));
    for fd in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        if std::fs::read_link(fd.path()).is_ok_and(|l| l.ends_with("anon_inode:[eventfd]")) {
            let number: i32 = fd.file_name().to_str().unwrap().parse().unwrap();
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
            let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).unwrap().trim();
            let flags = u32::from_str_radix(flags, 8).unwrap();
            assert!(flags & 0o2_000_000 != 0, "a program that is started would inherit descriptor {number}");
        }
    }
    for fd in &fds {
        assert!(is_readable(fd, DEADLINE), "every descriptor of a party is told");
        rustix::io::read(fd, &mut [0; 8]).unwrap();
        assert!(!is_readable(fd, Duration::ZERO), "once");
    }
    for _ in 0..100 {
        let fd = waiter.event_fd().unwrap();
        waiter.forget_event_fd(fd.as_raw_fd());
    }
    assert_eq!(carriers(), (1, 6), "nothing is left of those that were forgotten");
    let forgotten = fds.remove(0);
    waiter.forget_event_fd(forgotten.as_raw_fd());
    assert_eq!(carriers(), (1, 5));
    waiter.ring();
    for fd in &fds {
        assert!(is_readable(fd, DEADLINE), "the others are told as before");
        rustix::io::read(fd, &mut [0; 8]).unwrap();
    }
    assert!(!is_readable(&forgotten, Duration::ZERO), "it is not told");
    drop(waiter);
    for fd in &fds {
        assert!(is_readable(fd, Duration::ZERO), "every descriptor is told that its party is gone");
    }
    drop((forgotten, fds));
    assert_eq!(carriers(), (0, 0), "nothing is left of them");
    parent.say("gone");
}

#[test]
fn descriptors_end_with_their_party_or_when_they_are_forgotten() {
    let (name, _pond) = new_pond("event-end");
    Child::spawn("descriptors", &[("pond", &name)]).expect("gone");
}

#[test]
fn a_late_receiver_reads_what_the_stream_carries() {
    let (name, pond) = new_pond("late");
    pond.connect("source.out", "late.in", &ConnectionConfig::default()).unwrap();
    let format = StreamFormat {
        dtype: DType::F32,
        shape: vec![480, 2],
        rate_hz: Some((48_000, 1)),
        description: "channels = [\"left\", \"right\"]\nunit = \"V\"".to_owned(),
    };
    let mut out = pond
        .output("source.out", &OutputConfig { format: format.clone(), ..OutputConfig::default() })
        .unwrap();
    send(&mut out, 11);
    drop(out); // even the sender has gone by now
    let mut late = Child::spawn("late", &[("pond", &name), ("port", "late.in")]);
    late.expect(&format!("{format:?}"));
    late.expect("11");
    // A connection made later, to a sender that has not said anything.
    pond.connect("mute.out", "deaf.in", &ConnectionConfig::default()).unwrap();
    assert_eq!(pond.input("deaf.in", &InputConfig::default()).unwrap().format(), None);
}

#[test]
fn a_stop_ends_every_wait_in_every_process() {
    let (name, pond) = new_pond("stop");
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut sleeper = Child::spawn("sleeper", &[("pond", &name), ("port", "sink.in")]);
    sleeper.expect("ready");
    let full = ConnectionConfig { depth: Some(1), ..ConnectionConfig::default() };
    pond.connect("full.out", "nobody.in", &full).unwrap();
    let mut out = output(&pond, "full.out");
    send(&mut out, 0);
    let blocked = std::thread::spawn(move || {
        let buffer = out.allocate(8).unwrap();
        out.send(buffer).unwrap_err().reason
    });
    let waiter = pond.waiter(Wait::Block).unwrap();
    let party = waiter.clone();
    let waiting = std::thread::spawn(move || party.wait(None, || false));
    pond.request_stop();
    sleeper.expect("Stopped");
    assert_eq!(blocked.join().unwrap(), SendReason::Stopped);
    assert_eq!(waiting.join().unwrap(), Woken::Stopped);
    assert_eq!(waiter.wait(None, || false), Woken::Stopped, "from now on");
    assert_eq!(waiter.wait(None, || true), Woken::Ready);
}

#[test]
fn a_ring_wakes_every_thread_of_a_party() {
    let (_, pond) = new_pond("threads");
    let waiter = pond.waiter(Wait::Block).unwrap();
    let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (waiter, open) = (waiter.clone(), open.clone());
            std::thread::spawn(move || {
                waiter.wait(Some(DEADLINE), || open.load(std::sync::atomic::Ordering::Acquire))
            })
        })
        .collect();
    open.store(true, std::sync::atomic::Ordering::Release);
    waiter.ring();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), Woken::Ready);
    }
}

/// The last ring, which ends the thread behind a party's descriptors, may come while that thread carries an earlier one over: here
/// that of a receiver that leaves.
#[test]
fn a_party_with_a_descriptor_can_be_dropped_while_its_bell_rings() {
    const ROUNDS: u64 = 5000;
    let (_, pond) = new_pond("bell-end");
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let (done, all_done) = channel();
    std::thread::spawn(move || {
        for round in 0..ROUNDS {
            let waiter = pond.waiter(Wait::Block).unwrap();
            let config = OutputConfig { waiter: Some(waiter.clone()), ..OutputConfig::default() };
            let mut out = pond.output("source.out", &config).unwrap();
            let mut sink = pond.input("sink.in", &InputConfig::default()).unwrap();
            let descriptor = waiter.event_fd().unwrap();
            send(&mut out, round);
            drop(sink.receive_timeout(DEADLINE).unwrap());
            drop((descriptor, sink, out, config, waiter));
            done.send(()).unwrap();
        }
    });
    for round in 0..ROUNDS {
        all_done.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("round {round} does not end"));
    }
}
