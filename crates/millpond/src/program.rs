//! Programs that have block types: what their command lines look like, to supervisors and to people. See `docs/programs.md`.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use crate::catalog::Catalog;
use crate::placement::Placement;
use crate::process::{BlockJob, BlockProcess};

/// The arguments are wrong.
const EXIT_USAGE: u8 = 2;

const USAGE: &str = "\
This program has block types for Millpond. Pipeline files name it with `program`;
`millpond run` then starts it.

Commands:
  blocks [--json]                  its block types
  block TYPE NAME --pond POND      runs one block in this process
    [--param NAME=VALUE ...] [--supervisor PID]
  worker NAME --pond POND          runs several blocks in this process
    --block NAME=TYPE ... [--param BLOCK.NAME=VALUE ...] [--supervisor PID]
    [--threads N] [--cpus A,B] [--nice N] [--control stdin]
  Both also take: [--if-orphaned end|go-on] [--when-done end|stay-open]
";

/// The whole `main` of a program with block types of its own: pipeline files can then name it (`program = "path"`).
///
/// ```no_run
/// use std::process::ExitCode;
/// use millpond::{Catalog, prelude::*};
///
/// struct Halve;
///
/// impl Block for Halve {
///     fn spec() -> Spec {
///         Spec::new("halve", "Halves every sample")
///             .input(Port::new("in", "samples").dtypes(REAL))
///             .output(Port::new("out", "the same, halved").like("in"))
///     }
///
///     fn new(_: &Params) -> Result<Self> {
///         Ok(Halve)
///     }
///
///     fn work(&mut self, io: &mut Io) -> WorkResult {
///         let mut buffer = io.take_mut("in")?;
///         buffer.map_samples(|x| x / 2.0)?;
///         io.send("out", buffer)
///     }
/// }
///
/// fn main() -> ExitCode {
///     millpond::main(Catalog::new().add::<Halve>())
/// }
/// ```
pub fn main(catalog: &Catalog) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match arguments.split_first() {
        Some((command, rest)) => match command.as_str() {
            "blocks" => return blocks(catalog, rest),
            "block" => BlockProcess::of_block(rest),
            "worker" => BlockProcess::of_worker(rest),
            "help" | "--help" | "-h" => return print(USAGE),
            other => Err(format!("there is no command `{other}`")),
        },
        None => Err("a command is missing".to_owned()),
    };
    let process = match parsed {
        Ok(process) => process,
        Err(problem) => return usage(&problem),
    };
    process.run(catalog).unwrap_or_else(|error| {
        say(&format!("{}: {error}\n", program_name()));
        ExitCode::FAILURE
    })
}

fn usage(problem: &str) -> ExitCode {
    say(&format!("{}: {problem}\n\n{USAGE}", program_name()));
    ExitCode::from(EXIT_USAGE)
}

fn program_name() -> String {
    std::env::args().next().unwrap_or_default()
}

fn blocks(catalog: &Catalog, options: &[String]) -> ExitCode {
    let text = match options {
        [] => catalog.to_text(),
        [json] if json == "--json" => catalog.to_json() + "\n",
        [other, ..] => return usage(&format!("there is no option `{other}`")),
    };
    print(&text)
}

/// Writes to standard output. A reader that went away (`program blocks | head -1`) is not a failure.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say(&format!("{}: cannot write to standard output: {error}\n", program_name()));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes to standard error. If that cannot be written to (full, closed), what was to be said is lost, but not the exit code.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

impl BlockProcess {
    /// Reads the arguments behind the command `block`.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn of_block(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options::read(arguments)?;
        let [block_type, name] = options.take_names("TYPE and NAME")?;
        let params = options.take_params()?;
        options.into_process(vec![BlockJob { block_type, name, params }])
    }

    /// Reads the arguments behind the command `worker`.
    ///
    /// # Errors
    /// What is wrong with them, in words.
    pub fn of_worker(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options::read(arguments)?;
        let [_process] = options.take_names("the NAME of the process")?;
        let mut blocks = Vec::new();
        for block in std::mem::take(&mut options.blocks) {
            let (name, block_type) = pair(&block, "NAME=TYPE")?;
            blocks.push(BlockJob { block_type, name, params: Vec::new() });
        }
        if blocks.is_empty() {
            return Err("--block is missing".to_owned());
        }
        for (key, value) in options.take_params()? {
            let (block, param) =
                key.split_once('.').ok_or_else(|| format!("expected BLOCK.NAME=VALUE, found `{key}`"))?;
            let found = blocks.iter_mut().find(|known| known.name == block);
            let found = found.ok_or_else(|| format!("`--param {key}` belongs to no --block"))?;
            found.params.push((param.to_owned(), value));
        }
        options.into_process(blocks)
    }
}

/// What stands on the command line.
#[derive(Default)]
struct Options {
    names: Vec<String>,
    pond: Option<String>,
    supervisor: Option<u32>,
    blocks: Vec<String>,
    params: Vec<String>,
    placement: Placement,
    obeys_stdin: bool,
    goes_on_alone: bool,
    stays_open: bool,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut read = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if !argument.starts_with("--") {
                read.names.push(argument.clone());
                continue;
            }
            // Both `--option value` and `--option=value`.
            let (option, value) = match argument.split_once('=') {
                Some((option, value)) => (option, value.to_owned()),
                None => {
                    let value = arguments.next().ok_or_else(|| format!("`{argument}` needs a value"))?;
                    (argument.as_str(), value.clone())
                }
            };
            let wrong = |expected: &str| format!("`{option}`: expected {expected}, found `{value}`");
            match option {
                "--pond" => read.pond = Some(value),
                "--supervisor" => read.supervisor = Some(value.parse().map_err(|_| wrong("a process id"))?),
                "--block" => read.blocks.push(value),
                "--if-orphaned" => {
                    read.goes_on_alone =
                        one_of(&value, "end", "go-on").ok_or_else(|| wrong("end or go-on"))?;
                }
                "--when-done" => {
                    read.stays_open =
                        one_of(&value, "end", "stay-open").ok_or_else(|| wrong("end or stay-open"))?;
                }
                "--control" if value == "stdin" => read.obeys_stdin = true,
                "--control" => return Err(wrong("stdin")),
                "--param" => read.params.push(value),
                "--threads" => {
                    let threads = value.parse().ok().filter(|threads| *threads > 0);
                    read.placement.threads = threads.ok_or_else(|| wrong("a number of threads"))?;
                }
                "--cpus" => {
                    let cpus: Result<_, _> = value.split(',').map(str::parse).collect();
                    read.placement.cpus = cpus.map_err(|_| wrong("CPU numbers like 0,1"))?;
                }
                "--nice" => read.placement.nice = Some(value.parse().map_err(|_| wrong("a niceness"))?),
                _ => return Err(format!("there is no option `{option}`")),
            }
        }
        Ok(read)
    }

    fn take_names<const N: usize>(&mut self, what: &str) -> Result<[String; N], String> {
        let names = std::mem::take(&mut self.names);
        names.try_into().map_err(|found: Vec<String>| format!("expected {what}, found `{}`", found.join(" ")))
    }

    fn take_params(&mut self) -> Result<Vec<(String, String)>, String> {
        std::mem::take(&mut self.params).iter().map(|param| pair(param, "NAME=VALUE")).collect()
    }

    fn into_process(self, blocks: Vec<BlockJob>) -> Result<BlockProcess, String> {
        let pond = self.pond.ok_or("`--pond` is missing")?;
        Ok(BlockProcess {
            blocks,
            pond,
            supervisor: self.supervisor,
            placement: self.placement,
            obeys_stdin: self.obeys_stdin,
            goes_on_alone: self.goes_on_alone,
            stays_open: self.stays_open,
        })
    }
}

/// Whether it is the second of two words; `None` if it is neither.
fn one_of(word: &str, no: &str, yes: &str) -> Option<bool> {
    (word == no || word == yes).then_some(word == yes)
}

fn pair(text: &str, expected: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected {expected}, found `{text}`"))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::{Command, Stdio};

    use super::*;

    fn worker(arguments: &str) -> Result<BlockProcess, String> {
        BlockProcess::of_worker(&arguments.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_worker_is_told_everything() {
        let process = worker(
            "dsp --threads=2 --cpus=0,1 --nice=-5 --pond p --supervisor 7 --block a=gain --param a.k=-2 --block b=copy",
        )
        .unwrap();
        assert_eq!((process.pond.as_str(), process.supervisor), ("p", Some(7)));
        assert_eq!(process.placement, Placement { threads: 2, cpus: vec![0, 1], nice: Some(-5) });
        let blocks: Vec<_> = process
            .blocks
            .iter()
            .map(|job| (job.name.as_str(), job.block_type.as_str(), job.params.len()))
            .collect();
        assert_eq!(blocks, [("a", "gain", 1), ("b", "copy", 0)]);
        assert_eq!(process.blocks[0].params, [("k".to_owned(), "-2".to_owned())]);
    }

    #[test]
    fn mistakes_are_named() {
        for (arguments, problem) in [
            ("dsp --pond p", "--block is missing"),
            ("dsp --block a=copy", "`--pond` is missing"),
            ("dsp --pond p --block a=copy --param b.k=1", "`--param b.k` belongs to no --block"),
            ("dsp --pond p --block a=copy --param k=1", "expected BLOCK.NAME=VALUE, found `k`"),
            ("dsp --pond p --block a", "expected NAME=TYPE, found `a`"),
            ("--pond p --block a=copy", "expected the NAME of the process, found ``"),
            (
                "dsp --pond p --block a=copy --threads 0",
                "`--threads`: expected a number of threads, found `0`",
            ),
            ("dsp --pond p --colour red", "there is no option `--colour`"),
            ("dsp --pond", "`--pond` needs a value"),
        ] {
            assert_eq!(worker(arguments).expect_err(arguments), problem);
        }
    }

    #[test]
    fn a_full_standard_error_is_no_panic() {
        const CHILD: &str = "MILLPOND_TEST_FULL_STANDARD_ERROR";
        // It is the whole process's.
        if std::env::var_os(CHILD).is_some() {
            let _ = usage("nobody reads this");
            return;
        }
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["program::tests::a_full_standard_error_is_no_panic", "--exact", "--nocapture"]);
        let ended = child.env(CHILD, "1").stdout(Stdio::null()).stderr(full).status().unwrap();
        assert!(ended.success(), "{ended}");
    }
}
