//! What other programs say about the block types that they have.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::spec::Spec;
use crate::spec_json::ProgramJson;

/// A program that has said nothing for so long will not.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// Why there is no answer, in words.
    pub(super) fn ask(path: &str) -> Result<Self, String> {
        let mut command = command(path.as_ref());
        command.args(["blocks", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let answer = read_all(&mut child);
        if answer.is_none() {
            let _ = child.kill();
        }
        let status = end(&mut child);
        let asked = format!("`{path} blocks --json`");
        let answer =
            answer.ok_or_else(|| format!("{asked} did not answer within {} s", PATIENCE.as_secs()))?;
        match status {
            Some(status) if status.success() => {}
            Some(status) => return Err(format!("{asked} failed: {status}")),
            None => return Err(format!("{asked} did not end")),
        }
        let json: ProgramJson = serde_json::from_str(&answer)
            .map_err(|error| format!("{asked} printed something else: {error}"))?;
        let specs = json.blocks.into_iter().map(Spec::try_from).collect::<Result<_, _>>();
        let specs = specs.map_err(|problem| format!("{asked}: {problem}"))?;
        Ok(Self { path: path.to_owned(), specs, worker: json.worker })
    }
}

fn read_all(child: &mut Child) -> Option<String> {
    let mut stdout = child.stdout.take()?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stdout.read_to_end(&mut text);
        let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
    });
    receiver.recv_timeout(PATIENCE).ok()
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
