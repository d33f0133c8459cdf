//! `docs/blocks.md` is what the block types state about themselves, and its examples are pipelines that can run.

use std::path::Path;

use millpond::{Catalog, Flowgraph};

#[test]
fn the_page_is_what_the_types_state() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/blocks.md");
    let expected = Catalog::builtin().to_markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("write the page");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (found, expected))) =
        found.lines().zip(expected.lines()).enumerate().find(|(_, (f, e))| f != e)
    {
        panic!(
            "docs/blocks.md, line {}: expected `{expected}`, found `{found}`; run UPDATE_DOCS=1 cargo test -p millpond \
             --test block_reference",
            number + 1
        );
    }
    assert!(found == expected, "docs/blocks.md ends early or late: run with UPDATE_DOCS=1");
}

#[test]
fn every_example_is_a_pipeline_with_its_block() {
    let catalog = Catalog::builtin();
    for block_type in catalog.iter() {
        let spec = block_type.spec();
        assert!(!spec.example_text().is_empty(), "`{}` has no example", spec.name());
        let flowgraph = match Flowgraph::parse("example.toml", spec.example_text(), &catalog) {
            Ok(flowgraph) => flowgraph,
            Err(error) => panic!("the example of `{}`: {error}", spec.name()),
        };
        let shown = flowgraph.blocks.iter().any(|block| block.block_type == spec.name());
        assert!(shown, "the example of `{}` shows no such block", spec.name());
    }
}
