//! What other programs say about the block types that they have.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::spec::Spec;
use crate::spec_json::ProgramJson;

/// A program that has said nothing for so long will not.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of what a program said before it failed: enough for the place and the cause.
const SHOWN_LINES: usize = 8;

/// The command that starts a program: a file, or a file and its first arguments, separated by spaces: `python3 filters.py`.
pub(crate) fn command(program: &Path) -> Command {
    let words = program.to_str().filter(|text| text.contains(' ') && !program.exists());
    let mut words = words.unwrap_or_default().split_whitespace();
    match words.next() {
        Some(file) => {
            let mut command = Command::new(file);
            command.args(words);
            command
        }
        None => Command::new(program),
    }
}

/// The answer of a program.
pub(super) struct Program {
    pub(super) path: String,
    pub(super) specs: Vec<Spec>,
    /// Several of its blocks can share a process.
    pub(super) worker: bool,
}

impl Program {
    /// Asks the program for its block types.
    ///
    /// # Blocking
    /// Until it answers, at most ten seconds.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) fn ask(path: &str) -> Result<Self, NoAnswer> {
        let asked = format!("`{path} blocks --json`");
        let mut command = command(path.as_ref());
        command.args(["blocks", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| NoAnswer {
            problem: error.to_string(),
            help: "paths begin where `millpond` is started; names without a slash are looked for in PATH"
                .to_owned(),
        })?;
        let deadline = Instant::now() + PATIENCE;
        let answer = read_all(child.stdout.take());
        let said = read_all(child.stderr.take());
        let answer = answer.recv_timeout(PATIENCE).ok();
        if answer.is_none() {
            let _ = child.kill();
        }
        let status = end(&mut child);
        let said = said.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or_default();
        let failed = |how: String| NoAnswer::failed(&asked, how, &said);
        let not_understood = |how: String| NoAnswer::failed(&asked, how, "");
        let answer = answer
            .ok_or_else(|| failed(format!("{asked} did not answer within {} s", PATIENCE.as_secs())))?;
        match status {
            Some(status) if status.success() => {}
            Some(status) => return Err(failed(format!("{asked} failed ({status})"))),
            None => return Err(failed(format!("{asked} did not end"))),
        }
        let json: ProgramJson = serde_json::from_str(&answer)
            .map_err(|error| not_understood(format!("{asked} printed no list of block types: {error}")))?;
        let specs = json.blocks.into_iter().map(Spec::try_from).collect::<Result<_, _>>();
        let specs = specs.map_err(|problem| not_understood(format!("{asked}: {problem}")))?;
        Ok(Self { path: path.to_owned(), specs, worker: json.worker })
    }
}

/// Why a program has not said which block types it has.
pub(super) struct NoAnswer {
    pub(super) problem: String,
    pub(super) help: String,
}

impl NoAnswer {
    /// The program's own words say best what is wrong with it; the last of them, of a traceback or a panic, say what.
    fn failed(asked: &str, how: String, said: &str) -> Self {
        let said: Vec<&str> = said
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty() && !line.starts_with("note: run with `RUST_BACKTRACE"))
            .collect();
        let Some(last) = said.last() else {
            let help = format!(
                "a program with block types answers {asked} with JSON: in Python a file that ends with `millpond.main()`, in Rust one \
                 whose `main` is `millpond::main`; docs/programs.md says how others do"
            );
            return Self { problem: how, help };
        };
        let shown = said[said.len().saturating_sub(SHOWN_LINES)..].join("\n");
        let advice = if last.contains("No module named 'millpond'") {
            "activate the virtual environment in which `millpond` is installed, or name its python in `program`; "
        } else {
            ""
        };
        Self { problem: last.trim_start().to_owned(), help: format!("{advice}{how} and said\n{shown}") }
    }
}

/// Reads to the end in a thread, so that it can be given up.
fn read_all(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stream) = stream {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stream.read_to_end(&mut text);
            let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
        });
    }
    receiver
}

/// Waits a little for a program that has said everything.
fn end(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}
