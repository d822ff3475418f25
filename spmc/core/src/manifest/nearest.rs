//! The known name nearest to a misspelt one.

/// Longest name that is compared; longer ones have no near name.
const MAX_NAME: usize = 40;

/// One row of the table of distances.
type Row = [usize; MAX_NAME + 1];

/// The one of `known` that `name` is most likely a misspelling of: fewest single-character insertions, deletions,
/// replacements and swaps of neighbours, and at most one for each three characters. Case, a unit address, and `_` for
/// `-` do not count.
pub(super) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let name = without_unit_address(name).as_bytes();
    if name.len() < 2 || name.len() > MAX_NAME {
        return None;
    }
    let limit = name.len().div_euclid(3).max(1);
    known
        .iter()
        .filter(|candidate| candidate.len() <= MAX_NAME && candidate.len().abs_diff(name.len()) <= limit)
        .map(|candidate| (distance(name, candidate.as_bytes()), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The name of a node without its unit address.
pub(super) fn without_unit_address(name: &str) -> &str {
    let end = name.bytes().position(|byte| byte == b'@').unwrap_or(name.len());
    name.get(..end).unwrap_or(name)
}

/// A character as far as a comparison goes.
fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

/// Edit distance with swaps of neighbours ("optimal string alignment") of two names of at most [`MAX_NAME`] bytes.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let get = |row: &Row, column: usize| row.get(column).copied().unwrap_or(MAX_NAME);
    let mut before: Row = [MAX_NAME; MAX_NAME + 1];
    let mut above: Row = core::array::from_fn(|column| column);
    let mut previous_a = None;
    for (row, &byte_a) in a.iter().enumerate() {
        let byte_a = fold(byte_a);
        let mut current: Row = [row.saturating_add(1); MAX_NAME + 1];
        let mut previous_b = None;
        for (column, &byte_b) in b.iter().enumerate() {
            let byte_b = fold(byte_b);
            let next = column.saturating_add(1);
            let replaced = get(&above, column).saturating_add(usize::from(byte_a != byte_b));
            let shifted = get(&above, next).min(get(&current, column)).saturating_add(1);
            let mut best = replaced.min(shifted);
            if previous_a == Some(byte_b) && previous_b == Some(byte_a) {
                best = best.min(get(&before, column.saturating_sub(1)).saturating_add(1));
            }
            if let Some(cell) = current.get_mut(next) {
                *cell = best;
            }
            previous_b = Some(byte_b);
        }
        before = above;
        above = current;
        previous_a = Some(byte_a);
    }
    get(&above, b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("abc", "abd", 1),
            ("abc", "ab", 1),
            ("abc", "xabc", 1),
            ("abcd", "acbd", 1),
            ("boot_order", "boot-order", 0),
            ("UUID", "uuid", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_name_wins() {
        let known = ["boot-order", "boot-info", "load-address", "id"];
        assert_eq!(nearest("boot-oder", &known), Some("boot-order"));
        assert_eq!(nearest("boot_inf", &known), Some("boot-info"));
        assert_eq!(nearest("laod-adress", &known), Some("load-address"));
        assert_eq!(nearest("boot-order@1", &known), Some("boot-order"));
        assert_eq!(nearest("messaging", &known), None);
        assert_eq!(nearest("x", &known), None);
        assert_eq!(
            nearest("a-name-that-is-longer-than-any-name-that-is-known", &known),
            None
        );
    }
}
