//! `--seconds S`: a length of time given as a plain number.

use std::time::Duration;

/// The longest measurement accepted. It catches a typing error before it costs an afternoon.
const LONGEST: f64 = 3600.0;

/// Reads `--seconds`, for clap.
///
/// # Errors
///
/// Says what is wrong with the text: no number, not above zero, or longer than an hour.
pub fn parse(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of seconds"))?;
    if seconds.is_nan() || seconds <= 0.0 || seconds > LONGEST {
        return Err(format!("`{text}` is not above 0 and at most {LONGEST} seconds"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_part_seconds_are_read() {
        assert_eq!(parse("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse("0.25"), Ok(Duration::from_millis(250)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "two", "0", "-1", "nan", "inf", "3601"] {
            assert!(parse(text).is_err(), "`{text}` was accepted");
        }
    }
}
