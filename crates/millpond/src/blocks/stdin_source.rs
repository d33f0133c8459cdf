//! `stdin-source`: what comes on the standard input.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use super::raw_stream::{ByteReader, RawFormat};
use crate::prelude::*;

/// Reads raw items from the standard input to its end.
pub(super) struct StdinSource {
    raw: RawFormat,
    reader: ByteReader,
}

impl Block for StdinSource {
    fn spec() -> Spec {
        let spec = Spec::new("stdin-source", "Reads raw items from the standard input")
            .details(
                "Sends what has come as soon as nothing more is there. One block of a pipeline can read the standard input. \
                 What a killed process had read and not sent is lost; a restart goes on with what comes then.",
            )
            .example(
                r#"
connect = ["samples -> file"]
blocks.samples = { type = "stdin-source", dtype = "i16", channels = 1, rate_hz = 16000 }
blocks.file = { type = "wav-sink", path = "recorded.wav" }
"#,
            )
            .reads_stdin()
            .output(Port::new("out", "what comes").shape(["frames", "channels"]));
        RawFormat::params(spec)
    }

    fn new(params: &Params) -> Result<Self> {
        let stdin = std::io::stdin();
        let in_front = || {
            let (front, own) = (rustix::termios::tcgetpgrp(&stdin), rustix::process::getpgrp());
            front.is_ok_and(|front| front == own)
        };
        if stdin.is_terminal() && !in_front() {
            return Err(Error::Refused(
                "expected a file or pipe as standard input, found a terminal: start it like `cat FILE | millpond run ...`"
                    .to_owned(),
            ));
        }
        let fd = stdin.as_fd().try_clone_to_owned().context(|| "read the standard input")?;
        let raw = RawFormat::new(params);
        let reader = ByteReader::new(raw.clone(), Arc::new(fd), "the standard input".to_owned());
        Ok(Self { raw, reader })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.raw.state(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        self.reader.work(io)
    }
}
