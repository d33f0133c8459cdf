//! Numbers for readers.

use crate::questions::Unit;

/// A value with its unit, with three digits.
pub fn with_unit(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Nanoseconds => time(value * 1e-9),
        Unit::Microseconds => time(value * 1e-6),
        Unit::Milliseconds => time(value * 1e-3),
        Unit::MessagesPerSecond => scaled(value, &[(1e6, " M/s"), (1e3, " k/s"), (1.0, " /s")]),
        Unit::BytesPerSecond => scaled(value, &[(1e9, " GB/s"), (1e6, " MB/s"), (1.0, " B/s")]),
        Unit::Bytes => scaled(value, &[(1048576.0, " MiB"), (1024.0, " KiB"), (1.0, " B")]),
        Unit::Count => digits(value),
    }
}

fn time(seconds: f64) -> String {
    scaled(seconds, &[(1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")])
}

/// In the largest of the units that leaves at least one before the point.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let fits = |(size, _): &&(f64, &str)| value >= *size;
    match units.iter().find(fits).or(units.last()) {
        Some((size, name)) => format!("{}{name}", digits(value / size)),
        None => digits(value),
    }
}

/// Three digits that count; none behind the point that say nothing.
pub fn digits(value: f64) -> String {
    let text = match value {
        value if value >= 99.95 => format!("{value:.0}"),
        value if value >= 9.995 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    };
    match text.split_once('.') {
        Some((whole, part)) if part.chars().all(|digit| digit == '0') => whole.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_their_unit() {
        assert_eq!(with_unit(149.5, Unit::Nanoseconds), "150 ns");
        assert_eq!(with_unit(25_600.0, Unit::Nanoseconds), "25.6 µs");
        assert_eq!(with_unit(2_900_000.0, Unit::MessagesPerSecond), "2.90 M/s");
        assert_eq!(with_unit(21.6e9, Unit::BytesPerSecond), "21.6 GB/s");
        assert_eq!(with_unit(3.0, Unit::Count), "3");
        assert_eq!(with_unit(0.25, Unit::Count), "0.25");
        assert_eq!(with_unit(4096.0, Unit::Bytes), "4 KiB");
    }
}
