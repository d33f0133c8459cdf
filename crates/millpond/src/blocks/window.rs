//! Window functions.

use std::f64::consts::PI;

/// Their names, for parameters.
pub(super) const WINDOWS: &[&str] = &["rectangular", "hann", "hamming", "blackman"];

/// `length` points of a window, symmetric as filters want it. Source of the coefficients: Harris, "On the use of windows for
/// harmonic analysis with the discrete Fourier transform", 1978.
pub(super) fn symmetric(name: &str, length: usize) -> Vec<f64> {
    points(name, length, length.saturating_sub(1))
}

/// `length` points of a window of which the next point would be the first one again, as spectra want it.
pub(super) fn periodic(name: &str, length: usize) -> Vec<f64> {
    points(name, length, length)
}

fn points(name: &str, length: usize, period: usize) -> Vec<f64> {
    let cosines: &[f64] = match name {
        "hann" => &[0.5, -0.5],
        "hamming" => &[0.54, -0.46],
        "blackman" => &[0.42, -0.5, 0.08],
        _ => &[1.0],
    };
    let at = |i: usize| {
        let angle = 2.0 * PI * i as f64 / period as f64;
        cosines.iter().enumerate().map(|(k, a)| a * (k as f64 * angle).cos()).sum()
    };
    if period == 0 { vec![1.0; length] } else { (0..length).map(at).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_point_is_one() {
        for name in WINDOWS {
            assert_eq!(symmetric(name, 1), [1.0]);
            assert_eq!(symmetric(name, 0), [0.0; 0]);
        }
    }
}
