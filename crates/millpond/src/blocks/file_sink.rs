//! `file-sink`: writes the bytes of a stream to a file.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};

use super::files;
use crate::param::FileUse;
use crate::prelude::*;

/// Writes raw items, one buffer after the other. Started again after its process was killed, it goes on behind the last complete
/// frame.
pub(super) struct FileSink {
    path: String,
    file: Option<File>,
    written: u64,
}

impl Block for FileSink {
    fn spec() -> Spec {
        Spec::new("file-sink", "Writes the items of a stream to a file, as they are")
            .details(
                "Every buffer is written at once, so nothing that was taken is lost when the process is killed but the buffer \
                 at hand. Started again, it removes a frame that was cut off and goes on behind the last complete one.",
            )
            .example(
                r#"
connect = ["tone -> file"]
blocks.tone = { type = "signal", dtype = "f32", duration_s = 1.0 }
blocks.file = { type = "file-sink", path = "tone.f32" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .param(Param::text("path", "the file to write").fixed().file(FileUse::Overwrites))
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { path: params.get("path"), file: None, written: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let frame_bytes = io
            .format("in")
            .map_or(1, |format| (crate::frames::channels(format) * format.dtype.size_bytes()).max(1) as u64);
        if !io.has_worked_before() {
            self.file = Some(files::create(&self.path)?);
            return Ok(());
        }
        let open = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
            let metadata = file.metadata()?;
            if metadata.is_file() {
                let end = metadata.len() / frame_bytes * frame_bytes;
                file.set_len(end)?;
                file.seek(SeekFrom::Start(end))?;
            }
            Ok(file)
        };
        self.file = Some(open().map_err(|error| files::cannot_write(&self.path, error))?);
        Ok(())
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        let Some(file) = &mut self.file else { return Ok(()) };
        // Taken when it is written: what fails is counted as lost in hand.
        let bytes = io.peek("in")?.as_bytes();
        file.write_all(bytes).map_err(|error| files::cannot_write(&self.path, error))?;
        self.written += bytes.len() as u64;
        io.take("in")?;
        Ok(())
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        let again = if io.has_worked_before() { " since its restart" } else { "" };
        io.note(&format!("wrote {} bytes to {}{again}", self.written, self.path));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp_dir::TempDir;
    use crate::testing::Bench;

    #[test]
    fn writes_what_it_gets() {
        let directory = TempDir::new();
        let path = directory.path("out.raw");
        for items in [vec![], vec![1u16], (0..1001).collect()] {
            let mut bench = Bench::of::<FileSink>(&[("path", path.as_str().into())]).unwrap();
            for items in items.chunks(100) {
                bench.push("in", items).unwrap();
            }
            if items.is_empty() {
                bench.push("in", &items).unwrap();
            }
            bench.end("in");
            bench.run().unwrap();
            assert!(bench.has_ended());
            let bytes: Vec<u8> = items.iter().flat_map(|item| item.to_le_bytes()).collect();
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn a_full_disk_and_a_missing_directory_are_told() {
        for (path, cause) in [
            ("/dev/full", "No space left on device (os error 28); make room, or write elsewhere"),
            ("/proc/nope/file", "No such file or directory (os error 2); does the directory exist?"),
        ] {
            let mut bench = Bench::of::<FileSink>(&[("path", path.into())]).unwrap();
            bench.push("in", &[1u8]).unwrap();
            assert_eq!(bench.run().expect_err("refused").to_string(), format!("write {path}: {cause}"));
        }
    }
}
