//! Items that fail: failing, skipping, trying again; panics.

use std::error::Error;

use burn::prelude::*;
use burn_memopt_datasets::{
    loader::{Loader, LoaderConfig, LoaderError, OnError},
    stream::{Records, StreamingDataset},
};
use rstest::rstest;

use crate::sources::{Collect, Numbers, Stream, loader, streaming};

#[rstest]
fn a_failing_item_is_named_and_comes_again(
    #[values(0, 2)] workers: usize,
    #[values(false, true)] is_stream: bool,
) {
    let numbers = Numbers::new(8).failing([5]);
    let config = LoaderConfig::new(2).with_workers(workers);
    let loader = match is_stream {
        false => loader(numbers, config),
        true => streaming(Stream::new(numbers), config),
    };
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
        let source = error.source().unwrap().to_string();
        assert!(source.contains("disk on fire"), "{source}");
        assert!(batches.next().is_none());
        assert_eq!(loader.state().next_item, 4);
    }
}

#[rstest]
fn skipped_items_are_counted_named_and_made_up_for(#[values(0, 3)] workers: usize) {
    let numbers = Numbers::new(10).failing([1, 4, 9]).panicking([6]);
    let config = LoaderConfig::new(3)
        .with_workers(workers)
        .with_on_error(OnError::Skip);
    let loader = loader(numbers, config);
    let batches: Vec<_> = loader.batches().map(Result::unwrap).collect();
    assert_eq!(batches, [[0, 2, 3], [5, 7, 8]]);
    let report = loader.report();
    assert_eq!((report.items, report.batches, report.skipped), (6, 2, 4));
    let skipped: Vec<_> = report.first_skipped.iter().map(|item| item.index).collect();
    assert_eq!(skipped, [1, 4, 6, 9]);
    let text = report.to_string();
    assert!(
        text.starts_with("6 items in 2 batches, 4 skipped\n  item 1 of epoch 0: disk on fire"),
        "{text}"
    );
    assert!(
        text.contains("item 6 of epoch 0: panicked: item 6 is rotten"),
        "{text}"
    );
}

#[test]
fn a_report_names_some_and_counts_all() {
    let config = LoaderConfig::new(10).with_on_error(OnError::Skip);
    let loader = loader(Numbers::new(60).failing(20..50), config);
    assert_eq!(loader.batches().map(Result::unwrap).count(), 3);
    let report = loader.report();
    assert_eq!((report.skipped, report.first_skipped.len()), (30, 16));
    assert!(report.to_string().ends_with("and 14 more"), "{report}");
}

#[rstest]
fn a_retry_loads_what_failed_once(
    #[values(0, 2)] workers: usize,
    #[values(false, true)] is_stream: bool,
) {
    let numbers = Numbers::new(6).failing_once([2, 5]);
    let config = LoaderConfig::new(6).with_workers(workers).with_retries(1);
    let loader = match is_stream {
        false => loader(numbers.clone(), config),
        true => streaming(Stream::new(numbers.clone()), config),
    };
    let batch = loader.batches().next().unwrap().unwrap();
    assert_eq!(batch, [0, 1, 2, 3, 4, 5]);
    assert_eq!(numbers.tried(), 8);
    let report = loader.report();
    assert_eq!((report.recovered, report.skipped), (2, 0));
    assert!(
        report.to_string().contains("2 loaded after a retry"),
        "{report}"
    );
}

#[rstest]
#[case::fail(OnError::Fail)]
#[case::skip(OnError::Skip)]
fn after_all_retries_the_policy_decides(#[case] on_error: OnError) {
    let numbers = Numbers::new(3).failing([1]);
    let config = LoaderConfig::new(3)
        .with_workers(0)
        .with_retries(2)
        .with_on_error(on_error);
    let loader = loader(numbers.clone(), config);
    let batch = loader.batches().next().unwrap();
    match on_error {
        OnError::Fail => assert!(matches!(batch, Err(LoaderError::Item { index: 1, .. }))),
        OnError::Skip => assert_eq!(batch.unwrap(), [0, 2]),
    }
    let loaded = if on_error == OnError::Skip { 2 } else { 1 };
    assert_eq!(numbers.tried(), loaded + 3);
}

#[rstest]
fn an_epoch_of_failing_items_is_an_error(#[values(0, 2)] workers: usize) {
    let config = LoaderConfig::new(2)
        .with_workers(workers)
        .with_on_error(OnError::Skip);
    let loader = loader(Numbers::new(3).failing(0..3), config);
    let mut batches = loader.batches();
    let error = batches.next().unwrap().unwrap_err();
    assert!(matches!(
        error,
        LoaderError::EmptyEpoch {
            epoch: 0,
            skipped: 3
        }
    ));
    assert!(batches.next().is_none());
}

#[test]
fn an_empty_stream_is_an_error_once_that_is_known() {
    let loader = streaming(Stream::new(Numbers::new(0)), LoaderConfig::new(2));
    let error = loader.batches().next().unwrap().unwrap_err();
    assert!(matches!(error, LoaderError::EmptyEpoch { skipped: 0, .. }));
}

#[rstest]
fn a_panic_in_the_dataset_is_an_error_with_the_index(#[values(0, 2)] workers: usize) {
    let config = LoaderConfig::new(2).with_workers(workers);
    let loader = loader(Numbers::new(8).panicking([3]), config);
    let error = loader.batches().find_map(Result::err).unwrap();
    assert!(
        matches!(error, LoaderError::ItemPanicked { index: 3, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("item 3 is rotten"), "{error}");
}

#[rstest]
fn a_panic_in_the_batcher_is_an_error_with_the_indices(
    #[values(0, 2)] workers: usize,
    #[values(0, 1)] staged: usize,
) {
    let config = LoaderConfig::new(3)
        .with_workers(workers)
        .with_staged(staged);
    let batcher = Collect { panics: Some(4) };
    let loader = Loader::new(Numbers::new(8), batcher, config, &Device::flex()).unwrap();
    let error = loader.batches().find_map(Result::err).unwrap();
    assert_eq!(
        error.to_string(),
        "batching the items [3, 4, 5] of epoch 0 panicked: cannot stack"
    );
    assert_eq!(loader.state().next_item, 3);
}

/// A stream that cannot be opened, or panics while it is read.
struct Broken {
    opens: bool,
}

impl StreamingDataset<usize> for Broken {
    type Record = usize;

    fn records(&self, start: u64) -> Result<Records<usize>, burn::data::dataset::DatasetError> {
        match self.opens {
            true => Ok(Box::new((start as usize..9).map(|number| {
                assert!(number != 4, "the tape tore");
                Ok(number)
            }))),
            false => Err(burn::data::dataset::DatasetError::new(
                std::io::Error::other("no such tape"),
            )),
        }
    }

    fn load(&self, number: usize) -> Result<usize, burn::data::dataset::DatasetError> {
        Ok(number)
    }

    fn item_bytes(&self, _number: &usize) -> u64 {
        1
    }
}

#[rstest]
fn a_stream_that_breaks_is_an_error_even_where_items_are_skipped(
    #[values(0, 2)] workers: usize,
    #[values(false, true)] opens: bool,
) {
    let config = LoaderConfig::new(2)
        .with_workers(workers)
        .with_on_error(OnError::Skip);
    let broken = Broken { opens };
    let loader = Loader::streaming(broken, Collect::default(), config, &Device::flex()).unwrap();
    let batches: Vec<_> = loader.batches().collect();
    let error = batches.last().unwrap().as_ref().unwrap_err();
    match opens {
        true => {
            assert_eq!(batches.len(), 3);
            assert!(matches!(error, LoaderError::ItemPanicked { index: 4, .. }));
            assert!(error.to_string().contains("the tape tore"), "{error}");
        }
        false => {
            assert_eq!(batches.len(), 1);
            assert!(matches!(error, LoaderError::Item { index: 0, .. }));
        }
    }
}
