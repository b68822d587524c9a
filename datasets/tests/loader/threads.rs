//! What threads do, and that nobody waits for ever.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::Duration,
};

use burn::{
    data::{
        dataloader::batcher::Batcher,
        dataset::{Dataset, DatasetError, InMemDataset},
    },
    prelude::*,
};
use burn_memopt_datasets::{
    lazy::{LazyDataset, LazyDatasetExt},
    loader::{Loader, LoaderConfig, LoaderError},
};
use rstest::rstest;

use crate::sources::{Collect, Numbers, loader};

/// Waits until `done`, or fails after half a minute instead of hanging.
fn wait_until(done: impl Fn() -> bool) {
    for _ in 0..30_000 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing happened");
}

#[rstest]
fn the_position_is_what_was_taken_not_what_was_prepared(#[values(1, 4)] workers: usize) {
    let numbers = Numbers::new(12);
    let loader = loader(numbers.clone(), LoaderConfig::new(2).with_workers(workers));
    let mut batches = loader.batches();
    batches.next().unwrap().unwrap();
    wait_until(|| numbers.tried() == 12);
    assert_eq!(loader.state().next_item, 2);
    drop(batches);
    assert_eq!(loader.batches().next().unwrap().unwrap(), [2, 3]);
}

#[test]
fn without_workers_only_what_is_asked_for_is_loaded() {
    let numbers = Numbers::new(12);
    let loader = loader(numbers.clone(), LoaderConfig::new(2).with_workers(0));
    let mut batches = loader.batches();
    assert_eq!(numbers.tried(), 0);
    batches.next().unwrap().unwrap();
    assert_eq!(numbers.tried(), 2);
}

/// Notes which threads batch.
struct Whereabouts(Arc<Mutex<Vec<ThreadId>>>);

impl Batcher<usize, usize> for Whereabouts {
    fn batch(&self, items: Vec<usize>, _device: &Device) -> usize {
        self.0.lock().unwrap().push(thread::current().id());
        items.len()
    }
}

#[rstest]
fn staged_batches_are_made_before_they_are_asked_for(#[values(0, 1, 2)] staged: usize) {
    let threads = Arc::new(Mutex::new(Vec::new()));
    let numbers = Numbers::new(12);
    let config = LoaderConfig::new(2).with_workers(2).with_staged(staged);
    let batcher = Whereabouts(threads.clone());
    let loader = Loader::new(numbers.clone(), batcher, config, &Device::flex()).unwrap();
    let mut batches = loader.batches();
    let made = || threads.lock().unwrap().len();
    wait_until(|| numbers.tried() == 12 && made() >= staged);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(made(), staged);
    batches.next().unwrap().unwrap();
    wait_until(|| made() == 1 + staged);
    let here = thread::current().id();
    let by_consumer = threads
        .lock()
        .unwrap()
        .iter()
        .filter(|&&id| id == here)
        .count();
    assert_eq!(by_consumer, usize::from(staged == 0));
}

/// Items that name the thread that loaded them.
struct Threads;

impl Dataset<ThreadId> for Threads {
    fn get(&self, _index: usize) -> Result<ThreadId, DatasetError> {
        thread::sleep(Duration::from_millis(1));
        Ok(thread::current().id())
    }

    fn len(&self) -> usize {
        20
    }
}

impl LazyDataset<ThreadId> for Threads {
    fn item_bytes(&self, _index: usize) -> u64 {
        1
    }
}

struct First;

impl Batcher<ThreadId, ThreadId> for First {
    fn batch(&self, items: Vec<ThreadId>, _device: &Device) -> ThreadId {
        items[0]
    }
}

#[test]
fn workers_are_the_same_threads_in_every_epoch() {
    let config = LoaderConfig::new(1).with_workers(2);
    let loader = Loader::new(Threads, First, config, &Device::flex()).unwrap();
    let mut threads = std::collections::HashSet::new();
    for _ in 0..5 {
        threads.extend(loader.batches().map(Result::unwrap));
    }
    // The consumer may help before the workers have begun.
    threads.remove(&thread::current().id());
    assert!((1..=2).contains(&threads.len()), "{threads:?}");
}

/// Items whose loading waits for a gate, and counts who waits.
#[derive(Clone, Default)]
struct Gated {
    open: Arc<AtomicBool>,
    loading: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Dataset<usize> for Gated {
    fn get(&self, index: usize) -> Result<usize, DatasetError> {
        let loading = self.loading.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(loading, Ordering::SeqCst);
        while !self.open.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
        self.loading.fetch_sub(1, Ordering::SeqCst);
        Ok(index)
    }

    fn len(&self) -> usize {
        40
    }
}

impl LazyDataset<usize> for Gated {
    fn item_bytes(&self, _index: usize) -> u64 {
        1
    }
}

#[test]
fn workers_load_at_the_same_time_and_none_is_left_behind() {
    let gated = Gated::default();
    let config = LoaderConfig::new(1).with_workers(3);
    let device = Device::flex();
    let loader = Loader::new(gated.clone(), Collect::default(), config, &device).unwrap();
    let batches = loader.batches();
    wait_until(|| gated.loading.load(Ordering::SeqCst) == 3);
    gated.open.store(true, Ordering::SeqCst);
    // Ends the run and waits for its workers; then the loader ends their threads.
    drop(batches);
    assert_eq!(gated.loading.load(Ordering::SeqCst), 0);
    drop(loader);
    assert_eq!(gated.most.load(Ordering::SeqCst), 3);
    // The threads held the dataset, and are gone.
    assert_eq!(Arc::strong_count(&gated.open), 1);
}

#[test]
fn an_iterator_outlives_its_loader() {
    let loader = loader(Numbers::new(9), LoaderConfig::new(2).with_workers(2));
    let batches = loader.batches();
    drop(loader);
    assert_eq!(batches.flat_map(Result::unwrap).count(), 9);
}

#[rstest]
fn two_iterators_at_once_both_come_to_their_end(#[values(0, 1, 3)] workers: usize) {
    let config = LoaderConfig::new(1)
        .with_workers(workers)
        .with_prefetch_bytes(3);
    let loader = loader(Numbers::new(50), config);
    let pairs = loader.batches().zip(loader.batches());
    let mut count = 0;
    for (old, new) in pairs {
        assert_eq!(old.unwrap(), new.unwrap());
        count += 1;
    }
    assert_eq!(count, 50);
}

/// An item that panics when it is dropped by a worker.
struct Bomb(ThreadId);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(thread::current().id() == self.0, "dropped by a stranger");
    }
}

struct Discard;

impl Batcher<Bomb, ()> for Discard {
    fn batch(&self, items: Vec<Bomb>, _device: &Device) {
        drop(items);
    }
}

#[test]
fn a_value_that_panics_when_dropped_is_an_error_and_no_hang() {
    let here = thread::current().id();
    let numbers = InMemDataset::new(vec![0u8; 30]).map(move |_| Bomb(here));
    let config = LoaderConfig::new(1).with_workers(2).with_staged(3);
    let loader = Loader::new(numbers, Discard, config, &Device::flex()).unwrap();
    // Whoever batches drops; sooner or later that is a worker.
    let errors = (0..6000).find_map(|_| {
        let mut batches = loader.batches();
        thread::sleep(Duration::from_millis(5));
        batches.find_map(Result::err)
    });
    let error = errors.expect("a worker gets a turn in half a minute");
    assert!(
        matches!(error, LoaderError::BatchPanicked { .. }),
        "{error}"
    );
}
