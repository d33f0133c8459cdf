//! Pipeline files and one-line pipelines: whatever they say, they are read or refused, and a refusal can be shown.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};
use millpond::{Catalog, Flowgraph, flowgraph::Picture};

fn catalog() -> &'static Catalog {
    static CATALOG: OnceLock<Catalog> = OnceLock::new();
    CATALOG.get_or_init(Catalog::builtin)
}

/// A file can name programs, which are asked for their blocks: none may be run here, however its key is written.
fn may_name_a_program(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !matches!(c, '\\' | '\'' | '"')).collect();
    plain.contains("program") || ["\\u", "\\U", "\\x"].iter().any(|escape| text.contains(escape))
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(input) else { return Corpus::Reject };
    if may_name_a_program(text) {
        return Corpus::Reject;
    }
    for read in
        [Flowgraph::parse("fuzz.toml", text, catalog()), Flowgraph::parse_line("fuzz", text, catalog())]
    {
        match read {
            Ok(flowgraph) => {
                let picture = Picture::of(&flowgraph);
                assert!(picture.to_svg().ends_with("</svg>\n") && !picture.to_dot().is_empty());
                let _ = (flowgraph.default_depth(), flowgraph.pool_warning());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    Corpus::Keep
});
