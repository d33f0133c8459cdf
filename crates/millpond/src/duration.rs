//! Durations as people write them.

use std::time::Duration;

/// 100 years: as good as for ever, and any clock can still count so far from now.
const LONGEST: Duration = Duration::from_secs(876_600 * 3600);

/// Reads `10s`, `500ms`, `1.5 min`, `2h`; at most 100 years, so that it can be added to any moment of a clock.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration like `10s`, `500ms`, `1.5min` or `2h`, found `{text}`");
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(unit_at);
    let unit_s = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let number: f64 = number.trim().parse().map_err(|_| expected())?;
    let seconds = number * unit_s;
    if seconds > LONGEST.as_secs_f64() {
        return Err(format!("expected a duration of at most 100 years (876600h), found `{text}`"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [("10s", 10_000), ("500ms", 500), ("1.5 min", 90_000), ("2h", 7_200_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "s", "-1s", "1e30h", "ten s", "10 parsecs"] {
            let refusal = parse_duration(text).expect_err(text);
            assert!(refusal.starts_with("expected a duration like `10s`"), "{refusal}");
        }
    }

    #[test]
    fn whatever_is_read_can_be_waited_for() {
        let longest = parse_duration("876600h").expect("a duration");
        assert_eq!(longest, LONGEST);
        assert!(Instant::now().checked_add(longest).is_some());
        // What `Duration` can hold is more than a clock can.
        for text in ["876600.1h", "9223372036854775807s", "99999999999999999999999999999min"] {
            let expected = format!("expected a duration of at most 100 years (876600h), found `{text}`");
            assert_eq!(parse_duration(text), Err(expected));
        }
    }
}
