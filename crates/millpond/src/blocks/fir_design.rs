//! Designs filters: windowed sinc.

use std::f64::consts::PI;

use super::window::symmetric;
use crate::error::{Error, Result};

/// What a filter lets pass, for parameters.
pub(super) const KINDS: &[&str] = &["low-pass", "high-pass", "band-pass", "band-stop"];

/// A filter as its parameters state it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Design {
    pub(super) kind: String,
    pub(super) cutoff_hz: f64,
    /// Only for bands.
    pub(super) high_cutoff_hz: Option<f64>,
    pub(super) length: usize,
    pub(super) window: String,
}

impl Design {
    /// The taps for a stream of that rate: ideal filters, cut off by the window, and scaled to a gain of exactly 1 in the middle
    /// of what passes (at 0 Hz if that does, at half the rate for a high-pass). The method: Oppenheim and Schafer,
    /// "Discrete-Time Signal Processing", 7.5; the scaling as scipy's `firwin` has it.
    ///
    /// # Errors
    /// Frequencies or a length with which there is no such filter.
    pub(super) fn taps(&self, rate_hz: f64) -> Result<Vec<f64>> {
        let is_band = self.kind.starts_with("band");
        let low = self.relative("cutoff_hz", self.cutoff_hz, rate_hz)?;
        let high = match (is_band, self.high_cutoff_hz) {
            (true, Some(high_hz)) => self.relative("high_cutoff_hz", high_hz, rate_hz)?,
            (true, None) => return Err(Error::Refused(format!("a {} needs `high_cutoff_hz`", self.kind))),
            (false, Some(_)) => {
                return Err(Error::Refused(format!("a {} has no `high_cutoff_hz`: leave it out", self.kind)));
            }
            (false, None) => 0.5,
        };
        if is_band && low >= high {
            return Err(Error::Refused(format!(
                "expected `cutoff_hz` below `high_cutoff_hz`, found {} and {} Hz",
                self.cutoff_hz,
                high * rate_hz
            )));
        }
        // Pass bands, as fractions of the rate.
        let bands: &[(f64, f64)] = match self.kind.as_str() {
            "low-pass" => &[(0.0, low)],
            "high-pass" => &[(low, 0.5)],
            "band-pass" => &[(low, high)],
            _ => &[(0.0, low), (high, 0.5)],
        };
        if self.length.is_multiple_of(2) && bands.iter().any(|(_, end)| *end == 0.5) {
            let (kind, length) = (&self.kind, self.length);
            return Err(Error::Refused(format!(
                "a {kind} needs an odd `length`, found {length}: use {}, an even one lets nothing pass at half the rate",
                length + 1
            )));
        }
        let middle = (self.length as f64 - 1.0) / 2.0;
        let ideal =
            |t: f64| bands.iter().map(|(start, end)| low_pass(*end, t) - low_pass(*start, t)).sum::<f64>();
        let window = symmetric(&self.window, self.length);
        let mut taps: Vec<f64> =
            window.iter().enumerate().map(|(i, w)| w * ideal(i as f64 - middle)).collect();
        let reference = match bands[0] {
            (0.0, _) => 0.0,
            (_, 0.5) => 0.5,
            (start, end) => (start + end) / 2.0,
        };
        let gain: f64 = taps
            .iter()
            .enumerate()
            .map(|(i, tap)| tap * (2.0 * PI * reference * (i as f64 - middle)).cos())
            .sum();
        taps.iter_mut().for_each(|tap| *tap /= gain);
        Ok(taps)
    }

    fn relative(&self, name: &str, frequency_hz: f64, rate_hz: f64) -> Result<f64> {
        let relative = frequency_hz / rate_hz;
        if relative > 0.0 && relative < 0.5 {
            return Ok(relative);
        }
        Err(Error::Refused(format!(
            "expected `{name}` above 0 and below half the stream's rate ({} Hz), found {frequency_hz} Hz",
            rate_hz / 2.0
        )))
    }
}

/// The ideal low-pass at `cutoff`, a fraction of the rate, `t` samples from its middle.
fn low_pass(cutoff: f64, t: f64) -> f64 {
    if t == 0.0 { 2.0 * cutoff } else { (2.0 * PI * cutoff * t).sin() / (PI * t) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::reference::{assert_close, vector};

    fn design(kind: &str, window: &str, length: usize, cutoff: f64, high: Option<f64>) -> Design {
        let (kind, window) = (kind.to_owned(), window.to_owned());
        Design {
            kind,
            window,
            length,
            cutoff_hz: cutoff * 1000.0,
            high_cutoff_hz: high.map(|high| high * 1000.0),
        }
    }

    #[test]
    fn taps_are_those_of_firwin() {
        for (kind, window, length, cutoff, high) in [
            ("low-pass", "hamming", 15, 0.2, None),
            ("low-pass", "hann", 16, 0.1, None),
            ("low-pass", "blackman", 33, 0.05, None),
            ("low-pass", "rectangular", 7, 0.3, None),
            ("high-pass", "hamming", 15, 0.2, None),
            ("band-pass", "hamming", 17, 0.1, Some(0.3)),
            ("band-stop", "hamming", 17, 0.1, Some(0.3)),
        ] {
            let taps = design(kind, window, length, cutoff, high).taps(1000.0).unwrap();
            assert_close(&taps, &vector(&format!("taps {kind} {window}")), 1e-15);
        }
    }

    #[test]
    fn impossible_filters_are_refused() {
        let refusal = |design: Design| design.taps(1000.0).expect_err("refused").to_string();
        assert_eq!(
            refusal(design("low-pass", "hann", 8, 0.5, None)),
            "expected `cutoff_hz` above 0 and below half the stream's rate (500 Hz), found 500 Hz"
        );
        assert!(
            refusal(design("high-pass", "hann", 8, 0.2, None)).contains("an odd `length`, found 8: use 9")
        );
        assert!(refusal(design("band-pass", "hann", 9, 0.2, None)).contains("needs `high_cutoff_hz`"));
        assert!(refusal(design("band-stop", "hann", 9, 0.2, Some(0.1))).contains("below `high_cutoff_hz`"));
        assert!(refusal(design("low-pass", "hann", 9, 0.2, Some(0.3))).contains("leave it out"));
    }
}
