//! One process with many threads: the same code, and what ThreadSanitizer looks at (scripts/sanitizers).

use millpond_shm::{
    Buffer, ConnectionConfig, Input, InputConfig, Monitor, Output, OutputConfig, Policy, Pond, PondConfig,
    PoolConfig, ReceiveError, Role,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);
const COUNT: u64 = 3000;

fn new_pond(policy: Policy, depth: u32) -> (Pond, Monitor) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t-threads-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let config = PondConfig { pools: vec![PoolConfig::new(64, 64)], table_slots: 64 };
    let pond = Pond::create(&name, &config, Role::Worker).unwrap();
    let config = ConnectionConfig { depth: Some(depth), policy: Some(policy), ..ConnectionConfig::default() };
    pond.connect("source.out", "sink.in", &config).unwrap();
    let monitor = Monitor::open(&name).unwrap();
    (pond, monitor)
}

fn output(pond: &Pond) -> Output {
    pond.output("source.out", &OutputConfig::default()).unwrap()
}

fn send_all(mut out: Output) {
    for i in 0..COUNT {
        let mut buffer = out.allocate_timeout(64, DEADLINE).unwrap();
        buffer.as_bytes_mut().fill(i as u8);
        buffer.set_sequence(i);
        out.send_timeout(buffer, DEADLINE).unwrap();
    }
}

fn check(buffer: &Buffer) -> u64 {
    let number = buffer.sequence();
    assert_eq!(buffer.as_bytes(), [number as u8; 64], "somebody wrote into {number}");
    number
}

fn receive_all(mut input: Input) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match input.receive_timeout(DEADLINE) {
            Ok(buffer) => numbers.push(check(&buffer)),
            Err(ReceiveError::EndOfStream) => return numbers,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn one_thread_to_another() {
    let (pond, monitor) = new_pond(Policy::Block, 8);
    let input = pond.input("sink.in", &InputConfig::default()).unwrap();
    let out = output(&pond);
    let receiver = std::thread::spawn(move || receive_all(input));
    let sender = std::thread::spawn(move || send_all(out));
    sender.join().unwrap();
    assert_eq!(receiver.join().unwrap(), (0..COUNT).collect::<Vec<_>>());
    assert_eq!(monitor.check().used, 0);
}

#[test]
fn one_thread_to_three_that_compete() {
    for policy in [Policy::Block, Policy::DropOldest] {
        let (pond, monitor) = new_pond(policy, 8);
        let shared = InputConfig { shared: true, ..InputConfig::default() };
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let input = pond.input("sink.in", &shared).unwrap();
                std::thread::spawn(move || receive_all(input))
            })
            .collect();
        send_all(output(&pond));
        let mut all: Vec<u64> = receivers.into_iter().flat_map(|r| r.join().unwrap()).collect();
        all.sort_unstable();
        let dropped = monitor.snapshot().connections[0].dropped_oldest;
        assert!(all.windows(2).all(|w| w[0] < w[1]), "{policy:?}: doubled");
        assert_eq!(all.len() as u64 + dropped, COUNT, "{policy:?}");
        assert_eq!(monitor.check().used, 0);
    }
}

/// Clones are read and dropped by other threads; what is then alone is rewritten in place.
#[test]
fn clones_in_several_threads() {
    let (pond, monitor) = new_pond(Policy::Block, 4);
    let mut input = pond.input("sink.in", &InputConfig::default()).unwrap();
    let out = output(&pond);
    let sender = std::thread::spawn(move || send_all(out));
    let (to_reader, reads) = std::sync::mpsc::sync_channel::<Buffer>(4);
    let reader = std::thread::spawn(move || reads.iter().map(|b| check(&b)).collect::<Vec<_>>().len());
    let mut allocator = pond.allocator();
    let mut rewritten = 0;
    for i in 0..COUNT {
        let buffer = input.receive_timeout(DEADLINE).unwrap();
        assert_eq!(check(&buffer), i);
        to_reader.send(buffer.clone()).unwrap();
        match buffer.try_into_mut() {
            Ok(mut alone) => {
                alone.as_bytes_mut().fill(!(i as u8));
                rewritten += 1;
            }
            Err(shared) => {
                if let Ok(mut copy) = shared.into_mut(&mut allocator) {
                    copy.as_bytes_mut().fill(!(i as u8));
                }
            }
        }
    }
    drop(to_reader);
    assert_eq!(reader.join().unwrap() as u64, COUNT);
    println!("{rewritten} were alone");
    sender.join().unwrap();
    assert_eq!(monitor.check().used, 0);
}
