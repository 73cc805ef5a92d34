//! Suggestions for misspelt names.

/// Returns the name that is nearest to `text`, if it is similar.
pub(super) fn nearest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let distances = names.map(|name| (distance(&text.to_lowercase(), &name.to_lowercase()), name));
    let (distance, name) = distances.min_by_key(|&(distance, _)| distance)?;
    (distance <= (name.len() / 3).max(1)).then_some(name)
}

/// Returns the smallest number of characters to insert, remove, replace or swap with the next one
/// to get from `a` to `b`. Characters after the 32nd of `a` are ignored.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(32).collect(), b.chars().collect());
    let mut rows = vec![(0..=a.len()).collect::<Vec<usize>>()];
    for i in 0..b.len() {
        let mut row = vec![i + 1];
        for j in 0..a.len() {
            let replaced = rows[i][j] + usize::from(a[j] != b[i]);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[j] == b[i - 1] && a[j - 1] == b[i] {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[b.len()][a.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_suggested_only_if_it_is_similar() {
        let names = || ["EINTR", "EINVAL", "ENOBUFS"].into_iter();
        assert_eq!(nearest("eintr", names()), Some("EINTR"));
        assert_eq!(nearest("ENOBUF", names()), Some("ENOBUFS"));
        assert_eq!(nearest("EINVALL", names()), Some("EINVAL"));
        assert_eq!(nearest("frok", ["exec", "fork"].into_iter()), Some("fork"));
        assert_eq!(nearest("timeout", names()), None);
        assert_eq!(nearest(&"x".repeat(1000), names()), None);
    }
}
