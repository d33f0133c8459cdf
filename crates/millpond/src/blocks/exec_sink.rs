//! `exec-sink`: writes a stream to another program.

use std::time::{Duration, Instant};

use super::program::Program;
use super::raw_stream::ByteWriter;
use crate::prelude::*;

/// How long a program that has closed its standard input may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// Writes a stream to the standard input of a program.
pub(super) struct ExecSink {
    // Dropped first: the program sees the end of its input.
    input: Option<ByteWriter>,
    program: Program,
    /// Why nothing more can be written, and how long the program has to say more about it by its end.
    broken: Option<(Error, Instant)>,
}

impl Block for ExecSink {
    fn spec() -> Spec {
        let spec = Spec::new("exec-sink", "Runs a program and writes the items of a stream to its standard input")
            .details(
                "At the end the program's standard input is closed, and the block waits for it; an exit status other than 0, or \
                 input that it does not read, is a failure of the block. Its standard output is that of the pipeline. If \
                 the block is killed, the program's standard input ends, and 2 s later it is killed with all that it has started. \
                 Started again after a kill, the block starts it again.",
            )
            .example(
                r#"
connect = ["tone -> player"]
blocks.tone = { type = "signal", duration_s = 5.0 }
blocks.player = { type = "exec-sink", command = "aplay -t raw -f FLOAT_LE -r 48000" }
"#,
            )
            .input(Port::new("in", "any stream"));
        Program::params(spec)
    }

    fn new(params: &Params) -> Result<Self> {
        let mut program = Program::start(&params.get::<String>("command"), true, false)?;
        let input = Some(ByteWriter::new(program.take_input()?, program.name()));
        Ok(Self { input, program, broken: None })
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        if let Some(input) = &mut self.input {
            match input.work(io) {
                Err(Pause::Failed(error)) => self.broken = Some((error, Instant::now() + PATIENCE)),
                result => return result,
            }
            self.input = None;
        }
        // It no longer reads: how it ended says more than that.
        match (self.program.end(), self.broken.take()) {
            (Err(Pause::Until(moment)), Some((error, deadline))) if moment < deadline => {
                self.broken = Some((error, deadline));
                Err(Pause::Until(moment))
            }
            (Err(Pause::Failed(error)), _) => Err(error.into()),
            (_, Some((error, _))) => Err(error.into()),
            (result, None) => result,
        }
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        if let Some(input) = self.input.take() {
            io.note(&format!("wrote {} bytes to {}", input.written, self.program.name()));
            drop(input);
        }
        // Looked at again and again: the other blocks of the process go on meanwhile.
        match self.program.end() {
            Err(Pause::Done) => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp_dir::TempDir;
    use crate::testing::Bench;

    #[test]
    fn a_program_gets_everything_and_is_waited_for() {
        let directory = TempDir::new();
        let path = directory.path("out");
        let command = format!("cat > {path}.part; mv {path}.part {path}");
        let mut bench = Bench::of::<ExecSink>(&[("command", command.as_str().into())]).unwrap();
        let items: Vec<u16> = (0..60_000).collect();
        bench.push("in", &items).unwrap();
        bench.end("in");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !bench.has_ended() {
            assert!(std::time::Instant::now() < deadline, "the program does not end");
            bench.run().unwrap();
        }
        let bytes: Vec<u8> = items.iter().flat_map(|item| item.to_le_bytes()).collect();
        assert!(std::fs::read(&path).unwrap() == bytes);
    }

    /// What the block fails with, sooner or later.
    fn refusal(bench: &mut Bench) -> String {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            assert!(std::time::Instant::now() < deadline, "it does not fail");
            if let Err(refusal) = bench.run() {
                return refusal.to_string();
            }
        }
    }

    #[test]
    fn a_program_that_takes_its_time_keeps_nobody_waiting() {
        let directory = TempDir::new();
        let gate = directory.path("gate");
        let command = format!("cat >/dev/null; until [ -e {gate} ]; do sleep 0.01; done");
        let mut bench = Bench::of::<ExecSink>(&[("command", command.as_str().into())]).unwrap();
        bench.push("in", &[1u8]).unwrap();
        bench.end("in");
        // It comes back although the program runs on, and has not ended.
        bench.run().unwrap();
        assert!(!bench.has_ended());
        std::fs::write(&gate, "").unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !bench.has_ended() {
            assert!(std::time::Instant::now() < deadline, "the program does not end");
            bench.run().unwrap();
        }
    }

    #[test]
    fn a_program_that_fails_is_a_failure() {
        let mut bench = Bench::of::<ExecSink>(&[("command", "cat >/dev/null; exit 9".into())]).unwrap();
        bench.push("in", &[1u8]).unwrap();
        bench.end("in");
        assert_eq!(refusal(&mut bench), "`cat >/dev/null; exit 9` has failed: exit status: 9");
        // More than a pipe holds, into one that nobody reads: told is why, or if it says nothing by its end, what the pipe says.
        for (command, expected) in [
            ("exec <&-; exit 9", "`exec <&-; exit 9` has failed: exit status: 9"),
            ("exec <&-", "write to `exec <&-`: Broken pipe (os error 32)"),
            ("exec <&-; exec sleep 1000", "write to `exec <&-; exec sleep 1000`: Broken pipe (os error 32)"),
        ] {
            let mut bench = Bench::of::<ExecSink>(&[("command", command.into())]).unwrap();
            bench.push("in", &[1u8; 200_000]).unwrap();
            assert_eq!(refusal(&mut bench), expected);
        }
    }
}
