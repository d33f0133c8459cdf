//! Starting `millpond run` in a directory and a rendezvous directory of its own, and watching it from outside.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a condition may take: long, because the machine may be busy; a test that passes never waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The path of an example of the repository.
pub fn example(name: &str) -> String {
    format!("{}/../../examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A directory of its own for one test, removed at its end.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("millpond-run-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, file: &str, text: &str) -> String {
        let path = self.path(file);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running `millpond run`.
pub struct Pipeline {
    directory: Directory,
    child: Running,
    stdout: Collected,
    stderr: Collected,
}

/// The process of a run. A test that fails before it has waited for the end leaves nothing behind: the blocks end with their
/// supervisor.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a stream has carried so far.
struct Collected {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Collected {
    fn new(stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                collected.lock().expect("the text").push_str(&line);
                line.clear();
            }
        });
        Self { text, reader }
    }

    fn so_far(&self) -> String {
        self.text.lock().expect("the text").clone()
    }

    fn all(self) -> String {
        self.reader.join().expect("the reader");
        self.text.lock().expect("the text").clone()
    }
}

impl Pipeline {
    /// Runs a pipeline file in a directory of its own.
    pub fn start(file: &str, options: &[&str]) -> Self {
        Self::start_in(Directory::new(), file, options)
    }

    /// Runs a pipeline file in this directory.
    pub fn start_in(directory: Directory, file: &str, options: &[&str]) -> Self {
        let mut child = command(&directory).args(["run", file]).args(options).spawn().expect("millpond");
        let stdout = Collected::new(child.stdout.take().expect("stdout"));
        let stderr = Collected::new(child.stderr.take().expect("stderr"));
        Self { directory, child: Running(child), stdout, stderr }
    }

    /// Runs another `millpond` to its end, which sees the same ponds.
    pub fn another(&self, arguments: &[&str]) -> End {
        let output = command(&self.directory).args(arguments).output().expect("millpond");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        End {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            directory: Directory::new(),
        }
    }

    /// Starts another `millpond` that goes on, and sees the same ponds.
    pub fn start_another(&self, arguments: &[&str]) -> Running {
        let mut command = command(&self.directory);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Running(command.args(arguments).spawn().expect("millpond"))
    }

    /// Where it runs.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// After its program was killed: waits until it is gone.
    pub fn wait_for_death(&mut self) {
        self.child.0.wait().expect("a status");
    }

    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// The contents of a file in the run's directory; empty if there is none.
    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.directory.path(file)).unwrap_or_default()
    }

    /// The size of a file in the run's directory in bytes; 0 if there is none.
    pub fn size(&self, file: &str) -> u64 {
        std::fs::metadata(self.directory.path(file)).map_or(0, |metadata| metadata.len())
    }

    /// The latest process of a block, as the run tells it; waits for the first one.
    pub fn pid_of(&mut self, block: &str) -> i32 {
        let mut pids = HashMap::new();
        wait_until(&format!("`{block}` has a process"), || {
            let told = self.stdout.so_far();
            for (name, pid) in told.lines().filter_map(|line| line.split_once(": process ")) {
                pids.insert(name.to_owned(), pid.parse().expect("a pid"));
            }
            pids.contains_key(block)
        });
        pids[block]
    }

    /// Waits until the progress shows that a block has taken or sent something.
    pub fn has_moved(&self, block: &str) {
        wait_until(&format!("`{block}` has moved something"), || {
            let shown = self.stdout.so_far();
            let mut counts = shown.lines().filter_map(|line| line.split_once(&format!("  {block} ")));
            counts.any(|(_, rest)| !rest.starts_with("0 "))
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child.0), signal).expect("it is running");
    }

    /// Processor time that the program itself has taken so far, in hundredths of a second.
    pub fn cpu_ticks(&self) -> u64 {
        let fields = stat(self.child.0.id().cast_signed()).expect("it is running");
        // utime and stime, the 14th and 15th of all, of which two are not here.
        fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
    }

    /// Waits for its end. All its processes must have ended, and nothing may be left of its pond.
    #[track_caller]
    pub fn wait(mut self) -> End {
        let mut status = None;
        wait_until("the run ends", || {
            status = self.child.0.try_wait().expect("a status");
            status.is_some()
        });
        let stdout = self.stdout.all();
        for pid in stdout.lines().filter_map(|line| line.split_once(": process ")?.1.parse().ok()) {
            wait_until(&format!("process {pid} has ended"), || !is_alive(pid));
        }
        let code = status.and_then(|status| status.code());
        if code.is_some() {
            let ponds = std::fs::read_dir(self.directory.path("ponds")).map_or(0, |entries| {
                entries
                    .filter(|entry| {
                        entry.as_ref().is_ok_and(|e| !e.file_name().to_string_lossy().contains("lock"))
                    })
                    .count()
            });
            assert_eq!(ponds, 0, "a pond is left behind");
        }
        End { code, stdout, stderr: self.stderr.all(), directory: self.directory }
    }
}

fn command(directory: &Directory) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
    let ponds = directory.path("ponds");
    command.current_dir(&directory.0).env("MILLPOND_RUNTIME_DIR", ponds);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What is left of a run.
pub struct End {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    directory: Directory,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {:?}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

impl End {
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path(file)
    }

    pub fn bytes(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).expect("a file")
    }

    pub fn rows(&self, file: &str) -> Rows {
        let text = String::from_utf8(self.bytes(file)).expect("text");
        let mut lines =
            text.split_terminator("\r\n").map(|line| line.split(',').map(str::to_owned).collect());
        Rows { header: lines.next().expect("a header"), rows: lines.collect() }
    }

    /// A number from a row of the summary's table of connections.
    #[track_caller]
    pub fn count_of(&self, connection: &str, column: usize) -> u64 {
        let row =
            self.stdout.lines().find_map(|line| line.trim_start().strip_prefix(connection)).expect("a row");
        row.split_whitespace().nth(column).and_then(|count| count.parse().ok()).expect("a number")
    }
}

/// A CSV file without quoted fields.
pub struct Rows {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Rows {
    /// The values of a column, empty fields left out.
    #[track_caller]
    pub fn column(&self, name: &str) -> Vec<f64> {
        let index = self.header.iter().position(|header| header == name).expect("a column");
        let fields = self.rows.iter().map(|row| row[index].as_str()).filter(|field| !field.is_empty());
        fields.map(|field| field.parse().expect("a number")).collect()
    }
}

pub fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("it is running");
}

/// Whether the process exists and has not ended.
pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// Whether the process sleeps, or has ended.
pub fn is_idle(pid: i32) -> bool {
    state(pid).is_none_or(|state| state == 'S' || state == 'Z')
}

fn state(pid: i32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// The fields of /proc/PID/stat behind the name.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(") ")?.1.split_whitespace().map(str::to_owned).collect())
}

/// Writes a WAV file of noise that has every kind of sample, the largest and smallest among them.
pub fn write_wav(path: &std::path::Path, (bits, float): (u16, bool), channels: u16, frames: u32) {
    let sample_format = if float { hound::SampleFormat::Float } else { hound::SampleFormat::Int };
    let spec = hound::WavSpec { channels, sample_rate: 44_100, bits_per_sample: bits, sample_format };
    let mut writer = hound::WavWriter::create(path, spec).expect("a file");
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for index in 0..frames * u32::from(channels) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let word = random as u32;
        let written = if float {
            // Any bits: infinities and NaNs, too.
            writer.write_sample(f32::from_bits(word))
        } else {
            let (min, max) = (i32::MIN >> (32 - bits), i32::MAX >> (32 - bits));
            writer.write_sample(match index {
                0 => min,
                1 => max,
                _ => (word as i32) >> (32 - bits),
            })
        };
        written.expect("a sample");
    }
    writer.finalize().expect("a file");
}
