//! `file-source`: the bytes of a file.

use std::io::{Seek as _, SeekFrom};
use std::sync::Arc;

use super::files;
use super::raw_stream::{ByteReader, RawFormat};
use crate::param::FileUse;
use crate::prelude::*;

/// Reads a file of raw items from its beginning to its end. Started again after its process was killed, it goes on behind the last
/// buffer that it had sent.
pub(super) struct FileSource {
    path: String,
    raw: RawFormat,
    reader: Option<ByteReader>,
}

impl Block for FileSource {
    fn spec() -> Spec {
        let spec = Spec::new("file-source", "Reads raw items of any type from a file")
            .details(
                "Reads named pipes and devices too; these cannot be read again, so a restart goes on with what comes then. \
                 Started again after its process was killed, it goes on in a file behind the last buffer that it had sent.",
            )
            .example(
                r#"
connect = ["samples -> file"]
blocks.samples = { type = "file-source", path = "samples.f32", dtype = "f32", channels = 2, rate_hz = 48000 }
blocks.file = { type = "wav-sink", path = "samples.wav" }
"#,
            )
            .output(Port::new("out", "what is in the file").shape(["frames", "channels"]))
            .param(Param::text("path", "the file to read").fixed().file(FileUse::Reads));
        RawFormat::params(spec)
    }

    fn new(params: &Params) -> Result<Self> {
        Ok(Self { path: params.get("path"), raw: RawFormat::new(params), reader: None })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        let mut file = files::open(&self.path)?;
        let sent = io.next_sequence("out").saturating_mul(self.raw.frames().into());
        let mut first = 0;
        let failed = |error| files::cannot_read(&self.path, error);
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() {
            // The last buffer may have been shorter.
            first = sent.min(metadata.len() / self.raw.frame_bytes() as u64);
            file.seek(SeekFrom::Start(first * self.raw.frame_bytes() as u64)).map_err(failed)?;
        }
        let mut reader = ByteReader::new(self.raw.clone(), Arc::new(file.into()), self.path.clone());
        reader.set_next_frame(first);
        self.reader = Some(reader);
        self.raw.state(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        self.reader.as_mut().map_or(Err(Pause::Done), |reader| reader.work(io))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::position;
    use crate::temp_dir::TempDir;
    use crate::testing::Bench;

    fn bench(path: &str, dtype: &str, frames: i32) -> Bench {
        let params = [
            ("path", path.into()),
            ("dtype", dtype.into()),
            ("frames", frames.into()),
            ("channels", 2.into()),
            ("rate_hz", 8000.into()),
        ];
        Bench::of::<FileSource>(&params).unwrap()
    }

    #[test]
    fn reads_items_of_every_size() {
        let directory = TempDir::new();
        let path = directory.path("items.raw");
        let bytes: Vec<u8> = (0..160).collect();
        std::fs::write(&path, &bytes).unwrap();
        for (dtype, frame_bytes) in [("bytes", 2), ("i16", 4), ("f32", 8), ("c64", 32)] {
            for frames in [1, 3, 1000] {
                let mut bench = bench(&path, dtype, frames);
                let (mut read, mut next) = (Vec::new(), 0);
                bench.run().unwrap();
                while let Some(buffer) = bench.pull_buffer("out").unwrap() {
                    assert_eq!(buffer.dtype().name(), dtype);
                    assert_eq!(position(buffer.timestamp()), Some(next));
                    next += i64::from(buffer.frames());
                    read.extend_from_slice(buffer.as_bytes());
                    bench.run().unwrap();
                }
                assert!(bench.has_ended());
                assert_eq!((read.as_slice(), next), (bytes.as_slice(), 160 / frame_bytes));
            }
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_stream() {
        let mut bench = bench("/dev/null", "f64", 10);
        bench.run().unwrap();
        assert!(bench.has_ended() && bench.pull_buffer("out").unwrap().is_none());
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let directory = TempDir::new();
        let path = directory.path("cut.raw");
        std::fs::write(&path, [1; 21]).unwrap();
        let mut cut = bench(&path, "i32", 10);
        assert_eq!(
            cut.run().expect_err("refused").to_string(),
            format!(
                "{path} ends in the middle of a frame: expected 8 bytes, found 5; do `dtype` and `channels` fit?"
            )
        );
        assert_eq!(cut.pull_all::<i32>("out").unwrap().len(), 4);
        let missing = bench("/proc/nope", "u8", 1).run().expect_err("refused").to_string();
        assert_eq!(missing, "read /proc/nope: No such file or directory (os error 2); is the path right?");
        let directory = bench("/proc", "u8", 1).run().expect_err("refused").to_string();
        assert_eq!(directory, "read /proc: expected a file, found a directory");
    }
}
