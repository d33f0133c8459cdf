//! The other side dies by a real SIGKILL: what the survivor is told, when, and what is delivered, lost and counted.

mod support;

use millpond_shm::{
    Buffer, ConnectionConfig, ConnectionInfo, Input, InputConfig, Monitor, OnReceiverDeath, Output,
    OutputConfig, Policy, Pond, PondConfig, PoolConfig, ReceiveError, Role, SendError, SendReason,
};
use rustix::process::Signal;
use std::sync::mpsc::channel;
use std::time::Duration;
use support::{Child, DEADLINE, Parent, eventually, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    match scenario.as_str() {
        "sender" => send_when_told(&parent),
        "receiver" => receive_when_told(&parent),
        other => panic!("no scenario {other}"),
    }
}

fn new_pond(what: &str, depth: u32, on_receiver_death: OnReceiverDeath) -> (String, Pond, Monitor) {
    let name = unique_name(what);
    let config = PondConfig { pools: vec![PoolConfig::new(64, 256)], table_slots: 256 };
    let pond = Pond::create(&name, &config, Role::Worker).unwrap();
    let connection =
        ConnectionConfig { depth: Some(depth), on_receiver_death, ..ConnectionConfig::default() };
    pond.connect("source.out", "sink.in", &connection).unwrap();
    let monitor = Monitor::open(&name).unwrap();
    (name, pond, monitor)
}

fn output(pond: &Pond) -> Output {
    pond.output("source.out", &OutputConfig::default()).unwrap()
}

fn input(pond: &Pond, redeliver: bool) -> Input {
    pond.input("sink.in", &InputConfig { redeliver, ..InputConfig::default() }).unwrap()
}

fn numbered(out: &mut Output, number: u64) -> Buffer {
    let mut buffer = out.allocate_timeout(8, DEADLINE).unwrap();
    buffer.set_sequence(number);
    buffer.freeze()
}

fn send(out: &mut Output, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let buffer = numbered(out, number);
        out.send_timeout(buffer, DEADLINE).unwrap();
    }
}

fn connection(monitor: &Monitor) -> ConnectionInfo {
    monitor.snapshot().connections.remove(0)
}

fn assert_nothing_is_left(monitor: &Monitor) {
    eventually("all is given back", || monitor.check().used == 0);
    let report = monitor.check();
    assert!(report.is_clean(), "{:?}", report.problems);
}

/// Sends the range of numbers it is told, keeps the output open.
fn send_when_told(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut out = output(&pond);
    parent.say("ready");
    loop {
        let line = parent.listen();
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            ["send", from, to] => send(&mut out, from.parse().unwrap()..to.parse().unwrap()),
            ["panic"] => panic!("as told"),
            _ => return,
        }
        parent.say("sent");
    }
}

/// Takes as many buffers as it is told and keeps them, or drops those that it has.
fn receive_when_told(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let shared = parent.get("mode") == "shared";
    let config =
        InputConfig { redeliver: parent.get("mode") == "redeliver", shared, ..InputConfig::default() };
    let mut open = Some(pond.input("sink.in", &config).unwrap());
    let mut held: Vec<Buffer> = Vec::new();
    parent.say("ready");
    loop {
        let line = parent.listen();
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            ["take", count] => {
                let port = open.as_mut().unwrap();
                let taken: Vec<Buffer> = (0..count.parse::<usize>().unwrap())
                    .map(|_| port.receive_timeout(DEADLINE).unwrap())
                    .collect();
                let told = taken.iter().map(|b| format!("{}{}", b.sequence(), mark(b)));
                parent.say(&told.collect::<Vec<_>>().join(" "));
                held.extend(taken);
            }
            ["close"] => {
                open = None;
                parent.say("closed");
            }
            ["drop", count] => {
                held.drain(..count.parse::<usize>().unwrap());
                parent.say("dropped");
            }
            _ => return,
        }
    }
}

/// Records of connections are used again: what came by an earlier one is no loss of the one that has its record now.
#[test]
fn what_came_by_a_connection_that_is_gone_is_not_counted_at_its_successor() {
    let (name, pond, monitor) = new_pond("reuse", 8, OnReceiverDeath::Wait);
    let mut out = output(&pond);
    let mut first = receiver(&name, "plain");
    send(&mut out, 0..3);
    assert_eq!(told(&mut first, "take 3"), "0 1 2");
    assert_eq!(told(&mut first, "close"), "closed");
    pond.disconnect("source.out", "sink.in").unwrap();
    drop(out);
    eventually("the connection is gone", || monitor.snapshot().connections.is_empty());
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = output(&pond);
    let mut second = receiver(&name, "plain");
    send(&mut out, 3..5);
    assert_eq!(told(&mut second, "take 2"), "3 4");
    first.kill();
    eventually("the first is recovered", || monitor.check().used == 2);
    assert_eq!(connection(&monitor).lost_in_hand, 0);
    second.kill();
    eventually("the second is recovered", || monitor.check().used == 0);
    assert_eq!(connection(&monitor).lost_in_hand, 2);
}

fn mark(buffer: &Buffer) -> &'static str {
    if buffer.redelivered() { "*" } else { "" }
}

fn sender(pond: &str) -> Child {
    let mut child = Child::spawn("sender", &[("pond", pond)]);
    child.expect("ready");
    child
}

fn receiver(pond: &str, mode: &str) -> Child {
    let mut child = Child::spawn("receiver", &[("pond", pond), ("mode", mode)]);
    child.expect("ready");
    child
}

fn told(child: &mut Child, command: &str) -> String {
    child.tell(command);
    child.line()
}

#[test]
fn what_a_killed_sender_had_published_is_delivered_before_its_death_is_told() {
    let (name, pond, monitor) = new_pond("sender-dies", 16, OnReceiverDeath::Wait);
    let mut sink = input(&pond, false);
    let mut first = sender(&name);
    assert_eq!(told(&mut first, "send 0 5"), "sent");
    first.kill();
    for expected in 0..5 {
        assert_eq!(sink.receive_timeout(DEADLINE).unwrap().sequence(), expected);
    }
    let died = ReceiveError::SenderDied { port: "source.out".to_owned() };
    assert_eq!(sink.receive_timeout(DEADLINE).unwrap_err(), died, "not the end of the stream");
    assert_eq!(
        sink.receive_timeout(Duration::from_millis(20)).unwrap_err(),
        ReceiveError::Timeout,
        "told once"
    );
    assert!(connection(&monitor).sender_died);
    // A restarted sender goes on behind what its predecessor published.
    let mut second = sender(&name);
    assert_eq!(told(&mut second, "send 5 7"), "sent");
    assert_eq!(sink.receive_timeout(DEADLINE).unwrap().sequence(), 5);
    assert_eq!(sink.receive_timeout(DEADLINE).unwrap().sequence(), 6);
    assert!(!connection(&monitor).sender_died);
    second.tell("end");
    assert_eq!(sink.receive_timeout(DEADLINE).unwrap_err(), ReceiveError::EndOfStream);
    assert_eq!(connection(&monitor).published, 7);
    drop(sink);
    assert_nothing_is_left(&monitor);
}

#[test]
fn a_receiver_that_sleeps_is_woken_by_the_death_of_its_sender() {
    let (name, pond, _) = new_pond("sleeping-receiver", 16, OnReceiverDeath::Wait);
    let mut sink = input(&pond, false);
    let mut source = sender(&name);
    let receiver = std::thread::spawn(move || sink.receive().unwrap_err());
    source.kill();
    assert_eq!(receiver.join().unwrap(), ReceiveError::SenderDied { port: "source.out".to_owned() });
}

#[test]
fn a_sender_that_panics_has_not_ended_its_stream() {
    let (name, pond, _) = new_pond("panic", 16, OnReceiverDeath::Wait);
    let mut sink = input(&pond, false);
    let mut source = sender(&name);
    assert_eq!(told(&mut source, "send 0 1"), "sent");
    source.tell("panic");
    assert_eq!(sink.receive_timeout(DEADLINE).unwrap().sequence(), 0);
    let died = ReceiveError::SenderDied { port: "source.out".to_owned() };
    assert_eq!(sink.receive_timeout(DEADLINE).unwrap_err(), died);
}

#[test]
fn a_connection_that_gives_up_hands_the_buffer_back_when_its_receiver_is_killed() {
    let (name, pond, monitor) = new_pond("give-up", 4, OnReceiverDeath::GiveUp);
    let mut out = output(&pond);
    let mut first = receiver(&name, "plain");
    send(&mut out, 0..2);
    first.kill();
    let died = SendReason::ReceiverDied { port: "sink.in".to_owned() };
    eventually("the death is noticed", || connection(&monitor).receiver_died);
    // There is room; but nobody is there to get it.
    let buffer = numbered(&mut out, 2);
    let SendError { reason, buffer } = out.try_send(buffer).unwrap_err();
    assert_eq!((&reason, buffer.sequence(), buffer.references()), (&died, 2, 1));
    assert!(reason.to_string().contains("`sink.in` has died"), "{reason}");
    let SendError { reason, buffer } = out.send(buffer).unwrap_err();
    assert_eq!(reason, died);
    let mut batch = [buffer].into();
    let SendError { reason, buffer } = out.send_batch(&mut batch).unwrap_err();
    assert_eq!(reason, died);
    let SendError { reason, buffer } = out.send_timeout(buffer, DEADLINE).unwrap_err();
    assert_eq!(reason, died, "at once, not after the time");
    drop(buffer);
    assert_eq!(connection(&monitor).queued, 2, "what was queued waits for a successor");
    // A successor takes the queue over, and sending goes on.
    let mut second = receiver(&name, "plain");
    send(&mut out, 2..3);
    assert_eq!(told(&mut second, "take 3"), "0 1 2");
}

#[test]
fn a_blocked_sender_is_released_when_its_only_receiver_is_killed() {
    let (name, pond, monitor) = new_pond("blocked", 2, OnReceiverDeath::GiveUp);
    let mut out = output(&pond);
    let mut sink = receiver(&name, "plain");
    send(&mut out, 0..2);
    let (about_to_block, blocking) = channel();
    let sender = std::thread::spawn(move || {
        let buffer = numbered(&mut out, 2);
        about_to_block.send(()).unwrap();
        out.send(buffer).unwrap_err()
    });
    blocking.recv().unwrap();
    sink.signal(Signal::STOP); // no accident: a stopped receiver keeps its sender waiting ...
    sink.kill(); // ... until it is killed
    let SendError { reason, buffer } = sender.join().unwrap();
    assert_eq!(reason, SendReason::ReceiverDied { port: "sink.in".to_owned() });
    assert_eq!(buffer.sequence(), 2);
    drop(buffer);
    assert_eq!(connection(&monitor).queued, 2);
}

#[test]
fn a_connection_that_waits_keeps_its_sender_until_the_receiver_is_restarted() {
    let (name, pond, monitor) = new_pond("restart", 2, OnReceiverDeath::Wait);
    let mut out = output(&pond);
    let mut first = receiver(&name, "plain");
    send(&mut out, 0..2);
    first.kill();
    eventually("the death is noticed", || connection(&monitor).receiver_died);
    let buffer = numbered(&mut out, 2);
    let SendError { reason, buffer } = out.send_timeout(buffer, Duration::from_millis(30)).unwrap_err();
    assert_eq!((reason, buffer.sequence()), (SendReason::Timeout, 2));
    let sender = std::thread::spawn(move || {
        out.send(buffer).unwrap();
        out
    });
    let mut second = receiver(&name, "plain");
    assert_eq!(told(&mut second, "take 3"), "0 1 2", "the queue was taken over, nothing is missing");
    drop(sender.join().unwrap());
    assert_eq!(connection(&monitor).lost_in_hand, 0);
    drop(second);
    assert_nothing_is_left(&monitor);
}

#[test]
fn what_a_killed_receiver_had_in_hand_is_counted_as_lost() {
    let (name, pond, monitor) = new_pond("in-hand", 16, OnReceiverDeath::Wait);
    let mut out = output(&pond);
    send(&mut out, 0..10);
    let mut first = receiver(&name, "plain");
    assert_eq!(told(&mut first, "take 5"), "0 1 2 3 4");
    assert_eq!(told(&mut first, "drop 2"), "dropped");
    first.kill();
    eventually("it is recovered", || connection(&monitor).receiver_died);
    let state = connection(&monitor);
    assert_eq!((state.lost_in_hand, state.queued, state.taken, state.redelivered), (3, 5, 5, 0));
    let mut second = receiver(&name, "plain");
    assert_eq!(told(&mut second, "take 5"), "5 6 7 8 9");
}

#[test]
fn with_redelivery_a_successor_gets_what_was_in_hand_marked() {
    let (name, pond, monitor) = new_pond("redeliver", 16, OnReceiverDeath::Wait);
    let mut out = output(&pond);
    send(&mut out, 0..10);
    let mut first = receiver(&name, "redeliver");
    assert_eq!(told(&mut first, "take 5"), "0 1 2 3 4");
    assert_eq!(told(&mut first, "drop 2"), "dropped");
    first.kill();
    eventually("it is recovered", || connection(&monitor).receiver_died);
    let state = connection(&monitor);
    assert_eq!((state.lost_in_hand, state.queued, state.redelivered), (0, 8, 3));
    // It dies, too: what it had only seen keeps its mark.
    let mut second = receiver(&name, "redeliver");
    assert_eq!(told(&mut second, "take 4"), "2* 3* 4* 5");
    second.kill();
    eventually("it is recovered", || connection(&monitor).receiver_died);
    assert_eq!(connection(&monitor).redelivered, 4);
    let mut third = receiver(&name, "redeliver");
    assert_eq!(told(&mut third, "take 8"), "2* 3* 4* 5* 6 7 8 9");
    assert_eq!(told(&mut third, "drop 8"), "dropped");
    eventually("all are finished", || connection(&monitor).queued == 0);
    drop(out);
    third.tell("end");
    assert_nothing_is_left(&monitor);
}

/// Entries are finished in their order, whatever the order in which the buffers are dropped: a gap would look like a finished one.
#[test]
fn with_redelivery_a_buffer_dropped_before_an_earlier_one_is_delivered_again() {
    let (name, pond, monitor) = new_pond("gap", 16, OnReceiverDeath::Wait);
    let mut out = output(&pond);
    send(&mut out, 0..3);
    let mut port = input(&pond, true);
    let held: Vec<Buffer> = (0..3).map(|_| port.receive_timeout(DEADLINE).unwrap()).collect();
    let [zero, one, two] = <[Buffer; 3]>::try_from(held).unwrap();
    drop(one);
    assert_eq!(connection(&monitor).queued, 3, "nothing is finished while the first is held");
    drop(zero);
    assert_eq!(connection(&monitor).queued, 1, "both are");
    drop(two);
    assert_eq!(connection(&monitor).queued, 0);
    let refused =
        pond.input("sink.in", &InputConfig { redeliver: true, shared: true, ..InputConfig::default() });
    assert!(refused.err().unwrap().to_string().contains("either `shared` or `redeliver`"));
    drop((port, out));
    let oldest = ConnectionConfig { policy: Some(Policy::DropOldest), ..ConnectionConfig::default() };
    let refused = pond.connect("other.out", "sink.in", &oldest).unwrap_err().to_string();
    assert!(refused.contains("redelivers") && refused.contains("drop-oldest"), "{refused}");
    drop(name);
}

/// What is still in hand when its connection is gone must not finish entries of the connection that has its place now.
#[test]
fn with_redelivery_a_buffer_of_a_removed_connection_leaves_the_next_one_alone() {
    let (name, pond, monitor) = new_pond("removed", 16, OnReceiverDeath::Wait);
    let mut out = output(&pond);
    send(&mut out, 0..3);
    let mut port = input(&pond, true);
    let held: Vec<Buffer> = (0..3).map(|_| port.receive_timeout(DEADLINE).unwrap()).collect();
    pond.disconnect("source.out", "sink.in").unwrap();
    assert_eq!(out.connections(), 0, "the sender lets go");
    eventually("so does the receiver", || matches!(port.try_receive(), Err(ReceiveError::NotConnected)));
    let monitored = Monitor::open(&name).unwrap();
    eventually("the connection is gone", || monitored.snapshot().connections.is_empty());
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    send(&mut out, 3..6);
    drop(held);
    assert_eq!(connection(&monitor).queued, 3);
    for i in 3..6 {
        assert_eq!(port.receive_timeout(DEADLINE).unwrap().sequence(), i);
    }
    drop((port, out));
    assert_nothing_is_left(&monitor);
}

#[test]
fn a_killed_competitor_loses_what_it_had_in_hand_and_the_others_go_on() {
    let (name, pond, monitor) = new_pond("competitor", 64, OnReceiverDeath::GiveUp);
    let mut out = output(&pond);
    let mut victim = receiver(&name, "shared");
    let mut other = receiver(&name, "shared");
    send(&mut out, 0..10);
    assert_eq!(told(&mut victim, "take 3"), "0 1 2");
    victim.kill();
    assert_eq!(told(&mut other, "take 7"), "3 4 5 6 7 8 9");
    eventually("it is recovered", || monitor.snapshot().processes.len() == 2);
    let state = connection(&monitor);
    assert_eq!((state.lost_in_hand, state.receiver_died), (3, false), "{state:?}");
    send(&mut out, 10..11); // the connection gives up only when the last one is dead
    assert_eq!(told(&mut other, "take 1"), "10");
    assert_eq!(told(&mut other, "drop 8"), "dropped");
    other.kill();
    eventually("the last one is dead", || connection(&monitor).receiver_died);
    let buffer = numbered(&mut out, 11);
    let SendError { reason, .. } = out.send(buffer).unwrap_err();
    assert!(matches!(reason, SendReason::ReceiverDied { .. }), "{reason}");
    assert_nothing_is_left(&monitor);
}
