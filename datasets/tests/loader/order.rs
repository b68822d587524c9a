//! Resumed order is uninterrupted order; every item comes once.

use std::{collections::HashSet, sync::atomic::Ordering};

use burn::prelude::*;
use burn_memopt_datasets::loader::{Loader, LoaderConfig, OnError};
use proptest::prelude::*;
use rstest::rstest;

use crate::sources::{Numbers, Seeds, Stream, loader, streaming, take};

type Seeded = Loader<usize, Vec<(usize, u64)>>;

/// A dataset of either kind and how it is loaded, except for what must not matter.
#[derive(Clone, Debug)]
struct Setting {
    len: usize,
    fails: HashSet<usize>,
    is_stream: bool,
    knows_len: bool,
    config: LoaderConfig,
}

impl Setting {
    fn loader(&self, free: Free) -> Seeded {
        let config = self
            .config
            .clone()
            .with_workers(free.workers)
            .with_prefetch_bytes(free.prefetch_bytes)
            .with_staged(free.staged);
        let numbers = Numbers::new(self.len).failing(self.fails.iter().copied());
        let device = Device::flex();
        let loader = match self.is_stream {
            false => Loader::seeded(numbers, Seeds, config, &device),
            true => {
                let stream = Stream {
                    knows_len: self.knows_len,
                    ..Stream::new(numbers)
                };
                Loader::streaming_seeded(stream, Seeds, config, &device)
            }
        };
        loader.unwrap()
    }

    /// Items that are there to be delivered.
    fn good(&self) -> usize {
        self.len - self.fails.len()
    }

    /// Batches in an epoch.
    fn num_batches(&self) -> usize {
        let batch_size = self.config.batch_size;
        match self.config.drop_last {
            true => self.good() / batch_size,
            false => self.good().div_ceil(batch_size),
        }
    }
}

/// What must not matter.
#[derive(Clone, Copy, Debug)]
struct Free {
    workers: usize,
    prefetch_bytes: u64,
    staged: usize,
}

prop_compose! {
    fn settings()(
        len in 1usize..28,
        fails in prop::collection::hash_set(0usize..28, 0..6),
        (is_stream, knows_len, drop_last) in any::<(bool, bool, bool)>(),
        batch_size in 1usize..7,
        shuffle in prop::option::of(any::<u64>()),
        shuffle_buffer in 1usize..12,
    ) -> Setting {
        let mut config = LoaderConfig::new(batch_size)
            .with_drop_last(drop_last)
            .with_shuffle_buffer(shuffle_buffer)
            .with_on_error(OnError::Skip);
        config.shuffle = shuffle;
        let fails = fails.into_iter().filter(|&fails| fails < len).collect();
        Setting { len, fails, is_stream, knows_len, config }
    }
}

prop_compose! {
    fn free()(workers in 0usize..=4, prefetch_bytes in 0u64..30, staged in 0usize..3) -> Free {
        Free { workers, prefetch_bytes, staged }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// For items that fail, by index and from streams, at every stopping point, with another
    /// number of workers, bound and staging on each side of it.
    #[test]
    fn resumed_order_equals_uninterrupted_order(
        setting in settings(),
        frees in prop::collection::vec(free(), 4),
    ) {
        prop_assume!(setting.num_batches() > 0);
        let total = 2 * setting.num_batches() + 1;
        let plain = Free { workers: 0, prefetch_bytes: 0, staged: 0 };
        let whole = take(&setting.loader(plain), total);
        for stop in 0..=total {
            let first = setting.loader(frees[stop % 4]);
            prop_assert_eq!(&take(&first, stop)[..], &whole[..stop]);
            let state = serde_json::to_string(&first.state()).unwrap();
            let second = setting.loader(frees[(stop + 1) % 4]);
            second.resume(&serde_json::from_str(&state).unwrap()).unwrap();
            prop_assert_eq!(&take(&second, total - stop)[..], &whole[stop..]);
        }
    }

    #[test]
    fn each_item_comes_exactly_once_an_epoch(setting in settings(), free in free()) {
        prop_assume!(setting.num_batches() > 0);
        let loader = setting.loader(free);
        for epoch in 1..=3 {
            let batches: Vec<_> = loader.batches().map(Result::unwrap).collect();
            prop_assert_eq!(batches.len(), setting.num_batches());
            let batch_size = setting.config.batch_size;
            let full = batches.iter().rev().skip(1).all(|batch| batch.len() == batch_size);
            prop_assert!(full);
            let items: Vec<usize> = batches.concat().into_iter().map(|(item, _)| item).collect();
            let different: HashSet<usize> = items.iter().copied().collect();
            prop_assert_eq!(different.len(), items.len());
            prop_assert!(different.is_disjoint(&setting.fails));
            let report = loader.report();
            if !setting.config.drop_last {
                prop_assert_eq!(items.len(), setting.good());
                prop_assert_eq!(report.items, epoch * setting.good() as u64);
                prop_assert_eq!(report.skipped, epoch * setting.fails.len() as u64);
            }
        }
    }
}

#[rstest]
fn every_epoch_is_shuffled_anew_and_seeded_anew(#[values(false, true)] is_stream: bool) {
    let setting = Setting {
        len: 20,
        fails: HashSet::new(),
        is_stream,
        knows_len: false,
        config: LoaderConfig::new(20).with_shuffle(Some(9)),
    };
    let loader = setting.loader(Free {
        workers: 2,
        prefetch_bytes: 100,
        staged: 1,
    });
    let epochs = take(&loader, 2);
    let order = |epoch: usize| {
        epochs[epoch]
            .iter()
            .map(|(item, _)| *item)
            .collect::<Vec<_>>()
    };
    assert_ne!(order(0), order(1));
    let seeds: HashSet<u64> = epochs.concat().into_iter().map(|(_, seed)| seed).collect();
    assert_eq!(seeds.len(), 40);
}

#[test]
fn a_resumed_stream_is_read_once_and_only_from_where_it_is_needed() {
    let config = LoaderConfig::new(10)
        .with_shuffle(Some(3))
        .with_shuffle_buffer(8)
        .with_workers(0);
    let first = streaming(Stream::new(Numbers::new(1000)), config.clone());
    take(&first, 50);
    let state = first.state();
    let held = &state.buffer.as_ref().unwrap().held;
    // The last draw left one place free.
    assert_eq!(held.len(), 7);
    let needed = *held.iter().min().unwrap() as usize;
    let again = Stream::new(Numbers::new(1000));
    let resumed = streaming(again.clone(), config);
    resumed.resume(&state).unwrap();
    assert_eq!(take(&resumed, 50), take(&first, 50));
    assert_eq!(again.read.load(Ordering::SeqCst), 1000 - needed);
}

#[test]
fn a_rewound_loader_repeats_its_epoch() {
    let loader = loader(Numbers::new(9), LoaderConfig::new(2).with_shuffle(Some(4)));
    take(&loader, 7);
    loader.rewind();
    let again: Vec<_> = loader.batches().map(Result::unwrap).collect();
    assert_eq!(again.len(), 5);
    let mut state = loader.state();
    (state.epoch, state.next_item) = (1, 0);
    loader.resume(&state).unwrap();
    assert_eq!(take(&loader, 5), again);
}

#[test]
fn an_iterator_that_was_overtaken_moves_nothing() {
    let loader = loader(Numbers::new(9), LoaderConfig::new(2));
    let mut old = loader.batches();
    old.next().unwrap().unwrap();
    let mut new = loader.batches();
    assert_eq!(old.next().unwrap().unwrap(), [2, 3]);
    assert_eq!(loader.state().next_item, 2);
    assert_eq!(new.next().unwrap().unwrap(), [2, 3]);
    assert_eq!(loader.state().next_item, 4);
}

#[test]
fn drop_last_leaves_out_what_does_not_fill_a_batch() {
    let numbers = Numbers::new(7);
    let loader = loader(numbers.clone(), LoaderConfig::new(3).with_drop_last(true));
    let batches: Vec<_> = loader.batches().map(Result::unwrap).collect();
    assert_eq!(batches, [[0, 1, 2], [3, 4, 5]]);
    assert_eq!(numbers.tried(), 6, "item 6 is of no use");
    assert_eq!(loader.num_batches(), 2);
    assert_eq!((loader.state().epoch, loader.state().next_item), (1, 0));
}

#[test]
fn behind_the_last_good_item_comes_the_next_epoch() {
    let config = LoaderConfig::new(2).with_on_error(OnError::Skip);
    let loader = loader(Numbers::new(6).failing([4, 5]), config);
    // The consumer does not ask whether there is more.
    assert_eq!(take(&loader, 2), [[0, 1], [2, 3]]);
    assert_eq!((loader.state().epoch, loader.state().next_item), (0, 4));
    assert_eq!(take(&loader, 1), [[0, 1]]);
    assert_eq!((loader.state().epoch, loader.state().next_item), (1, 2));
    assert_eq!(loader.report().skipped, 2);
}
