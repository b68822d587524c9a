use super::*;
use proptest::prelude::*;
use rstest::rstest;

/// Items `0..len`, of which item `k` costs `k` bytes.
fn numbers(len: usize) -> impl LazyDataset<usize> {
    WithItemBytes::new(InMemDataset::new((0..len).collect()), |index| index as u64)
}

fn all<I>(dataset: &impl Dataset<I>) -> Vec<I> {
    (0..dataset.len())
        .map(|index| dataset.get(index).unwrap())
        .collect()
}

#[test]
fn a_mapped_item_costs_what_it_costs_unmapped() {
    let doubled = numbers(4).map(|number| number * 2);
    assert_eq!(all(&doubled), [0, 2, 4, 6]);
    assert_eq!(doubled.item_bytes(3), 3);
}

#[test]
fn a_filter_by_item_keeps_costs_and_order() {
    let odd = numbers(6).filter(|number| number % 2 == 1).unwrap();
    assert_eq!(all(&odd), [1, 3, 5]);
    assert_eq!(odd.indices(), [1, 3, 5]);
    assert_eq!(odd.item_bytes(2), 5);
}

#[test]
fn a_filter_by_index_loads_nothing() {
    let dear = numbers(6).map(|number| -> usize { panic!("item {number} was loaded") });
    assert_eq!(dear.filter_indices(|index| index > 2).len(), 3);
}

#[test]
fn a_slice_and_a_selection_say_their_own_indices() {
    assert_eq!(all(&numbers(9).slice(3..6)), [3, 4, 5]);
    assert_eq!(numbers(9).slice(3..6).item_bytes(1), 4);
    assert_eq!(all(&numbers(9).select(vec![7, 0, 7])), [7, 0, 7]);
}

#[test]
#[should_panic(expected = "index must be below the length 3, got 3")]
fn an_index_behind_a_slice_is_refused() {
    let _ = numbers(9).slice(3..6).get(3);
}

#[test]
#[should_panic(expected = "indices must be below the dataset's length 2, got 2")]
fn a_selection_behind_the_end_is_refused() {
    let _ = numbers(2).select(vec![1, 2]);
}

#[test]
fn a_pair_costs_both_and_the_shorter_one_counts() {
    let pairs = numbers(3).zip(numbers(9).map(|number| number + 10));
    assert_eq!(all(&pairs), [(0, 10), (1, 11), (2, 12)]);
    assert_eq!(pairs.item_bytes(2), 4);
}

#[rstest]
#[case::repeat(Edge::Repeat, vec![[0, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 3], [2, 3, 3, 3]])]
#[case::reflect(Edge::Reflect, vec![[1, 0, 1, 2], [0, 1, 2, 3], [1, 2, 3, 2], [2, 3, 2, 1]])]
#[case::skip(Edge::Skip, vec![[0, 1, 2, 3]])]
fn windows_follow_their_edge_rule(#[case] edge: Edge, #[case] expected: Vec<[usize; 4]>) {
    let windows = numbers(4).windows(1, 2, edge);
    assert_eq!(all(&windows), expected);
    let sums: Vec<u64> = expected
        .iter()
        .map(|w| w.iter().sum::<usize>() as u64)
        .collect();
    let bytes: Vec<u64> = (0..windows.len()).map(|k| windows.item_bytes(k)).collect();
    assert_eq!(bytes, sums);
}

proptest! {
    #[test]
    fn windows_of_any_size_stay_in_the_dataset(
        len in 0usize..8, before in 0usize..12, after in 0usize..12,
    ) {
        for edge in [Edge::Repeat, Edge::Reflect, Edge::Skip] {
            let windows = numbers(len).windows(before, after, edge);
            for (index, window) in all(&windows).into_iter().enumerate() {
                prop_assert_eq!(window.len(), before + 1 + after);
                let centre = if edge == Edge::Skip { index + before } else { index };
                prop_assert_eq!(window[before], centre);
            }
        }
    }
}
