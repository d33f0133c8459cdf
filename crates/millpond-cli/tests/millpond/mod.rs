//! The program as a user runs it, in a runtime directory of its own so that tests do not meet.

#![allow(dead_code, reason = "each test program uses a part")]

use std::fs::DirBuilder;
use std::io::Read as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

/// Long beside anything that happens here, also on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A private place for ponds, removed when dropped.
pub struct Millpond {
    directory: PathBuf,
}

/// A pond that was found, with those who were in it.
pub struct Pond {
    pub name: String,
    pids: Vec<Pid>,
}

impl Pond {
    /// Waits until the kernel has finished with all of its processes, which takes a moment after a SIGKILL.
    pub fn wait_for_end(&self) {
        for &pid in &self.pids {
            // Not by its state in /proc: a process whose first thread has ended may still have others.
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            let ended = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).expect("a pidfd can be polled");
            assert_eq!(ended, 1);
        }
    }
}

/// What a run left on the screen.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Millpond {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("millpond-test-{}-{number}", std::process::id()));
        Self { directory }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millpond"));
        command
            .args(arguments.split_whitespace())
            .env("MILLPOND_RUNTIME_DIR", &self.directory)
            .stdin(Stdio::null());
        command
    }

    /// Types a line into a shell in the directory, for what a shell does with a program's files.
    pub fn shell(&self, line: &str) -> Done {
        DirBuilder::new().mode(0o700).recursive(true).create(&self.directory).expect("a directory");
        let programs = Path::new(env!("CARGO_BIN_EXE_millpond")).parent().expect("a directory");
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).env("PATH", path).env("MILLPOND_RUNTIME_DIR", &self.directory);
        shell.current_dir(&self.directory).output().expect("a shell").into()
    }

    /// Runs to the end.
    pub fn run(&self, arguments: &str) -> Done {
        self.command(arguments).output().expect("the program starts").into()
    }

    /// Starts and goes on.
    pub fn start(&self, arguments: &str) -> Running {
        let mut command = self.command(arguments);
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        Running { child }
    }

    /// Waits until a pond with several processes can be found.
    pub fn wait_for_pond(&self) -> Pond {
        let mut found = Pond { name: String::new(), pids: Vec::new() };
        wait_until("a pond with several processes", || {
            let ponds: Value = serde_json::from_str(&self.run("ps --json").stdout).unwrap_or_default();
            let pond = &ponds["ponds"][0];
            found.name = pond["name"].as_str().unwrap_or_default().to_owned();
            let processes = pond["processes"].as_array().into_iter().flatten();
            found.pids =
                processes.filter_map(|process| Pid::from_raw(process["pid"].as_i64()? as i32)).collect();
            found.pids.len() > 1
        });
        found
    }

    /// No process that was started here is left, and no trace of a pond.
    pub fn assert_nothing_left(&self) {
        self.assert_no_process_left();
        let left: Vec<_> = std::fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "pond"))
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    /// Every process that was started here has ended, or does so in a moment.
    pub fn assert_no_process_left(&self) {
        wait_until("all processes to end", || processes_with(&self.directory).is_empty());
    }
}

impl Drop for Millpond {
    fn drop(&mut self) {
        // Of a test that has failed: blocks whose supervisor was killed end by themselves, and use the directory until then.
        let start = Instant::now();
        let is_used = || !processes_with(&self.directory).is_empty();
        while std::thread::panicking() && is_used() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A program that was started; killed when dropped.
pub struct Running {
    child: Child,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// As Ctrl-C does.
    pub fn interrupt(self) -> Done {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
        self.wait()
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.wait();
    }

    /// As a reader that goes away.
    pub fn close_stdout(&mut self) {
        self.child.stdout = None;
    }

    pub fn wait(mut self) -> Done {
        let mut done = Done { code: None, stdout: String::new(), stderr: String::new() };
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut done.stdout).expect("text");
        }
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut done.stderr).expect("text");
        }
        done.code = self.child.wait().expect("it ends").code();
        done
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < PATIENCE, "waited for {what} for {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes whose environment names the directory, zombies not counted (they have none any more).
fn processes_with(directory: &Path) -> Vec<PathBuf> {
    let wanted = format!("MILLPOND_RUNTIME_DIR={}", directory.display());
    let names_it = |process: &PathBuf| {
        let environment = std::fs::read(process.join("environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| Some(entry.ok()?.path()));
    processes.filter(names_it).collect()
}
