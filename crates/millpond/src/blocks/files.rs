//! Files that blocks read and write: what is told when that fails.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::{Error, Result};

/// Opens a file to read.
///
/// # Errors
/// If there is none, or it is a directory.
pub(super) fn open(path: &str) -> Result<File> {
    let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        // Reading would only fail later.
        true => Err(ErrorKind::IsADirectory.into()),
        false => Ok(file),
    });
    opened.map_err(|error| cannot_read(path, error))
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
