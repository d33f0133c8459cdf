//! Files that blocks read and write: what is told when that fails.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::{Error, Result};

/// Opens a file to read. While it is open, [`create`] refuses to overwrite it.
///
/// # Errors
/// If there is none, or it is a directory.
pub(super) fn open(path: &str) -> Result<File> {
    let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        // Reading would only fail later.
        true => Err(ErrorKind::IsADirectory.into()),
        false => Ok(file),
    });
    let file = opened.map_err(|error| cannot_read(path, error))?;
    // Only against the block that would overwrite it. Some file systems know no locks, and what a block still writes may be read.
    let _ = file.try_lock_shared();
    Ok(file)
}

/// Makes a file to write, without contents.
///
/// # Errors
/// If it cannot be written, or a block reads it: that would lose what is not read yet.
pub(super) fn create(path: &str) -> Result<File> {
    let failed = |error| cannot_write(path, error);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() {
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(Error::Refused(format!(
                "write {path}: another block reads this file, and would lose what it has not read yet: write to another file"
            )));
        }
        file.set_len(0).map_err(failed)?;
        // It may be read from now on.
        let _ = file.unlock();
    }
    Ok(file)
}

/// What the system said when a file was to be read, and what to do about it.
pub(super) fn cannot_read(path: &str, error: io::Error) -> Error {
    let advice = match error.kind() {
        ErrorKind::NotFound if Path::new(path).is_relative() => match std::env::current_dir() {
            Ok(directory) => format!("; it is looked for in {}", directory.display()),
            Err(_) => String::new(),
        },
        ErrorKind::NotFound => "; is the path right?".to_owned(),
        ErrorKind::PermissionDenied => "; may this user read it?".to_owned(),
        _ => String::new(),
    };
    failed("read", path, error, &advice)
}

/// What the system said when a file was to be written, and what to do about it.
pub(super) fn cannot_write(path: &str, error: io::Error) -> Error {
    let advice = match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "; does the directory exist?",
        ErrorKind::PermissionDenied => "; may this user write there?",
        ErrorKind::StorageFull => "; make room, or write elsewhere",
        _ => "",
    };
    failed("write", path, error, advice)
}

fn failed(doing: &str, path: &str, error: io::Error, advice: &str) -> Error {
    match error.kind() {
        ErrorKind::IsADirectory => {
            Error::Refused(format!("{doing} {path}: expected a file, found a directory"))
        }
        _ => Error::Refused(format!("{doing} {path}: {error}{advice}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp_dir::TempDir;

    #[test]
    fn a_file_that_a_block_reads_is_not_overwritten() {
        let directory = TempDir::new();
        let path = directory.path("in.raw");
        std::fs::write(&path, "what it reads").unwrap();
        let link = directory.path("link.raw");
        std::fs::hard_link(&path, &link).unwrap();
        let reader = open(&path).unwrap();
        assert_eq!(
            create(&link).expect_err("refused").to_string(),
            format!(
                "write {link}: another block reads this file, and would lose what it has not read yet: write to another file"
            )
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "what it reads");
        drop(reader);
        let writer = create(&link).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        // What is still written may be read, and be gone on with.
        let _reader = open(&path).unwrap();
        drop(writer);
    }
}
