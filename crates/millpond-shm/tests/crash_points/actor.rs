//! What a child process does: it takes part in a pond on command, one line of text at a time, and tells what happened to it.
//!
//! Scenarios are written in these commands, so every step that matters is done by a real process that can be killed for real.

use crate::support::Parent;
use millpond_shm::crash_point::{self, CrashPoint, Then};
use millpond_shm::{
    BlockCounters, Buffer, BufferMut, ConnectionConfig, DType, Input, InputConfig, Level, OnReceiverDeath,
    Output, OutputConfig, Policy, Pond, PondConfig, PoolConfig, ReceiveError, Role, Timestamp, Wait,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Bytes and number of the blocks of a test's pond: few, so that shares run out and slots are used again and again.
const BLOCK_BYTES: u64 = 256;
const BLOCKS: u32 = 32;
const TABLE_SLOTS: u32 = 64;

/// What message `sequence` carries: its length and its bytes follow from the number, so a buffer that was given to somebody
/// else too early does not look like the message it was.
fn payload(sequence: u64) -> Vec<u8> {
    let length = 40 + (sequence * 7 % 200) as usize;
    let mut state = sequence.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^= state >> 27;
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Panics (and so fails the test: the process does not end as it should) if the buffer is not what was sent.
fn verify(buffer: &Buffer) -> u64 {
    let sequence = buffer.sequence();
    assert_eq!(buffer.as_bytes(), payload(sequence), "message {sequence} is not what was sent");
    sequence
}

fn filled(output: &mut Output, sequence: u64) -> BufferMut {
    let bytes = payload(sequence);
    let mut buffer = output.allocate_timeout(bytes.len(), crate::support::DEADLINE).expect("a buffer");
    buffer.as_bytes_mut().copy_from_slice(&bytes);
    buffer.set_sequence(sequence);
    buffer
}

/// One received buffer and the port it came from.
type Held = (String, Buffer);

struct Actor {
    parent: Arc<Parent>,
    pond: Option<Pond>,
    outputs: BTreeMap<String, Output>,
    inputs: BTreeMap<String, Input>,
    /// Received and not yet given back, oldest first.
    hand: VecDeque<Held>,
    /// Allocated and never sent.
    spare: Vec<BufferMut>,
    /// Of the blocks it runs.
    counters: Vec<BlockCounters>,
    /// What every crash point had seen when the action began.
    seen_before: Vec<u32>,
}

/// Obeys until killed, or until the parent is gone.
pub fn run(parent: Parent) -> ! {
    let mut actor = Actor {
        parent: Arc::new(parent),
        pond: None,
        outputs: BTreeMap::new(),
        inputs: BTreeMap::new(),
        hand: VecDeque::new(),
        spare: Vec::new(),
        counters: Vec::new(),
        seen_before: vec![0; crash_point::ALL.len()],
    };
    loop {
        let line = actor.parent.listen();
        if line.is_empty() {
            std::process::exit(0);
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        actor.obey(&words);
        actor.parent.say("done");
    }
}

fn number(word: &str) -> u64 {
    word.parse().expect("a number")
}

fn then_of(word: &str) -> Then {
    let all = [Then::Kill, Then::Abort, Then::Segfault, Then::Hang];
    all.into_iter().find(|t| format!("{t:?}") == word).expect("what happens at a crash point")
}

/// Core dumps on, as large as they get; the kernel writes them where the process is.
fn dump_cores_in(directory: &str) {
    std::env::set_current_dir(directory).expect("change the directory");
    let all = rustix::process::getrlimit(rustix::process::Resource::Core).maximum;
    let limit = rustix::process::Rlimit { current: all, maximum: all };
    rustix::process::setrlimit(rustix::process::Resource::Core, limit).expect("switch core dumps on");
}

fn point(index: &str) -> CrashPoint {
    crash_point::ALL[number(index) as usize].0
}

impl Actor {
    fn obey(&mut self, words: &[&str]) {
        match *words {
            ["create", name] => self.create(name),
            ["attach", name] => self.pond = Some(Pond::attach(name, Role::Block).expect("attach")),
            ["leave"] => self.leave(),
            ["leave-ports"] => self.leave_ports(),
            ["connect", from, to, depth, policy] => self.connect(from, to, depth, policy),
            ["disconnect", from, to] => self.tell_result("disconnect", self.pond().disconnect(from, to)),
            ["pool", bytes, blocks] => {
                let pool = PoolConfig::new(number(bytes), number(blocks) as u32);
                self.tell_result("pool", self.pond().add_pool(pool));
            }
            ["remove", block] => self.tell_result("remove", self.pond().remove_block(block)),
            ["stop"] => self.pond().request_stop(),
            ["recover"] => drop(self.pond().recover_dead().expect("recover")),
            ["log", text] => self.pond().log("", Level::Info, text),
            ["own", block] => self.counters.push(self.pond().block_counters(block).expect("own a block")),
            ["create-other", name] => {
                drop(Pond::create(name, &PondConfig::default(), Role::Block).expect("create"));
            }
            ["output", port] => self.open_output(port),
            ["input", port, mode] => self.open_input(port, mode),
            ["close", port] => self.close(port),
            ["advance", port, ns] => self.output(port).advance(Timestamp::Relative(number(ns) as i64)),
            ["send", port, first, count] => self.send(port, number(first), number(count)),
            ["offer", port, sequence] => self.offer(port, number(sequence)),
            ["send-described", port, first, count] => {
                self.send_described(port, number(first), number(count));
            }
            ["send-kept", port, first, count] => self.send_kept(port, number(first), number(count)),
            ["send-batch", port, first, count] => self.send_batch(port, number(first), number(count)),
            ["allocate", port, bytes, count] => self.allocate(port, number(bytes), number(count)),
            ["receive", port, count] => self.receive(port, number(count)),
            ["receive-batch", port, count] => self.receive_batch(port, number(count) as usize),
            ["grab", port, count] => self.grab(port, number(count)),
            ["release", count] => (0..number(count)).for_each(|_| self.release(0)),
            ["release-at", index] => self.release(number(index) as usize),
            ["forward", input, output, count] => self.forward(input, output, number(count)),
            ["follow", port] => self.follow(port),
            ["feed", port, first, count] => self.feed(port, number(first), number(count)),
            ["arm", index, pass, then] => {
                crash_point::arm(point(index), number(pass) as u32, then_of(then));
            }
            ["dump-cores-in", directory] => dump_cores_in(directory),
            ["mark"] => self.seen_before = seen(),
            ["seen"] => self.tell_seen(),
            _ => panic!("no such command: {words:?}"),
        }
    }

    fn pond(&self) -> &Pond {
        self.pond.as_ref().expect("attached")
    }

    fn tell_result(&self, what: &str, result: millpond_shm::Result<()>) {
        match result {
            Ok(()) => self.parent.say(&format!("{what} ok")),
            Err(error) => self.parent.say(&format!("{what} refused: {error}")),
        }
    }

    fn create(&mut self, name: &str) {
        let config =
            PondConfig { pools: vec![PoolConfig::new(BLOCK_BYTES, BLOCKS)], table_slots: TABLE_SLOTS };
        self.pond = Some(Pond::create(name, &config, Role::Block).expect("create"));
    }

    fn leave_ports(&mut self) {
        self.hand.clear();
        self.spare.clear();
        self.inputs.clear();
        self.outputs.clear();
    }

    fn leave(&mut self) {
        self.leave_ports();
        self.counters.clear();
        self.pond = None;
    }

    fn connect(&mut self, from: &str, to: &str, depth: &str, policy: &str) {
        let (policy, on_receiver_death) = match policy {
            "block" => (Policy::Block, OnReceiverDeath::Wait),
            "give-up" => (Policy::Block, OnReceiverDeath::GiveUp),
            "drop-newest" => (Policy::DropNewest, OnReceiverDeath::Wait),
            "drop-oldest" => (Policy::DropOldest, OnReceiverDeath::Wait),
            _ => panic!("no such policy: {policy}"),
        };
        let config = ConnectionConfig {
            depth: Some(number(depth) as u32),
            policy: Some(policy),
            on_receiver_death,
            ..ConnectionConfig::default()
        };
        self.tell_result("connect", self.pond().connect(from, to, &config));
    }

    /// All parties sleep as soon as they wait, so that doorbells are needed and rung.
    fn open_output(&mut self, port: &str) {
        let config = OutputConfig { wait: Wait::Block, ..OutputConfig::default() };
        let output = self.pond().output(port, &config).expect("an output");
        self.outputs.insert(port.to_owned(), output);
    }

    fn open_input(&mut self, port: &str, mode: &str) {
        let config = InputConfig {
            wait: Wait::Block,
            shared: mode == "shared",
            redeliver: mode == "redeliver",
            ..InputConfig::default()
        };
        let input = self.pond().input(port, &config).expect("an input");
        self.inputs.insert(port.to_owned(), input);
    }

    fn close(&mut self, port: &str) {
        self.outputs.remove(port);
        self.inputs.remove(port);
    }

    fn output(&mut self, port: &str) -> &mut Output {
        self.outputs.get_mut(port).expect("an open output")
    }

    fn input(&mut self, port: &str) -> &mut Input {
        self.inputs.get_mut(port).expect("an open input")
    }

    // ---- sending

    fn send(&mut self, port: &str, first: u64, count: u64) {
        let output = self.output(port);
        for sequence in first..first + count {
            let buffer = filled(output, sequence);
            output.send(buffer).expect("send");
        }
    }

    /// Sends one message, or says why not.
    fn offer(&mut self, port: &str, sequence: u64) {
        let output = self.output(port);
        let buffer = filled(output, sequence);
        let said = match output.send_timeout(buffer, crate::support::DEADLINE) {
            Ok(()) => "offer ok".to_owned(),
            Err(error) => format!("offer refused: {}", error.reason),
        };
        self.parent.say(&said);
    }

    /// Sends arrays of two dimensions, stamped by samples, with a span of time.
    fn send_described(&mut self, port: &str, first: u64, count: u64) {
        let output = self.output(port);
        for sequence in first..first + count {
            let mut buffer = filled(output, sequence);
            let rows = buffer.len() as u32;
            buffer.set_array(DType::U8, &[rows, 1]).expect("set an array");
            buffer.set_timestamp(Timestamp::Sample { index: sequence as i64, rate_num: 48_000, rate_den: 1 });
            buffer.set_time_range(Some((sequence as i64, sequence as i64 + 1)));
            output.send(buffer).expect("send");
        }
    }

    /// Keeps a handle of what is sent, so that a reference is added.
    fn send_kept(&mut self, port: &str, first: u64, count: u64) {
        for sequence in first..first + count {
            let output = self.output(port);
            let buffer = filled(output, sequence).freeze();
            let kept = buffer.clone();
            output.send(buffer).expect("send");
            drop(kept);
        }
    }

    fn send_batch(&mut self, port: &str, first: u64, count: u64) {
        let output = self.output(port);
        let mut buffers: VecDeque<Buffer> =
            (first..first + count).map(|sequence| filled(output, sequence).freeze()).collect();
        while !buffers.is_empty() {
            if output.send_batch(&mut buffers).expect("send a batch") == 0 {
                std::thread::yield_now();
            }
        }
    }

    fn allocate(&mut self, port: &str, bytes: u64, count: u64) {
        for _ in 0..count {
            match self.output(port).allocate(bytes as usize) {
                Ok(buffer) => self.spare.push(buffer),
                Err(error) => return self.parent.say(&format!("allocate refused: {error}")),
            }
        }
        self.parent.say("allocate ok");
    }

    /// Sends `count` messages from a thread of its own, then ends the stream.
    fn feed(&mut self, port: &str, first: u64, count: u64) {
        let mut output = self.outputs.remove(port).expect("an open output");
        std::thread::spawn(move || {
            for sequence in first..first + count {
                let buffer = filled(&mut output, sequence);
                output.send(buffer).expect("send");
            }
        });
    }

    // ---- receiving

    fn take_in_hand(&mut self, port: &str, buffer: Buffer) {
        self.parent.say(&took(port, &buffer));
        self.hand.push_back((port.to_owned(), buffer));
    }

    fn receive(&mut self, port: &str, count: u64) {
        for _ in 0..count {
            let buffer = self.input(port).receive().expect("receive");
            self.take_in_hand(port, buffer);
        }
    }

    fn receive_batch(&mut self, port: &str, count: usize) {
        let mut buffers = Vec::new();
        while buffers.len() < count {
            let left = count - buffers.len();
            self.input(port).receive_batch(left, &mut buffers).expect("receive a batch");
        }
        for buffer in buffers {
            self.take_in_hand(port, buffer);
        }
    }

    /// Takes what is there now, at most `count`.
    fn grab(&mut self, port: &str, count: u64) {
        for _ in 0..count {
            match self.input(port).try_receive() {
                Ok(buffer) => self.take_in_hand(port, buffer),
                Err(ReceiveError::SenderDied { .. }) => self.parent.say(&format!("{port} lost its sender")),
                Err(_) => return,
            }
        }
    }

    fn release(&mut self, index: usize) {
        let (port, buffer) = self.hand.remove(index).expect("something in hand");
        let sequence = verify(&buffer);
        self.parent.say(&format!("{port} releasing {sequence}"));
        drop(buffer);
        self.parent.say(&format!("{port} released {sequence}"));
    }

    /// Receives and sends on what was received, without copying it.
    fn forward(&mut self, input: &str, output: &str, count: u64) {
        for _ in 0..count {
            let buffer = self.input(input).receive().expect("receive");
            self.parent.say(&took(input, &buffer));
            self.output(output).send(buffer).expect("forward");
        }
    }

    /// Receives from a thread of its own until the stream ends, and gives back at once.
    fn follow(&mut self, port: &str) {
        let mut input = self.inputs.remove(port).expect("an open input");
        let (parent, port) = (Arc::clone(&self.parent), port.to_owned());
        std::thread::spawn(move || {
            loop {
                match input.receive_timeout(Duration::from_secs(600)) {
                    Ok(buffer) => {
                        verify(&buffer);
                        parent.say(&took(&port, &buffer));
                    }
                    Err(ReceiveError::SenderDied { .. }) => parent.say(&format!("{port} lost its sender")),
                    Err(ReceiveError::EndOfStream) => break,
                    Err(error) => return parent.say(&format!("{port} failed: {error}")),
                }
            }
            drop(input); // somebody else may take the port as soon as this has said so
            parent.say(&format!("{port} ended"));
        });
    }

    // ---- crash points

    fn tell_seen(&self) {
        for (index, (after, before)) in seen().into_iter().zip(&self.seen_before).enumerate() {
            if after > *before {
                self.parent.say(&format!("point {index} {}", after - before));
            }
        }
    }
}

fn seen() -> Vec<u32> {
    crash_point::ALL.iter().map(|(point, _)| crash_point::seen(*point)).collect()
}

fn took(port: &str, buffer: &Buffer) -> String {
    let again = if buffer.redelivered() { " again" } else { "" };
    format!("{port} took {}{again}", verify(buffer))
}
