//! Bytes in flight, counted by the items themselves.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use burn::{
    data::{
        dataloader::batcher::Batcher,
        dataset::{Dataset, DatasetError},
    },
    prelude::*,
};
use burn_memopt_datasets::{
    lazy::{LazyDataset, LazyDatasetExt},
    loader::{Loader, LoaderConfig, OnError},
};
use proptest::prelude::*;

/// Bytes of the items that exist, now and at most.
#[derive(Default)]
struct Count {
    now: AtomicU64,
    peak: AtomicU64,
}

/// Takes its bytes from construction to drop.
struct Counted {
    bytes: u64,
    count: Arc<Count>,
}

impl Counted {
    fn new(bytes: u64, count: &Arc<Count>) -> Self {
        let now = count.now.fetch_add(bytes, Ordering::SeqCst) + bytes;
        count.peak.fetch_max(now, Ordering::SeqCst);
        Self {
            bytes,
            count: count.clone(),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count.now.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Sizes {
    sizes: Arc<Vec<u64>>,
    count: Arc<Count>,
}

impl Dataset<Counted> for Sizes {
    fn get(&self, index: usize) -> Result<Counted, DatasetError> {
        let item = Counted::new(self.sizes[index], &self.count);
        // Loading takes its time, and another thread may overtake.
        std::thread::yield_now();
        match index % 7 == 6 {
            true => Err(DatasetError::new(std::io::Error::other("seven"))),
            false => Ok(item),
        }
    }

    fn len(&self) -> usize {
        self.sizes.len()
    }
}

impl LazyDataset<Counted> for Sizes {
    fn item_bytes(&self, index: usize) -> u64 {
        self.sizes[index]
    }
}

/// The batch is its items: they live until the consumer drops it.
struct Keep;

impl Batcher<Counted, Vec<Counted>> for Keep {
    fn batch(&self, items: Vec<Counted>, _device: &Device) -> Vec<Counted> {
        items
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Everything that exists and is not the consumer's, batches that wait included: at most
    /// the bound, or one batch where that is larger.
    #[test]
    fn bytes_in_flight_are_bounded(
        sizes in prop::collection::vec(1u64..100, 1..60),
        bound in 0u64..600,
        batch_size in 1usize..6,
        workers in 0usize..=4,
        staged in 0usize..3,
        is_stream in any::<bool>(),
    ) {
        let (count, largest) = (Arc::new(Count::default()), *sizes.iter().max().unwrap());
        let num_good = (0..sizes.len()).filter(|index| index % 7 != 6).count();
        let sizes = Sizes { sizes: Arc::new(sizes), count: count.clone() };
        let config = LoaderConfig::new(batch_size)
            .with_shuffle(Some(1))
            .with_shuffle_buffer(5)
            .with_workers(workers)
            .with_prefetch_bytes(bound)
            .with_staged(staged)
            .with_on_error(OnError::Skip);
        let device = Device::flex();
        let loader = match is_stream {
            false => Loader::new(sizes, Keep, config, &device),
            true => Loader::streaming(sizes.into_stream(), Keep, config, &device),
        };
        let loader = loader.unwrap();
        let mut items = 0;
        for batch in loader.batches() {
            // What the consumer holds does not count: it is dropped at once.
            items += batch.unwrap().len();
        }
        prop_assert_eq!(items, num_good);
        prop_assert_eq!(count.now.load(Ordering::SeqCst), 0);
        // The batch that was just handed over is alive while the next item is admitted.
        let in_flight = bound.max(batch_size as u64 * largest);
        let handed_over = batch_size as u64 * largest;
        let peak = count.peak.load(Ordering::SeqCst);
        prop_assert!(peak <= in_flight + handed_over, "{peak}");
        let said = loader.report().bytes_peak;
        prop_assert!(said <= in_flight, "{said}");
    }
}

#[test]
fn prefetch_fills_its_bound_and_no_more() {
    let count = Arc::new(Count::default());
    let sizes = Sizes {
        sizes: Arc::new(vec![10; 6]),
        count: count.clone(),
    };
    let config = LoaderConfig::new(1).with_workers(2).with_prefetch_bytes(45);
    let loader = Loader::new(sizes, Keep, config, &Device::flex()).unwrap();
    let batches = loader.batches();
    // Four items fit; a fifth would come at once if it were admitted.
    while count.now.load(Ordering::SeqCst) < 40 {
        std::thread::yield_now();
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(count.peak.load(Ordering::SeqCst), 40);
    drop(batches);
    assert_eq!(count.now.load(Ordering::SeqCst), 0);
}

#[test]
fn an_item_above_the_bound_goes_alone() {
    let count = Arc::new(Count::default());
    let sizes = Sizes {
        sizes: Arc::new(vec![50, 60, 70, 5, 5]),
        count: count.clone(),
    };
    let config = LoaderConfig::new(1).with_workers(3).with_prefetch_bytes(10);
    let loader = Loader::new(sizes, Keep, config, &Device::flex()).unwrap();
    let mut sizes = Vec::new();
    for batch in loader.batches() {
        sizes.extend(batch.unwrap().iter().map(|item| item.bytes));
    }
    assert_eq!(sizes, [50, 60, 70, 5, 5]);
    assert_eq!(loader.report().bytes_peak, 70);
}
