//! Sorting of the short lists that a boot has.

/// Sorts `items` by `key`; equal ones keep their order. Takes time with the square of their number, and two orders of
/// magnitude less code than the library's sorts, which are made for long lists.
pub(crate) fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..items.len() {
        let mut at = end;
        while let Some(before) = at.checked_sub(1) {
            let (Some(low), Some(high)) = (items.get(before), items.get(at)) else {
                break;
            };
            if key(low) <= key(high) {
                break;
            }
            items.swap(before, at);
            at = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sort_by_key;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sorts_as_the_library_does(mut items: alloc::vec::Vec<(u8, u16)>) {
            let mut expected = items.clone();
            expected.sort_by_key(|(key, _)| *key);
            sort_by_key(&mut items, |(key, _)| *key);
            prop_assert_eq!(items, expected);
        }
    }
}
