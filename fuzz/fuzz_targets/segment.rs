//! Corrupted bytes in a pond's control segment: nothing panics, hangs or touches memory that is not its own.
//!
//! What an input does is written in the harness, which `cargo test -p millpond-shm --test corruption` runs over the corpus.

#![no_main]

#[path = "../../crates/millpond-shm/tests/corruption/harness.rs"]
mod harness;

libfuzzer_sys::fuzz_target!(|input: &[u8]| harness::run(input));
