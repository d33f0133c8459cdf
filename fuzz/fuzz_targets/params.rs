//! Values of parameters: as a command line gives them for every block type, and as JSON over the bus to a block that runs.
//!
//! The first byte chooses the block type; lines are `name=text`.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{Corpus, fuzz_target};
use millpond::bus::Json;
use millpond::testing::Bench;
use millpond::{BlockType, Catalog, Params};

thread_local! {
    static BLOCK: RefCell<Bench> = RefCell::new({
        let catalog = Catalog::builtin();
        Bench::of_type(catalog.find("gain").expect("a built-in type"), &[]).expect("a bench")
    });
    static TYPES: Vec<BlockType> = Catalog::builtin().iter().cloned().collect();
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((&choice, text)) = input.split_first() else { return Corpus::Reject };
    let Ok(text) = std::str::from_utf8(text) else { return Corpus::Reject };
    TYPES.with(|types| {
        let spec = types[usize::from(choice) % types.len()].spec();
        match Params::parse(spec, text.lines().filter_map(|line| line.split_once('='))) {
            // What is read can be shown, and be read again as the same.
            Ok(params) => {
                let shown: Vec<_> =
                    params.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
                let again = Params::new(spec, shown).expect("what was accepted is accepted again");
                assert_eq!(format!("{params:?}"), format!("{again:?}"));
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
    if let Ok(value) = serde_json::from_str::<Json>(text) {
        BLOCK.with_borrow_mut(|block| {
            let _ = block.set("k", &value);
            for name in ["set", "get", "params", "anything"] {
                let _ = block.call(name, value.clone());
            }
        });
    }
    Corpus::Keep
});
