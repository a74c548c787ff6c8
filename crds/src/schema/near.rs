//! "Did you mean": the known word nearest to an unknown one.

/// The candidate that differs least, if it differs by little enough to be a slip.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing very long words costs their product and helps nobody.
    if word.len() > 64 {
        return None;
    }
    let lower = word.to_lowercase();
    let scored = candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 64)
        .map(|candidate| {
            let distance = distance(&lower, &candidate.to_lowercase());
            (distance, candidate)
        });
    let (distance, candidate) = scored.min()?;
    let allowed = (candidate.chars().count() / 3).clamp(1, 3);
    (distance <= allowed).then_some(candidate)
}

/// Levenshtein's distance, with a swap of neighbours counted once.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let change = above[j] + usize::from(x != y);
            let mut best = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && *x == b[j - 1] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_the_word_that_was_meant() {
        let fields = ["peerASN", "peerAddress", "peerConfigRef", "name"];
        assert_eq!(nearest("peerAsn", fields), Some("peerASN"));
        assert_eq!(nearest("peerAdress", fields), Some("peerAddress"));
        assert_eq!(nearest("nmae", fields), Some("name"));
        assert_eq!(nearest("password", fields), None);
    }
}
