//! What the tests load: numbers, of which some fail, by index and as a stream.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use burn::{
    data::{
        dataloader::batcher::Batcher,
        dataset::{Dataset, DatasetError},
    },
    prelude::*,
};
use burn_memopt_datasets::{
    lazy::LazyDataset,
    loader::{Loader, LoaderConfig, SeededBatcher},
    stream::{Records, StreamingDataset},
};

/// The numbers below a length; item `k` costs `1 + k % 3` bytes.
#[derive(Clone, Default)]
pub struct Numbers {
    pub len: usize,
    /// Fail whenever they are loaded.
    pub fails: HashSet<usize>,
    /// Fail the first time in the life of the dataset.
    pub fails_once: HashSet<usize>,
    pub panics: HashSet<usize>,
    pub tried: Arc<AtomicUsize>,
    tried_once: Arc<std::sync::Mutex<HashSet<usize>>>,
}

impl Numbers {
    pub fn new(len: usize) -> Self {
        Self {
            len,
            ..Self::default()
        }
    }

    pub fn failing(self, fails: impl IntoIterator<Item = usize>) -> Self {
        Self {
            fails: fails.into_iter().collect(),
            ..self
        }
    }

    pub fn panicking(self, panics: impl IntoIterator<Item = usize>) -> Self {
        Self {
            panics: panics.into_iter().collect(),
            ..self
        }
    }

    pub fn failing_once(self, fails: impl IntoIterator<Item = usize>) -> Self {
        Self {
            fails_once: fails.into_iter().collect(),
            ..self
        }
    }

    /// Items that someone tried to load.
    pub fn tried(&self) -> usize {
        self.tried.load(Ordering::SeqCst)
    }

    fn item(&self, index: usize) -> Result<usize, DatasetError> {
        self.tried.fetch_add(1, Ordering::SeqCst);
        assert!(!self.panics.contains(&index), "item {index} is rotten");
        let is_first = || self.tried_once.lock().unwrap().insert(index);
        let fails = self.fails.contains(&index);
        match fails || (self.fails_once.contains(&index) && is_first()) {
            true => Err(DatasetError::new(std::io::Error::other("disk on fire"))),
            false => Ok(index),
        }
    }

    pub fn cost(index: usize) -> u64 {
        1 + index as u64 % 3
    }
}

impl Dataset<usize> for Numbers {
    fn get(&self, index: usize) -> Result<usize, DatasetError> {
        assert!(index < self.len, "{index} is behind the end");
        self.item(index)
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl LazyDataset<usize> for Numbers {
    fn item_bytes(&self, index: usize) -> u64 {
        Self::cost(index)
    }
}

/// The numbers as a stream that may not know its length. Those that fail do so when they are
/// read, if even, or when they are loaded, if odd.
#[derive(Clone)]
pub struct Stream {
    pub numbers: Numbers,
    pub knows_len: bool,
    /// Records that were read, in all.
    pub read: Arc<AtomicUsize>,
}

impl Stream {
    pub fn new(numbers: Numbers) -> Self {
        Self {
            numbers,
            knows_len: false,
            read: Arc::default(),
        }
    }
}

impl StreamingDataset<usize> for Stream {
    type Record = usize;

    fn records(&self, start: u64) -> Result<Records<usize>, DatasetError> {
        let Self { numbers, read, .. } = self.clone();
        Ok(Box::new((start as usize..numbers.len).map(move |number| {
            read.fetch_add(1, Ordering::SeqCst);
            match number % 2 == 0 && numbers.fails.contains(&number) {
                true => Err(DatasetError::new(std::io::Error::other("line torn"))),
                false => Ok(number),
            }
        })))
    }

    fn load(&self, number: usize) -> Result<usize, DatasetError> {
        self.numbers.item(number)
    }

    fn item_bytes(&self, number: &usize) -> u64 {
        Numbers::cost(*number)
    }

    fn num_records(&self) -> Option<u64> {
        self.knows_len.then_some(self.numbers.len as u64)
    }
}

/// Hands out the items, or panics over one of them.
#[derive(Default)]
pub struct Collect {
    pub panics: Option<usize>,
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
pub struct Seeds;

impl SeededBatcher<usize, Vec<(usize, u64)>> for Seeds {
    fn batch(&self, items: Vec<usize>, seeds: &[u64], _device: &Device) -> Vec<(usize, u64)> {
        items.into_iter().zip(seeds.iter().copied()).collect()
    }
}

pub fn loader(numbers: Numbers, config: LoaderConfig) -> Loader<usize, Vec<usize>> {
    Loader::new(numbers, Collect::default(), config, &Device::flex()).unwrap()
}

pub fn streaming(stream: Stream, config: LoaderConfig) -> Loader<usize, Vec<usize>> {
    Loader::streaming(stream, Collect::default(), config, &Device::flex()).unwrap()
}

/// The next `count` batches, over the ends of epochs.
pub fn take<O: Send + 'static>(loader: &Loader<usize, O>, count: usize) -> Vec<O> {
    let mut batches = Vec::new();
    while batches.len() < count {
        let left = count - batches.len();
        batches.extend(loader.batches().take(left).map(Result::unwrap));
    }
    batches
}
