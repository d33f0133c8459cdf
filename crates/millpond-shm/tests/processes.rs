//! Who takes part: as many processes as there are slots, a pid used again, forks, exec, stopped processes, and the registry lock
//! in the hands of the dead and the stopped.

#![allow(unsafe_code)]

mod support;

use millpond_shm::{
    ConnectionConfig, Error, InputConfig, Monitor, OutputConfig, Pond, PondConfig, PoolConfig, ReceiveError,
    Role, SendReason, layout,
};
use rustix::process::Signal;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;
use support::segment::Segment;
use support::{Child, DEADLINE, Parent, eventually, is_root, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    match scenario.as_str() {
        "hold" => {
            let held = pond.allocator().allocate(64).unwrap();
            parent.say(&pond.process().to_string());
            assert_eq!(parent.listen(), "go on");
            drop(held);
            parent.say("given back");
            parent.hang();
        }
        "fork" => fork_and_wait(&parent, &pond),
        "no descriptors" => {
            let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
            rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
            let open: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
            parent.say(&format!("{} {:?}", open.is_empty(), pond.recover_dead()));
            assert_eq!(parent.listen(), "end");
        }
        "exec" => {
            let _held = pond.allocator().allocate(64).unwrap();
            parent.say(&pond.process().to_string());
            assert_eq!(parent.listen(), "exec");
            panic!("{}", Command::new("sleep").arg("600").exec());
        }
        other => panic!("no scenario {other}"),
    }
}

fn new_pond(what: &str) -> (String, Pond, Monitor) {
    let name = unique_name(what);
    let config = PondConfig { pools: vec![PoolConfig::new(64, 1024)], table_slots: 1024 };
    let pond = Pond::create(&name, &config, Role::Worker).unwrap();
    let monitor = Monitor::open(&name).unwrap();
    (name, pond, monitor)
}

/// A process that holds one buffer, and its slot.
fn holder(pond: &str) -> (Child, u64) {
    let mut child = Child::spawn("hold", &[("pond", pond)]);
    let slot = child.line().parse().unwrap();
    (child, slot)
}

fn state_of(monitor: &Monitor, pid: u32) -> Option<&'static str> {
    monitor.snapshot().processes.iter().find(|p| p.pid == pid).map(|p| p.state)
}

fn is_running(pid: u32) -> bool {
    rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap()).is_ok()
}

#[test]
fn every_process_slot_can_be_used_at_once() {
    let (name, pond, monitor) = new_pond("processes");
    let others = layout::MAX_PROCESSES - 1;
    let mut holders: Vec<Child> =
        (0..others).map(|_| Child::spawn("hold", &[("pond", name.as_str())])).collect();
    let mut slots: Vec<u64> = holders.iter_mut().map(|h| h.line().parse().unwrap()).collect();
    slots.push(pond.process().into());
    slots.sort_unstable();
    assert_eq!(slots, (1..=layout::MAX_PROCESSES as u64).collect::<Vec<_>>());
    let report = monitor.check();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!((report.used, report.held.len()), (others as u64, others));

    let error = Pond::attach(&name, Role::Block).err().unwrap();
    assert!(
        matches!(error, Error::TableFull { what: "process", limit: layout::MAX_PROCESSES, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("all 254 are in use; run more blocks in one process"), "{error}");
    // One goes, another comes.
    holders.pop().unwrap().kill();
    eventually("its slot is free", || monitor.snapshot().processes.len() == others);
    let (last, _) = holder(&name);
    holders.push(last);
    // All are killed at once; whoever is left gives everything back.
    for holder in &holders {
        holder.signal(Signal::KILL);
    }
    eventually("all are recovered", || monitor.snapshot().processes.len() == 1);
    let report = monitor.check();
    assert!(report.is_clean() && report.used == 0, "{report:?}");
}

/// The kernel gives the pid of a dead participant to another process, which joins the pond, while nobody else could look.
#[test]
fn a_process_that_got_the_pid_of_a_dead_one_is_not_taken_for_it() {
    const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
    if !is_root("a pid used again") {
        return;
    }
    let name = unique_name("pid");
    let config = PondConfig { pools: vec![PoolConfig::new(64, 64)], table_slots: 64 };
    let pond = Pond::create(&name, &config, Role::Worker).unwrap();
    let monitor = Monitor::open(&name).unwrap();
    let (keeper, _) = holder(&name);
    let (mut first, first_slot) = holder(&name);
    drop(pond);
    eventually("both are there", || monitor.snapshot().processes.len() == 2);
    keeper.signal(Signal::STOP);
    let pid = first.pid;
    first.kill();
    let mut second = None;
    for _ in 0..200 {
        if std::fs::write(LAST_PID, (pid - 1).to_string()).is_err() {
            println!("skipped: {LAST_PID} cannot be written");
            return;
        }
        let (candidate, slot) = holder(&name);
        if candidate.pid == pid {
            second = Some((candidate, slot));
            break;
        }
    }
    let Some((second, second_slot)) = second else {
        println!("skipped: the kernel gave the pid to nobody of ours");
        return;
    };
    assert_ne!(first_slot, second_slot);
    let of_pid = || monitor.snapshot().processes.iter().filter(|p| p.pid == pid).count();
    eventually("the dead one is recovered, its namesake is not", || of_pid() == 1);
    let report = monitor.check();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert_eq!(state_of(&monitor, second.pid), Some("live"));
    keeper.signal(Signal::CONT);
}

unsafe extern "C" {
    fn fork() -> i32;
    fn pause() -> i32;
    fn ptrace(request: std::ffi::c_int, pid: i32, ...) -> std::ffi::c_long;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
}

fn fork_and_wait(parent: &Parent, pond: &Pond) {
    let held = pond.allocator().allocate(64).unwrap();
    // SAFETY: the forked child does nothing but wait for its end.
    let pid = unsafe { fork() };
    if pid == 0 {
        loop {
            // SAFETY: sleeps until a signal.
            unsafe { pause() };
        }
    }
    parent.say(&pid.to_string());
    parent.listen();
    drop(held);
}

/// It inherits every descriptor, but it is not the participant.
#[test]
fn a_process_is_dead_although_a_child_that_it_forked_lives() {
    let (name, _pond, monitor) = new_pond("fork");
    let mut child = Child::spawn("fork", &[("pond", &name)]);
    let forked: u32 = child.line().parse().unwrap();
    assert_eq!(monitor.check().used, 1);
    child.kill();
    eventually("it is recovered", || monitor.snapshot().processes.len() == 1);
    assert_eq!(monitor.check().used, 0);
    assert!(is_running(forked), "the forked child was ended");
    let forked = rustix::process::Pid::from_raw(forked as i32).unwrap();
    rustix::process::kill_process(forked, Signal::KILL).unwrap();
}

#[test]
fn a_process_that_called_exec_is_reclaimed_and_lives_on() {
    let (name, _pond, monitor) = new_pond("exec");
    let mut child = Child::spawn("exec", &[("pond", &name)]);
    let slot: u32 = child.line().parse().unwrap();
    assert_eq!(monitor.check().used, 1);
    // Another of its threads holds the registry lock at that moment.
    let segment = Segment::of(child.pid);
    segment.set_u32(segment.header("registry_lock"), slot);
    child.tell("exec");
    eventually("it is reclaimed", || monitor.snapshot().processes.len() == 1);
    assert_eq!(monitor.check().used, 0);
    assert!(child.has_ended().is_none(), "it was ended");
    let command = std::fs::read_to_string(format!("/proc/{}/comm", child.pid)).unwrap();
    assert_eq!(command.trim(), "sleep");
}

/// Nothing can be learned about others without a descriptor, which does not mean that they are dead.
#[test]
fn a_process_without_a_descriptor_left_takes_nobody_for_dead() {
    let (name, pond, monitor) = new_pond("descriptors");
    let _held = pond.allocator().allocate(64).unwrap();
    let (mut other, _) = holder(&name);
    let mut child = Child::spawn("no descriptors", &[("pond", &name)]);
    assert_eq!(child.line(), "false Ok(0)");
    let pids = [std::process::id(), other.pid, child.pid];
    assert!(pids.iter().all(|pid| state_of(&monitor, *pid) == Some("live")));
    assert_eq!(monitor.check().used, 2);
    other.kill();
    child.tell("end");
    eventually("both are gone", || monitor.snapshot().processes.len() == 1);
    assert_eq!(monitor.check().used, 1);
}

#[test]
fn a_stopped_process_is_named_and_never_reclaimed() {
    let (name, _pond, monitor) = new_pond("stopped");
    let (mut stopped, _) = holder(&name);
    let (mut victim, _) = holder(&name);
    stopped.signal(Signal::STOP);
    eventually("it is called stopped", || state_of(&monitor, stopped.pid) == Some("stopped"));
    assert_eq!(monitor.check().used, 2, "what it holds stays held");
    // A stopped process does not keep the others from recovering a dead one.
    victim.kill();
    eventually("the dead one is recovered", || state_of(&monitor, victim.pid).is_none());
    assert_eq!(monitor.check().used, 1);
    stopped.signal(Signal::CONT);
    eventually("it is alive again", || state_of(&monitor, stopped.pid) == Some("live"));
    stopped.tell("go on");
    stopped.expect("given back");
    assert_eq!(monitor.check().used, 0);
    // Killed while it is stopped, it is dead like any other.
    stopped.signal(Signal::STOP);
    stopped.kill();
    eventually("it is recovered", || monitor.snapshot().processes.len() == 1);
}

/// Holds every thread of a process still, as a debugger does that has come to a breakpoint, until it is dropped.
struct Debugger(Vec<i32>);

impl Debugger {
    const SEIZE: std::ffi::c_int = 0x4206;
    const INTERRUPT: std::ffi::c_int = 0x4207;
    const DETACH: std::ffi::c_int = 17;
    /// To wait for threads as well as for processes.
    const WALL: i32 = 0x4000_0000;

    fn halt(pid: u32) -> Debugger {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let threads =
            tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        for &thread in &threads as &Vec<i32> {
            for request in [Self::SEIZE, Self::INTERRUPT] {
                // SAFETY: neither request touches memory of this process.
                let done = unsafe { ptrace(request, thread, 0usize, 0usize) };
                assert_eq!(done, 0, "ptrace is not allowed here");
            }
            let mut status = 0;
            // SAFETY: waits for the thread to halt; `status` is a valid place.
            let waited = unsafe { waitpid(thread, &raw mut status, Self::WALL) };
            assert_eq!(waited, thread);
        }
        Debugger(threads)
    }
}

impl Drop for Debugger {
    fn drop(&mut self) {
        for &thread in &self.0 {
            // SAFETY: as above; the thread goes on.
            unsafe { ptrace(Self::DETACH, thread, 0usize, 0usize) };
        }
    }
}

#[test]
fn a_process_in_a_debugger_is_named_and_never_reclaimed_while_the_others_go_on() {
    let (name, pond, monitor) = new_pond("traced");
    let (mut debugged, _) = holder(&name);
    let (mut victim, _) = holder(&name);
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    let mut sink = pond.input("sink.in", &InputConfig::default()).unwrap();
    let debugger = Debugger::halt(debugged.pid);
    assert_eq!(state_of(&monitor, debugged.pid), Some("traced"));
    // Longer than a heartbeat may be late, so that everybody has noticed.
    let age =
        || monitor.snapshot().processes.iter().find(|p| p.pid == debugged.pid).map(|p| p.heartbeat_age_ms);
    eventually("its heartbeat is overdue, and data flows", || {
        let buffer = out.allocate(8).unwrap();
        out.send(buffer).unwrap();
        drop(sink.receive_timeout(DEADLINE).unwrap());
        age().is_some_and(|age_ms| age_ms > 3500)
    });
    assert_eq!(monitor.check().used, 2, "what it holds stays held");
    victim.kill();
    eventually("a dead one is recovered", || state_of(&monitor, victim.pid).is_none());
    assert_eq!((monitor.check().used, state_of(&monitor, debugged.pid)), (1, Some("traced")));
    drop(debugger);
    eventually("it is alive again", || state_of(&monitor, debugged.pid) == Some("live"));
    debugged.tell("go on");
    debugged.expect("given back");
    assert_eq!(monitor.check().used, 0);
}

// ---- the registry lock

/// A pond whose registry lock is in the hands of another process: it says so in shared memory, as if that process had just
/// taken the lock.
fn locked(what: &str) -> (String, Pond, Monitor, Child, Segment, u64) {
    let (name, pond, monitor) = new_pond(what);
    let (owner, slot) = holder(&name);
    let segment = Segment::of(owner.pid);
    // Its watcher and allocator must be done with the lock.
    std::thread::sleep(Duration::from_millis(50));
    segment.set_u32(segment.header("registry_lock"), slot as u32);
    (name, pond, monitor, owner, segment, slot)
}

#[test]
fn the_registry_lock_of_a_killed_owner_is_taken_over() {
    let (_, pond, monitor, mut owner, ..) = locked("lock-dead");
    let waiting = {
        let pond = pond.clone();
        std::thread::spawn(move || pond.declare_block("made", ""))
    };
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiting.is_finished(), "a living owner's lock was taken");
    owner.kill();
    waiting.join().unwrap().unwrap();
    eventually("it is recovered", || monitor.snapshot().processes.len() == 1);
    pond.declare_block("another", "").unwrap();
}

/// As if the stopped process had been changing the connections of these very ports.
#[test]
fn streams_whose_connections_a_stopped_owner_of_the_lock_was_changing_flow_on() {
    let (_, pond, _, owner, segment, slot) = locked("lock-stopped-change");
    let lock = segment.header("registry_lock");
    segment.set_u32(lock, 0);
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    let mut sink = pond.input("sink.in", &InputConfig::default()).unwrap();
    let mut fresh = pond.output("fresh.out", &OutputConfig::default()).unwrap();
    pond.connect("fresh.out", "another.in", &ConnectionConfig::default()).unwrap();
    let mut another = pond.input("another.in", &InputConfig::default()).unwrap();
    let mut allocator = pond.allocator();
    let mut send = |out: &mut millpond_shm::Output| out.try_send(allocator.allocate(8).unwrap());
    send(&mut out).unwrap();
    drop(sink.receive_timeout(DEADLINE).unwrap());
    owner.signal(Signal::STOP);
    segment.set_u32(lock, slot as u32);
    for port in 0..3 {
        let epoch = segment.entry("PortRecord", port, "epoch");
        segment.set_u32(epoch, segment.u32(epoch) + 1);
    }
    // Each of them would have waited for ten seconds, and then have failed.
    for _ in 0..100 {
        send(&mut out).unwrap();
        drop(sink.receive_timeout(DEADLINE).unwrap());
    }
    assert_eq!(sink.receive_timeout(Duration::from_millis(50)).unwrap_err(), ReceiveError::Timeout);
    // One that has never seen its connections takes nothing for unconnected.
    assert_eq!(send(&mut fresh).unwrap_err().reason, SendReason::Full);
    assert_eq!(another.receive_batch(9, &mut Vec::new()).unwrap(), 0);
    assert_eq!(another.try_receive().unwrap_err(), ReceiveError::Empty);
    assert!(segment.u32(lock) & 0x3ff == slot as u32, "the lock was not taken away from a living process");
    owner.signal(Signal::CONT);
    segment.set_u32(lock, 0); // it would have unlocked
    eventually("the connection is seen", || send(&mut fresh).is_ok());
    drop(another.receive_timeout(DEADLINE).unwrap());
    assert_eq!((fresh.connections(), out.connections(), sink.connections()), (1, 1, 1));
}

#[test]
fn the_registry_lock_of_a_stopped_owner_is_an_error_that_names_it_while_data_flows_on() {
    let (_, pond, _, owner, segment, _) = locked("lock-stopped");
    let lock = segment.header("registry_lock");
    segment.set_u32(lock, 0);
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    let mut sink = pond.input("sink.in", &InputConfig::default()).unwrap();
    let buffer = out.allocate(8).unwrap();
    out.send(buffer).unwrap();
    drop(sink.receive_timeout(DEADLINE).unwrap());
    owner.signal(Signal::STOP);
    let slot = pond_slot(&pond, owner.pid);
    segment.set_u32(lock, slot);
    let asking = {
        let pond = pond.clone();
        std::thread::spawn(move || pond.declare_block("made", "").unwrap_err())
    };
    let mut rounds = 0;
    while !asking.is_finished() {
        let buffer = out.allocate(8).unwrap();
        out.send(buffer).unwrap();
        drop(sink.receive_timeout(DEADLINE).unwrap());
        rounds += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(rounds > 100, "data stood still: {rounds} rounds in 10 s");
    let error = asking.join().unwrap();
    assert!(matches!(error, Error::RegistryBusy { pid, .. } if pid == owner.pid), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", owner.pid)) && text.contains("Continue or kill it"),
        "{text}"
    );
    owner.signal(Signal::CONT);
    segment.set_u32(lock, 0); // it would have unlocked
    pond.declare_block("made", "").unwrap();
}

#[test]
fn a_port_that_is_dropped_while_the_registry_cannot_be_had_becomes_free_afterwards() {
    let (name, pond, _, owner, segment, slot) = locked("lock-drop");
    let lock = segment.header("registry_lock");
    segment.set_u32(lock, 0);
    let out = pond.output("source.out", &OutputConfig::default()).unwrap();
    let sink = pond.input("sink.in", &InputConfig::default()).unwrap();
    owner.signal(Signal::STOP);
    segment.set_u32(lock, slot as u32);
    // Each waits for the registry as long as it does, and then goes on.
    let dropping = [std::thread::spawn(move || drop(out)), std::thread::spawn(move || drop(sink))];
    dropping.into_iter().for_each(|thread| thread.join().unwrap());
    owner.signal(Signal::CONT);
    segment.set_u32(lock, 0); // it would have unlocked
    let other = Pond::attach(&name, Role::Block).unwrap();
    eventually("the output is free", || other.output("source.out", &OutputConfig::default()).is_ok());
    eventually("the input is free", || other.input("sink.in", &InputConfig::default()).is_ok());
}

/// No recovery stores such a stage. A stray write did, and the dead process's buffer comes back all the same.
#[test]
fn a_recovery_stage_that_does_not_exist_keeps_nothing() {
    let (name, pond, monitor) = new_pond("stage");
    let (mut child, slot) = holder(&name);
    let segment = Segment::named(pond.name());
    for stage in [4, u32::MAX] {
        segment.set_u32(segment.entry("Process", slot, "recovery_stage"), stage);
        assert_eq!(monitor.check().used, 1);
        child.kill();
        eventually("it is recovered", || monitor.snapshot().processes.len() == 1);
        assert_eq!(monitor.check().used, 0);
        let (next, next_slot) = holder(&name);
        assert_eq!(next_slot, slot);
        child = next;
    }
}

fn pond_slot(pond: &Pond, pid: u32) -> u32 {
    let processes = Monitor::open(pond.name()).unwrap().snapshot().processes;
    processes.iter().find(|p| p.pid == pid).unwrap().slot.into()
}

/// A process that leaves says in its slot that it is dead while it gives back what it held. It lives, and it holds the lock.
#[test]
fn the_registry_lock_of_a_process_on_its_way_out_is_not_taken() {
    let (_, pond, monitor, owner, segment, slot) = locked("lock-leaving");
    let state = segment.entry("Process", slot, "state");
    let live = segment.u64(state);
    segment.set_u64(state, 3 << 56 | live & 0xffff_ffff);
    let waiting = {
        let pond = pond.clone();
        std::thread::spawn(move || pond.declare_block("made", ""))
    };
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(10));
        let held = segment.u32(segment.header("registry_lock")) & 0x3ff;
        assert_eq!(u64::from(held), slot, "the lock was taken from a living process");
        assert_eq!(monitor.check().used, 1, "what a living process holds was given back");
    }
    assert!(!waiting.is_finished());
    segment.set_u64(state, live);
    segment.set_u32(segment.header("registry_lock"), 0);
    waiting.join().unwrap().unwrap();
    drop(owner);
}

#[test]
fn a_registry_lock_that_names_nobody_is_taken() {
    let (_, pond, _, _owner, segment, _) = locked("lock-nobody");
    let lock = segment.header("registry_lock");
    for owner in [200, 255, 1023] {
        segment.set_u32(lock, owner);
        pond.declare_block(&format!("made-{owner}"), "").unwrap();
        assert_eq!(segment.u32(lock) & 0x3ff, 0);
    }
    // Each taking counts, so that a late look at a former owner cannot take the lock from the present one.
    let count = || segment.u32(lock) >> 10 & 0x1f_ffff;
    let before = count();
    pond.declare_block("counted", "").unwrap();
    assert_eq!(count(), before + 1);
}
