//! What every command says about itself, and that its exit codes are those it tells.

mod millpond;

use millpond::{Done, Millpond};

/// The commands that `millpond --help` lists.
fn commands(millpond: &Millpond) -> Vec<String> {
    let help = millpond.run("--help").stdout;
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(str::to_owned).collect()
}

/// The exit codes that a help text tells.
fn codes(help: &str) -> Vec<i32> {
    let told = help.split("\nExit codes:\n").nth(1).unwrap_or_default();
    told.lines().filter_map(|line| line.strip_prefix("  ")?.split_once("  ")?.0.trim().parse().ok()).collect()
}

#[test]
fn every_command_has_examples_and_exit_codes() {
    let millpond = Millpond::new();
    let commands = commands(&millpond);
    assert!(commands.len() > 20, "{commands:?}");
    for command in commands {
        let Done { code, stdout: help, stderr } = millpond.run(&format!("{command} --help"));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{command}");
        assert!(help.contains("\nExample"), "{command}: no example\n{help}");
        assert!(help.contains(&format!("  millpond {command}")), "{command}: no example of its own\n{help}");
        let codes = codes(&help);
        assert!(codes.first() == Some(&0) && codes.contains(&2), "{command}: exit codes {codes:?}\n{help}");
        assert!(!help.contains('\x1b'), "{command}: colours in a pipe");
        let wrong = millpond.run(&format!("{command} --no-such-option"));
        assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{command}: {}", wrong.stderr);
        assert!(wrong.stderr.contains("--no-such-option"), "{command}: {}", wrong.stderr);
    }
}

/// What is typed, the exit code, and what is said.
const ENDS: [(&str, i32, &str); 49] = [
    ("blocks", 0, ""),
    ("blocks gain", 0, ""),
    ("blocks gian", 2, "there is no block type `gian`, did you mean `gain`?"),
    ("check none.toml", 2, "cannot read the pipeline file none.toml: No such file or directory"),
    ("run none.toml", 2, "cannot read the pipeline file none.toml: No such file or directory"),
    ("run null-source!null-sink", 2, "spaces around each `!`"),
    ("graph none.toml", 1, "there is no file `none.toml`"),
    ("init a.b", 2, "`a.b`"),
    ("block gain louder --pond none", 1, "there is no pond `none`"),
    ("block gian louder --pond none", 2, "there is no block type `gian`"),
    ("ps", 0, ""),
    ("ps --json", 0, ""),
    ("ps now", 2, "unexpected argument 'now'"),
    ("inspect none", 1, "there is no pond `none`"),
    ("inspect a.b", 2, "`a.b`"),
    ("logs none", 1, "there is no pond `none`"),
    ("logs none --level loud", 2, "loud"),
    ("top none", 1, "there is no pond `none`"),
    ("top none --interval soon", 2, "expected a duration like `10s`"),
    ("top a.b", 2, "`a.b`"),
    ("get none gain", 1, "there is no pond `none`"),
    ("get none", 2, "required"),
    ("set none gain k 1", 1, "there is no pond `none`"),
    ("set none gain k", 2, "required"),
    ("call none gain/get", 1, "there is no pond `none`"),
    ("call", 2, "required"),
    ("publish none a 1", 1, "there is no pond `none`"),
    ("publish none", 2, "required"),
    ("subscribe none a", 1, "there is no pond `none`"),
    ("subscribe none a --count many", 2, "many"),
    ("connect none a.out b.in", 1, "there is no pond `none`"),
    ("connect none a.out b.in --depth none", 2, "none"),
    ("disconnect none a.out b.in", 1, "there is no pond `none`"),
    ("disconnect none a.out", 2, "required"),
    ("remove none a", 1, "there is no pond `none`"),
    ("remove none", 2, "required"),
    ("stop none", 1, "there is no pond `none`"),
    ("stop none --now --timeout 1s", 2, "cannot be used with"),
    ("stop none --timeout 9223372036854775807s", 2, "at most 100 years"),
    ("top none --interval 876601h", 2, "at most 100 years"),
    ("clean", 0, ""),
    ("align none.csv --policy exact", 1, "none.csv"),
    ("align none.csv --policy wrong", 2, "wrong"),
    ("resample none.wav out.wav --rate 8000", 1, "none.wav: No such file or directory"),
    ("resample none.wav out.wav --rate 0", 2, "--rate"),
    ("bench latency --pin x", 2, "--pin"),
    ("torture --seconds never", 2, "never"),
    ("completions bash", 0, ""),
    ("completions tcsh", 2, "tcsh"),
];

#[test]
fn commands_end_as_they_say() {
    let millpond = Millpond::new();
    let mut wrong = Vec::new();
    for (arguments, code, says) in ENDS {
        let done = millpond.run(arguments);
        let silent = code == 0 && !done.stderr.is_empty();
        if done.code != Some(code) || !done.stderr.contains(says) || silent || done.stderr.contains('\x1b') {
            wrong.push(format!(
                "{arguments}: expected {code} `{says}`, found {:?} {}",
                done.code, done.stderr
            ));
        }
        if code != 0 && !done.stdout.is_empty() {
            wrong.push(format!("{arguments}: says in standard output {}", done.stdout));
        }
        let command = arguments.split(' ').next().unwrap_or_default();
        let told = codes(&millpond.run(&format!("{command} --help")).stdout);
        if !told.contains(&code) {
            wrong.push(format!("{command}: ended with {code}, but tells of {told:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let untold: Vec<String> = commands(&millpond)
        .into_iter()
        .filter(|command| !ENDS.iter().any(|(arguments, ..)| arguments.split(' ').next() == Some(command)))
        .collect();
    assert!(untold.is_empty(), "no case of {untold:?}");
}

#[test]
fn what_cannot_be_written_is_an_error_or_lost_but_no_panic() {
    let millpond = Millpond::new();
    // What there is to say about the file cannot be said.
    assert_eq!(millpond.shell("millpond check none.toml 2>/dev/full").code, Some(2));
    assert_eq!(millpond.shell("printf \"[blocks.a]\\ntype = 'gian'\" >bad.toml").code, Some(0));
    for command in ["check", "run", "graph"] {
        let line = format!("millpond {command} bad.toml 2>/dev/full");
        assert_eq!(millpond.shell(&line).code, Some(2), "{command}");
    }
    let Done { code, stderr, .. } = millpond.shell("millpond blocks >/dev/full");
    assert_eq!(
        (code, stderr.as_str()),
        (Some(1), "millpond: cannot write to standard output: No space left on device (os error 28)\n")
    );
    // The kernel's signal for it would end the program without a word.
    let Done { code, stderr, .. } = millpond.shell("ulimit -f 10; millpond init small");
    assert_eq!(
        (code, stderr.as_str()),
        (Some(1), "millpond: make the memory of pond `small`: File too large (os error 27)\n")
    );
}
