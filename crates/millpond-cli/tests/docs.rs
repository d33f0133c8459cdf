//! What the README and the pages in docs/ tell people to type, run word for word.
//!
//! The fenced blocks of a page are followed in order: `sh` is typed into one shell; `rust` and `toml` behind a line that ends with a
//! file's name and a colon (`src/main.rs`:) are written to that file. After each block the reader looks whether what was started
//! is there before reading on, as people do.

use std::fs::{File, create_dir_all};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(600);

/// Stands before the real cargo: the program is built already, and everything else is built offline in a target directory that is
/// kept.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
    "run --release -p millpond-cli -- "*) shift 5; exec millpond "$@" ;;
    "build --release -p millpond-cli") exit 0 ;;
esac
[ -e Cargo.lock ] || cp "$CHECKOUT/Cargo.lock" .
[ -e target ] || ln -s "$KEPT_TARGET" target
exec "$REAL_CARGO" "$@" --offline --quiet
"#;

/// Stands before commands that go on while the next ones are typed.
const OWN_TERMINAL: &str = "<!-- in a terminal of its own -->";

#[derive(Debug, PartialEq)]
struct Fence {
    language: String,
    /// The file that the line before names.
    file: Option<String>,
    text: String,
    /// A comment `<!-- not run: why -->` stands before it.
    is_skipped: bool,
}

fn fences(page: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut before = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let named = before.strip_suffix("`:").and_then(|rest| rest.rsplit_once('`'));
            fences.push(Fence {
                language: language.to_owned(),
                file: named.map(|(_, file)| file.to_owned()),
                // What goes on in a terminal of its own does so in the background here.
                text: inside.join("\n") + if before == OWN_TERMINAL { " &\n" } else { "\n" },
                is_skipped: before.starts_with("<!-- not run: "),
            });
            before = "";
        } else if !line.is_empty() {
            before = line;
        }
    }
    fences
}

/// Somebody who follows a page in a directory of their own.
struct Reader {
    directory: PathBuf,
    shell: Child,
    input: Option<ChildStdin>,
    steps: usize,
}

impl Reader {
    fn new(page: &str) -> Self {
        let checkout =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("a checkout");
        // The same place for a checkout each time, so that cargo need not build everything again.
        let mut hasher = DefaultHasher::new();
        checkout.hash(&mut hasher);
        let directory = std::env::temp_dir().join(format!("millpond-docs-{page}-{:016x}", hasher.finish()));
        let _ = std::fs::remove_dir_all(&directory);
        let bin = directory.join("bin");
        create_dir_all(&bin).expect("a directory");
        symlink(env!("CARGO_BIN_EXE_millpond"), bin.join("millpond")).expect("a link");
        std::fs::write(bin.join("cargo"), CARGO).expect("a file");
        std::fs::set_permissions(bin.join("cargo"), PermissionsExt::from_mode(0o755)).expect("a program");
        // What a checkout has that the pages use; what is written stays outside of it.
        let own = directory.join("millpond");
        create_dir_all(own.join("target/release")).expect("a directory");
        for part in ["crates", "examples", "Cargo.toml", "Cargo.lock"] {
            symlink(checkout.join(part), own.join(part)).expect("a link");
        }
        symlink(env!("CARGO_BIN_EXE_millpond"), own.join("target/release/millpond")).expect("a link");
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..").canonicalize().expect("a directory");
        let output = File::create(directory.join("output")).expect("a file");
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("bash")
            .arg("-eu")
            .current_dir(if page == "tutorial" { &directory } else { &own })
            .env("PATH", path)
            .env("MILLPOND_RUNTIME_DIR", directory.join("ponds"))
            .env("REAL_CARGO", env!("CARGO"))
            .env("KEPT_TARGET", kept)
            .env("CHECKOUT", &checkout)
            // As in the workspace: then its dependencies are built already.
            .env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only")
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a file"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .expect("bash");
        let input = shell.stdin.take();
        Self { directory, shell, input, steps: 0 }
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.directory.join("output")).unwrap_or_default())
            .into_owned()
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let start = Instant::now();
        while !reached(self) {
            let has_ended = self.shell.try_wait().expect("a status").is_some();
            assert!(
                !has_ended && start.elapsed() < PATIENCE,
                "waited until {what}; so far:\n{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn type_in(&mut self, text: &str) {
        let Some(input) = &mut self.input else { panic!("the shell has been left") };
        input.write_all(text.as_bytes()).expect("a shell");
    }

    /// Does what a block of the page says.
    #[track_caller]
    fn follow(&mut self, fence: &Fence) {
        self.steps += 1;
        let done = format!("--- step {} is done", self.steps);
        let text = match (&fence.file, fence.language.as_str()) {
            (_, "sh") => fence.text.clone(),
            (Some(file), _) => format!("cat > {file} <<'END OF FILE'\n{}END OF FILE\n", fence.text),
            (None, _) => return,
        };
        self.type_in(&format!("{text}\necho '{done}'\n"));
        self.wait_until(&format!("this is done:\n{text}"), |reader| reader.output().contains(&done));
        let started = started_in(&text);
        self.wait_until(&format!("the blocks run that were started by\n{text}"), |reader| {
            let ponds = reader.ponds();
            let blocks = ponds.iter().flat_map(|pond| pond["blocks"].as_array().into_iter().flatten());
            let names: Vec<&str> = blocks.filter_map(|block| block["name"].as_str()).collect();
            (!text.contains(" init ") && !text.contains(".toml &") || !ponds.is_empty())
                && ponds
                    .iter()
                    .all(|pond| heard_in(&text).all(|topics| pond["mailboxes"].to_string().contains(topics)))
                && started.iter().all(|name| names.contains(&name.as_str()))
                && ponds.iter().all(all_blocks_answer)
        });
    }

    fn ponds(&self) -> Vec<Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_millpond"))
            .args(["ps", "--json"])
            .env("MILLPOND_RUNTIME_DIR", self.directory.join("ponds"))
            .output()
            .expect("millpond");
        let mut all: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        all["ponds"].as_array_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Leaves the shell; everything that was started in it has to have ended by then, or end by itself.
    #[track_caller]
    fn leave(&mut self) -> String {
        self.type_in("wait\n");
        self.input = None;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.shell.try_wait().expect("a status") {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the shell does not end:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(status.success(), "{status}:\n{}", self.output());
        assert!(self.ponds().is_empty(), "a pond is left:\n{}", self.output());
        self.output()
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.directory.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.shell), Signal::KILL);
        let _ = self.shell.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Names of the blocks that are started by hand.
fn started_in(text: &str) -> Vec<String> {
    let name =
        |line: &str| line.strip_prefix("millpond block ")?.split_whitespace().nth(1).map(str::to_owned);
    text.lines().filter_map(name).collect()
}

/// The topics that are subscribed to in the background.
fn heard_in(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.ends_with('&')).filter_map(|line| {
        let topics = line.strip_prefix("millpond subscribe ")?.split_whitespace().nth(1)?;
        Some(topics.trim_matches('\''))
    })
}

/// Each block has a process that has joined the message bus.
fn all_blocks_answer(pond: &Value) -> bool {
    let mailboxes = pond["mailboxes"].to_string();
    pond["blocks"].as_array().into_iter().flatten().all(|block| {
        let name = block["name"].as_str().unwrap_or_default();
        block["pid"].is_u64() && mailboxes.contains(&format!("{name}/**\""))
    })
}

/// Follows a page to its end; what was written to the screen, and where.
#[track_caller]
fn follow(page: &str, path: &str) -> (Reader, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let text = std::fs::read_to_string(path).expect("the page");
    let fences: Vec<Fence> = fences(&text).into_iter().filter(|fence| !fence.is_skipped).collect();
    assert!(fences.iter().any(|fence| fence.language == "sh"), "there is something to do");
    let mut reader = Reader::new(page);
    for fence in &fences {
        reader.follow(fence);
    }
    let output = reader.leave();
    (reader, output)
}

#[track_caller]
fn assert_said(output: &str, parts: &[&str]) {
    for part in parts {
        assert!(output.contains(part), "no `{part}` in:\n{output}");
    }
}

#[test]
fn a_pipeline_by_hand() {
    let (reader, output) = follow("by-hand", "docs/by-hand.md");
    assert_said(
        &output,
        &["connected scaled.out -> file.in", "scaled.k = 0.002", "stopped studio (in order)"],
    );
    assert_said(
        &output,
        &["studio.toml: 6 blocks, 5 connections, 6 processes", "studio ended in order, its time was over"],
    );
    for file in ["by-hand.csv", "from-file.csv"] {
        let text = String::from_utf8(reader.read(&format!("millpond/{file}"))).expect("text");
        assert!(text.starts_with("time,cpu.busy_percent,") && text.lines().count() > 20, "{file}: {text}");
    }
    assert_said(&String::from_utf8_lossy(&reader.read("millpond/account.txt")), &["no problems"]);
}

#[test]
fn the_readme() {
    let (reader, output) = follow("readme", "README.md");
    assert_said(&output, &["killed by signal 9 (SIGKILL): starting it again", "telemetry ended in order"]);
    let table = String::from_utf8(reader.read("millpond/telemetry.csv")).expect("text");
    assert!(table.lines().count() > 100, "{table}");
    let tone =
        hound::WavReader::new(std::io::Cursor::new(reader.read("millpond/a.wav"))).expect("a WAV file");
    assert_eq!(tone.duration(), 5 * 48_000);
}

#[test]
fn the_page_about_pipeline_files() {
    let (_reader, output) = follow("flowgraphs", "docs/flowgraphs.md");
    assert_said(&output, &["loudness.toml: 4 blocks, 3 connections, 3 processes", "ended by itself"]);
}

#[test]
fn the_page_about_the_message_bus() {
    let (_reader, output) = follow("bus", "docs/bus.md");
    assert_said(
        &output,
        &[
            "gain.k = 2.5",
            "expected a number",
            "refused, and why",
            "delivered to 1 subscriber",
            "lights/red  true",
        ],
    );
    assert_said(
        &output,
        &["connected gain.out -> log.in", "disconnected", "removed log", "stopped studio (in order)"],
    );
}

/// Pages that tests above follow.
const FOLLOWED: &[&str] =
    &["README.md", "docs/by-hand.md", "docs/bus.md", "docs/flowgraphs.md", "docs/tutorial.md"];

/// Nothing that looks as if it could be run stands in a page without being run, or saying why not.
#[test]
fn every_fence_is_run_or_says_why_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_dir(root.join("docs")).expect("the pages");
    let mut pages: Vec<String> = docs
        .map(|entry| format!("docs/{}", entry.expect("a page").file_name().to_string_lossy()))
        .filter(|page| page.ends_with(".md"))
        .collect();
    pages.extend(["README.md".to_owned(), "compare/README.md".to_owned()]);
    let doctests = std::fs::read_to_string(root.join("crates/millpond/src/lib.rs")).expect("the crate");
    let mut found = 0;
    for page in pages {
        let text = std::fs::read_to_string(root.join(&page)).expect("a page");
        for fence in fences(&text).iter().filter(|fence| !fence.is_skipped) {
            found += 1;
            let is_followed = FOLLOWED.contains(&page.as_str());
            let is_run = match (fence.language.as_str(), &fence.file) {
                ("text" | "json", _) => true, // nothing to run
                ("sh", _) => is_followed,
                ("rust" | "toml", Some(_)) => is_followed,
                // Compiled with the crate's documentation.
                ("rust", None) => doctests.contains(&format!("../../../{page}\")")),
                // The examples of the block types, which tests/block_reference.rs checks.
                ("toml", None) => page == "docs/blocks.md",
                // crates/millpond-python/tests/test_docs.py
                ("python", _) => page == "docs/python.md",
                _ => false,
            };
            assert!(is_run, "{page}: nobody runs this, and it does not say why:\n{}", fence.text);
        }
    }
    assert!(found > 80, "{found} fences");
}

#[test]
fn the_tutorial() {
    let (reader, output) = follow("tutorial", "docs/tutorial.md");
    assert_said(&output, &["test result: ok. 3 passed", "soft  Bends large samples down softly"]);
    assert_said(&output, &["amp.toml: 4 blocks, 3 connections, 4 processes", "killed by signal 9 (SIGKILL)"]);
    assert_said(&output, &["amp.drive = 20", "expected a number from 0.1 to 100, found 1000", "as expected"]);
    let mut samples =
        hound::WavReader::new(std::io::Cursor::new(reader.read("soft/tape.wav"))).expect("a WAV file");
    let loudest = samples.samples::<f32>().map(|sample| sample.expect("a sample").abs()).fold(0f32, f32::max);
    assert!((0.999..=1.0).contains(&loudest), "{loudest}");
}

#[test]
fn fences_are_found() {
    let page = "Text.\n\nIn `a b`, `src/x.rs`:\n\n```rust\nfn x() {}\n```\n<!-- not run: why -->\n```sh\nrm x\n```\n\
                <!-- in a terminal of its own -->\n```sh\nyes\n```\n";
    let fence = |language: &str, file: Option<&str>, text: &str, is_skipped| Fence {
        language: language.to_owned(),
        file: file.map(str::to_owned),
        text: text.to_owned(),
        is_skipped,
    };
    assert_eq!(
        fences(page),
        [
            fence("rust", Some("src/x.rs"), "fn x() {}\n", false),
            fence("sh", None, "rm x\n", true),
            fence("sh", None, "yes &\n", false)
        ]
    );
}
