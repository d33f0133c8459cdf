//! `millpond top` in a real terminal (tmux) and into a pipe, while blocks are killed and after everybody was.

mod pipeline;

use std::process::{Command, Output};

use pipeline::{Directory, Pipeline, wait_until};
use rustix::process::Signal;

const FORWARD: &str = r#"
name = "forward"
connect = ["zeros -> copy -> nothing"]
[blocks.zeros]
type = "null-source"
rate_hz = 100
[blocks.copy]
type = "copy"
[blocks.nothing]
type = "null-sink"
"#;

/// A terminal of some size in which one command runs; gone with its processes when dropped.
struct Terminal {
    socket: String,
}

impl Terminal {
    fn start(directory: &Directory, columns: u32, command: &str) -> Self {
        let terminal = Terminal { socket: directory.path("tmux").display().to_string() };
        let ponds = directory.path("ponds").display().to_string();
        let command = format!("MILLPOND_RUNTIME_DIR={ponds} {command}; sleep 600");
        let size = ["-x", &columns.to_string(), "-y", "20"];
        let made = terminal.tmux(&[&["new-session", "-d"], &size[..], &[&command]].concat());
        assert!(made.status.success(), "tmux: {}", String::from_utf8_lossy(&made.stderr));
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command
            .args(["-f", "/dev/null", "-S", &self.socket])
            .args(arguments)
            .output()
            .expect("tmux is installed")
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    fn shows(&self, what: &str) {
        let mut last = String::new();
        let shown = |last: &mut String| {
            *last = self.screen();
            last.contains(what)
        };
        wait_until(&format!("`{what}` is on the screen"), || shown(&mut last));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn top_shows_kills_and_the_last_state() {
    let directory = Directory::new();
    let file = directory.write("forward.toml", FORWARD);
    let mut run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("nothing");
    let top = format!("{} top forward --interval 100ms", env!("CARGO_BIN_EXE_millpond"));
    let wide = Terminal::start(run.directory(), 200, &top);
    wide.shows("  copy.out -> nothing.in");
    wide.shows("PID");
    wide.shows("forward  4 processes");
    let copy = run.pid_of("copy");
    pipeline::kill(copy, Signal::KILL);
    wide.shows("1 recovered");
    // Every process at once, the supervisor included: what was there stays readable.
    let blocks = ["zeros", "copy", "nothing"].map(|block| run.pid_of(block));
    run.signal(Signal::STOP);
    for pid in blocks {
        pipeline::kill(pid, Signal::KILL);
    }
    run.signal(Signal::KILL);
    wide.shows("all processes have ended; this is the last state");
    wide.shows("copy.out -> nothing.in");
    wide.tmux(&["send-keys", "q"]);
    wait_until("the screen is given back", || !wide.screen().contains("last state"));
    drop(wide);
    run.wait_for_death();
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let directory = Directory::new();
    let file = directory.write("forward.toml", FORWARD);
    let run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("nothing");
    let directory = run.directory();
    // However seldom it looks at the pond.
    let top = format!("{} top forward --interval 1h", env!("CARGO_BIN_EXE_millpond"));
    let pids = directory.path("pid").display().to_string();
    let script = format!(
        "for signal in TERM HUP; do\n\
             sh -c 'echo $$ >{pids}-$0; exec {top}' $signal\n\
             echo after $signal: $?\n\
             read line\n\
         done\n"
    );
    let terminal = Terminal::start(directory, 100, &format!("sh {}", directory.write("tops.sh", &script)));
    for (name, signal) in [("TERM", Signal::TERM), ("HUP", Signal::HUP)] {
        terminal.shows("copy.out -> nothing.in");
        let pid = run.read(&format!("pid-{name}"));
        pipeline::kill(pid.trim().parse().expect("a pid"), signal);
        terminal.shows(&format!("after {name}: 0"));
        let is_alternate = terminal.tmux(&["display-message", "-p", "#{alternate_on}"]);
        assert_eq!(String::from_utf8_lossy(&is_alternate.stdout), "0\n");
        let screen = terminal.screen();
        assert!(!screen.contains("nothing.in"), "{screen}");
        // A raw terminal would not show what is typed.
        terminal.tmux(&["send-keys", "-l", &format!("typed after {name}")]);
        terminal.shows(&format!("typed after {name}"));
        terminal.tmux(&["send-keys", "Enter"]);
    }
    drop(terminal);
    run.signal(Signal::INT);
    assert_eq!(run.wait().code, Some(0));
}

#[test]
fn top_fits_into_eighty_columns() {
    let directory = Directory::new();
    let file = directory.write("forward.toml", FORWARD);
    let run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("nothing");
    let top = format!("{} top forward", env!("CARGO_BIN_EXE_millpond"));
    let narrow = Terminal::start(run.directory(), 80, &top);
    narrow.shows("  copy.out -> nothing.in");
    let screen = narrow.screen();
    for column in ["BLOCK / QUEUE", "STATE", "IN", "OUT", "QUEUED", "LOST"] {
        assert!(screen.contains(column), "{screen}");
    }
    drop(narrow);
    run.signal(Signal::INT);
    assert_eq!(run.wait().code, Some(0));
}

#[test]
fn rows_go_into_a_pipe_and_into_programs() {
    let directory = Directory::new();
    let file = directory.write("forward.toml", FORWARD);
    let run = Pipeline::start_in(directory, &file, &[]);
    run.has_moved("nothing");
    let plain = run.another(&["top", "forward", "--interval", "100ms"]);
    assert_eq!(plain.code, Some(0), "{plain}");
    assert!(plain.stdout.contains("zeros.out -> copy.in"), "{plain}");
    assert!(!plain.stdout.contains('\x1b'), "{plain}");
    let json = run.another(&["top", "forward", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let rows = json["rows"].as_array().expect("rows");
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["zeros", "copy", "zeros.out -> copy.in", "nothing", "copy.out -> nothing.in"]);
    assert!(rows.iter().all(|row| row["dropped"] == 0), "{json:#}");
    assert_eq!(json["alive"], true);
    let none = run.another(&["top", "nowhere"]);
    assert_eq!(none.code, Some(1), "{none}");
    assert!(none.stderr.contains("`nowhere`"), "{none}");
    run.signal(Signal::INT);
    assert_eq!(run.wait().code, Some(0));
}
