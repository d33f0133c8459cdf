//! A place for the files of a test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Numbers directories, so that tests of one process can run side by side.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory that is removed with everything in it when this is dropped.
#[derive(Debug)]
pub(crate) struct TempDir {
    directory: PathBuf,
}

impl TempDir {
    pub(crate) fn new() -> Self {
        let name = format!("millpond-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a temporary directory");
        Self { directory }
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
