//! Topics and patterns of topics.

use std::fmt;

use super::BusError;

/// Bytes of a topic or pattern.
const MAX_BYTES: usize = 128;

/// Names a set of topics: `*` stands for one segment, `**` as the last segment for any number of them, none included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(String);

impl Pattern {
    pub(super) fn new(text: &str) -> Result<Self, BusError> {
        check("pattern", text, |segment, is_last| {
            segment == "*" || (segment == "**" && is_last) || is_plain(segment)
        })?;
        Ok(Self(text.to_owned()))
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        let mut topic = topic.split('/');
        for segment in self.0.split('/') {
            match (segment, topic.next()) {
                ("**", _) => return true,
                ("*", Some(_)) => {}
                (expected, Some(found)) if expected == found => {}
                _ => return false,
            }
        }
        topic.next().is_none()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn check_topic(topic: &str) -> Result<(), BusError> {
    check("topic", topic, |segment, _| is_plain(segment))
}

fn is_plain(segment: &str) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    !segment.is_empty() && segment.chars().all(allowed)
}

fn check(what: &'static str, text: &str, fits: impl Fn(&str, bool) -> bool) -> Result<(), BusError> {
    let mut segments = text.split('/').peekable();
    let mut all_fit = text.len() <= MAX_BYTES;
    while let Some(segment) = segments.next() {
        all_fit &= fits(segment, segments.peek().is_none());
    }
    if all_fit { Ok(()) } else { Err(BusError::InvalidTopic { what, text: text.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(topic)
    }

    #[test]
    fn wildcards_stand_for_segments() {
        assert!(matches("gain/level", "gain/level"));
        assert!(!matches("gain/level", "gain/levels"));
        assert!(!matches("gain/level", "gain"));
        assert!(!matches("gain/level", "gain/level/left"));
        assert!(matches("*/level", "gain/level"));
        assert!(!matches("*/level", "level"));
        assert!(!matches("*", "gain/level"));
        assert!(matches("gain/**", "gain/level/left"));
        assert!(matches("gain/**", "gain"));
        assert!(!matches("gain/**", "gains/level"));
        assert!(matches("**", "anything/at/all"));
        assert!(matches("*/**", "gain/level"));
    }

    #[test]
    fn what_is_no_topic_is_refused() {
        for text in ["", "/", "a//b", "a/", "a b", "a/*", "**", &"x".repeat(129)] {
            assert!(check_topic(text).is_err(), "{text}");
        }
        for text in ["", "a/**/b", "a*", "a/***"] {
            let refused = Pattern::new(text).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("the pattern `{text}` cannot be used")), "{refused}");
        }
        check_topic("küche/sensor-1/t_2.5").unwrap();
    }
}
