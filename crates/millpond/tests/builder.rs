//! Flowgraphs built in code: the same checks as for a file, and runs in this process.

use std::time::Duration;

use millpond::flowgraph::Builder;
use millpond::{Block, Catalog, Flowgraph, Io, Params, Pause, Port, Result, Spec, Value, WorkResult};

fn chain(name: &str, params: &[(&str, Value)]) -> Builder {
    let name = format!("{name}-{}", std::process::id());
    Flowgraph::builder(&name)
        .block("zeros", "null-source", params)
        .block("copy", "copy", &[])
        .block("nothing", "null-sink", &[])
        .connect("zeros -> copy -> nothing")
}

/// Panics at its third buffer.
struct Third(u32);

impl Block for Third {
    fn spec() -> Spec {
        Spec::new("third", "Panics").input(Port::new("in", "any stream"))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self(0))
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        io.take("in")?;
        self.0 += 1;
        assert!(self.0 < 3, "that was the third");
        Ok(())
    }
}

#[test]
fn a_built_flowgraph_runs_to_its_end_on_any_number_of_threads() {
    let catalog = Catalog::builtin();
    for threads in [1, 2, 4] {
        let built = chain(&format!("built{threads}"), &[("count", 3000.into()), ("items", 100.into())]);
        built.build(&catalog).unwrap().run_here(&catalog, threads).unwrap();
    }
}

#[test]
fn its_duration_ends_it() {
    let catalog = Catalog::builtin();
    let built = chain("lasting", &[("rate_hz", 100.0.into())]).duration(Duration::from_millis(200));
    built.build(&catalog).unwrap().run_here(&catalog, 1).unwrap();
}

/// Passes on what comes in, and swallows what comes back.
struct Round;

impl Block for Round {
    fn spec() -> Spec {
        Spec::new("round", "Has an input for what comes back")
            .input(Port::new("in", "any stream"))
            .input(Port::new("back", "any stream").optional())
            .output(Port::new("out", "what comes in").like("in"))
    }

    fn new(_: &Params) -> Result<Self> {
        Ok(Self)
    }

    fn work(&mut self, io: &mut Io) -> WorkResult {
        while io.try_take("back")?.is_some() {}
        match io.try_take("in")? {
            Some(buffer) => io.send("out", buffer),
            None => Err(Pause::NeedInput),
        }
    }
}

#[test]
fn what_goes_round_ends_with_its_duration() {
    let mut catalog = Catalog::builtin();
    catalog.add::<Round>();
    let (end, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let built = Flowgraph::builder(&format!("round-{}", std::process::id()))
            .block("zeros", "null-source", &[("rate_hz", 100.0.into())])
            .block("there", "round", &[])
            .block("back", "copy", &[])
            .block("heard", "null-sink", &[])
            .connect("zeros -> there.in")
            .connect("there -> back -> there.back")
            .connect("back -> heard")
            .duration(Duration::from_millis(200));
        let _ = end.send(built.build(&catalog).unwrap().run_here(&catalog, 2));
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("it ends").unwrap();
}

#[test]
fn a_panic_is_the_failure_of_its_block() {
    let mut catalog = Catalog::builtin();
    catalog.add::<Third>();
    let name = format!("panicking-{}", std::process::id());
    let built = Flowgraph::builder(&name)
        .block("zeros", "null-source", &[])
        .block("victim", "third", &[])
        .connect("zeros -> victim");
    let error = built.build(&catalog).unwrap().run_here(&catalog, 2).expect_err("it panics");
    assert_eq!(error.to_string(), "block `victim`: panicked: that was the third");
}

#[test]
fn mistakes_are_shown_like_those_of_a_file() {
    let error = chain("wrong", &[("cuont", 3.into())]).build(&Catalog::builtin()).expect_err("refused");
    let text = error.to_string();
    assert!(text.starts_with("error: `null-source` has no parameter `cuont`\n"), "{text}");
    assert!(text.contains("did you mean `count`?"), "{text}");
}
