//! Nothing that waits, times out or paces reads the wall clock, which may be set at any moment; only what stamps data, or tells
//! people when something was, does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Every source file that reads it, and what for.
const READERS: [(&str, &str); 17] = [
    ("millpond-shm/src/sys/time.rs", "the door to the clocks"),
    ("millpond-shm/src/timestamp.rs", "`Timestamp::now`"),
    ("millpond-shm/src/pond.rs", "when the pond was made, for people"),
    ("millpond-shm/src/attachment.rs", "when a process joined, for people"),
    ("millpond-shm/src/log.rs", "when a line was written"),
    ("millpond/src/statistics.rs", "how old a stamped buffer is"),
    ("millpond/src/blocks/proc_file.rs", "stamps"),
    ("millpond/src/blocks/null_source.rs", "stamps"),
    ("millpond/src/blocks/strobe.rs", "stamps"),
    ("millpond/src/blocks/udp_source.rs", "stamps"),
    ("millpond/src/blocks/rate_probe.rs", "stamps"),
    ("millpond/src/blocks/timed_inputs.rs", "stamps on arrival, where that is asked for"),
    ("millpond/src/blocks/restamp/asker.rs", "compares it with another clock"),
    ("millpond-cli/src/commands/pond_tables.rs", "how long ago a process joined"),
    ("millpond-cli/src/commands/logs.rs", "shows when a line was written"),
    ("millpond-python/src/out.rs", "stamps"),
    ("millpond-python/src/output.rs", "stamps"),
];
const WAYS: [&str; 5] = ["SystemTime", "UNIX_EPOCH", "ClockId::Realtime", "unix_ns()", "Timestamp::now()"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

#[test]
fn only_stamps_and_what_people_read_come_from_the_wall_clock() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut unknown: BTreeMap<String, &str> = BTreeMap::new();
    let mut known: BTreeMap<&str, &str> = READERS.into_iter().collect();
    for name in ["millpond-shm", "millpond", "millpond-cli", "millpond-python"] {
        let mut files = Vec::new();
        sources(&crates.join(name).join("src"), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let program = text.split("#[cfg(test)]").next().unwrap_or_default();
            let mut code = program.lines().filter(|line| !line.trim_start().starts_with("//"));
            let way = code.find_map(|line| WAYS.into_iter().find(|way| line.contains(way)));
            let Some(way) = way else { continue };
            let file = file.strip_prefix(crates).unwrap().to_str().unwrap();
            if known.remove(file).is_none() {
                unknown.insert(file.to_owned(), way);
            }
        }
    }
    assert!(
        unknown.is_empty(),
        "wait by `Instant` or `monotonic_ns`; if these only stamp, list them: {unknown:?}"
    );
    assert!(known.is_empty(), "they do not read the wall clock any more: {known:?}");
}
