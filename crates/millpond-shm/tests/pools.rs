//! Pools: which one a buffer comes from, what is said when there is none, pools added while processes run, and memory.

mod support;

use millpond_shm::{
    Allocator, Buffer, BufferMut, ConnectionConfig, Error, InputConfig, Monitor, OutputConfig, Pond,
    PondConfig, PoolConfig, Role,
};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::{Child, DEADLINE, Parent, eventually, is_root, unique_name};

#[test]
#[ignore = "run as a child process by the other tests"]
fn child() {
    let Some((scenario, parent)) = Parent::scenario() else { return };
    match scenario.as_str() {
        "hold" => hold(&parent),
        "allocate all" => allocate_all(&parent),
        "receive sizes" => receive_sizes(&parent),
        "poor" => allocate_until_the_group_is_full(&parent),
        other => panic!("no scenario {other}"),
    }
}

fn pond_of(what: &str, pools: &[(u64, u32)], table_slots: u32) -> Pond {
    let pools = pools.iter().map(|&(bytes, blocks)| PoolConfig::new(bytes, blocks)).collect();
    Pond::create(&unique_name(what), &PondConfig { pools, table_slots }, Role::Worker).unwrap()
}

/// Takes buffers until there is none; the error says so.
fn take_all(allocator: &mut Allocator, bytes: usize) -> (Vec<BufferMut>, Error) {
    let mut taken = Vec::new();
    loop {
        match allocator.allocate(bytes) {
            Ok(buffer) => taken.push(buffer),
            Err(error) => return (taken, error),
        }
    }
}

/// Holds as many buffers as told, until told to let go.
fn hold(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut allocator = pond.allocator();
    let mut held: Vec<BufferMut> =
        (0..parent.number("count")).map(|_| allocator.allocate(1).unwrap()).collect();
    parent.say("held");
    loop {
        match parent.listen().as_str() {
            "drop one" => drop(held.pop().unwrap()),
            "" => return,
            other => panic!("what is {other}?"),
        }
        parent.say("dropped");
    }
}

fn allocate_all(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let (taken, error) = take_all(&mut pond.allocator(), 1);
    parent.say(&taken.len().to_string());
    parent.say(&error.to_string().replace('\n', "|"));
    parent.hang();
}

#[test]
fn the_smallest_pool_that_fits_is_used_and_then_the_next_larger() {
    let pond = pond_of("fit", &[(4096, 16), (256, 16), (65536, 16)], 64);
    let mut allocator = pond.allocator();
    for (bytes, capacity) in
        [(0, 256), (1, 256), (256, 256), (257, 4096), (4096, 4096), (4097, 65536), (65536, 65536)]
    {
        let buffer = allocator.allocate(bytes).unwrap();
        assert_eq!((buffer.len(), buffer.capacity()), (bytes, capacity));
    }
    let (taken, error) = take_all(&mut allocator, 100);
    let capacities: Vec<usize> = taken.iter().map(BufferMut::capacity).collect();
    assert_eq!(capacities, [[256; 16], [4096; 16], [65536; 16]].concat(), "each pool in turn");
    assert!(matches!(error, Error::PoolExhausted { .. }));
    assert!(matches!(allocator.allocate(5000), Err(Error::PoolExhausted { .. })));
    drop(taken);
    let again = allocator.allocate(100).unwrap();
    assert_eq!(again.capacity(), 256, "back in the fitting pool as soon as it has one");
}

#[test]
fn a_buffer_that_no_pool_can_ever_hold_is_refused_at_once() {
    let pond = pond_of("large", &[(256, 16), (4096, 16)], 64);
    let start = Instant::now();
    for result in [
        pond.allocator().allocate(4097),
        pond.allocator().allocate(usize::MAX),
        pond.allocator().allocate_timeout(4097, DEADLINE),
    ] {
        let error = result.err().unwrap();
        assert!(matches!(error, Error::BufferTooLarge { largest: 4096, .. }), "{error:?}");
        assert!(error.to_string().contains("add a pool with larger blocks"), "{error}");
    }
    assert!(start.elapsed() < DEADLINE / 2, "it waited for what cannot come");
    let none = pond_of("none", &[], 64);
    assert!(matches!(none.allocator().allocate(1), Err(Error::BufferTooLarge { largest: 0, .. })));
}

#[test]
fn exhaustion_says_what_and_who_holds_it_and_where_the_free_ones_are() {
    let pond = pond_of("exhausted", &[(256, 64)], 64);
    let name = pond.name().to_owned();
    let monitor = Monitor::open(&name).unwrap();
    // One holds 5 (its share of 8 or so has free slots), some lie in a queue, the rest is ours.
    let mut holder = Child::spawn("hold", &[("pond", &name), ("count", "5")]);
    holder.expect("held");
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    for _ in 0..3 {
        let buffer = out.allocate(1).unwrap();
        out.send(buffer).unwrap();
    }
    let (taken, error) = take_all(out.allocator(), 200);
    let text = error.to_string();
    println!("{text}");
    let report = monitor.check();
    assert_eq!((report.used, report.queued), (taken.len() as u64 + 8, 3));
    let in_theirs = 64 - report.used;
    for part in [
        format!("pond `{name}`: no free buffer for 200 bytes"),
        "64 blocks of 256 bytes".to_owned(),
        format!("{} held by process {}", taken.len(), std::process::id()),
        format!("5 held by process {}", holder.pid),
        "3 queued from source.out to sink.in".to_owned(),
        format!("{in_theirs} free in the share of process {}", holder.pid),
    ] {
        assert!(text.contains(&part), "no `{part}` in: {text}");
    }
    assert!(in_theirs > 0 && in_theirs <= 8, "{in_theirs} free slots are out of reach");
    assert_eq!(monitor.snapshot().pools[0].exhausted, 1);
    assert!(out.try_allocate(200).unwrap().is_none());
    assert!(matches!(out.try_allocate(257), Err(Error::BufferTooLarge { .. })));
    assert_eq!(monitor.snapshot().pools[0].exhausted, 2);
    // What it had is ours once it is dead: its share, and what it held.
    holder.kill();
    eventually("all but ours is free", || monitor.check().used == taken.len() as u64 + 3);
    let (more, _) = take_all(out.allocator(), 200);
    assert_eq!(taken.len() + more.len() + 3, 64);
}

#[test]
fn a_small_pool_is_not_one_processs_alone() {
    for blocks in [1, 2, 4, 7, 8, 12, 15, 16, 33] {
        let pond = pond_of("small", &[(256, blocks)], 64);
        let (taken, _) = take_all(&mut pond.allocator(), 1);
        assert_eq!(taken.len(), blocks as usize, "one process could not have all of {blocks}");
        drop(taken);
        // Others get something, although we had all and may want it again.
        let mut other = Child::spawn("allocate all", &[("pond", pond.name())]);
        let got: usize = other.line().parse().unwrap();
        println!("{blocks} blocks: another process gets {got}, then {}", other.line());
        assert!(got >= (blocks as usize).div_ceil(8), "of {blocks} blocks another process gets {got}");
    }
}

#[test]
fn what_a_dropped_allocator_left_is_found_by_the_next_one() {
    let pond = pond_of("stock", &[(256, 64)], 64);
    let (mut taken, _) = take_all(&mut pond.allocator(), 1);
    assert_eq!(taken.len(), 64);
    // Whichever of them is given back: the process has it, so an allocator of the process finds it.
    for at in [0, 63, 17, 40, 5, 60] {
        taken.remove(at.min(taken.len() - 1));
        let mut fresh = pond.allocator();
        let buffer = fresh.allocate(1).unwrap_or_else(|e| panic!("slot {at} was not found: {e}"));
        taken.push(buffer);
        assert!(matches!(fresh.allocate(1), Err(Error::PoolExhausted { .. })));
    }
}

fn receive_sizes(parent: &Parent) {
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut input = pond.input("sink.in", &InputConfig::default()).unwrap();
    parent.say("ready");
    while let Ok(buffer) = input.receive() {
        assert!(buffer.as_bytes().iter().all(|b| *b == 7));
        parent.say(&buffer.len().to_string());
    }
    // It allocates from it as well.
    parent.say(&pond.allocator().allocate(100_000).unwrap().capacity().to_string());
}

#[test]
fn a_pool_added_while_others_run_is_found_by_them() {
    let pond = pond_of("added", &[(256, 16)], 64);
    pond.connect("source.out", "sink.in", &ConnectionConfig::default()).unwrap();
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    let mut sink = Child::spawn("receive sizes", &[("pond", pond.name())]);
    sink.expect("ready");
    let mut send = |bytes: usize, sink: &mut Child| {
        let mut buffer = out.allocate(bytes).unwrap();
        buffer.as_bytes_mut().fill(7);
        out.send(buffer).unwrap();
        sink.expect(&bytes.to_string());
    };
    send(200, &mut sink);
    pond.add_pool(PoolConfig::new(100_000, 8)).unwrap();
    send(100_000, &mut sink);
    send(10, &mut sink);
    pond.add_pool(PoolConfig::new(1000, 8)).unwrap();
    send(999, &mut sink);
    out.finish();
    drop(out);
    sink.expect("100000");
    let sizes: Vec<u64> =
        Monitor::open(pond.name()).unwrap().snapshot().pools.iter().map(|p| p.block_bytes).collect();
    assert_eq!(sizes, [256, 100_000, 1000]);
}

#[test]
fn the_table_of_buffers_limits_all_pools_together() {
    let pond = pond_of("table", &[(256, 60)], 64);
    let error = pond.add_pool(PoolConfig::new(256, 5)).unwrap_err();
    println!("{error}");
    for part in [pond.name(), "4 free of 64 slots", "more table slots", "found 5 blocks"] {
        assert!(error.to_string().contains(part), "no `{part}` in: {error}");
    }
    pond.add_pool(PoolConfig::new(256, 4)).unwrap();
    assert!(matches!(pond.add_pool(PoolConfig::new(256, 1)), Err(Error::InvalidConfig { .. })));
    let config = PondConfig { pools: vec![PoolConfig::new(256, 65)], table_slots: 64 };
    let name = unique_name("table-create");
    assert!(matches!(Pond::create(&name, &config, Role::Worker), Err(Error::InvalidConfig { .. })));
    assert!(
        matches!(Pond::attach(&name, Role::Worker), Err(Error::PondNotFound { .. })),
        "half a pond stayed"
    );
    for (bytes, blocks) in [(0, 1), ((1 << 39) + 1, 1), (256, 0)] {
        let error = pond.add_pool(PoolConfig::new(bytes, blocks)).unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { .. }), "{error:?}");
    }
}

#[test]
fn there_can_be_64_pools() {
    let pools: Vec<(u64, u32)> = (1..=64).map(|i| (64 * i, 2)).collect();
    let pond = pond_of("64", &pools, 256);
    let mut allocator = pond.allocator();
    for i in 1..=64 {
        assert_eq!(allocator.allocate(64 * i - 10).unwrap().capacity(), 64 * i);
    }
    let error = pond.add_pool(PoolConfig::new(1 << 20, 2)).unwrap_err();
    assert!(matches!(error, Error::TableFull { what: "pool", limit: 64, .. }), "{error:?}");
}

#[test]
fn a_million_buffers() {
    const SLOTS: u32 = 1 << 20;
    let pond = pond_of("million", &[(64, SLOTS)], SLOTS);
    let monitor = Monitor::open(pond.name()).unwrap();
    let mut holder = Child::spawn("hold", &[("pond", pond.name()), ("count", "1000")]);
    holder.expect("held");
    let mut allocator = pond.allocator();
    let mut buffers: Vec<Buffer> = Vec::new();
    for i in 0..50_000u64 {
        let mut buffer = allocator.allocate(8).unwrap();
        buffer.set_sequence(i);
        buffers.push(buffer.freeze());
    }
    let mut ids: Vec<u64> = buffers.iter().map(|b| b.id().0).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 50_000, "a buffer was given out twice");
    assert!(buffers.iter().zip(0..).all(|(b, i)| b.sequence() == i));
    holder.kill();
    eventually("recovered", || monitor.snapshot().recoveries == 1);
    drop(buffers);
    let report = monitor.check();
    assert_eq!((report.slots, report.used), (u64::from(SLOTS), 0));
    assert!(report.is_clean(), "{:?}", report.problems);
}

#[test]
fn a_timed_allocation_is_released_by_a_release() {
    let pond = pond_of("timed", &[(256, 64)], 64);
    let mut holder = Child::spawn("hold", &[("pond", pond.name()), ("count", "1")]);
    holder.expect("held");
    let mut allocator = pond.allocator();
    let (taken, _) = take_all(&mut allocator, 1);
    let start = Instant::now();
    let error = allocator.allocate_timeout(1, Duration::from_millis(50)).err().unwrap();
    assert!(matches!(error, Error::PoolExhausted { .. }), "{error:?}");
    assert!(start.elapsed() >= Duration::from_millis(50));
    let (told, tell) = std::sync::mpsc::channel();
    let releaser = std::thread::spawn(move || {
        tell.recv().unwrap();
        let mut taken: Vec<BufferMut> = taken;
        taken.pop();
        taken
    });
    told.send(()).unwrap();
    assert!(allocator.allocate_timeout(1, DEADLINE).is_ok());
    drop(releaser.join().unwrap());
}

#[test]
fn a_timed_allocation_is_released_by_the_death_of_a_holder() {
    let pond = pond_of("death", &[(256, 64)], 64);
    let mut holder = Child::spawn("allocate all", &[("pond", pond.name())]);
    assert_eq!(holder.line(), "64");
    let waiting = std::thread::spawn({
        let mut allocator = pond.allocator();
        move || {
            let start = Instant::now();
            allocator.allocate_timeout(1, DEADLINE).map(|_| start.elapsed())
        }
    });
    holder.kill();
    let waited = waiting.join().unwrap().unwrap();
    assert!(waited < DEADLINE / 2, "{waited:?}");
}

#[test]
fn a_timed_allocation_ends_when_the_pond_is_asked_to_stop() {
    let pond = pond_of("stop", &[(256, 16)], 64);
    let (_taken, _) = take_all(&mut pond.allocator(), 1);
    let waiting = std::thread::spawn({
        let mut allocator = pond.allocator();
        move || allocator.allocate_timeout(1, DEADLINE).err()
    });
    pond.request_stop();
    assert!(matches!(waiting.join().unwrap(), Some(Error::PoolExhausted { .. })));
}

#[test]
fn more_memory_than_there_is_is_an_error() {
    let pond = pond_of("absurd", &[(256, 16)], 1 << 16);
    // More than the machine has; more than a file can have; more than 64 bits can count.
    for (bytes, blocks, variant) in [(1 << 39, 4, "OutOfMemory"), (1 << 39, 60_000, "OutOfMemory")] {
        let error = pond.add_pool(PoolConfig::new(bytes, blocks)).unwrap_err();
        println!("{error}");
        assert!(format!("{error:?}").starts_with(variant), "{error:?}");
        for part in [pond.name(), "bytes wanted", "available", "make pools smaller"] {
            assert!(error.to_string().contains(part), "no `{part}` in: {error}");
        }
    }
    // Nothing of them stayed, and the pond goes on.
    assert_eq!(Monitor::open(pond.name()).unwrap().snapshot().pools.len(), 1);
    pond.add_pool(PoolConfig::new(512, 16)).unwrap();
    assert_eq!(pond.allocator().allocate(512).unwrap().capacity(), 512);
    let name = unique_name("absurd-create");
    let config = PondConfig { pools: vec![PoolConfig::new(1 << 39, 4)], table_slots: 64 };
    assert!(matches!(Pond::create(&name, &config, Role::Worker), Err(Error::OutOfMemory { .. })));
    assert!(matches!(Pond::attach(&name, Role::Worker), Err(Error::PondNotFound { .. })));
}

#[test]
fn memory_is_taken_share_by_share() {
    // 512 MiB that nobody uses cost nothing; a buffer costs a share.
    let pond = pond_of("lazy", &[(1 << 20, 512)], 512);
    let monitor = Monitor::open(pond.name()).unwrap();
    let committed = || {
        let pool = &monitor.snapshot().pools[0];
        pool.shares.iter().filter(|s| s.committed).map(|s| s.blocks).sum::<u32>()
    };
    assert_eq!(committed(), 0);
    let mut allocator = pond.allocator();
    let buffer = allocator.allocate(1).unwrap();
    assert_eq!(committed(), 8, "one of 64 shares");
    drop(buffer);
    for _ in 0..100 {
        drop(allocator.allocate(1).unwrap());
    }
    assert_eq!(committed(), 8, "one buffer at a time needs no more");
}

/// A memory cgroup of its own, removed when dropped. `None`: this machine lets nobody make one here.
struct Group(PathBuf);

impl Group {
    fn new(limit: u64) -> Option<Group> {
        let name = unique_name("group");
        let v1 = PathBuf::from("/sys/fs/cgroup/memory").join(&name);
        let v2 = PathBuf::from("/sys/fs/cgroup").join(&name);
        let (path, file) = if v1.parent()?.join("memory.limit_in_bytes").exists() {
            (v1, "memory.limit_in_bytes")
        } else {
            (v2, "memory.max")
        };
        fs::create_dir(&path).ok()?;
        let group = Group(path);
        fs::write(group.0.join(file), limit.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It can be removed once its last process is reaped.
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn allocate_until_the_group_is_full(parent: &Parent) {
    fs::write(parent.get("group"), std::process::id().to_string()).unwrap();
    let pond = Pond::attach(parent.get("pond"), Role::Block).unwrap();
    let mut allocator = pond.allocator();
    let mut taken: Vec<BufferMut> = Vec::new();
    let error = loop {
        match allocator.allocate(1 << 20) {
            // Every byte is written: there is memory behind what was given.
            Ok(mut buffer) => {
                buffer.as_bytes_mut().fill(1);
                taken.push(buffer);
            }
            Err(error) => break error,
        }
    };
    parent.say(&taken.len().to_string());
    parent.say(&error.to_string());
    let refused = pond.add_pool(PoolConfig::new(1 << 20, 128)).unwrap_err();
    parent.say(&refused.to_string());
    parent.hang();
}

#[test]
fn a_cgroups_limit_is_an_error_and_not_a_killed_process() {
    if !is_root("a memory cgroup") {
        return;
    }
    let Some(group) = Group::new(96 << 20) else {
        println!("skipped: no memory cgroup can be made here");
        return;
    };
    let pond = pond_of("poor", &[(1 << 20, 256)], 1024);
    let procs = group.0.join("cgroup.procs");
    let mut poor = Child::spawn("poor", &[("pond", pond.name()), ("group", procs.to_str().unwrap())]);
    let taken: u64 = poor.line().parse().unwrap();
    let (exhausted, refused) = (poor.line(), poor.line());
    println!("{taken} MiB, then: {exhausted}\n{refused}");
    assert!((20..96).contains(&taken), "{taken} MiB of 96");
    for error in [exhausted, refused] {
        for part in ["no memory for", pond.name(), "bytes wanted", "available", "cgroup"] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
    }
    // Whoever is not in the group goes on.
    assert!(pond.allocator().allocate(1 << 20).is_ok());
    poor.kill();
}
