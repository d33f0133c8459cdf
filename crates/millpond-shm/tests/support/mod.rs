//! What the tests share: ponds in a directory of their own, and real child processes that are gone when a test ends.
//!
//! A child is this very test program, run again for the one ignored test `child`, which looks up the scenario in an environment
//! variable. Parent and child talk in lines: the child prints, the parent answers.

#![allow(dead_code, reason = "each test program uses its own part")]

pub mod segment;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Long enough for the noisiest machine; nothing waits this long unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

const SCENARIO: &str = "MILLPOND_TEST_CHILD";
const PARAMETERS: &str = "MILLPOND_TEST_PARAMETERS";

/// A name that no other test uses.
pub fn unique_name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Whether this test program runs as root; if not, says which test is left out for it.
pub fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped, needs root: {what}");
    }
    root
}

/// A directory of its own, owner-only, gone when dropped.
pub struct TemporaryDirectory(pub PathBuf);

impl TemporaryDirectory {
    pub fn new() -> TemporaryDirectory {
        let path = std::env::temp_dir().join(unique_name("dir"));
        std::fs::DirBuilder::new().mode(0o700).create(&path).expect("make a directory");
        TemporaryDirectory(path)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "still not after {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// This test program, to be started again.
pub fn own_program() -> PathBuf {
    std::env::current_exe().expect("own path")
}

/// A child process; killed and reaped when dropped.
pub struct Child {
    process: std::process::Child,
    input: ChildStdin,
    lines: Receiver<String>,
    pub pid: u32,
}

impl Child {
    /// Runs `scenario` of this test program in a process of its own.
    pub fn spawn(scenario: &str, parameters: &[(&str, &str)]) -> Child {
        Child::spawn_by(Command::new(own_program()), scenario, parameters)
    }

    /// As `spawn`, started by a command of the caller's: with another environment, user, or under another program.
    pub fn spawn_by(mut command: Command, scenario: &str, parameters: &[(&str, &str)]) -> Child {
        let encoded: Vec<String> = parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
        command
            .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(SCENARIO, scenario)
            .env(PARAMETERS, encoded.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command.spawn().expect("start a child");
        let input = process.stdin.take().expect("its input");
        let output: ChildStdout = process.stdout.take().expect("its output");
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The test runner's own lines are not the child's.
                let said = line.split_once("> ").filter(|(head, _)| head.ends_with("child"));
                if said.is_some_and(|(_, said)| send.send(said.to_owned()).is_err()) {
                    return;
                }
            }
        });
        let pid = process.id();
        Child { process, input, lines, pid }
    }

    /// The child's next line; fails the test if it ends or takes too long.
    pub fn line(&mut self) -> String {
        self.line_or_end().unwrap_or_else(|| panic!("the child ended: {:?}", self.process.wait()))
    }

    /// The child's next line; `None` once it has ended and everything that it said has been heard.
    pub fn line_or_end(&mut self) -> Option<String> {
        match self.lines.recv_timeout(DEADLINE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => panic!("the child said nothing for {DEADLINE:?}"),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Waits for this very line.
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.line(), line);
    }

    pub fn tell(&mut self, line: &str) {
        self.try_tell(line).expect("tell the child");
    }

    /// As `tell`; an error if it has ended.
    pub fn try_tell(&mut self, line: &str) -> std::io::Result<()> {
        writeln!(self.input, "{line}")
    }

    /// A real SIGKILL, reaped, so that the kernel has given everything back that it gives back.
    pub fn kill(&mut self) {
        self.process.kill().expect("kill the child");
        assert_eq!(self.wait().signal(), Some(9), "the child did not die by SIGKILL");
    }

    /// Ends it, whether it lives or has died already, and reaps it.
    pub fn kill_or_reap(&mut self) {
        let _ = self.process.kill();
        self.wait();
    }

    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("wait for the child") {
                return status;
            }
            assert!(start.elapsed() < DEADLINE, "the child has not ended after {DEADLINE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("look at the child")
    }

    /// Stops it by SIGSTOP, and waits until every thread of it stands still.
    pub fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
        eventually("the process is stopped", || self.is_in_state('T'));
    }

    /// Whether all its threads are in this state (field 3 of `/proc/PID/task/TID/stat`).
    pub fn is_in_state(&self, state: char) -> bool {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else { return false };
        tasks.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(state))
        })
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid as i32).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("signal the child");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // If it was the last of its pond, nobody else removes the entry by which that was found.
        let _ = millpond_shm::clean();
    }
}

/// In the child: the parameters, and how to talk to the parent.
pub struct Parent {
    parameters: BTreeMap<String, String>,
}

impl Parent {
    /// The scenario this process was started for, if it is a child.
    pub fn scenario() -> Option<(String, Parent)> {
        let scenario = std::env::var(SCENARIO).ok()?;
        let parameters = std::env::var(PARAMETERS).unwrap_or_default();
        let parameters = parameters
            .lines()
            .filter_map(|l| l.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        Some((scenario, Parent { parameters }))
    }

    pub fn get(&self, name: &str) -> &str {
        self.parameters.get(name).unwrap_or_else(|| panic!("no parameter {name}"))
    }

    pub fn number(&self, name: &str) -> u64 {
        self.get(name).parse().expect("a number")
    }

    pub fn say(&self, line: &str) {
        println!("child> {line}");
        std::io::stdout().flush().expect("talk to the parent");
    }

    /// The parent's next line; empty when the parent is gone.
    pub fn listen(&self) -> String {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("listen to the parent");
        line.trim().to_owned()
    }

    /// Sleeps until killed, or until the parent is gone.
    pub fn hang(&self) -> ! {
        while !self.listen().is_empty() {}
        std::process::exit(0)
    }
}
