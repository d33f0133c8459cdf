//! The blocks that read files: `csv-source`, `wav-source` and `file-source`. Whatever is in the file, it is read or refused.
//!
//! The first byte chooses the block and its parameters, the rest is the file.

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use millpond::testing::Bench;
use millpond::{Catalog, Result, Value, prelude::Frames as _};

const DTYPES: [&str; 8] = ["bytes", "u8", "i16", "u32", "i64", "f32", "f64", "c64"];
const TIMES: [&str; 4] = ["absolute", "relative", "sample", "none"];

fn read(name: &str, params: &[(&str, Value)]) -> Result<()> {
    let catalog = Catalog::builtin();
    let mut bench = Bench::of_type(catalog.find(name)?, params)?;
    // The queue holds less than a file may give.
    while !bench.has_ended() {
        bench.run()?;
        while let Some(buffer) = bench.pull_buffer("out")? {
            let _ = (buffer.timestamp(), buffer.extents(), buffer.as_bytes().iter().fold(0_u8, |x, y| x ^ y));
        }
    }
    Ok(())
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&choice, contents)) = input.split_first() else { return Corpus::Reject };
    let directory = std::env::var("MILLPOND_RUNTIME_DIR").unwrap_or_else(|_| "/tmp".to_owned());
    let path = format!("{directory}/file-{}", std::process::id());
    std::fs::write(&path, contents).expect("a temporary file");
    let path = ("path", Value::from(path.as_str()));
    let option = usize::from(choice >> 2);
    let read = match choice & 3 {
        0 => read("wav-source", &[path, ("frames", Value::Int(1 + option as i64 % 16 * 97))]),
        1 => {
            let (channels, frames) = (1 + option as i64 / 8, 1 + option as i64 * 7);
            let dtype = Value::from(DTYPES[option % 8]);
            read(
                "file-source",
                &[path, ("dtype", dtype), ("channels", channels.into()), ("frames", frames.into())],
            )
        }
        _ => {
            let (time, rows) = (Value::from(TIMES[option % 4]), Value::Int(1 + option as i64 / 4 % 4));
            read("csv-source", &[path, ("time", time), ("rows", rows), ("rate_hz", Value::Int(100))])
        }
    };
    if let Err(error) = read {
        assert!(!error.to_string().is_empty());
    }
    Corpus::Keep
});
