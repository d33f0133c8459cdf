//! What users are told who give a block something wrong: files that are missing, cut off or no such files, values that parameters do
//! not take, streams that do not fit. `wrong_input/cases.txt` has at least one mistake for every type of block, each a real run.

mod pipeline;

use std::io::Write as _;

use millpond::Catalog;
use pipeline::{Directory, Pipeline};

const CASES: &str = include_str!("wrong_input/cases.txt");

/// A pipeline with a mistake, and what is said about it.
struct Case<'a> {
    block_type: &'a str,
    pipeline: String,
    code: i32,
    says: &'a str,
}

/// Groups of lines: the block's type, the pipeline in one line or as a file, and `=>` with the exit code and the message.
fn cases() -> Vec<Case<'static>> {
    let groups =
        CASES.split("\n\n").map(str::trim).filter(|group| !group.is_empty() && !group.starts_with('#'));
    let case = |group: &'static str| {
        let (pipeline, expected) = group.split_once("\n=> ").unwrap_or_else(|| panic!("no `=>` in {group}"));
        let (block_type, pipeline) =
            pipeline.split_once('\n').unwrap_or_else(|| panic!("no pipeline in {group}"));
        let (code, says) = expected.split_once(' ').unwrap_or_else(|| panic!("no message in {group}"));
        Case { block_type, pipeline: pipeline.to_owned(), code: code.parse().expect("an exit code"), says }
    };
    groups.map(case).collect()
}

/// The files that the pipelines read.
fn write_files(directory: &Directory) {
    pipeline::write_wav(&directory.path("whole.wav"), (16, false), 1, 1000);
    let whole = std::fs::read(directory.path("whole.wav")).expect("the file");
    let mut twelve_bits = whole.clone();
    twelve_bits[34] = 12;
    let files: [(&str, &[u8]); 15] = [
        ("cut.wav", &whole[..whole.len() - 501]),
        ("header.wav", &whole[..20]),
        ("twelve.wav", &twelve_bits),
        ("text.wav", b"this is text and no sound"),
        ("empty", b""),
        ("rows.csv", b"time,a\n1,2\n2,3\n"),
        ("short.csv", b"time,a,b\n1,2,\n2,3\n"),
        ("long.csv", b"a,b\n1,2,3\n"),
        ("word.csv", b"time,a\n1,x\n"),
        ("noon.csv", b"time,a\nnoon,3\n"),
        ("later-noon.csv", b"time,a\n1,3\nnoon,3\n"),
        ("time.csv", b"time\n1\n"),
        ("latin.csv", b"time,a\n1,\xe9\n"),
        ("taps.txt", b"0.5 x\n"),
        ("seven.raw", b"1234567"),
    ];
    for (name, bytes) in files {
        let mut file = std::fs::File::create(directory.path(name)).expect("a file");
        file.write_all(bytes).expect("a file");
    }
}

/// Of a pipeline that was not started, the mistakes with the advice about each; of one that ran, the last line.
fn said(code: Option<i32>, stderr: &str) -> String {
    if code != Some(2) {
        let last = stderr.lines().last().unwrap_or_default();
        return last.strip_prefix("millpond: ").unwrap_or(last).to_owned();
    }
    let part = |line: &str| {
        let line = line.trim_start();
        line.strip_prefix("error: ").or_else(|| line.strip_prefix("= help: ")).map(str::to_owned)
    };
    stderr.lines().filter_map(part).collect::<Vec<_>>().join("; ")
}

#[test]
fn each_mistake_is_told_with_its_block_and_what_to_do() {
    let cases = cases();
    // Most of the time goes by with waiting for processes.
    let wrong = std::thread::scope(|scope| {
        let parts = cases.chunks(cases.len().div_ceil(4)).map(|cases| scope.spawn(|| wrong(cases)));
        let parts: Vec<_> = parts.collect();
        parts.into_iter().flat_map(|part| part.join().expect("a part")).collect::<Vec<String>>()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The cases that end in another way, or with another message.
fn wrong(cases: &[Case]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let directory = Directory::new();
        write_files(&directory);
        let home = directory.path("").display().to_string();
        let pipeline = match case.pipeline.contains('\n') {
            true => directory.write("wrong.toml", &case.pipeline),
            false => case.pipeline.clone(),
        };
        let end = Pipeline::start_in(directory, &pipeline, &["--quiet"]).wait();
        let found = said(end.code, &end.stderr).replace(home.trim_end_matches('/'), "DIRECTORY");
        if end.code != Some(case.code) || found != case.says {
            wrong.push(format!(
                "{}\n{}\n  expected {} {}\n  found    {:?} {found}",
                case.block_type, case.pipeline, case.code, case.says, end.code
            ));
        }
    }
    wrong
}

#[test]
fn every_type_of_block_has_a_mistake() {
    let cases = cases();
    for block_type in Catalog::builtin().iter() {
        let name = block_type.spec().name();
        let told = cases.iter().any(|case| case.block_type == name);
        assert!(told, "`{name}`: expected a mistake in wrong_input/cases.txt, found none");
    }
    for case in &cases {
        let named = if case.code == 2 { case.says.contains('`') } else { case.says.starts_with("block `") };
        assert!(named, "{}: the message names no block: {}", case.block_type, case.says);
        assert!(case.pipeline.contains(case.block_type), "{}: not in {}", case.block_type, case.pipeline);
    }
}
