//! The lists of planted defects (`mutants/`) keep up with the source: each substitution still changes its file. Whether the tests
//! see the defect takes minutes for each, so that is asked by hand: `mutants/run.sh`.

use std::process::Command;

#[test]
fn every_mutant_still_applies() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/mutants/run.sh");
    let output = Command::new(script).arg("--apply").output().expect("bash and perl are there");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
