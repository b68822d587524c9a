//! The loader as burn's `DataLoader`.

use std::collections::HashSet;

use burn::{data::dataloader::DataLoader, prelude::*};
use burn_memopt_datasets::loader::LoaderConfig;
use rstest::rstest;

use crate::sources::{Numbers, Stream, loader, streaming};

#[test]
fn a_copy_for_a_device_moves_the_same_position() {
    let loader = loader(Numbers::new(5), LoaderConfig::new(2));
    let copy = loader.to_device(&Device::flex());
    let mut batches = copy.iter();
    assert_eq!(batches.next().unwrap().unwrap(), [0, 1]);
    assert_eq!(batches.progress().items_processed, 2);
    assert_eq!(batches.progress().items_total, 5);
    assert_eq!(loader.state().next_item, 2);
    assert_eq!(batches.by_ref().map(Result::unwrap).last().unwrap(), [4]);
    assert!(batches.progress().is_completed());
    assert_eq!((loader.state().epoch, loader.state().next_item), (1, 0));
}

#[rstest]
fn a_slice_holds_its_items_only(#[values(false, true)] is_stream: bool) {
    let config = LoaderConfig::new(2).with_shuffle(Some(0));
    let whole = match is_stream {
        false => loader(Numbers::new(10), config),
        true => streaming(Stream::new(Numbers::new(10)), config),
    };
    let slice = whole.slice(4, 9);
    let items: HashSet<usize> = slice.iter().flat_map(Result::unwrap).collect();
    assert_eq!(items, (4..9).collect());
    let items: HashSet<usize> = slice.slice(1, 3).iter().flat_map(Result::unwrap).collect();
    assert_eq!(items, (5..7).collect());
    assert_eq!(whole.state().next_item, 0);
}

#[test]
fn num_items_is_what_an_epoch_delivers_if_none_fails() {
    let config = LoaderConfig::new(3).with_drop_last(true);
    assert_eq!(loader(Numbers::new(7), config).num_items(), 6);
}

#[test]
fn the_progress_of_a_stream_of_unknown_length_completes_with_it() {
    let loader = streaming(Stream::new(Numbers::new(5)), LoaderConfig::new(2));
    assert_eq!(loader.num_items(), 0);
    let mut batches = loader.iter();
    for taken in [2, 4] {
        assert!(!batches.progress().is_completed());
        batches.next().unwrap().unwrap();
        assert_eq!(batches.progress().items_processed, taken);
    }
    assert_eq!(batches.by_ref().count(), 1);
    let progress = batches.progress();
    assert_eq!((progress.items_processed, progress.items_total), (5, 5));
    drop(batches);
    assert_eq!((loader.num_items(), loader.num_batches()), (5, 3));
    assert_eq!(loader.iter().progress().items_total, 5);
}

#[test]
fn a_stream_that_knows_its_length_says_it() {
    let stream = Stream {
        knows_len: true,
        ..Stream::new(Numbers::new(5))
    };
    let loader = streaming(stream, LoaderConfig::new(2));
    assert_eq!((loader.num_items(), loader.num_batches()), (5, 3));
}
