//! One run over corrupted shared memory: a small pond with everything in it, then a script of stray writes and operations.
//!
//! Shared by the fuzz target `fuzz/fuzz_targets/segment.rs` and by this crate's tests. Whatever is written, no operation may panic,
//! hang, or touch memory that is not the pond's; what it answers does not matter.

use millpond_shm::{
    Buffer, ConnectionConfig, Input, InputConfig, Monitor, Output, OutputConfig, Policy, Pond, PondConfig,
    PoolConfig, Role, StreamFormat, Timestamp, clean, layout, list,
};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Fields that are left alone: the lock word, since waiting 10 s for a living owner is what it is for (tests/processes.rs corrupts it).
const LEFT_ALONE: [&str; 1] = ["registry_lock"];

struct Struct {
    name: String,
    /// Of its table, and bytes and number of entries.
    offset: u64,
    bytes: u64,
    entries: u64,
    left_alone: Vec<std::ops::Range<u64>>,
}

/// The tables, from the generated page; offsets are those of a pond of 4096 slots.
fn structs() -> &'static [Struct] {
    static STRUCTS: OnceLock<Vec<Struct>> = OnceLock::new();
    STRUCTS.get_or_init(|| {
        let page = layout::describe();
        let rows = |text: &str| -> Vec<Vec<String>> {
            let cells = |l: &str| l.split('|').map(|c| c.trim().trim_matches('`').to_owned()).collect();
            text.lines().filter(|l| l.starts_with("| ")).map(cells).collect()
        };
        let parse = |s: &String| s.parse::<u64>().ok();
        rows(page.split("\n## ").next().unwrap_or_default())
            .into_iter()
            .filter_map(|row| {
                let (offset, entries, bytes) = (parse(&row[1])?, parse(&row[2])?, parse(&row[3])?);
                let name = row[4].clone();
                let section = page.split("\n## ").find(|s| s.starts_with(&format!("{name} "))).unwrap_or("");
                let left_alone = rows(section)
                    .into_iter()
                    .filter(|f| LEFT_ALONE.contains(&f[3].as_str()))
                    .filter_map(|f| Some(parse(&f[1])?..parse(&f[1])? + parse(&f[2])?))
                    .collect();
                Some(Struct { name, offset, bytes, entries, left_alone })
            })
            .collect()
    })
}

/// The script: bytes that are used up.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(f, r)| (*f, r));
        self.0 = rest;
        first
    }

    fn number(&mut self, bytes: usize) -> u64 {
        (0..bytes).fold(0, |n, _| n << 8 | u64::from(self.byte()))
    }

    /// A value that is likely to be at an edge.
    fn value(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(self.byte()),
            3 => u64::MAX - u64::from(self.byte()),
            4 => 1 << (self.byte() % 64),
            5 => (1u64 << (self.byte() % 64)).wrapping_sub(1),
            6 => self.number(4),
            _ => self.number(8),
        }
    }
}

struct Scene {
    pond: Pond,
    outputs: Vec<Output>,
    inputs: Vec<Input>,
    held: Vec<Buffer>,
    monitor: Monitor,
    guest: Option<Pond>,
    segment: File,
}

/// Runs one script.
pub fn run(input: &[u8]) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("fuzz-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut scene = Scene::set(&name);
    let untouched = scene.untouched();
    let mut script = Script(input);
    for _ in 0..64 {
        if script.0.is_empty() {
            break;
        }
        scene.act(&mut script);
    }
    // All of it once more, then everybody leaves.
    for action in 0..ACTIONS {
        scene.operate(action, &mut script);
    }
    scene.held.clear();
    scene.mend(&untouched);
}

const ACTIONS: u8 = 18;

impl Scene {
    fn set(name: &str) -> Scene {
        let config =
            PondConfig { pools: vec![PoolConfig::new(64, 24), PoolConfig::new(256, 8)], table_slots: 4096 };
        let pond = Pond::create(name, &config, Role::Worker).expect("make a pond");
        let connect = |from, to, policy, depth| {
            let config =
                ConnectionConfig { depth: Some(depth), policy: Some(policy), ..ConnectionConfig::default() };
            pond.connect(from, to, &config).expect("connect");
        };
        connect("a.out", "b.in", Policy::Block, 4);
        connect("a.out", "c.in", Policy::DropOldest, 2);
        connect("d.out", "b.in", Policy::DropNewest, 3);
        connect("d.out", "e.in", Policy::Block, 8);
        let mut outputs: Vec<Output> = ["a.out", "d.out"]
            .map(|port| {
                let format = StreamFormat { description: "unit = \"V\"".into(), ..StreamFormat::default() };
                pond.output(port, &OutputConfig { format, ..OutputConfig::default() }).expect("an output")
            })
            .into();
        let open = |port, shared, redeliver| {
            pond.input(port, &InputConfig { shared, redeliver, ..InputConfig::default() }).expect("an input")
        };
        let mut inputs =
            vec![open("b.in", false, false), open("c.in", true, false), open("e.in", false, true)];
        let mut held = Vec::new();
        for (i, out) in [0, 1, 0].into_iter().enumerate() {
            let mut buffer = outputs[out].allocate(32).expect("a buffer");
            buffer.set_sequence(i as u64);
            buffer.set_timestamp(Timestamp::Absolute(7));
            outputs[out].try_send(buffer).expect("send");
        }
        held.extend(inputs[0].try_receive().ok());
        held.extend(inputs[2].try_receive().ok());
        let monitor = Monitor::open(name).expect("a monitor");
        let segment = own_segment(name);
        Scene { pond, outputs, inputs, held, monitor, guest: None, segment }
    }

    /// A stray write, or an operation.
    fn act(&mut self, script: &mut Script<'_>) {
        let what = script.byte();
        if what >= 128 {
            return self.operate(what % ACTIONS, script);
        }
        let tables = structs();
        let table = &tables[usize::from(what) % tables.len()];
        // The first entries are those in use.
        let entry = u64::from(script.byte()) % table.entries.min(32);
        let wide = script.byte();
        let at = script.number(2) % table.bytes / 4 * 4;
        let value = script.value();
        let bytes = if wide.is_multiple_of(2) {
            value.to_le_bytes().to_vec()
        } else {
            (value as u32).to_le_bytes().to_vec()
        };
        let spared = |r: &std::ops::Range<u64>| at < r.end && at + bytes.len() as u64 > r.start;
        if !table.left_alone.iter().any(spared) && at + bytes.len() as u64 <= table.bytes {
            let _ = self.segment.write_all_at(&bytes, table.offset + entry * table.bytes + at);
        }
    }

    fn operate(&mut self, action: u8, script: &mut Script<'_>) {
        match action {
            0 | 1 => {
                let out = &mut self.outputs[usize::from(action)];
                if let Ok(mut buffer) = out.allocate(usize::from(script.byte())) {
                    buffer.as_bytes_mut().fill(1);
                    let _ = out.try_send(buffer);
                }
                black_box((out.can_send(), out.connections()));
            }
            2..=4 => {
                let input = &mut self.inputs[usize::from(action) - 2];
                if let Ok(buffer) = input.try_receive() {
                    look_at(&buffer);
                    self.held.push(buffer);
                }
                black_box((input.has_news(), input.queued(), input.format()));
            }
            5 => {
                let mut batch = Vec::new();
                for input in &mut self.inputs {
                    let _ = input.receive_batch(5, &mut batch);
                }
                batch.iter().for_each(look_at);
            }
            6 => {
                let out = &mut self.outputs[0];
                let mut batch: VecDeque<Buffer> =
                    (0..3).filter_map(|_| out.allocate(8).ok()).map(|b| b.freeze()).collect();
                let _ = out.send_batch(&mut batch);
            }
            7 => {
                let _ = black_box(self.monitor.snapshot());
            }
            8 => {
                let _ = black_box(self.monitor.check());
            }
            9 => drop(self.held.pop()),
            10 => {
                let _ = self.pond.recover_dead();
            }
            11 => self.guest = Pond::attach(self.pond.name(), Role::Tool).ok(),
            12 => {
                if let Some(guest) = &self.guest {
                    let _ = guest.recover_dead();
                    let _ = guest.allocator().allocate(100).map(|b| look_at(&b.freeze()));
                }
            }
            13 => {
                let _ = self.pond.connect("a.out", "e.in", &ConnectionConfig::default());
                let _ = self.pond.disconnect("a.out", "c.in");
            }
            14 => {
                let _ = self.pond.add_pool(PoolConfig::new(128, 4));
                let _ = self.pond.declare_block("f", "kind");
                let _ = self.pond.remove_block("c");
            }
            15 => {
                if let Some(buffer) = self.held.pop() {
                    let _ = buffer.into_mut(self.outputs[0].allocator()).map(|b| black_box(b.len()));
                }
            }
            16 => {
                let buffer = self.outputs[1].allocate_timeout(16, Duration::from_millis(1));
                if let Ok(buffer) = buffer {
                    let _ = self.outputs[1].send_timeout(buffer, Duration::from_millis(1));
                }
                let _ = self.inputs[0].receive_timeout(Duration::from_millis(1)).map(|b| look_at(&b));
            }
            _ => {
                let _ = black_box((list(), clean()));
                self.outputs[1].finish();
            }
        }
    }

    /// What must be as it was for this process to leave: who takes part.
    fn untouched(&self) -> Vec<u8> {
        let processes = structs().iter().find(|s| s.name == "Process").expect("a table of processes");
        let mut bytes = vec![0; (processes.bytes * processes.entries) as usize];
        self.segment.read_exact_at(&mut bytes, processes.offset).expect("read the segment");
        bytes
    }

    /// A corrupt table would keep this process attached until it exits, as it should; but it goes on with the next script.
    fn mend(self, untouched: &[u8]) {
        let table = |name: &str| structs().iter().find(|s| s.name == name).expect("a table");
        drop(self.guest);
        let slots = table("SlotRecord");
        let zeros = vec![0; (slots.bytes * 64) as usize];
        let _ = self.segment.write_all_at(&zeros, slots.offset);
        let _ = self.segment.write_all_at(untouched, table("Process").offset);
    }
}

fn look_at(buffer: &Buffer) {
    black_box(buffer.as_bytes().iter().map(|b| u64::from(*b)).sum::<u64>());
    black_box((buffer.dtype(), buffer.shape(), buffer.timestamp(), buffer.time_range()));
    black_box((
        buffer.sequence(),
        buffer.id(),
        buffer.references(),
        buffer.as_slice::<f64>().map(<[f64]>::len).ok(),
    ));
}

/// The control segment of the pond of that name, through this process's own descriptor.
fn own_segment(name: &str) -> File {
    let page = layout::describe();
    let header = page.split("\n## ").find(|s| s.starts_with("Header ")).expect("a header");
    let row = header.lines().find(|l| l.contains("| `name` |")).expect("a name");
    let at: u64 = row.split('|').nth(1).and_then(|c| c.trim().parse().ok()).expect("an offset");
    let stored = [&(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
    let found = std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten().find_map(|fd| {
        let link = std::fs::read_link(fd.path()).ok()?;
        let ours = link.to_string_lossy().starts_with("/memfd:millpond-control");
        let file = ours.then(|| OpenOptions::new().read(true).write(true).open(fd.path()).ok())??;
        let mut bytes = vec![0; stored.len()];
        file.read_exact_at(&mut bytes, at).ok()?;
        (bytes == stored).then_some(file)
    });
    found.expect("the pond's segment")
}
