//! Buffers: typed views, what they say about their contents, references, rewriting in place.

#![allow(unsafe_code)]

mod support;

use millpond_shm::{
    Buffer, ConnectionConfig, DType, Error, Input, InputConfig, Monitor, Output, OutputConfig, Pond,
    PondConfig, PoolConfig, Role, SendReason, Timestamp,
};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use support::{Child, Parent, eventually, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    match scenario.as_str() {
        "describe" => describe_what_comes(&parent),
        "rewrite" => rewrite_what_comes(&parent),
        "stray write" => write_into_what_was_received(&parent),
        "outlive" => keep_buffers_longer_than_the_pond(&parent),
        "hold one" => hold_one(&parent),
        other => panic!("no scenario {other}"),
    }
}

fn pond_of(what: &str, pools: &[(u64, u32)]) -> Pond {
    let pools = pools.iter().map(|&(bytes, blocks)| PoolConfig::new(bytes, blocks)).collect();
    Pond::create(&unique_name(what), &PondConfig { pools, table_slots: 1024 }, Role::Worker).unwrap()
}

fn connected(pond: &Pond, to: &[&str]) -> Output {
    for to in to {
        pond.connect("source.out", to, &ConnectionConfig::default()).unwrap();
    }
    pond.output("source.out", &OutputConfig::default()).unwrap()
}

fn input(pond: &Pond, port: &str) -> Input {
    pond.input(port, &InputConfig::default()).unwrap()
}

#[test]
fn blocks_are_aligned_for_every_type_in_both_mappings() {
    // Sizes that are no multiple of anything.
    let pond = pond_of("aligned", &[(100, 16), (1000, 16), (4096, 16)]);
    let mut out = connected(&pond, &["sink.in"]);
    let mut sink = input(&pond, "sink.in");
    for bytes in [1usize, 100, 101, 999, 4000] {
        for _ in 0..5 {
            let buffer = out.allocate(bytes).unwrap();
            assert_eq!(buffer.as_bytes().as_ptr() as usize % 64, 0, "{bytes} bytes, writable");
            out.send(buffer).unwrap();
            let received = sink.receive().unwrap();
            assert_eq!(received.as_bytes().as_ptr() as usize % 64, 0, "{bytes} bytes, received");
        }
    }
}

#[test]
fn typed_views_show_what_was_written() {
    let pond = pond_of("typed", &[(4096, 16)]);
    let mut out = connected(&pond, &["sink.in"]);
    let mut sink = input(&pond, "sink.in");
    let mut buffer = out.allocate(0).unwrap();
    buffer.set_array(DType::F32, &[3, 4]).unwrap();
    for (i, x) in buffer.as_mut_slice::<f32>().unwrap().iter_mut().enumerate() {
        *x = i as f32 / 2.0;
    }
    assert_eq!(buffer.as_slice::<f32>().unwrap()[11], 5.5);
    out.send(buffer).unwrap();
    let received = sink.receive().unwrap();
    assert_eq!(received.as_slice::<f32>().unwrap(), (0..12).map(|i| i as f32 / 2.0).collect::<Vec<_>>());
    assert_eq!(received.as_slice::<[f32; 4]>().unwrap().len(), 3, "rows");
    let error = received.as_slice::<u32>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "a buffer of 48 bytes of f32 cannot be seen as a slice of u32 (4 bytes each)"
    );
    assert_eq!(received.as_slice::<u8>().unwrap().len(), 48, "bytes are always there");
    // 48 bytes are no whole number of 5-byte elements.
    let error = received.as_slice::<[u8; 5]>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "a buffer of 48 bytes of f32 cannot be seen as a slice of [u8; 5] (5 bytes each)"
    );
    let mut odd = out.allocate(7).unwrap();
    for error in [odd.as_slice::<u16>().err(), odd.as_mut_slice::<u16>().map(drop).err()] {
        assert!(matches!(error, Some(Error::WrongType { .. })), "{error:?}");
    }
    let empty = out.allocate(0).unwrap();
    assert!(empty.is_empty() && empty.as_slice::<f64>().unwrap().is_empty());
}

fn description(buffer: &Buffer) -> String {
    format!(
        "{} {:?} {:?} {:?} {} {} {}",
        buffer.dtype(),
        buffer.shape(),
        buffer.timestamp(),
        buffer.time_range(),
        buffer.sequence(),
        buffer.len(),
        buffer.id()
    )
}

fn describe_what_comes(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut input = input(&pond, "sink.in");
    while let Ok(buffer) = input.receive() {
        parent.say(&description(&buffer));
    }
}

#[test]
fn a_receiver_sees_what_the_sender_said_about_the_contents() {
    let pond = pond_of("described", &[(65536, 16)]);
    let mut out = connected(&pond, &["sink.in"]);
    let mut sink = Child::spawn("describe", &[("pond", pond.name())]);
    let shapes: [&[u32]; 5] = [&[7], &[2, 3], &[0], &[1, 2, 1, 2, 1, 2], &[100, 5]];
    let stamps = [
        Timestamp::None,
        Timestamp::Absolute(i64::MIN),
        Timestamp::Absolute(1_700_000_000_123_456_789),
        Timestamp::Relative(-5),
        Timestamp::Sample { index: i64::MAX, rate_num: 48_000, rate_den: 1001 },
    ];
    let ranges = [None, Some((i64::MIN, i64::MAX)), Some((-1, 1))];
    let mut sequence = u64::MAX;
    for (i, &dtype) in DType::ALL.iter().enumerate() {
        for (j, shape) in shapes.iter().enumerate() {
            let mut buffer = out.allocate(1).unwrap();
            buffer.set_timestamp(stamps[(i + j) % stamps.len()]);
            buffer.set_time_range(ranges[(i + 2 * j) % ranges.len()]);
            buffer.set_array(dtype, shape).unwrap();
            buffer.set_sequence(sequence);
            sequence = sequence.wrapping_mul(3);
            let expected_bytes = shape.iter().product::<u32>() as usize * dtype.size_bytes();
            assert_eq!(buffer.len(), expected_bytes);
            assert_eq!(&buffer.shape()[..], *shape);
            let buffer = buffer.freeze();
            let sent = description(&buffer);
            out.send(buffer).unwrap();
            sink.expect(&sent);
        }
    }
    // A fresh buffer says nothing of what was there before.
    let buffer = out.allocate(5).unwrap();
    assert_eq!((buffer.dtype(), &buffer.shape()[..]), (DType::Bytes, &[5][..]));
    assert_eq!((buffer.timestamp(), buffer.time_range(), buffer.sequence()), (Timestamp::None, None, 0));
}

#[test]
fn an_array_that_does_not_fit_is_refused() {
    let pond = pond_of("refused", &[(4096, 16)]);
    let mut buffer = pond.allocator().allocate(10).unwrap();
    for (dtype, shape) in [
        (DType::U8, &[1; 7][..]),
        (DType::U8, &[4097]),
        (DType::F64, &[513]),
        (DType::C64, &[u32::MAX; 6]),
        (DType::U8, &[u32::MAX, u32::MAX]),
    ] {
        let error = buffer.set_array(dtype, shape).unwrap_err();
        println!("{error}");
        assert!(matches!(error, Error::InvalidConfig { .. }), "{error:?}");
        assert_eq!(buffer.len(), 10, "a refused shape changed the length");
    }
    let error = buffer.set_len(4097).unwrap_err();
    assert!(error.to_string().contains("at most 4096 bytes"), "{error}");
}

#[test]
fn a_payload_may_be_shorter_than_its_block() {
    let pond = pond_of("shorter", &[(4096, 16)]);
    let mut out = connected(&pond, &["sink.in"]);
    let mut sink = input(&pond, "sink.in");
    let mut buffer = out.allocate(4000).unwrap();
    buffer.as_bytes_mut().fill(9);
    for len in [10, 0, 4096, 3] {
        buffer.set_len(len).unwrap();
        assert_eq!((buffer.len(), buffer.as_bytes().len(), buffer.as_bytes_mut().len()), (len, len, len));
        assert_eq!(buffer.capacity(), 4096);
    }
    out.send(buffer).unwrap();
    let received = sink.receive().unwrap();
    assert_eq!(received.as_bytes(), [9, 9, 9]);
}

fn rewrite_what_comes(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut input = input(&pond, "gain.in");
    let mut out = pond.output("gain.out", &OutputConfig::default()).unwrap();
    while let Ok(buffer) = input.receive() {
        let mut buffer = buffer.into_mut(out.allocator()).unwrap();
        buffer.as_bytes_mut().iter_mut().for_each(|b| *b += 1);
        out.send(buffer).unwrap();
    }
}

#[test]
fn a_received_buffer_is_rewritten_in_place_if_nobody_else_has_it_and_copied_if_somebody_has() {
    let pond = pond_of("rewrite", &[(4096, 64)]);
    pond.connect("gain.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = connected(&pond, &["gain.in"]);
    let mut sink = input(&pond, "sink.in");
    let _gain = Child::spawn("rewrite", &[("pond", pond.name())]);
    let make = |out: &mut Output| {
        let mut buffer = out.allocate(0).unwrap();
        buffer.set_array(DType::U8, &[2, 3]).unwrap();
        buffer.as_bytes_mut().copy_from_slice(&[1, 2, 3, 4, 5, 6]);
        buffer.set_timestamp(Timestamp::Relative(77));
        buffer.set_time_range(Some((1, 2)));
        buffer.set_sequence(5);
        buffer.freeze()
    };
    let alone = make(&mut out);
    let id = alone.id();
    out.send(alone).unwrap();
    let rewritten = sink.receive().unwrap();
    assert_eq!(rewritten.id(), id, "copied without need");
    assert_eq!(rewritten.as_bytes(), [2, 3, 4, 5, 6, 7]);
    drop(rewritten);
    // We keep it: the other process must not change what we see.
    let kept = make(&mut out);
    out.send(kept.clone()).unwrap();
    let rewritten = sink.receive().unwrap();
    assert_ne!(rewritten.id(), kept.id());
    assert_eq!(kept.as_bytes(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(rewritten.as_bytes(), [2, 3, 4, 5, 6, 7]);
    let facts = |b: &Buffer| (b.dtype(), b.shape().to_vec(), b.timestamp(), b.time_range(), b.sequence());
    assert_eq!(facts(&rewritten), facts(&kept), "a copy says the same about itself");
}

#[test]
fn try_into_mut_wants_the_only_reference() {
    let pond = pond_of("unique", &[(4096, 64)]);
    let mut out = connected(&pond, &["a.in", "b.in"]);
    let (mut a, mut b) = (input(&pond, "a.in"), input(&pond, "b.in"));
    let buffer = out.allocate(10).unwrap().freeze();
    let id = buffer.id();
    let buffer = buffer.try_into_mut().expect("just made: nobody else has it").freeze();
    let clone = buffer.clone();
    let buffer = buffer.try_into_mut().expect_err("a clone in this process has it");
    drop(clone);
    let buffer = buffer.try_into_mut().expect("the clone is gone");
    assert_eq!(buffer.id(), id);
    out.send(buffer).unwrap();
    let from_a = a.receive().unwrap();
    assert_eq!(from_a.references(), 2);
    let from_a = from_a.try_into_mut().expect_err("the other queue has it");
    let from_b = b.receive().unwrap();
    let from_a = from_a.try_into_mut().expect_err("the other receiver has it");
    drop(from_a);
    let mut from_b = from_b.try_into_mut().expect("everybody else let go");
    assert_eq!(from_b.id(), id);
    from_b.as_bytes_mut().fill(1);
}

#[test]
fn a_token_that_was_cloned_and_sent_begins_anew_when_it_comes_back() {
    let pond = pond_of("begins-anew", &[(64, 2)]);
    let mut out = connected(&pond, &["a.in", "b.in"]);
    let (mut a, mut b) = (input(&pond, "a.in"), input(&pond, "b.in"));
    for _ in 0..3 {
        let buffer = out.allocate(64).unwrap().freeze();
        let clone = buffer.clone();
        assert_eq!(buffer.references(), 1, "clones within a process are counted there");
        drop(buffer);
        // The last handle left is not known to be alone any more, and still it is the only one: it is sent with its own token.
        out.send(clone).unwrap();
        let (from_a, from_b) = (a.receive().unwrap(), b.receive().unwrap());
        assert_eq!(from_a.references(), 2);
        let again = from_b.clone();
        drop(from_b);
        assert_eq!(again.references(), 2, "a clone keeps what the first handle had");
        drop(from_a);
        let alone = again.try_into_mut().expect("everybody else let go").freeze();
        drop(alone.clone());
        assert_eq!(alone.references(), 1);
        drop(alone);
    }
    assert!(Monitor::open(pond.name()).unwrap().check().is_clean());
    // Both buffers are free again.
    let both = [out.allocate(64).unwrap(), out.allocate(64).unwrap()];
    drop(both);
}

#[test]
fn references_are_counted_once_for_each_process_and_queue() {
    let pond = pond_of("counts", &[(4096, 64)]);
    let monitor = Monitor::open(pond.name()).unwrap();
    let mut out = connected(&pond, &["a.in", "b.in", "c.in"]);
    let buffer = out.allocate(10).unwrap().freeze();
    assert_eq!(buffer.references(), 1);
    let clones: Vec<Buffer> = (0..100).map(|_| buffer.clone()).collect();
    assert_eq!(buffer.references(), 1, "clones stay in the process");
    out.send(buffer).unwrap();
    let kept = &clones[0];
    assert_eq!(kept.references(), 4, "three queues and us");
    let mut a = input(&pond, "a.in");
    let received = a.receive().unwrap();
    assert_eq!(received.id(), kept.id());
    assert_eq!(received.references(), 4);
    drop(received);
    assert_eq!(kept.references(), 3);
    drop(clones);
    assert_eq!((monitor.check().used, monitor.check().queued), (1, 2));
    for port in ["b.in", "c.in"] {
        drop(input(&pond, port).receive().unwrap());
    }
    assert_eq!(monitor.check().used, 0);
}

#[test]
fn a_buffer_has_at_most_sixteen_references() {
    let pond = pond_of("sixteen", &[(4096, 64)]);
    let ports: Vec<String> = (0..14).map(|i| format!("sink{i}.in")).collect();
    let mut out = connected(&pond, &ports.iter().map(String::as_str).collect::<Vec<_>>());
    let error = pond.connect("source.out", "one.more", &ConnectionConfig::default()).unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("at most 14 connections"), "{error}");
    pond.connect("another.out", "another.in", &ConnectionConfig::default()).unwrap();
    let mut another = pond.output("another.out", &OutputConfig::default()).unwrap();
    let kept = out.allocate(10).unwrap().freeze();
    out.send(kept.clone()).unwrap();
    another.send(kept.clone()).unwrap();
    assert_eq!(kept.references(), 16);
    for output in [&mut out, &mut another] {
        let error = output.send(kept.clone()).unwrap_err();
        assert_eq!(error.reason, SendReason::TooManyReferences);
        assert_eq!(error.buffer.id(), kept.id());
        drop(error);
        assert_eq!(kept.references(), 16, "a refused send left references behind");
    }
    for port in ports.iter().map(String::as_str).chain(["another.in"]) {
        drop(input(&pond, port).receive().unwrap());
    }
    assert_eq!(kept.references(), 1);
    out.send(kept).unwrap();
}

/// What was received with a reference that is not the first is passed on to as many as one output may have: nobody may use the first
/// but who allocates.
#[test]
fn what_is_received_and_kept_fans_out_to_as_many_as_can_be_connected() {
    let pond = pond_of("pass-on", &[(4096, 64)]);
    for port in ["first.in", "second.in"] {
        pond.connect("source.out", port, &ConnectionConfig::default()).unwrap();
    }
    for i in 0..14 {
        pond.connect("first.out", &format!("sink{i}.in"), &ConnectionConfig::default()).unwrap();
    }
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    // With redelivery the reference is kept until the buffer is finished, so all that is passed on are new ones.
    let config = InputConfig { redeliver: true, ..InputConfig::default() };
    let mut first = pond.input("first.in", &config).unwrap();
    let mut second = input(&pond, "second.in");
    let mut passing_on = pond.output("first.out", &OutputConfig::default()).unwrap();
    let buffer = out.allocate(8).unwrap();
    out.send(buffer).unwrap();
    drop(second.receive().unwrap());
    passing_on.try_send(first.receive().unwrap()).unwrap();
}

#[test]
fn a_later_allocation_has_another_id() {
    let pond = pond_of("ids", &[(4096, 1)]);
    let mut allocator = pond.allocator();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let buffer = allocator.allocate(1).unwrap();
        assert!(seen.insert(buffer.id().0), "{} again", buffer.id());
    }
}

#[test]
fn buffers_go_from_thread_to_thread() {
    let pond = pond_of("threads", &[(256, 64)]);
    let monitor = Monitor::open(pond.name()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut allocator = pond.allocator();
            scope.spawn(move || {
                for i in 0..2000u32 {
                    // All blocks may be in use by the others for a moment.
                    let mut buffer = allocator.allocate_timeout(4, support::DEADLINE).unwrap();
                    buffer.as_bytes_mut().copy_from_slice(&i.to_le_bytes());
                    let buffer = buffer.freeze();
                    let clone = buffer.clone();
                    let other = std::thread::current().id();
                    assert_eq!(clone.as_bytes(), i.to_le_bytes(), "{other:?}");
                    if i % 100 == 0 {
                        scope.spawn(move || assert_eq!(clone.as_bytes(), i.to_le_bytes()));
                    }
                    assert_eq!(buffer.as_bytes(), i.to_le_bytes());
                }
            });
        }
    });
    assert_eq!(monitor.check().used, 0);
}

#[test]
fn a_buffer_of_another_pond_is_not_sent() {
    let (one, two) = (pond_of("one", &[(256, 16)]), pond_of("two", &[(256, 16)]));
    let mut out = connected(&one, &["sink.in"]);
    let alien = two.allocator().allocate(1).unwrap();
    let error = out.send(alien).unwrap_err();
    assert_eq!(error.reason, SendReason::OtherPond);
    assert_eq!(error.to_string(), "not sent: the buffer belongs to another pond");
}

/// Rights of the mapping that holds `address`, as in `r--s`.
fn rights_at(address: usize) -> String {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps
        .lines()
        .find(|l| {
            let (from, to) = l.split_once(' ').unwrap().0.split_once('-').unwrap();
            let number = |t: &str| usize::from_str_radix(t, 16).unwrap();
            (number(from)..number(to)).contains(&address)
        })
        .unwrap();
    line.split(' ').nth(1).unwrap().to_owned()
}

fn write_into_what_was_received(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut input = input(&pond, "sink.in");
    let buffer = input.receive().unwrap();
    let address = buffer.as_bytes().as_ptr();
    assert_eq!(rights_at(address as usize), "r--s");
    parent.say("about to write");
    // SAFETY: there is none: a stray write is what is tried, and the kernel must stop it at a read-only page of ours.
    unsafe { address.cast_mut().write_volatile(1) };
    parent.say("written");
}

#[test]
fn a_stray_write_into_a_received_buffer_kills_the_writer_and_nothing_else() {
    let pond = pond_of("stray", &[(4096, 64)]);
    let monitor = Monitor::open(pond.name()).unwrap();
    let mut out = connected(&pond, &["sink.in"]);
    let mut sink = Child::spawn("stray write", &[("pond", pond.name())]);
    let mut buffer = out.allocate(4).unwrap();
    assert_eq!(rights_at(buffer.as_bytes().as_ptr() as usize), "rw-s");
    buffer.as_bytes_mut().fill(7);
    let kept = buffer.freeze();
    out.send(kept.clone()).unwrap();
    sink.expect("about to write");
    assert_eq!(sink.wait().signal(), Some(11));
    assert_eq!(kept.as_bytes(), [7; 4]);
    eventually("what it held is given back", || kept.references() == 1);
    assert!(monitor.check().is_clean());
}

fn hold_one(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let _held = input(&pond, "sink.in").receive().unwrap();
    parent.say("held");
    parent.hang();
}

fn keep_buffers_longer_than_the_pond(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut input = input(&pond, "sink.in");
    let received = input.receive().unwrap();
    let mut made = pond.allocator().allocate(100).unwrap();
    drop(input);
    drop(pond);
    assert_eq!(received.as_bytes(), [7; 4]);
    made.as_bytes_mut().fill(3);
    assert!(made.as_bytes().iter().all(|b| *b == 3));
    parent.say("pond dropped");
    assert_eq!(parent.listen(), "let go");
    drop((received, made));
    parent.say("let go");
    parent.hang();
}

#[test]
fn buffers_may_outlive_the_pond_handle() {
    let pond = pond_of("outlive", &[(4096, 64)]);
    let monitor = Monitor::open(pond.name()).unwrap();
    let mut out = connected(&pond, &["sink.in"]);
    for end in ["let go", "kill"] {
        let mut holder = Child::spawn("outlive", &[("pond", pond.name())]);
        let mut buffer = out.allocate(4).unwrap();
        buffer.as_bytes_mut().fill(7);
        out.send(buffer).unwrap();
        holder.expect("pond dropped");
        let held: Vec<_> = monitor.check().held.iter().map(|h| (h.pid, h.references)).collect();
        assert_eq!(held, [(holder.pid, 2)], "what it holds is still its own");
        if end == "let go" {
            holder.tell("let go");
            holder.expect("let go");
            assert_eq!(monitor.check().used, 0);
        }
        holder.kill();
        eventually("all is given back", || {
            monitor.check().used == 0 && monitor.snapshot().processes.len() == 1
        });
    }
    // The input was let go of with the port, so another process may have it.
    let mut next = Child::spawn("hold one", &[("pond", pond.name())]);
    let buffer = out.allocate(4).unwrap();
    out.send(buffer).unwrap();
    next.expect("held");
}
