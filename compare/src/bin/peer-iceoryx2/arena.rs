//! A private corner for one run: its own file prefix and its own directory.
//!
//! iceoryx2 names its files in `/dev/shm` by a prefix and keeps the rest under a root directory. Each
//! run uses a prefix and a root of its own, so it neither sees nor disturbs another iceoryx2 system
//! on the machine, and whatever its processes leave behind (one mode kills a process on purpose) can
//! be found by name and removed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use iceoryx2::prelude::{Config, FileName, SemanticString};
use serde::{Deserialize, Serialize};

/// Start of every prefix. Short, since iceoryx2 puts socket names under the root and the system
/// limits those to 108 bytes.
const FAMILY: &str = "mpcmp-";

/// Where glibc and musl place POSIX shared memory on Linux.
const SHARED_MEMORY: &str = "/dev/shm";

/// The lock file inside the root. Whoever holds its lock is still running.
const LOCK: &str = "lock";

/// The name of an arena, as it is told to the child processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArenaName {
    prefix: String,
    root: PathBuf,
}

impl ArenaName {
    /// The iceoryx2 configuration that stays inside this arena. It starts from the built-in defaults
    /// and not from a configuration file that may happen to be installed.
    pub fn config(&self) -> Result<Config> {
        let mut config = Config::default();
        let root = self.root.to_str().ok_or_else(|| anyhow!("{} is not UTF-8", self.root.display()))?;
        let root = iceoryx2::prelude::Path::new(root.as_bytes())
            .map_err(|error| anyhow!("iceoryx2 refuses the directory {root}: {error:?}"))?;
        config.global.set_root_path(&root);
        config.global.prefix = FileName::new(self.prefix.as_bytes())
            .map_err(|error| anyhow!("iceoryx2 refuses the prefix {}: {error:?}", self.prefix))?;
        Ok(config)
    }
}

/// The arena of this run. Dropping it removes every file that belongs to it.
#[derive(Debug)]
pub struct Arena {
    name: ArenaName,
    /// Held locked for the whole run.
    _lock: File,
}

impl Arena {
    /// Makes a new arena, after removing those of runs that were killed before they could clean up.
    pub fn create() -> Result<Self> {
        let directory = std::env::temp_dir();
        remove_abandoned(&directory);

        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let prefix = format!("{FAMILY}{}-{:x}-", std::process::id(), now.subsec_nanos());
        let root = directory.join(&prefix);
        fs::create_dir(&root).with_context(|| format!("cannot create {}", root.display()))?;
        let lock = lock(&root).with_context(|| format!("cannot lock {}", root.display()))?;
        Ok(Self { name: ArenaName { prefix, root }, _lock: lock })
    }

    /// What the child processes need to know.
    pub fn name(&self) -> &ArenaName {
        &self.name
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Err(error) = remove_files(&self.name.prefix, &self.name.root) {
            eprintln!("peer-iceoryx2: cannot clean up {}: {error}", self.name.root.display());
        }
    }
}

fn lock(root: &Path) -> io::Result<File> {
    let file = File::create_new(root.join(LOCK))?;
    file.lock()?;
    Ok(file)
}

/// Removes what runs killed by SIGKILL left in `directory`. Being unable to do so is no reason not
/// to measure, so it is only reported.
fn remove_abandoned(directory: &Path) {
    for root in entries_with_prefix(directory, FAMILY).unwrap_or_default() {
        let Some(prefix) = root.file_name().and_then(|name| name.to_str()) else { continue };
        if is_abandoned(&root)
            && let Err(error) = remove_files(prefix, &root)
        {
            eprintln!("peer-iceoryx2: cannot remove the old {}: {error}", root.display());
        }
    }
}

/// Whether nobody holds the lock of the arena at `root`. An arena without a lock file is left alone:
/// it may be a few microseconds old.
fn is_abandoned(root: &Path) -> bool {
    match File::open(root.join(LOCK)).map(|file| file.try_lock()) {
        Ok(Ok(())) => true,
        Ok(Err(TryLockError::WouldBlock | TryLockError::Error(_))) | Err(_) => false,
    }
}

/// Removes the shared memory named by `prefix`, and then `root`: in this order, so that an
/// interrupted removal is found again by the next run.
fn remove_files(prefix: &str, root: &Path) -> io::Result<()> {
    for file in entries_with_prefix(Path::new(SHARED_MEMORY), prefix)? {
        match fs::remove_file(file) {
            // Somebody else cleaned up as well.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    fs::remove_dir_all(root)
}

fn entries_with_prefix(directory: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}
