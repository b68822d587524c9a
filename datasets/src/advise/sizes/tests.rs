use burn::tensor::DType;
use proptest::prelude::*;

use super::*;

fn item(stored: u64, loaded: u64) -> ItemBytes {
    ItemBytes {
        stored: Bytes::new(stored),
        loaded: Bytes::new(loaded),
    }
}

#[test]
fn an_empty_side_makes_an_empty_image_however_large_the_others() {
    let image = ItemBytes::image([u64::MAX, u64::MAX, 0], DType::F32, DType::F64);
    assert_eq!(image, item(0, 0));
}

#[test]
fn an_image_too_large_to_count_saturates() {
    let image = ItemBytes::image([3, u64::MAX, 2], DType::U8, DType::F32);
    assert_eq!(image, item(u64::MAX, u64::MAX));
    let all = DatasetBytes::uniform(u64::MAX, image);
    assert_eq!(all.loaded(), Some(Bytes::MAX));
    assert_eq!(all.batch(u64::MAX), Bytes::MAX);
}

#[test]
fn tokens_take_memory_but_no_disk() {
    let ids = ItemBytes::tokens(128, DType::I32, None);
    assert_eq!(ids, item(0, 512));
    let with_mask = ItemBytes::tokens(128, DType::I64, Some(DType::U8));
    assert_eq!(with_mask, item(0, 128 * 9));
}

#[test]
fn a_stream_knows_its_items_and_its_file_but_not_how_many_there_are() {
    let stream = DatasetBytes::sampled(None, [item(10, 40), item(30, 80)]);
    assert_eq!(stream.num_items(), None);
    assert_eq!(stream.mean_item(), item(20, 60));
    assert_eq!(stream.largest_item(), item(30, 80));
    assert_eq!((stream.stored(), stream.loaded()), (None, None));
    let file = stream.with_stored(Bytes::mib(5));
    assert_eq!((file.stored(), file.loaded()), (Some(Bytes::mib(5)), None));
}

#[test]
fn windows_that_overlap_take_less_than_their_sum_but_no_less_than_one() {
    let window = item(0, 48);
    let windows = DatasetBytes::uniform(100, window).with_loaded(Bytes::new(1600));
    assert_eq!(windows.loaded(), Some(Bytes::new(1600)));
    assert_eq!(windows.batch(4), Bytes::new(4 * 48));
    assert_eq!(
        windows.with_loaded(Bytes::ZERO).loaded(),
        Some(Bytes::new(48))
    );
}

#[test]
fn items_that_nobody_looked_at_are_unknown_not_empty() {
    let unseen = DatasetBytes::sampled(100, []);
    assert_eq!((unseen.stored(), unseen.loaded()), (None, None));
    let nothing = DatasetBytes::from_items([]);
    assert_eq!(nothing.loaded(), Some(Bytes::ZERO));
    assert_eq!(nothing.num_items(), Some(0));
}

proptest! {
    #[test]
    fn looking_at_every_item_gives_their_sum(sizes in prop::collection::vec((any::<u64>(), 0..1u64 << 40), 0..40)) {
        let items = sizes.iter().map(|&(stored, loaded)| item(stored, loaded));
        let set = DatasetBytes::from_items(items.clone());
        let sum: ItemBytes = items.sum();
        prop_assert_eq!(set.stored(), Some(sum.stored));
        prop_assert_eq!(set.loaded(), Some(sum.loaded));
        prop_assert!(set.mean_item().loaded <= set.largest_item().loaded);
    }

    #[test]
    fn more_items_never_take_less(size in any::<u64>(), few in any::<u64>(), more in any::<u64>()) {
        let (few, more) = (few.min(more), few.max(more));
        let loaded = |num| DatasetBytes::uniform(num, item(0, size)).loaded();
        prop_assert!(loaded(few) <= loaded(more));
    }
}
