//! `docs/memory-layout.md` is the layout that the code says it is.

use std::path::Path;

#[test]
fn the_page_is_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/memory-layout.md");
    let expected = millpond_shm::layout::describe();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("write the page");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (found, expected))) =
        found.lines().zip(expected.lines()).enumerate().find(|(_, (f, e))| f != e)
    {
        panic!(
            "docs/memory-layout.md, line {}: expected `{expected}`, found `{found}`; \
             run UPDATE_DOCS=1 cargo test -p millpond-shm --test memory_layout",
            number + 1
        );
    }
    assert!(found == expected, "docs/memory-layout.md ends early or late: run with UPDATE_DOCS=1");
}
