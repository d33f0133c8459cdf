//! A pond's control segment as bytes: what a stray write would change. Places come from the generated page, not from the code.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

pub struct Segment {
    pub file: File,
}

impl Segment {
    /// The segment of the only pond that this process takes part in.
    pub fn of(pid: u32) -> Segment {
        let control = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().find(|fd| {
            std::fs::read_link(fd.path())
                .is_ok_and(|l| l.to_string_lossy().starts_with("/memfd:millpond-control"))
        });
        let path = control.expect("a control segment").path();
        Segment { file: OpenOptions::new().read(true).write(true).open(path).unwrap() }
    }

    /// The segment of the pond of that name, which this process takes part in.
    pub fn named(name: &str) -> Segment {
        let at = place("Header", "name");
        let stored = [&(name.len() as u64).to_le_bytes(), name.as_bytes()].concat();
        let found = std::fs::read_dir("/proc/self/fd").unwrap().flatten().find_map(|fd| {
            let link = std::fs::read_link(fd.path()).ok()?;
            let ours = link.to_string_lossy().starts_with("/memfd:millpond-control");
            let file = ours.then(|| OpenOptions::new().read(true).write(true).open(fd.path()).ok())??;
            let mut bytes = vec![0; stored.len()];
            file.read_exact_at(&mut bytes, at).ok()?;
            (bytes == stored).then_some(Segment { file })
        });
        found.expect("a control segment of that name")
    }

    /// Place of a header's field.
    pub fn header(&self, field: &str) -> u64 {
        place("Header", field)
    }

    /// Place of a field of entry `index` of the table of such structs.
    pub fn entry(&self, table: &str, index: u64, field: &str) -> u64 {
        let (offset, bytes) = self::table(table);
        offset + index * bytes + place(table, field)
    }

    pub fn u32(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        u32::from_le_bytes(bytes)
    }

    pub fn u64(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    }

    pub fn set_u32(&self, at: u64, value: u32) {
        self.file.write_all_at(&value.to_le_bytes(), at).unwrap();
    }

    pub fn set_u64(&self, at: u64, value: u64) {
        self.file.write_all_at(&value.to_le_bytes(), at).unwrap();
    }
}

fn cells(row: &str) -> Vec<&str> {
    row.split('|').map(str::trim).collect()
}

/// Offset and bytes of each entry of the table of such structs (offsets up to the table of slots do not depend on its size).
fn table(name: &str) -> (u64, u64) {
    let page = millpond_shm::layout::describe();
    let row = page.lines().find(|l| l.ends_with(&format!("| {name} |"))).unwrap().to_owned();
    (cells(&row)[1].parse().unwrap(), cells(&row)[3].parse().unwrap())
}

fn place(name: &str, field: &str) -> u64 {
    let page = millpond_shm::layout::describe();
    let section = page.split("\n## ").find(|s| s.starts_with(&format!("{name} "))).unwrap();
    let row = section.lines().find(|l| l.contains(&format!("| `{field}` |"))).unwrap();
    cells(row)[1].parse().unwrap()
}
