//! Files that one block reads and another overwrites: the reader would lose what it has not read yet.

use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use crate::param::{FileUse, Value};
use crate::spec::Spec;

/// A file, as a parameter of a block names it.
pub(super) struct UsedFile {
    path: String,
    identity: Identity,
    used: FileUse,
}

/// One file, whatever its path.
#[derive(PartialEq)]
enum Identity {
    /// Device and inode.
    There(u64, u64),
    /// Where it will be.
    Path(PathBuf),
}

/// The files that a block with these parameters uses; pipes and devices are none.
pub(super) fn used(spec: &Spec, given: &[(String, Value)]) -> Vec<UsedFile> {
    let file = |(name, value): &(String, Value)| {
        let used = spec.params().iter().find(|param| param.name() == name)?.file?;
        let Value::Text(path) = value else { return None };
        let identity = match std::fs::metadata(path) {
            Ok(found) if found.is_file() => Identity::There(found.dev(), found.ino()),
            Ok(_) => return None,
            Err(_) => Identity::Path(std::path::absolute(path).ok()?),
        };
        Some(UsedFile { path: path.clone(), identity, used })
    };
    given.iter().filter_map(file).collect()
}

/// What is wrong with the files of these blocks: where, what, and what to do.
pub(super) fn clashes<'a>(
    blocks: impl Iterator<Item = (&'a str, &'a Range<usize>, &'a [UsedFile])>,
) -> Vec<(Range<usize>, String, String)> {
    let files: Vec<_> =
        blocks.flat_map(|(block, span, files)| files.iter().map(move |file| (block, span, file))).collect();
    let mut clashes = Vec::new();
    for (index, (block, span, file)) in files.iter().enumerate() {
        let mut others = files.iter().enumerate().filter(|(_, (.., other))| other.identity == file.identity);
        let other = others.find(|(at, (.., other))| other.used == FileUse::Reads || *at < index);
        if let (FileUse::Overwrites, Some((_, (other, _, with)))) = (file.used, other) {
            let does = if with.used == FileUse::Reads { "reads" } else { "writes" };
            let message = format!("`{block}` overwrites `{}`, which `{other}` {does}", file.path);
            let help = "one of them would lose its data: write to another file".to_owned();
            clashes.push(((*span).clone(), message, help));
        }
    }
    clashes
}
