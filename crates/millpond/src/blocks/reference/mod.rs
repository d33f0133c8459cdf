//! Independent results for the tests of signal-processing blocks, computed with numpy and scipy by `generate.py`.

/// The numbers of that name in `vectors.csv`.
pub(super) fn vector(name: &str) -> Vec<f64> {
    let line =
        include_str!("vectors.csv").lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(','));
    let line = line.unwrap_or_else(|| panic!("vectors.csv has no `{name}`"));
    line.split(',').map(|number| number.parse().expect("a number")).collect()
}

/// Fails at the first number that differs by more than `tolerance`.
#[track_caller]
pub(super) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "as many numbers");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance, "number {i}: expected {expected}, found {found}");
    }
}
