//! `exec`: sends a stream through another program.

use rustix::io::Errno;

use super::program::Program;
use super::raw_stream::{ByteReader, ByteWriter, RawFormat};
use crate::prelude::*;

/// Writes a stream to the standard input of a program and makes a stream of its standard output.
pub(super) struct Exec {
    raw: RawFormat,
    // Dropped first: the program sees the end of its input.
    input: Option<ByteWriter>,
    output: ByteReader,
    program: Program,
    unread: u64,
}

impl Block for Exec {
    fn spec() -> Spec {
        let spec = Spec::new("exec", "Sends a stream through another program: its standard input and output")
            .details(
                "The program gets the raw items of the stream, and what it writes is taken as items of `dtype`. When the input \
                 ends, the program's standard input is closed; the output ends when it closes its standard output. An exit \
                 status other than 0 is a failure of the block. What it writes to standard error is shown with the pipeline's \
                 messages. If the block is killed, the program is killed with all that it has started; started again, the \
                 block starts it again, and what was inside is lost.",
            )
            .example(
                r#"
connect = ["song -> slower -> file"]
blocks.song = { type = "wav-source", path = "song.wav" }
blocks.slower = { type = "exec", command = "sox -t f32 -r 48k -c 1 - -t f32 - tempo 0.8", dtype = "f32", rate_hz = 48000 }
blocks.file = { type = "wav-sink", path = "slower.wav" }
"#,
            )
            .input(Port::new("in", "any stream"))
            .output(Port::new("out", "what the program writes").shape(["frames", "channels"]));
        RawFormat::params(Program::params(spec))
    }

    fn new(params: &Params) -> Result<Self> {
        let mut program = Program::start(&params.get::<String>("command"), true, true)?;
        let raw = RawFormat::new(params);
        let input = Some(ByteWriter::new(program.take_input()?, program.name()));
        let output = ByteReader::new(raw.clone(), program.take_output()?, program.name());
        Ok(Self { raw, input, output, program, unread: 0 })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.raw.state(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        self.write(io)?;
        match self.output.read(io) {
            Ok(true) => Ok(()),
            Ok(false) => Err(match &self.input {
                Some(input) if !input.is_idle() => io.until_either(self.output.fd(), input.fd()),
                _ => io.until_readable(self.output.fd()),
            }),
            Err(Pause::Done) => self.program.end(),
            Err(pause) => Err(pause),
        }
    }

    fn finish(&mut self, io: &mut Io) -> WorkResult {
        if self.unread > 0 {
            io.note(&format!("{} has not read {} buffers to their end", self.program.name(), self.unread));
        }
        Ok(())
    }
}

impl Exec {
    /// Writes what there is, as far as there is room.
    fn write(&mut self, io: &mut Io) -> Result<()> {
        loop {
            let idle = self.input.as_ref().is_none_or(ByteWriter::is_idle);
            if idle {
                match io.try_take("in")? {
                    Some(buffer) => match &mut self.input {
                        Some(input) => input.put(buffer),
                        None => {
                            self.unread += 1;
                            continue;
                        }
                    },
                    None => {
                        if io.ended("in") {
                            self.input = None;
                        }
                        return Ok(());
                    }
                }
            }
            let Some(input) = &mut self.input else { continue };
            match input.write() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // It needs no more, as `head` does. What it says about that is its exit status.
                Err(Errno::PIPE) => {
                    self.input = None;
                    self.unread += 1;
                }
                Err(error) => {
                    let doing = format!("write to {}", self.program.name());
                    return Err(Error::Failed { doing, cause: std::io::Error::from(error).into() });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, Item};

    /// Runs the block to its end.
    fn run<T: Item>(bench: &mut Bench, output: &str) -> Result<Vec<T>> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut all = Vec::new();
        while !bench.has_ended() {
            assert!(std::time::Instant::now() < deadline, "the program does not end");
            bench.run()?;
            all.extend(bench.pull_all::<T>(output)?);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(all)
    }

    fn bench(command: &str) -> Bench {
        Bench::of::<Exec>(&[("command", command.into()), ("dtype", "u32".into())]).unwrap()
    }

    #[test]
    fn everything_passes_through_a_program() {
        // 1 MB in and out: more than both pipes hold.
        let items: Vec<u32> = (0..250_000).collect();
        let mut bench = bench("cat");
        bench.push("in", &items).unwrap();
        bench.push("in", &[7u32]).unwrap();
        bench.end("in");
        let out = run::<u32>(&mut bench, "out").unwrap();
        assert_eq!(out.len(), 250_001);
        assert!(out[..250_000] == items && out[250_000] == 7);
    }

    #[test]
    fn a_program_may_end_early_but_not_fail() {
        let items: Vec<u32> = (0..250_000).collect();
        let mut early = bench("head -c 8");
        early.push("in", &items).unwrap();
        early.end("in");
        assert_eq!(run::<u32>(&mut early, "out").unwrap(), [0, 1]);
        for (command, problem) in [
            ("cat >/dev/null; exit 3", "`cat >/dev/null; exit 3` has failed: exit status: 3"),
            (
                "no-such-program-1234 2>/dev/null",
                "`no-such-program-1234 2>/dev/null` has failed: exit status: 127; the shell has not found a program: is it \
                 installed, and its name right?",
            ),
            (
                "printf abc",
                "`printf abc` ends in the middle of a frame: expected 4 bytes, found 3; do `dtype` and `channels` fit?",
            ),
        ] {
            let mut bench = bench(command);
            bench.push("in", &[1u32]).unwrap();
            bench.end("in");
            assert_eq!(run::<u32>(&mut bench, "out").expect_err(command).to_string(), problem);
        }
    }

    #[test]
    fn a_program_that_goes_on_is_killed_with_its_block() {
        let directory = crate::temp_dir::TempDir::new();
        let path = directory.path("pid");
        let mut bench = bench(&format!("sleep 1000 & echo $! > {path}; wait"));
        bench.push("in", &[1u32]).unwrap();
        bench.run().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let pid = loop {
            assert!(std::time::Instant::now() < deadline, "the program does not start");
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            if pid.ends_with('\n') {
                break pid.trim().to_owned();
            }
        };
        drop(bench);
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie that its parent, init, has not collected yet is dead as well.
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while alive() {
            assert!(std::time::Instant::now() < deadline, "the program goes on");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
