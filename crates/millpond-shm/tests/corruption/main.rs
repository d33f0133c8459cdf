//! Shared memory that somebody scribbled over: whatever it holds, nothing panics, hangs, or leaves the pond's memory.

mod harness;
#[path = "../support/mod.rs"]
mod support;

/// Small random scripts, the same in every run.
#[test]
fn random_scripts_do_no_harm() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..60 {
        let mut bytes = vec![0; 400];
        for byte in &mut bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 32) as u8;
        }
        harness::run(&bytes);
    }
}

/// Every script that the fuzzer kept, those that once found something among them.
#[test]
fn the_corpus_does_no_harm() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/segment");
    let mut ran = 0;
    for script in std::fs::read_dir(&corpus).expect("the corpus").flatten() {
        println!("{}", script.path().display());
        harness::run(&std::fs::read(script.path()).expect("a script"));
        ran += 1;
    }
    assert!(ran > 0, "no script in {}", corpus.display());
}
