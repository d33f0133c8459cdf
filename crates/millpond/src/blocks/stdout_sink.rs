//! `stdout-sink`: writes a stream to the standard output.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use super::raw_stream::ByteWriter;
use crate::prelude::*;

/// Writes raw items to the standard output.
pub(super) struct StdoutSink {
    writer: ByteWriter,
}

impl Block for StdoutSink {
    fn spec() -> Spec {
        Spec::new("stdout-sink", "Writes the items of a stream to the standard output, as they are")
            .details(
                "Run the pipeline with `--quiet`, so that nothing else is written there. The block fails when nobody reads any \
                 more.",
            )
            .example(
                r#"
connect = ["tone -> integers -> player"]
blocks.tone = { type = "signal", duration_s = 5.0 }
blocks.integers = { type = "convert", dtype = "i16", scale = 32767 }
blocks.player = { type = "stdout-sink" }
"#,
            )
            .input(Port::new("in", "any stream"))
    }

    fn new(_: &Params) -> Result<Self> {
        let fd = open_stdout().context(|| "write to the standard output")?;
        Ok(Self { writer: ByteWriter::new(Arc::new(fd), "the standard output".to_owned()) })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        self.writer.work(io)
    }
}

/// The standard output. A pipe is opened anew, without blocking: others who have it open are not to notice.
fn open_stdout() -> std::io::Result<OwnedFd> {
    let stdout = std::io::stdout();
    let is_pipe = FileType::from_raw_mode(fstat(&stdout)?.st_mode) == FileType::Fifo;
    if is_pipe {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        if let Ok(fd) = open("/proc/self/fd/1", flags, Mode::empty()) {
            return Ok(fd);
        }
    }
    stdout.as_fd().try_clone_to_owned()
}
