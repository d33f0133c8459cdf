//! "Did you mean ...?"

/// The candidate that differs least from `typed`, if it differs little enough to have been meant.
pub(crate) fn nearest<'a>(typed: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close_enough = match typed.chars().count() {
        0..3 => 1,
        3..9 => 2,
        length => length / 3,
    };
    let with_distance = candidates.into_iter().map(|candidate| (distance(typed, candidate), candidate));
    with_distance.filter(|(distance, _)| *distance <= close_enough).min_by_key(|(d, _)| *d).map(|(_, c)| c)
}

/// Levenshtein's distance: characters to insert, delete or replace, ignoring case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    // row[j]: the distance between the part of `a` seen so far and the first j characters of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let types = ["proc-cpu", "proc-memory", "gain", "merge"];
        assert_eq!(nearest("proc-cpi", types), Some("proc-cpu"));
        assert_eq!(nearest("proc_memory", types), Some("proc-memory"));
        assert_eq!(nearest("Gain", types), Some("gain"));
        assert_eq!(nearest("gian", types), Some("gain"));
        assert_eq!(nearest("mreg", types), None);
        assert_eq!(nearest("wav-sink", types), None);
        assert_eq!(nearest("", types), None);
    }

    #[test]
    fn distances_are_symmetric() {
        for (a, b, expected) in
            [("", "abc", 3), ("kitten", "sitting", 3), ("same", "SAME", 0), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected);
            assert_eq!(distance(b, a), expected);
        }
    }
}
