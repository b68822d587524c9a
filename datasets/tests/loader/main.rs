//! The loader's promises: order, resume, position of the consumer, errors.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use burn::{
    data::{
        dataloader::{DataLoader, batcher::Batcher},
        dataset::{Dataset, DatasetError},
    },
    prelude::*,
};
use burn_memopt_datasets::loader::{Loader, LoaderConfig, LoaderError, LoaderState, SeededBatcher};
use proptest::prelude::*;
use rstest::rstest;

/// The numbers below a length; some of them fail.
#[derive(Clone)]
struct Numbers {
    len: usize,
    fails: Option<usize>,
    panics: Option<usize>,
    reads: Arc<AtomicUsize>,
}

impl Numbers {
    fn new(len: usize) -> Self {
        Self {
            len,
            fails: None,
            panics: None,
            reads: Arc::default(),
        }
    }
}

impl Dataset<usize> for Numbers {
    fn get(&self, index: usize) -> Result<usize, DatasetError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        assert!(self.panics != Some(index), "item {index} is rotten");
        match self.fails == Some(index) {
            true => Err(DatasetError::new(std::io::Error::other("disk on fire"))),
            false => Ok(index),
        }
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// Hands out the items, or panics over one of them.
struct Collect {
    panics: Option<usize>,
}

impl Batcher<usize, Vec<usize>> for Collect {
    fn batch(&self, items: Vec<usize>, _device: &Device) -> Vec<usize> {
        assert!(
            !items.iter().any(|&item| self.panics == Some(item)),
            "cannot stack"
        );
        items
    }
}

/// Pairs each item with its seed.
struct Seeds;

impl SeededBatcher<usize, Vec<(usize, u64)>> for Seeds {
    fn batch(&self, items: Vec<usize>, seeds: &[u64], _device: &Device) -> Vec<(usize, u64)> {
        items.into_iter().zip(seeds.iter().copied()).collect()
    }
}

fn loader(numbers: Numbers, config: LoaderConfig) -> Loader<usize, Vec<usize>> {
    Loader::new(numbers, Collect { panics: None }, config, &Device::flex()).unwrap()
}

/// The next `count` batches, over the ends of epochs.
fn take<O: Send + 'static>(loader: &Loader<usize, O>, count: usize) -> Vec<O> {
    let mut batches = Vec::new();
    while batches.len() < count {
        let left = count - batches.len();
        batches.extend(loader.batches().take(left).map(Result::unwrap));
    }
    batches
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn resumed_order_equals_uninterrupted_order(
        len in 1usize..30,
        batch_size in 1usize..8,
        shuffle in prop::option::of(any::<u64>()),
        drop_last in any::<bool>(),
        prefetch in (0usize..4, 0usize..4),
    ) {
        prop_assume!(!drop_last || len >= batch_size);
        let config = LoaderConfig { batch_size, shuffle, drop_last, prefetch: prefetch.0 };
        let make = |config| Loader::seeded(Numbers::new(len), Seeds, config, &Device::flex()).unwrap();
        let total = 2 * make(config).num_batches() + 1;
        let whole = take(&make(config), total);
        for stop in 0..=total {
            let first = make(config);
            prop_assert_eq!(&take(&first, stop)[..], &whole[..stop]);
            let second = make(config.with_prefetch(prefetch.1));
            second.resume(&first.state()).unwrap();
            prop_assert_eq!(&take(&second, total - stop)[..], &whole[stop..]);
        }
    }

    #[test]
    fn each_item_comes_exactly_once_an_epoch(
        len in 1usize..40,
        batch_size in 1usize..9,
        seed in any::<u64>(),
        prefetch in 0usize..3,
    ) {
        let config = LoaderConfig::new(batch_size).with_shuffle(seed).with_prefetch(prefetch);
        let loader = loader(Numbers::new(len), config);
        for _ in 0..3 {
            let items: Vec<usize> = loader.batches().flat_map(Result::unwrap).collect();
            prop_assert_eq!(items.len(), len);
            prop_assert_eq!(items.into_iter().collect::<HashSet<_>>().len(), len);
        }
    }
}

#[test]
fn every_epoch_is_shuffled_anew_and_seeded_anew() {
    let config = LoaderConfig::new(20).with_shuffle(9);
    let loader = Loader::seeded(Numbers::new(20), Seeds, config, &Device::flex()).unwrap();
    let epochs = take(&loader, 2);
    assert_ne!(epochs[0], epochs[1]);
    let seeds: HashSet<u64> = epochs.concat().into_iter().map(|(_, seed)| seed).collect();
    assert_eq!(seeds.len(), 40);
}

#[test]
fn the_position_is_what_was_taken_not_what_was_prepared() {
    let numbers = Numbers::new(12);
    let loader = loader(numbers.clone(), LoaderConfig::new(2).with_prefetch(4));
    let mut batches = loader.batches();
    batches.next().unwrap().unwrap();
    while numbers.reads.load(Ordering::SeqCst) < 8 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(loader.state().next_item, 2);
    drop(batches);
    assert_eq!(loader.batches().next().unwrap().unwrap(), [2, 3]);
}

#[rstest]
fn no_more_batches_are_prepared_than_allowed(#[values(1, 3)] prefetch: usize) {
    let numbers = Numbers::new(100);
    let loader = loader(
        numbers.clone(),
        LoaderConfig::new(1).with_prefetch(prefetch),
    );
    let mut batches = loader.batches();
    batches.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(numbers.reads.load(Ordering::SeqCst), 1 + prefetch);
}

#[test]
fn a_rewound_loader_repeats_its_epoch() {
    let loader = loader(Numbers::new(9), LoaderConfig::new(2).with_shuffle(4));
    take(&loader, 7);
    loader.rewind();
    let again: Vec<_> = loader.batches().map(Result::unwrap).collect();
    assert_eq!(again.len(), 5);
    loader
        .resume(&LoaderState {
            epoch: 1,
            next_item: 0,
            ..loader.state()
        })
        .unwrap();
    assert_eq!(take(&loader, 5), again);
}

#[test]
fn drop_last_leaves_out_what_does_not_fill_a_batch() {
    let loader = loader(Numbers::new(7), LoaderConfig::new(3).with_drop_last(true));
    let batches: Vec<_> = loader.batches().map(Result::unwrap).collect();
    assert_eq!(batches, [[0, 1, 2], [3, 4, 5]]);
    assert_eq!((loader.num_batches(), loader.num_items()), (2, 6));
    assert_eq!((loader.state().epoch, loader.state().next_item), (1, 0));
}

#[rstest]
fn a_failing_item_is_named_and_comes_again(#[values(0, 2)] prefetch: usize) {
    let numbers = Numbers {
        fails: Some(5),
        ..Numbers::new(8)
    };
    let loader = loader(numbers, LoaderConfig::new(2).with_prefetch(prefetch));
    for _ in 0..2 {
        let mut batches = loader.batches().skip_while(Result::is_ok);
        let error = batches.next().unwrap().unwrap_err();
        assert!(matches!(
            error,
            LoaderError::Item {
                index: 5,
                position: 5,
                epoch: 0,
                ..
            }
        ));
        assert!(
            std::error::Error::source(&error)
                .unwrap()
                .to_string()
                .contains("disk on fire")
        );
        assert!(batches.next().is_none());
        assert_eq!(loader.state().next_item, 4);
    }
}

#[rstest]
fn a_panic_in_the_dataset_is_an_error_with_the_index(#[values(0, 2)] prefetch: usize) {
    let numbers = Numbers {
        panics: Some(3),
        ..Numbers::new(8)
    };
    let loader = loader(numbers, LoaderConfig::new(2).with_prefetch(prefetch));
    let error = loader.batches().find_map(Result::err).unwrap();
    assert!(
        matches!(error, LoaderError::ItemPanicked { index: 3, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("item 3 is rotten"), "{error}");
}

#[rstest]
fn a_panic_in_the_batcher_is_an_error_with_the_indices(#[values(0, 2)] prefetch: usize) {
    let config = LoaderConfig::new(3).with_prefetch(prefetch);
    let batcher = Collect { panics: Some(4) };
    let loader = Loader::new(Numbers::new(8), batcher, config, &Device::flex()).unwrap();
    let error = loader.batches().find_map(Result::err).unwrap();
    assert_eq!(
        error.to_string(),
        "batching the items [3, 4, 5] of epoch 0 panicked: cannot stack"
    );
}

#[rstest]
#[case::empty(0, 1, false)]
#[case::less_than_a_batch(3, 4, true)]
fn a_loader_without_batches_is_refused(
    #[case] len: usize,
    #[case] batch_size: usize,
    #[case] drop_last: bool,
) {
    let config = LoaderConfig::new(batch_size).with_drop_last(drop_last);
    let loader = Loader::new(
        Numbers::new(len),
        Collect { panics: None },
        config,
        &Device::flex(),
    );
    assert!(matches!(loader.err(), Some(LoaderError::NoBatches { .. })));
}

#[rstest]
#[case::length(LoaderState { num_items: 9, ..saved() }, "a dataset of length 9")]
#[case::batch_size(LoaderState { batch_size: 3, ..saved() }, "batch size 3")]
#[case::seed(LoaderState { seed: None, ..saved() }, "shuffle seed none")]
#[case::drop_last(LoaderState { drop_last: true, ..saved() }, "drop_last true")]
#[case::behind_the_end(LoaderState { next_item: 8, ..saved() }, "item 8 of an epoch of 8")]
#[case::inside_a_batch(LoaderState { next_item: 3, ..saved() }, "item 3 of an epoch of 8")]
fn a_foreign_state_is_refused(#[case] state: LoaderState, #[case] reason: &str) {
    let loader = loader(Numbers::new(8), LoaderConfig::new(2).with_shuffle(1));
    loader.resume(&saved()).unwrap();
    let error = loader.resume(&state).unwrap_err();
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(loader.state(), saved());
}

fn saved() -> LoaderState {
    LoaderState {
        epoch: 3,
        next_item: 4,
        num_items: 8,
        batch_size: 2,
        drop_last: false,
        seed: Some(1),
    }
}

#[test]
fn as_a_burn_loader_a_copy_for_a_device_moves_the_same_position() {
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

#[test]
fn as_a_burn_loader_a_slice_holds_its_items_only() {
    let loader = loader(Numbers::new(10), LoaderConfig::new(2).with_shuffle(0));
    let slice = loader.slice(4, 9);
    let items: HashSet<usize> = slice.iter().flat_map(Result::unwrap).collect();
    assert_eq!(items, (4..9).collect());
    assert_eq!(loader.state().next_item, 0);
}
