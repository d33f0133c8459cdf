//! What a pond can hold at most, and the error at each limit. docs/limits.md lists them; limits that belong to another subject have
//! their tests there (processes, pools, references, competing consumers).

#[path = "support/segment.rs"]
mod segment;

use millpond_shm::{
    Buffer, ConnectionConfig, Error, InputConfig, OutputConfig, Pond, PondConfig, PoolConfig, Role,
    StreamFormat, Wait, layout,
};
use segment::Segment;
use std::sync::atomic::{AtomicU32, Ordering};

fn pond_of(what: &str, pools: &[(u64, u32)], table_slots: u32) -> Pond {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let pools = pools.iter().map(|&(bytes, blocks)| PoolConfig::new(bytes, blocks)).collect();
    Pond::create(&name, &PondConfig { pools, table_slots }, Role::Worker).unwrap()
}

fn assert_full(result: millpond_shm::Result<()>, what: &str, limit: usize) {
    let error = result.unwrap_err();
    let text = error.to_string();
    let Error::TableFull { what: found, limit: reported, .. } = error else { panic!("{error:?}") };
    assert_eq!((found, reported), (what, limit));
    assert!(text.contains(&format!("all {limit} are in use; ")), "{text}");
}

#[test]
fn blocks() {
    let pond = pond_of("blocks", &[], 1);
    for i in 0..layout::MAX_BLOCKS {
        pond.declare_block(&format!("b{i}"), "kind").unwrap();
    }
    assert_full(pond.declare_block("another", ""), "block", 1024);
    pond.declare_block("b7", "").unwrap();
    pond.remove_block("b7").unwrap();
    pond.declare_block("another", "").unwrap();
}

#[test]
fn ports() {
    let pond = pond_of("ports", &[], 1);
    let open = |name: &str| pond.input(name, &InputConfig::default()).map(drop);
    for i in 0..layout::MAX_PORTS {
        open(&format!("b{}.p{}", i % 64, i / 64)).unwrap();
    }
    assert_full(open("b0.another"), "port", 4096);
    open("b0.p0").unwrap();
    pond.remove_block("b0").unwrap();
    open("b1.another").unwrap();
}

#[test]
fn connections() {
    let pond = pond_of("connections", &[], 1);
    let small = ConnectionConfig { depth: Some(1), ..ConnectionConfig::default() };
    let connect = |i: usize| pond.connect(&format!("o{}.out", i / 14), &format!("i{}.in", i % 14), &small);
    for i in 0..layout::MAX_CONNECTIONS {
        connect(i).unwrap();
    }
    assert_full(connect(layout::MAX_CONNECTIONS), "connection", 4096);
    pond.disconnect("o0.out", "i0.in").unwrap();
    connect(layout::MAX_CONNECTIONS).unwrap();
    // One output feeds at most as many as a buffer has references, less one for whoever holds it, and less the allocator's.
    let error = pond.connect("o1.out", "another.in", &small).unwrap_err().to_string();
    assert!(error.contains("at most 14 connections from one output"), "{error}");
}

#[test]
fn waiting_parties() {
    let pond = pond_of("waiters", &[], 1);
    let mut waiters: Vec<_> = (1..layout::MAX_WAITERS).map(|_| pond.waiter(Wait::Block).unwrap()).collect();
    assert_full(pond.waiter(Wait::Block).map(drop), "waiter", 4095);
    waiters.pop();
    pond.waiter(Wait::Block).unwrap();
}

#[test]
fn mailboxes_and_their_labels() {
    let pond = pond_of("mailboxes", &[], 1);
    let mut mailboxes: Vec<_> = (0..layout::MAX_MAILBOXES).map(|_| pond.mailbox("m").unwrap()).collect();
    assert_full(pond.mailbox("m").map(drop), "mailbox", 512);
    mailboxes.pop();
    mailboxes.push(pond.mailbox("m").unwrap());
    let labelled = &mut mailboxes[0];
    labelled.add_label(&"l".repeat(160)).unwrap();
    for label in ["", &"l".repeat(161)] {
        let error = labelled.add_label(label).unwrap_err().to_string();
        assert!(error.contains(&format!("it has {} bytes; 1 to 160 are allowed", label.len())), "{error}");
    }
}

#[test]
fn depth_of_a_queue() {
    let pond = pond_of("depth", &[(8, 4000)], 4000);
    for depth in [0, layout::MAX_DEPTH + 1] {
        let config = ConnectionConfig { depth: Some(depth), ..ConnectionConfig::default() };
        let error = pond.connect("source.out", "sink.in", &config).unwrap_err().to_string();
        assert!(error.contains("a depth of 1 to 524288") && error.contains(&depth.to_string()), "{error}");
    }
    let config = ConnectionConfig { depth: Some(layout::MAX_DEPTH), ..ConnectionConfig::default() };
    pond.connect("source.out", "sink.in", &config).unwrap();
    let mut out = pond.output("source.out", &OutputConfig::default()).unwrap();
    let mut sink = pond.input("sink.in", &InputConfig::default()).unwrap();
    // Filling all of it takes minutes in a debug build; what is queued here is far more than any default.
    for _ in 0..4000 {
        let buffer = out.allocate(4).unwrap();
        out.try_send(buffer).unwrap();
    }
    assert_eq!(sink.queued(), 4000);
    let mut received = 0;
    let mut batch: Vec<Buffer> = Vec::new();
    while sink.receive_batch(64, &mut batch).unwrap() > 0 {
        received += batch.drain(..).count();
    }
    assert_eq!(received, 4000);
}

/// The rings of all connections share 1 GiB. One is made to look as if it had nearly all of it, so that no such memory is needed.
#[test]
fn room_for_queues() {
    let pond = pond_of("rings", &[], 1);
    pond.connect("a.out", "b.in", &ConnectionConfig::default()).unwrap();
    let segment = Segment::named(pond.name());
    segment.set_u32(segment.entry("LaneRecord", 0, "ring_cells"), (1 << 27) - 32);
    let error = pond.connect("c.out", "d.in", &ConnectionConfig::default()).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("a connection's queue of 256 entries") && text.contains("(1 GiB) is used up"),
        "{text}"
    );
}

#[test]
fn a_frame_of_one_gibibyte() {
    const BYTES: usize = 1 << 30;
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let available = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse().ok());
    if available.is_none_or(|kib: u64| kib < 3 << 20) {
        println!("skipped: needs 3 GiB of memory");
        return;
    }
    let pond = pond_of("gibibyte", &[(BYTES as u64, 1)], 1);
    pond.connect("camera.out", "viewer.in", &ConnectionConfig::default()).unwrap();
    let mut out = pond.output("camera.out", &OutputConfig::default()).unwrap();
    let mut viewer = pond.input("viewer.in", &InputConfig::default()).unwrap();
    let mut frame = out.allocate(BYTES).unwrap();
    let bytes = frame.as_bytes_mut();
    for at in [0, BYTES / 2, BYTES - 1] {
        bytes[at] = (at % 251) as u8 + 1;
    }
    out.send(frame).unwrap();
    let frame = viewer.receive().unwrap();
    assert_eq!(frame.len(), BYTES);
    for at in [0, BYTES / 2, BYTES - 1] {
        assert_eq!(frame.as_bytes()[at], (at % 251) as u8 + 1);
    }
    let error = out.allocate(BYTES + 1).unwrap_err().to_string();
    assert!(error.contains("1073741825 bytes is larger than the largest block"), "{error}");
    for (bytes, blocks, part) in
        [(0, 1, "found 0 bytes"), ((1 << 39) + 1, 1, "1 byte to 512 GiB"), (1, 0, "found 0 blocks")]
    {
        let error = pond.add_pool(PoolConfig::new(bytes, blocks)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn names_and_descriptions() {
    let pond = pond_of("names", &[(64, 4)], 4);
    let (longest, too_long) = ("x".repeat(64), "x".repeat(65));
    pond.declare_block(&longest, "").unwrap();
    let mut out = pond.output(&format!("{longest}.{longest}"), &OutputConfig::default()).unwrap();
    for error in [
        pond.declare_block(&too_long, "").unwrap_err(),
        pond.output(&format!("b.{too_long}"), &OutputConfig::default()).err().unwrap(),
        pond.connect(&format!("{too_long}.out"), "b.in", &ConnectionConfig::default()).unwrap_err(),
    ] {
        assert!(error.to_string().contains("65 bytes, at most 64 are allowed"), "{error}");
    }
    let format = |description: String, shape: Vec<u32>| OutputConfig {
        format: StreamFormat { description, shape, ..StreamFormat::default() },
        ..OutputConfig::default()
    };
    pond.output("c.out", &format("d".repeat(448), vec![1; 6])).unwrap();
    for (config, part) in [
        (format("d".repeat(449), Vec::new()), "at most 448 bytes"),
        (format(String::new(), vec![1; 7]), "at most 6 dimensions"),
    ] {
        let error = pond.output("c.out", &config).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
    let error = out.allocate(8).unwrap().set_array(millpond_shm::DType::U8, &[1; 7]).unwrap_err();
    assert!(error.to_string().contains("at most 6 dimensions"), "{error}");
}

/// The generation is half of a buffer's id and nothing else: after 2^32 allocations of a slot it begins again.
#[test]
fn generations_begin_again() {
    let pond = pond_of("generations", &[(64, 4)], 4);
    let segment = Segment::named(pond.name());
    let mut allocator = pond.allocator();
    drop(allocator.allocate(8).unwrap());
    for slot in 0..4 {
        segment.set_u32(segment.entry("SlotRecord", slot, "generation"), u32::MAX - 1);
    }
    let mut generations = Vec::new();
    for _ in 0..4 * 3 {
        let buffer = allocator.allocate(8).unwrap();
        generations.push(buffer.id().0 >> 32);
    }
    assert!(generations.contains(&u64::from(u32::MAX)) && generations.contains(&0), "{generations:?}");
    assert!(generations.iter().all(|g| [u64::from(u32::MAX), 0, 1].contains(g)), "{generations:?}");
}
