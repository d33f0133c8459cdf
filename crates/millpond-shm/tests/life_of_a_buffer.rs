//! The README's life of one buffer (R10) between two real processes, with its references counted at every step.

mod support;

use millpond_shm::{
    ConnectionConfig, InputConfig, Monitor, OutputConfig, Pond, PondConfig, PoolConfig, ReceiveError, Role,
};
use support::{Child, Parent, eventually, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut input = pond.input("sink.in", &InputConfig::default()).unwrap();
    assert_eq!(scenario, "consumer");
    parent.say("ready");
    let buffer = input.receive().unwrap();
    assert_eq!(buffer.as_bytes(), b"a mill pond");
    parent.say(&format!("received {} {}", buffer.id(), buffer.references()));
    assert_eq!(parent.listen(), "clone");
    let clone = buffer.clone();
    parent.say(&format!("cloned {}", clone.references()));
    drop(clone);
    assert_eq!(parent.listen(), "drop");
    drop(buffer);
    parent.say("dropped");
    assert!(matches!(input.receive(), Err(ReceiveError::EndOfStream)));
    parent.say("ended");
}

fn small() -> PondConfig {
    PondConfig { pools: vec![PoolConfig::new(4096, 64)], table_slots: 64 }
}

#[test]
fn a_buffer_lives_from_allocation_to_recycling() {
    let name = unique_name("life");
    let pond = Pond::create(&name, &small(), Role::Worker).unwrap();
    let monitor = Monitor::open(&name).unwrap();
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    let mut child = Child::spawn("consumer", &[("pond", &name)]);
    child.expect("ready");
    assert_eq!(monitor.check().used, 0);

    // Allocated: the producer has the only reference.
    let mut buffer = out.allocate(11).unwrap();
    buffer.as_bytes_mut().copy_from_slice(b"a mill pond");
    let id = buffer.id();
    let report = monitor.check();
    assert_eq!((report.used, report.queued, report.held.len()), (1, 0, 1));
    assert_eq!(report.held[0].pid, std::process::id());

    // Published: the reference is the queue's, then the consumer's; the producer has none.
    out.send(buffer).unwrap();
    child.expect(&format!("received {id} 1"));
    let report = monitor.check();
    assert_eq!((report.used, report.queued), (1, 0));
    assert_eq!(report.held.iter().map(|h| (h.pid, h.references)).collect::<Vec<_>>(), [(child.pid, 1)]);

    // A clone inside the consumer's process is not a reference of its own.
    child.tell("clone");
    child.expect("cloned 1");

    // Given back: free again, and the next allocation may have it.
    child.tell("drop");
    child.expect("dropped");
    let report = monitor.check();
    assert_eq!((report.used, report.free), (0, 64));
    assert!(report.is_clean(), "{:?}", report.problems);

    out.finish();
    child.expect("ended");
    assert!(child.wait().success());
    eventually("the consumer left", || monitor.snapshot().processes.len() == 1);
}

#[test]
fn a_queued_buffer_belongs_to_the_queue_until_somebody_comes() {
    let name = unique_name("queue");
    let pond = Pond::create(&name, &small(), Role::Worker).unwrap();
    let monitor = Monitor::open(&name).unwrap();
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    let mut buffer = out.allocate(11).unwrap();
    buffer.as_bytes_mut().copy_from_slice(b"a mill pond");
    let id = buffer.id();
    out.send(buffer).unwrap();
    let report = monitor.check();
    assert_eq!((report.used, report.queued, report.held.len()), (1, 1, 0));
    let mut child = Child::spawn("consumer", &[("pond", &name)]);
    child.expect("ready");
    child.expect(&format!("received {id} 1"));
    child.kill();
    eventually("what the consumer held is given back", || monitor.check().used == 0);
    let connection = &monitor.snapshot().connections[0];
    assert_eq!((connection.lost_in_hand, connection.taken, connection.receiver_died), (1, 1, true));
}
