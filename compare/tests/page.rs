//! The `page` program: what is committed is what it makes of the results, and missing peers are called that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

fn page(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_page")).args(arguments).output().expect("the program starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory for a page; removed when dropped.
struct Docs(PathBuf);

impl Docs {
    fn new(name: &str) -> Self {
        let docs = std::env::temp_dir().join(format!("page-test-{}-{name}", std::process::id()));
        fs::create_dir_all(docs.join("images")).expect("the directory is new");
        Self(docs)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect("the file was written")
    }

    fn argument(&self) -> &str {
        self.0.to_str().expect("the path is UTF-8")
    }
}

impl Drop for Docs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn page_and_plots_are_what_the_results_say() {
    let write = std::env::var_os("UPDATE_DOCS").is_some();
    let output = page(&["--docs", DOCS, if write { "--render" } else { "--check" }]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn a_page_that_was_changed_by_hand_is_found_out() {
    let docs = Docs::new("changed");
    fs::copy(Path::new(DOCS).join("comparison.json"), docs.0.join("comparison.json"))
        .expect("there are results");
    assert!(page(&["--docs", docs.argument(), "--render"]).status.success());
    assert!(page(&["--docs", docs.argument(), "--check"]).status.success());
    let text = docs.read("comparison.md").replacen("Millpond", "Somebody", 1);
    fs::write(docs.0.join("comparison.md"), text).expect("the page can be written");
    let output = page(&["--docs", docs.argument(), "--check"]);
    assert!(!output.status.success() && said(&output).contains("comparison.md"), "{}", said(&output));
}

#[test]
fn one_peer_is_measured_anew_and_the_others_are_kept() {
    let docs = Docs::new("only");
    let measure = |peer: &str| {
        page(&[
            "--docs",
            docs.argument(),
            "--only",
            peer,
            "--rounds",
            "1",
            "--seconds",
            "0.1",
            "--python",
            "/no/python",
        ])
    };
    // Not there, so that nothing has to be measured for it.
    let output = measure("dora");
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        docs.read("comparison.md").contains("| dora | – | not measured: "),
        "{}",
        docs.read("comparison.md")
    );
    let output = measure("unix");
    assert!(output.status.success(), "{}", said(&output));
    let results = docs.read("comparison.json");
    assert!(results.contains("\"dora\"") && results.contains("\"unix\""), "{results}");
    assert!(docs.read("images/comparison-latency.svg").contains("not measured"));
    assert!(page(&["--docs", docs.argument(), "--check"]).status.success());
}

#[test]
fn a_peer_that_nobody_knows_is_refused() {
    let docs = Docs::new("unknown");
    let output = page(&["--docs", docs.argument(), "--only", "nobody"]);
    assert!(!output.status.success() && said(&output).contains("no peer `nobody`"), "{}", said(&output));
}
