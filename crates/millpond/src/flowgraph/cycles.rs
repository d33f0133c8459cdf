//! Cycles of connections.

/// A path of edges that comes back to where it began, if there is one; the edges as places in `edges`, which are pairs of
/// sender and receiver.
pub(crate) fn cycle(edges: &[(String, String)]) -> Option<Vec<usize>> {
    (0..edges.len()).find_map(|first| path(edges, &edges[first].1, &edges[first].0, vec![first]))
}

/// Whether what a block sends comes back to it.
pub(crate) fn is_in_cycle(edges: &[(&str, &str)], block: &str) -> bool {
    let mut reached: Vec<&str> = vec![block];
    let mut looked_at = 0;
    while let Some(from) = reached.get(looked_at).copied() {
        looked_at += 1;
        for (_, to) in edges.iter().filter(|(sender, _)| *sender == from) {
            if *to == block {
                return true;
            }
            if !reached.contains(to) {
                reached.push(to);
            }
        }
    }
    false
}

/// The shortest way from `from` to `to`, behind what has been gone already.
fn path<'a>(edges: &'a [(String, String)], from: &'a str, to: &str, gone: Vec<usize>) -> Option<Vec<usize>> {
    let mut ways = vec![(from, gone)];
    let mut next = 0;
    while let Some((at, way)) = ways.get(next).cloned() {
        next += 1;
        if at == to {
            return Some(way);
        }
        for (index, (sender, receiver)) in edges.iter().enumerate() {
            let known = ways.iter().any(|(known, _)| known == receiver);
            if *sender == at && !known {
                ways.push((receiver, way.iter().copied().chain([index]).collect()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_found_wherever_it_begins() {
        let found = |edges: &[(&str, &str)]| {
            cycle(&edges.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(found(&[("a", "b"), ("b", "c"), ("a", "c")]), None);
        assert_eq!(found(&[("a", "a")]), Some(vec![0]));
        let looped = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("d", "e")];
        assert_eq!(found(&looped), Some(vec![1, 2, 3]));
        let inside = |block: &str| is_in_cycle(&looped, block);
        assert!(inside("b") && inside("c") && inside("d") && !inside("a") && !inside("e"));
    }
}
