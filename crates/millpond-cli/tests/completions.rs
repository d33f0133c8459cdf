//! The completion scripts in the shells they are for. `scripts/test` installs the shells; where one is missing, its part is left out.

mod millpond;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use millpond::Millpond;

/// Whether there is such a shell.
fn has(shell: &str) -> bool {
    let found = Command::new(shell).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("{shell} is not installed: its completions are not tested");
    }
    found.is_ok()
}

/// The script for a shell, in a directory of its own for `zsh` finds scripts by the names of files.
struct Script(PathBuf);

impl Script {
    fn of(shell: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("millpond-completions-{shell}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let script = Millpond::new().run(&format!("completions {shell}")).stdout;
        std::fs::write(directory.join("_millpond"), script).expect("a file");
        Self(directory)
    }

    /// What a shell prints that runs `commands`, in which `SCRIPT` is the script and `DIRECTORY` where it is.
    fn run(&self, shell: &str, arguments: &[&str], commands: &str) -> String {
        let directory = self.0.display().to_string();
        let commands =
            commands.replace("SCRIPT", &format!("{directory}/_millpond")).replace("DIRECTORY", &directory);
        let output = Command::new(shell)
            .args(arguments)
            .args(["-c", &commands])
            .env("HOME", &self.0)
            .env("TERM", "dumb")
            .stdin(Stdio::null())
            .output()
            .expect("the shell");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{shell}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is typed, something that is offered then, and something that is not.
const TYPED: [(&str, &str, &str); 4] = [
    ("millpond dis", "disconnect", "connect"),
    ("millpond connect --a", "--ahead", "--depth"),
    ("millpond connect --policy drop-", "drop-oldest", "block"),
    ("millpond bench thr", "throughput", "latency"),
];

fn check(shell: &str, offered: impl Fn(&str) -> String) {
    for (typed, wanted, unwanted) in TYPED {
        let offered = offered(typed);
        let words: Vec<&str> = offered.split_whitespace().collect();
        assert!(words.contains(&wanted), "{shell}: `{typed}` offers {offered}");
        assert!(!words.contains(&unwanted), "{shell}: `{typed}` offers {offered}");
    }
}

#[test]
fn bash_completes() {
    if !has("bash") {
        return;
    }
    let script = Script::of("bash");
    check("bash", |typed| {
        let words: Vec<&str> = typed.split(' ').collect();
        let [.., before, last] = words.as_slice() else { panic!("two words") };
        let commands = format!(
            "source SCRIPT; COMP_WORDS=({typed}); COMP_CWORD={}; _millpond millpond {last} {before}; printf '%s\\n' \
             \"${{COMPREPLY[@]}}\"",
            words.len() - 1
        );
        script.run("bash", &["--norc"], &commands)
    });
}

#[test]
fn fish_completes() {
    if !has("fish") {
        return;
    }
    let script = Script::of("fish");
    check("fish", |typed| {
        script.run("fish", &["--no-config"], &format!("source SCRIPT; complete -C '{typed}'"))
    });
}

/// zsh completes only for somebody who types; here it finds the script for the command and reads all of it.
#[test]
fn zsh_finds_the_script() {
    if !has("zsh") {
        return;
    }
    let commands = "zsh -n SCRIPT && fpath=(DIRECTORY $fpath) && autoload -Uz compinit && compinit -u -d DIRECTORY/dump && \
                    print $_comps[millpond] && autoload +X _millpond && (( $+functions[_millpond] )) && print read";
    assert_eq!(Script::of("zsh").run("zsh", &["-f"], commands), "_millpond\nread\n");
}
