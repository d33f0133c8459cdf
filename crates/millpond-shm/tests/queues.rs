//! Port queues between real processes: who gets which buffer, in what order, what happens when a queue is full, and that no byte
//! is copied on the way.

mod support;

use millpond_shm::{
    Buffer, BufferId, ConnectionConfig, Input, InputConfig, Monitor, Output, OutputConfig, Policy, Pond,
    PondConfig, PoolConfig, ReceiveError, Role, SendError, SendReason,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use support::segment::Segment;
use support::{Child, DEADLINE, Parent, eventually, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    match scenario.as_str() {
        "send" => send_numbers(&parent),
        "receive" => receive_all(&parent),
        "receive one by one" => receive_when_told(&parent),
        "forward" => forward(&parent),
        "batches" => receive_batches(&parent),
        other => panic!("no scenario {other}"),
    }
}

fn new_pond(what: &str) -> (String, Pond) {
    let name = unique_name(what);
    let config = PondConfig { pools: vec![PoolConfig::new(256, 1024)], table_slots: 1024 };
    let pond = Pond::create(&name, &config, Role::Worker).unwrap();
    (name, pond)
}

fn attach(parent: &Parent) -> Pond {
    Pond::attach(parent.get("pond"), Role::Block).unwrap()
}

fn connection(depth: u32, policy: Policy) -> ConnectionConfig {
    ConnectionConfig { depth: Some(depth), policy: Some(policy), ..ConnectionConfig::default() }
}

fn output(pond: &Pond, port: &str) -> Output {
    pond.output(port, &OutputConfig::default()).unwrap()
}

fn input(pond: &Pond, port: &str) -> Input {
    pond.input(port, &InputConfig::default()).unwrap()
}

fn numbered(out: &mut Output, number: u64) -> Buffer {
    let mut buffer = out.allocate_timeout(8, DEADLINE).unwrap();
    buffer.as_bytes_mut().copy_from_slice(&number.to_le_bytes());
    buffer.set_sequence(number);
    buffer.freeze()
}

/// The number in the bytes, which must be the one in the description.
fn number(buffer: &Buffer) -> u64 {
    let number = u64::from_le_bytes(buffer.as_bytes().try_into().unwrap());
    assert_eq!(number, buffer.sequence());
    number
}

/// Where in the pond's memory file the bytes lie: the same in every process, unlike their address.
fn file_offset(bytes: &[u8]) -> u64 {
    let address = bytes.as_ptr() as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let hex = |s: &str| u64::from_str_radix(s, 16).unwrap();
    let place = maps.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let offset = words.nth(1)?;
        (hex(from)..hex(to)).contains(&address).then(|| address - hex(from) + hex(offset))
    });
    place.expect("a mapped address")
}

fn place(buffer: &Buffer) -> (BufferId, u64) {
    (buffer.id(), file_offset(buffer.as_bytes()))
}

fn show(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

fn parse(line: &str) -> Vec<u64> {
    line.split_ascii_whitespace().map(|w| w.parse().unwrap()).collect()
}

// ---- what children do

/// Sends `count` numbers from `first` on.
fn send_numbers(parent: &Parent) {
    let pond = attach(parent);
    let mut out = output(&pond, parent.get("port"));
    let first = parent.number("first");
    for i in first..first + parent.number("count") {
        let buffer = numbered(&mut out, i);
        out.send_timeout(buffer, DEADLINE).unwrap();
    }
    out.finish();
    parent.say("sent");
}

/// Receives to the end, then says which numbers came.
fn receive_all(parent: &Parent) {
    let pond = attach(parent);
    let shared = parent.get("shared") == "yes";
    let mut port = pond.input(parent.get("port"), &InputConfig { shared, ..InputConfig::default() }).unwrap();
    parent.say("ready");
    let mut numbers = Vec::new();
    loop {
        match port.receive_timeout(DEADLINE) {
            Ok(buffer) => numbers.push(number(&buffer)),
            Err(ReceiveError::EndOfStream) => break,
            Err(other) => panic!("{other}"),
        }
    }
    parent.say(&show(&numbers));
    parent.hang();
}

/// Receives one buffer for each `next`, keeps it until the next one, and says what it is and where it lies.
fn receive_when_told(parent: &Parent) {
    let pond = attach(parent);
    let mut port = input(&pond, parent.get("port"));
    parent.say("ready");
    let mut held: Option<Buffer> = None;
    while parent.listen() == "next" {
        drop(held.take());
        match port.receive_timeout(DEADLINE) {
            Ok(buffer) => {
                let (id, offset) = place(&buffer);
                parent.say(&format!("{} {} {offset}", number(&buffer), id.0));
                held = Some(buffer);
            }
            Err(error) => parent.say(&format!("{error:?}")),
        }
    }
}

fn forward(parent: &Parent) {
    let pond = attach(parent);
    let mut from = input(&pond, parent.get("in"));
    let mut to = output(&pond, parent.get("out"));
    parent.say("ready");
    loop {
        match from.receive_timeout(DEADLINE) {
            Ok(buffer) => {
                let (id, offset) = place(&buffer);
                parent.say(&format!("{} {offset}", id.0));
                to.send_timeout(buffer, DEADLINE).unwrap();
            }
            Err(ReceiveError::EndOfStream) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

fn receive_batches(parent: &Parent) {
    let pond = attach(parent);
    let mut port = input(&pond, parent.get("port"));
    parent.say("ready");
    let (mut numbers, mut batch, mut largest) = (Vec::new(), Vec::new(), 0);
    loop {
        match port.receive_batch(50, &mut batch) {
            Ok(0) => match port.receive_timeout(DEADLINE) {
                Ok(buffer) => numbers.push(number(&buffer)),
                Err(ReceiveError::EndOfStream) => break,
                Err(other) => panic!("{other}"),
            },
            Ok(count) => {
                assert_eq!(count, batch.len());
                largest = largest.max(count);
                numbers.extend(batch.drain(..).map(|b| number(&b)));
            }
            Err(ReceiveError::EndOfStream) => break,
            Err(other) => panic!("{other}"),
        }
    }
    parent.say(&largest.to_string());
    parent.say(&show(&numbers));
    parent.hang();
}

// ---- tests

#[test]
fn several_senders_into_one_queue_keep_their_own_order() {
    const SENDERS: u64 = 3;
    const EACH: u64 = 2000;
    let (name, pond) = new_pond("fan-in");
    let mut sink = input(&pond, "sink.in");
    let mut senders = Vec::new();
    for i in 0..SENDERS {
        let port = format!("source{i}.out");
        pond.connect(&port, "sink.in", &connection(16, Policy::Block)).unwrap();
        let (first, count) = ((i << 32).to_string(), EACH.to_string());
        let parameters =
            [("pond", name.as_str()), ("port", &port), ("first", first.as_str()), ("count", count.as_str())];
        senders.push(Child::spawn("send", &parameters));
    }
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    loop {
        match sink.receive_timeout(DEADLINE) {
            Ok(buffer) => {
                let number = number(&buffer);
                let expected = next.entry(number >> 32).or_default();
                assert_eq!(number & 0xffff_ffff, *expected, "sender {}", number >> 32);
                *expected += 1;
            }
            Err(ReceiveError::EndOfStream) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(next, (0..SENDERS).map(|i| (i, EACH)).collect());
    assert_eq!(sink.connections(), SENDERS as usize);
    for mut sender in senders {
        sender.expect("sent");
        assert!(sender.wait().success());
    }
    // The ends are gone, the stream's end stays.
    assert_eq!(sink.try_receive().unwrap_err(), ReceiveError::EndOfStream);
}

#[test]
fn every_receiver_of_a_fan_out_gets_the_same_bytes_and_not_a_copy() {
    let (name, pond) = new_pond("fan-out");
    let monitor = Monitor::open(&name).unwrap();
    let mut out = output(&pond, "source.out");
    let mut receivers = Vec::new();
    for i in 0..4 {
        let port = format!("sink{i}.in");
        pond.connect("source.out", &port, &connection(8, Policy::Block)).unwrap();
        let mut receiver = Child::spawn("receive one by one", &[("pond", &name), ("port", &port)]);
        receiver.expect("ready");
        receivers.push(receiver);
    }
    for i in 0..20 {
        let buffer = numbered(&mut out, i);
        let (id, offset) = place(&buffer);
        out.send_timeout(buffer, DEADLINE).unwrap();
        for receiver in &mut receivers {
            receiver.tell("next");
            receiver.expect(&format!("{i} {} {offset}", id.0));
        }
        let report = monitor.check();
        assert_eq!((report.used, report.queued), (1, 0), "one buffer, held four times: {report:?}");
        assert_eq!(report.held.iter().map(|h| h.references).sum::<u64>(), 4);
    }
    out.finish();
    for receiver in &mut receivers {
        receiver.tell("next");
        receiver.expect("EndOfStream");
    }
    eventually("all is given back", || monitor.check().used == 0);
}

#[test]
fn a_buffer_goes_through_a_chain_of_processes_without_being_copied() {
    const STAGES: usize = 3;
    let (name, pond) = new_pond("chain");
    let mut stages = Vec::new();
    for i in 0..STAGES {
        let (from, to) = (format!("stage{i}.in"), format!("stage{i}.out"));
        let before = if i == 0 { "source.out".to_owned() } else { format!("stage{}.out", i - 1) };
        pond.connect(&before, &from, &connection(4, Policy::Block)).unwrap();
        let mut stage = Child::spawn("forward", &[("pond", &name), ("in", &from), ("out", &to)]);
        stage.expect("ready");
        stages.push(stage);
    }
    pond.connect(&format!("stage{}.out", STAGES - 1), "sink.in", &connection(4, Policy::Block)).unwrap();
    let mut out = output(&pond, "source.out");
    let mut sink = input(&pond, "sink.in");
    for i in 0..20 {
        let buffer = numbered(&mut out, i);
        let (id, offset) = place(&buffer);
        out.send_timeout(buffer, DEADLINE).unwrap();
        for stage in &mut stages {
            stage.expect(&format!("{} {offset}", id.0));
        }
        let back = sink.receive_timeout(DEADLINE).unwrap();
        assert_eq!((number(&back), place(&back)), (i, (id, offset)));
        assert_eq!(back.references(), 1);
    }
    drop(out);
    assert_eq!(sink.receive_timeout(DEADLINE).unwrap_err(), ReceiveError::EndOfStream);
}

#[test]
fn a_full_queue_that_blocks_hands_the_buffer_back_or_waits_for_room() {
    let (name, pond) = new_pond("block");
    pond.connect("source.out", "sink.in", &connection(3, Policy::Block)).unwrap();
    let mut out = output(&pond, "source.out");
    let mut receiver = Child::spawn("receive one by one", &[("pond", &name), ("port", "sink.in")]);
    receiver.expect("ready");
    // The depth counts, not the ring, which has room for four.
    for i in 0..3 {
        let buffer = numbered(&mut out, i);
        out.try_send(buffer).unwrap();
    }
    assert!(!out.can_send());
    let buffer = numbered(&mut out, 3);
    let SendError { reason, buffer } = out.try_send(buffer).unwrap_err();
    assert_eq!((reason, number(&buffer), buffer.references()), (SendReason::Full, 3, 1));
    let SendError { reason, buffer } = out.send_timeout(buffer, Duration::from_millis(20)).unwrap_err();
    assert_eq!((reason, number(&buffer)), (SendReason::Timeout, 3));
    let mut batch = VecDeque::from([buffer]);
    assert_eq!(out.send_batch(&mut batch).unwrap(), 0, "full, and nothing lost");
    // A blocked sender goes on as soon as there is room.
    let sender = std::thread::spawn(move || {
        out.send(batch.pop_front().unwrap()).unwrap();
        out
    });
    for i in 0..3 {
        receiver.tell("next");
        assert!(receiver.line().starts_with(&format!("{i} ")));
    }
    let mut out = sender.join().unwrap();
    receiver.tell("next");
    assert!(receiver.line().starts_with("3 "));
    out.finish();
    receiver.tell("next");
    receiver.expect("EndOfStream");
    let connection = &Monitor::open(&name).unwrap().snapshot().connections[0];
    assert_eq!((connection.published, connection.taken, connection.queued), (4, 4, 0));
    assert_eq!((connection.dropped_newest, connection.dropped_oldest), (0, 0));
}

#[test]
fn a_full_queue_drops_the_newest_or_the_oldest_as_its_policy_says() {
    for (policy, kept) in [(Policy::DropNewest, [0, 1, 2, 3]), (Policy::DropOldest, [6, 7, 8, 9])] {
        let (name, pond) = new_pond("drop");
        let monitor = Monitor::open(&name).unwrap();
        pond.connect("source.out", "sink.in", &connection(4, policy)).unwrap();
        let mut out = output(&pond, "source.out");
        for i in 0..10 {
            let buffer = numbered(&mut out, i);
            out.send(buffer).unwrap(); // never waits, never fails
        }
        assert_eq!(monitor.check().used, 4, "what was dropped is free");
        let connection = monitor.snapshot().connections.remove(0);
        let dropped = (connection.dropped_newest, connection.dropped_oldest);
        assert_eq!(dropped, if policy == Policy::DropNewest { (6, 0) } else { (0, 6) });
        assert_eq!(connection.queued, 4);
        out.finish();
        let parameters = [("pond", name.as_str()), ("port", "sink.in"), ("shared", "no")];
        let mut receiver = Child::spawn("receive", &parameters);
        receiver.expect("ready");
        receiver.expect(&show(&kept));
        let connection = monitor.snapshot().connections.remove(0);
        assert_eq!(
            connection.published,
            connection.taken + connection.dropped_oldest + connection.queued,
            "the counters add up: {connection:?}"
        );
        assert_eq!(connection.published + connection.dropped_newest, 10);
    }
}

/// While a consumer takes as fast as it can, every number is either received, in order, or counted as dropped.
#[test]
fn dropping_while_a_receiver_takes_loses_nothing_uncounted() {
    const COUNT: u64 = 20_000;
    for policy in [Policy::DropNewest, Policy::DropOldest] {
        let (name, pond) = new_pond("drop-race");
        pond.connect("source.out", "sink.in", &connection(2, policy)).unwrap();
        let mut out = output(&pond, "source.out");
        let parameters = [("pond", name.as_str()), ("port", "sink.in"), ("shared", "no")];
        let mut receiver = Child::spawn("receive", &parameters);
        receiver.expect("ready");
        for i in 0..COUNT {
            let buffer = numbered(&mut out, i);
            out.send(buffer).unwrap();
        }
        out.finish();
        let numbers = parse(&receiver.line());
        assert!(numbers.is_sorted_by(|a, b| a < b), "{policy:?}: out of order or doubled");
        let connection = Monitor::open(&name).unwrap().snapshot().connections.remove(0);
        let dropped = connection.dropped_newest + connection.dropped_oldest;
        assert_eq!(numbers.len() as u64 + dropped, COUNT, "{connection:?}");
        assert_eq!(connection.taken, numbers.len() as u64, "{connection:?}");
    }
}

#[test]
fn each_buffer_goes_to_exactly_one_of_several_competing_consumers() {
    const COUNT: u64 = 6000;
    let (name, pond) = new_pond("compete");
    let monitor = Monitor::open(&name).unwrap();
    pond.connect("source.out", "pool.in", &connection(64, Policy::Block)).unwrap();
    let parameters = [("pond", name.as_str()), ("port", "pool.in"), ("shared", "yes")];
    let mut consumers: Vec<Child> = (0..3).map(|_| Child::spawn("receive", &parameters)).collect();
    for consumer in &mut consumers {
        consumer.expect("ready");
    }
    // Whoever does not compete cannot come in between, and the table of those who compete is bounded.
    let alone = pond.input("pool.in", &InputConfig::default()).err().unwrap().to_string();
    let named = consumers.iter().any(|c| alone.contains(&format!("process {}", c.pid)));
    assert!(alone.contains("`pool.in`") && named, "{alone}");
    let mut out = output(&pond, "source.out");
    for i in 0..COUNT {
        let buffer = numbered(&mut out, i);
        out.send_timeout(buffer, DEADLINE).unwrap();
    }
    out.finish();
    let mut all = Vec::new();
    for consumer in &mut consumers {
        let numbers = parse(&consumer.line());
        assert!(numbers.is_sorted(), "one consumer's numbers rise");
        all.extend(numbers);
    }
    all.sort_unstable();
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
    eventually("all is given back", || monitor.check().used == 0);
}

#[test]
fn at_most_eight_consumers_compete() {
    let (_, pond) = new_pond("eight");
    pond.connect("source.out", "pool.in", &ConnectionConfig::default()).unwrap();
    let shared = InputConfig { shared: true, ..InputConfig::default() };
    let mut consumers: Vec<Input> = (0..8).map(|_| pond.input("pool.in", &shared).unwrap()).collect();
    let error = pond.input("pool.in", &shared).err().unwrap().to_string();
    assert!(error.contains("competing consumer") && error.contains("all 8"), "{error}");
    let mut out = output(&pond, "source.out");
    for (i, consumer) in consumers.iter_mut().enumerate() {
        let buffer = numbered(&mut out, i as u64);
        out.send(buffer).unwrap();
        assert_eq!(number(&consumer.receive_timeout(DEADLINE).unwrap()), i as u64);
    }
    consumers.pop();
    consumers.push(pond.input("pool.in", &shared).unwrap());
}

#[test]
fn batches_are_sent_and_received_in_order() {
    const COUNT: u64 = 5000;
    let (name, pond) = new_pond("batch");
    pond.connect("source.out", "sink.in", &connection(100, Policy::Block)).unwrap();
    let mut out = output(&pond, "source.out");
    // A full queue first, so that the receiver's first batch is as large as it asks for.
    let mut waiting: VecDeque<Buffer> = (0..130).map(|i| numbered(&mut out, i)).collect();
    let mut sent = 0;
    while let Ok(count @ 1..) = out.send_batch(&mut waiting) {
        sent += count;
    }
    assert_eq!((sent, waiting.len()), (100, 30));
    let mut receiver = Child::spawn("batches", &[("pond", &name), ("port", "sink.in")]);
    receiver.expect("ready");
    let mut next = 130;
    while next < COUNT || !waiting.is_empty() {
        while waiting.len() < 40 && next < COUNT {
            waiting.push_back(numbered(&mut out, next));
            next += 1;
        }
        if out.send_batch(&mut waiting).unwrap() == 0 {
            let first = waiting.pop_front().unwrap();
            out.send_timeout(first, DEADLINE).unwrap();
        }
    }
    out.finish();
    receiver.expect("50");
    receiver.expect(&show(&(0..COUNT).collect::<Vec<_>>()));
}

#[test]
fn a_batch_to_several_stops_at_the_first_full_queue_and_wakes_every_sleeper() {
    const COUNT: u64 = 3000;
    let (name, pond) = new_pond("batch-several");
    let ports = [("a.in", 100), ("b.in", 30), ("c.in", 100)];
    for (port, depth) in ports {
        pond.connect("source.out", port, &connection(depth, Policy::Block)).unwrap();
    }
    let mut out = output(&pond, "source.out");
    let mut waiting: VecDeque<Buffer> = (0..64).map(|i| numbered(&mut out, i)).collect();
    assert_eq!(out.send_batch(&mut waiting).unwrap(), 30, "as many as the shortest queue holds");
    assert_eq!((out.send_batch(&mut waiting).unwrap(), waiting.len()), (0, 34), "full, and nothing lost");
    let mut receivers = ports.map(|(port, _)| {
        Child::spawn("receive", &[("pond", name.as_str()), ("port", port), ("shared", "no")])
    });
    receivers.iter_mut().for_each(|receiver| {
        receiver.expect("ready");
    });
    let mut next = 64;
    while next < COUNT || !waiting.is_empty() {
        // Small batches: the receivers fall asleep between them.
        while waiting.len() < 20 && next < COUNT {
            waiting.push_back(numbered(&mut out, next));
            next += 1;
        }
        if out.send_batch(&mut waiting).unwrap() == 0 {
            let first = waiting.pop_front().unwrap();
            out.send_timeout(first, DEADLINE).unwrap();
        }
    }
    out.finish();
    for mut receiver in receivers {
        receiver.expect(&show(&(0..COUNT).collect::<Vec<_>>()));
    }
}

#[test]
fn a_stream_ends_once_and_may_go_on() {
    let (_, pond) = new_pond("end");
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut sink = input(&pond, "sink.in");
    assert_eq!(sink.try_receive().unwrap_err(), ReceiveError::Empty);
    assert_eq!(sink.receive_timeout(Duration::from_millis(20)).unwrap_err(), ReceiveError::Timeout);
    let mut out = output(&pond, "source.out");
    let buffer = numbered(&mut out, 0);
    out.send(buffer).unwrap();
    out.finish();
    assert_eq!(number(&sink.receive().unwrap()), 0, "what was sent before the end comes first");
    assert_eq!(sink.receive().unwrap_err(), ReceiveError::EndOfStream);
    assert_eq!(sink.receive().unwrap_err(), ReceiveError::EndOfStream, "it stays ended");
    let buffer = numbered(&mut out, 1);
    out.send(buffer).unwrap();
    assert_eq!(number(&sink.receive().unwrap()), 1, "it goes on");
    drop(out);
    assert_eq!(sink.receive().unwrap_err(), ReceiveError::EndOfStream, "dropping the output ends it");
    let mut out = output(&pond, "source.out");
    let buffer = numbered(&mut out, 2);
    out.send(buffer).unwrap();
    assert_eq!(number(&sink.receive().unwrap()), 2, "another sender goes on with it");
}

#[test]
fn nothing_is_lost_when_a_connection_is_removed() {
    let (name, pond) = new_pond("disconnect");
    let monitor = Monitor::open(&name).unwrap();
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = output(&pond, "source.out");
    let mut sink = input(&pond, "sink.in");
    for i in 0..5 {
        let buffer = numbered(&mut out, i);
        out.send(buffer).unwrap();
    }
    pond.disconnect("source.out", "sink.in").unwrap();
    for i in 0..5 {
        assert_eq!(number(&sink.receive_timeout(DEADLINE).unwrap()), i, "what was queued is still received");
    }
    // The sender lets go at its next look.
    let buffer = numbered(&mut out, 5);
    out.send(buffer).unwrap();
    let mut told = Vec::new();
    eventually("the connection is gone", || {
        told.push(sink.try_receive().map(|buffer| number(&buffer)));
        matches!(told.last(), Some(Err(ReceiveError::NotConnected)))
    });
    let only_empty = |told: &Result<u64, ReceiveError>| matches!(told, Err(ReceiveError::Empty));
    assert!(told[..told.len() - 1].iter().all(only_empty), "nobody died: {told:?}");
    assert!(monitor.snapshot().connections.is_empty());
    let unconnected = monitor.snapshot().ports.iter().map(|p| p.unconnected).sum::<u64>();
    assert_eq!(unconnected, 1, "what was sent to nobody is counted");
    // With nobody to receive it, what is queued is given back, and counted.
    pond.connect("source.out", "late.in", &ConnectionConfig::default()).unwrap();
    let buffer = numbered(&mut out, 6);
    out.send(buffer).unwrap();
    pond.disconnect("source.out", "late.in").unwrap();
    drop(out);
    eventually("it is given back", || monitor.check().used == 0);
    let dropped = monitor.snapshot().ports.iter().map(|p| p.dropped_at_disconnect).sum::<u64>();
    assert_eq!(dropped, 1);
}

/// What a successor goes on with: connections that came later, drop, or are gone, do not make it less.
#[test]
fn what_an_output_has_sent_is_counted_whatever_its_connections_are() {
    let (name, pond) = new_pond("sent");
    let monitor = Monitor::open(&name).unwrap();
    let sent = || {
        let snapshot = monitor.snapshot();
        snapshot.ports.iter().find(|port| port.name == "source.out").map_or(0, |port| port.sent)
    };
    let mut out = output(&pond, "source.out");
    let mut number = 0;
    let mut send = |out: &mut Output, count: u64| {
        for _ in 0..count {
            let buffer = numbered(out, number);
            out.send(buffer).unwrap();
            number += 1;
        }
        assert_eq!(sent(), number);
    };
    send(&mut out, 2);
    pond.connect("source.out", "first.in", &ConnectionConfig::default()).unwrap();
    send(&mut out, 3);
    // A younger one that drops, beside it and alone.
    pond.connect("source.out", "second.in", &connection(1, Policy::DropNewest)).unwrap();
    send(&mut out, 4);
    pond.disconnect("source.out", "first.in").unwrap();
    send(&mut out, 5);
    drop(out);
    let mut out = output(&pond, "source.out");
    send(&mut out, 2);
    // Nobody, but for what still lies in a queue that is being removed; then nobody at all.
    let mut second = input(&pond, "second.in");
    pond.disconnect("source.out", "second.in").unwrap();
    send(&mut out, 2);
    second.receive_timeout(DEADLINE).unwrap();
    eventually("the connections are gone", || {
        let _ = second.try_receive();
        monitor.snapshot().connections.is_empty()
    });
    send(&mut out, 1);
    pond.connect("source.out", "second.in", &connection(8, Policy::DropOldest)).unwrap();
    send(&mut out, 20);
    drop(out);
    let mut out = output(&pond, "source.out");
    send(&mut out, 3);
}

/// A removed block's port gives its place to the next one; a connection that its sender has not let go of does not.
#[test]
fn what_was_queued_for_a_removed_block_never_reaches_another() {
    let (name, pond) = new_pond("removed-block");
    let monitor = Monitor::open(&name).unwrap();
    pond.connect("source.out", "old.in", &ConnectionConfig::default()).unwrap();
    let mut out = output(&pond, "source.out");
    let buffer = numbered(&mut out, 0);
    out.send(buffer).unwrap();
    pond.remove_block("old").unwrap();
    let mut sink = input(&pond, "new.in");
    assert!(matches!(sink.try_receive(), Err(ReceiveError::NotConnected)));
    assert_eq!(out.connections(), 0, "the sender lets go");
    assert_eq!(monitor.check().used, 0);
    pond.connect("source.out", "new.in", &ConnectionConfig::default()).unwrap();
    let buffer = numbered(&mut out, 1);
    out.send(buffer).unwrap();
    assert_eq!(number(&sink.receive_timeout(DEADLINE).unwrap()), 1);
}

#[test]
fn a_corrupt_connection_can_be_removed() {
    let (name, pond) = new_pond("corrupt");
    let monitor = Monitor::open(&name).unwrap();
    pond.connect("source.out", "sink.in", &connection(4, Policy::Block)).unwrap();
    let (mut out, mut sink) = (output(&pond, "source.out"), input(&pond, "sink.in"));
    let buffer = numbered(&mut out, 0);
    out.send(buffer).unwrap();
    let segment = Segment::named(&name);
    let ring = segment.u64(segment.entry("LaneRecord", 0, "ring_offset"));
    segment.set_u64(ring, 0xffff_ffff); // position 0, but no such buffer
    assert!(matches!(sink.try_receive(), Err(ReceiveError::Broken { .. })));
    // What there is to tell of other connections is still told.
    pond.connect("other.out", "sink.in", &connection(4, Policy::Block)).unwrap();
    output(&pond, "other.out").abandon();
    out.abandon();
    let told = sink.receive_timeout(DEADLINE).map(|buffer| number(&buffer));
    assert!(matches!(told, Err(ReceiveError::SenderDied { .. })), "{told:?}");
    pond.disconnect("source.out", "sink.in").unwrap();
    pond.disconnect("other.out", "sink.in").unwrap();
    eventually("it is gone", || matches!(sink.try_receive(), Err(ReceiveError::NotConnected)));
    eventually("its place is free", || monitor.snapshot().connections.is_empty());
}
