//! Quantities as people read and type them: bytes, durations and rates with units.

use std::time::Duration;

const BINARY_UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Bytes in the largest binary unit that divides them: `64 B`, `4 KiB`, `1 MiB`.
pub fn bytes(count: u64) -> String {
    for (unit, factor) in BINARY_UNITS {
        if count >= factor && count.is_multiple_of(factor) {
            return format!("{} {unit}", count / factor);
        }
    }
    format!("{count} B")
}

/// Reads what [`bytes`] writes, with or without the space and the `iB`: `64`, `64B`, `4K`, `4 KiB`, `1M`.
///
/// # Errors
/// A sentence for the user who typed it.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err("expected bytes, such as 64, 4K or 1MiB".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "expected bytes, such as 64, 4K or 1MiB".to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "does not fit into 64 bits".to_owned())
}

/// A short duration with three significant digits: `95.0 ns`, `31.4 µs`, `1.80 ms`.
pub fn nanoseconds(ns: f64) -> String {
    scaled(ns, &[("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0)])
}

/// Events a second: `2.91 M/s`.
pub fn per_second(rate: f64) -> String {
    scaled(rate, &[("M/s", 1e6), ("k/s", 1e3), ("/s", 1.0)])
}

/// Bytes a second in decimal units, as disks and networks are rated: `21.6 GB/s`.
pub fn bytes_per_second(rate: f64) -> String {
    scaled(rate, &[("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3), ("B/s", 1.0)])
}

/// The age of something in its two largest units: `12 s`, `3 min 20 s`, `5 h 1 min`.
pub fn age(age: Duration) -> String {
    let s = age.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

fn scaled(value: f64, units: &[(&str, f64)]) -> String {
    let smallest = units[units.len() - 1];
    let (unit, factor) = *units.iter().find(|(_, factor)| value.abs() >= *factor).unwrap_or(&smallest);
    let value = value / factor;
    let decimals = match value.abs() {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_back_as_written() {
        for count in [0, 1, 64, 1023, 1024, 4096, 65_536, 1 << 20, (1 << 20) + 8, 3 << 30] {
            assert_eq!(parse_bytes(&bytes(count)), Ok(count));
        }
        assert_eq!(parse_bytes("64k"), Ok(65_536));
        assert!(parse_bytes("").is_err());
        assert!(parse_bytes("-1").is_err());
        assert!(parse_bytes("4x").is_err());
        assert!(parse_bytes("99999999999G").is_err());
    }

    #[test]
    fn quantities_have_three_significant_digits() {
        assert_eq!(nanoseconds(95.04), "95.0 ns");
        assert_eq!(nanoseconds(31_400.0), "31.4 µs");
        assert_eq!(nanoseconds(1_800_000.0), "1.80 ms");
        assert_eq!(nanoseconds(0.0), "0.00 ns");
        assert_eq!(per_second(2_910_000.0), "2.91 M/s");
        assert_eq!(bytes_per_second(21.6e9), "21.6 GB/s");
    }

    #[test]
    fn ages_have_two_units() {
        assert_eq!(age(Duration::from_secs(12)), "12 s");
        assert_eq!(age(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(age(Duration::from_secs(18_060)), "5 h 1 min");
        assert_eq!(age(Duration::from_secs(90_000)), "1 d 1 h");
    }
}
