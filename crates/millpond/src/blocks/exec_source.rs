//! `exec-source`: the output of another program.

use super::program::Program;
use super::raw_stream::{ByteReader, RawFormat};
use crate::prelude::*;

/// Makes a stream of the standard output of a program.
pub(super) struct ExecSource {
    raw: RawFormat,
    output: ByteReader,
    program: Program,
}

impl Block for ExecSource {
    fn spec() -> Spec {
        let spec = Spec::new("exec-source", "Runs a program and reads raw items from its standard output")
            .details(
                "The stream ends when the program closes its standard output; an exit status other than 0 is a failure of the \
                 block. When the block is stopped or killed, the program is killed with all that it has started. Started again \
                 after a kill, the block starts it again from its beginning.",
            )
            .example(
                r#"
connect = ["microphone -> file"]
blocks.microphone = { type = "exec-source", command = "arecord -t raw -f S16_LE -r 16000 -d 10", dtype = "i16", rate_hz = 16000 }
blocks.file = { type = "wav-sink", path = "recorded.wav" }
"#,
            )
            .output(Port::new("out", "what the program writes").shape(["frames", "channels"]));
        RawFormat::params(Program::params(spec))
    }

    fn new(params: &Params) -> Result<Self> {
        let mut program = Program::start(&params.get::<String>("command"), false, true)?;
        let raw = RawFormat::new(params);
        let output = ByteReader::new(raw.clone(), program.take_output()?, program.name());
        Ok(Self { raw, output, program })
    }

    fn start(&mut self, io: &mut Io) -> Result<()> {
        self.raw.state(io)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        match self.output.work(io) {
            Err(Pause::Done) => self.program.end(),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    fn run(command: &str) -> Result<Vec<u8>> {
        let mut bench = Bench::of::<ExecSource>(&[("command", command.into()), ("dtype", "u8".into())])?;
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let mut all = Vec::new();
        while !bench.has_ended() {
            assert!(std::time::Instant::now() < deadline, "the program does not end");
            bench.run()?;
            all.extend(bench.pull_all::<u8>("out")?);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(all)
    }

    #[test]
    fn reads_all_that_a_program_writes() {
        assert_eq!(run("printf 'a\\0b'; sleep 0.05; printf c").unwrap(), b"a\0bc");
        assert_eq!(run("true").unwrap(), b"");
        assert_eq!(
            run("exec >&-; sleep 0.05; exit 4").unwrap_err().to_string(),
            "`exec >&-; sleep 0.05; exit 4` has failed: exit status: 4"
        );
    }
}
