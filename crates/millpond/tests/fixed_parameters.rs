//! A parameter that can be set while a block runs must be one that the block looks at while it runs: the sources of the blocks
//! that come with Millpond say so.

use std::path::Path;

use millpond::Catalog;

#[test]
fn what_can_be_set_is_read_while_the_block_works() {
    let mut sources = String::new();
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/blocks")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if !path.ends_with("tests.rs") {
                // Without its tests, and on one line, however it is formatted.
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                sources.extend(code.split_whitespace());
                sources.push('\n');
            }
        }
    }
    let mut unread = Vec::new();
    for block_type in Catalog::builtin().iter() {
        let spec = block_type.spec();
        for param in spec.params().iter().filter(|param| !param.is_fixed()) {
            let is_stated = |source: &&str| source.contains(&format!("Spec::new(\"{}\"", spec.name()));
            let source = sources.lines().find(is_stated).unwrap_or(&sources);
            // Whoever is told of changes may hand all parameters to what derives something from them, perhaps in another file.
            let is_derived = source.contains("fnset_param(")
                && source.contains("&io.params")
                && sources.split(&format!("\"{}\"", param.name())).count() > 2;
            let is_read = is_derived
                || source.split("io.param").skip(1).any(|rest| {
                    // `io.param::<T>("name")`, or a closure that is given names.
                    let call = rest.split(')').next().unwrap_or_default();
                    call.ends_with(&format!("(\"{}\"", param.name())) || call.ends_with("(name")
                });
            if !is_read {
                unread.push(format!("{}.{}", spec.name(), param.name()));
            }
        }
    }
    assert!(
        unread.is_empty(),
        "can be set, but nobody looks: mark as `.fixed()`, or read with `io.param` in `work` or `set_param`: {unread:?}"
    );
}
