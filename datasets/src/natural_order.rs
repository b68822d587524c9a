//! The order in which people count: `frame2` before `frame10`.

use std::cmp::Ordering;

/// Compares two names, taking runs of digits as numbers.
///
/// Names that differ only in leading zeros are ordered as text, so that the order
/// is total.
pub(crate) fn natural_cmp(left: &str, right: &str) -> Ordering {
    let (mut a, mut b) = (left, right);
    loop {
        let (Some(x), Some(y)) = (a.chars().next(), b.chars().next()) else {
            return a.len().cmp(&b.len()).then_with(|| left.cmp(right));
        };
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (number, rest) = split_number(a);
            let (other, other_rest) = split_number(b);
            // Without leading zeros the longer number is the larger one.
            let order = number.len().cmp(&other.len()).then(number.cmp(other));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest, other_rest);
        } else if x == y {
            (a, b) = (&a[x.len_utf8()..], &b[y.len_utf8()..]);
        } else {
            return x.cmp(&y);
        }
    }
}

/// The leading digits without leading zeros, and what follows them.
fn split_number(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_count_and_text_spells() {
        let mut names = ["b1", "a10", "a2", "a", "a02b", "A3", "a2b"];
        names.sort_by(|left, right| natural_cmp(left, right));
        assert_eq!(names, ["A3", "a", "a2", "a02b", "a2b", "a10", "b1"]);
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[a0-2é]{0,6}", b in "[a0-2é]{0,6}", c in "[a0-2é]{0,6}") {
            prop_assert_eq!(natural_cmp(&a, &b), natural_cmp(&b, &a).reverse());
            prop_assert_eq!(natural_cmp(&a, &b) == Ordering::Equal, a == b);
            if natural_cmp(&a, &b).is_lt() && natural_cmp(&b, &c).is_lt() {
                prop_assert!(natural_cmp(&a, &c).is_lt());
            }
        }
    }
}
