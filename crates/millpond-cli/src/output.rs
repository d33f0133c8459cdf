//! Writing results to standard output and to files.

use std::fs::Metadata;
use std::io::{ErrorKind, Write as _, stdout};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::args::UsageError;

/// Writes `text` to standard output. A reader that went away (`millpond ps | head -1`) is not a failure.
///
/// # Errors
/// Any other failure to write.
pub fn print(text: &str) -> std::io::Result<()> {
    print_while_read(text).map(drop)
}

/// As [`print`]; false if the reader went away.
///
/// # Errors
/// See [`print`].
pub fn print_while_read(text: &str) -> std::io::Result<bool> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            let problem = format!("cannot write to standard output: {error}");
            Err(std::io::Error::new(error.kind(), problem))
        }
        Ok(()) => Ok(true),
    }
}

/// Writes `value` as one pretty-printed JSON document.
///
/// # Errors
/// See [`print`].
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))?;
    Ok(())
}

/// Looks whether a file that is to be written is the one that is read, by whatever names: it would be lost.
///
/// # Errors
/// It is.
pub fn check_is_not(input: &Path, output: &Path) -> Result<(), UsageError> {
    // Devices and pipes can be both.
    let file = |path: &Path| {
        let known = std::fs::metadata(path).ok().filter(Metadata::is_file);
        known.map(|known| (known.dev(), known.ino()))
    };
    match file(output) {
        Some(known) if file(input) == Some(known) => {
            let path = output.display();
            Err(UsageError(format!("OUTPUT is INPUT: {path} would be overwritten while it is read")))
        }
        _ => Ok(()),
    }
}
