//! A place of its own for each test of a peer's program, which shows what the program leaves behind.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Names in shared memory begin so.
const FAMILIES: [&str; 2] = ["mpcmp", "mpbst"];
const PATIENCE: Duration = Duration::from_secs(60);

/// A temporary directory for one test, which everything goes to that is not in shared memory. Removed when dropped.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        // Short: the names of sockets in it are limited.
        let place = std::env::temp_dir().join(format!("pt-{}-{name}", std::process::id()));
        // Only for this user: Millpond meets nowhere else.
        DirBuilder::new().mode(0o700).create(&place).expect("the directory is new");
        Self(place)
    }

    pub fn start(&self, program: &Path, arguments: &str) -> Child {
        Command::new(program)
            .args(arguments.split(' '))
            .env("TMPDIR", &self.0)
            .env("MILLPOND_RUNTIME_DIR", &self.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// Runs a measurement for a moment and checks that nothing is left of it.
    pub fn measure(&self, program: &Path, arguments: &str) -> Value {
        let child = self.start(program, &format!("{arguments} --json"));
        let pid = child.id();
        let output = child.wait_with_output().expect("the program ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {arguments}: {} {said}", program.display(), output.status);
        self.assert_clean(pid);
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    }

    /// How many files there are, here and of this process in shared memory.
    pub fn left(&self, pid: u32) -> usize {
        entries(&self.0).len() + shared_memory_of(pid).len()
    }

    pub fn assert_clean(&self, pid: u32) {
        assert_eq!(entries(&self.0), Vec::<PathBuf>::new());
        assert_eq!(shared_memory_of(pid), Vec::<PathBuf>::new());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the directory exists");
    // A file of somebody else may go at any time.
    entries.flatten().map(|entry| entry.path()).collect()
}

pub fn shared_memory_of(pid: u32) -> Vec<PathBuf> {
    let is_of = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        FAMILIES.iter().any(|family| name.starts_with(&format!("{family}-{pid}-")))
    };
    entries(Path::new("/dev/shm")).into_iter().filter(is_of).collect()
}

pub fn is_above_zero(result: &Value, key: &str) -> bool {
    result[key].as_f64().is_some_and(|value| value > 0.0)
}

/// Waits until `condition` holds, and fails after a minute.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        thread::sleep(Duration::from_millis(20));
    }
}
