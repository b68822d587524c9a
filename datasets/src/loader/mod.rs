//! Batches in a reproducible order that can be taken up again anywhere.
//!
//! Rules of this module:
//! 1. The order of an epoch depends on seed, epoch and length alone.
//! 2. The position is that of the consumer: batches prepared in advance do not count
//!    until they are taken.
//! 3. A panic in a dataset or batcher is an error that names the item.

mod batches;
mod burn_loader;
mod error;
mod position;

use std::sync::{Arc, Mutex, PoisonError};

use burn::{
    data::{dataloader::batcher::Batcher, dataset::Dataset},
    prelude::*,
};
use serde::{Deserialize, Serialize};

pub use batches::Batches;
pub use error::LoaderError;
pub use position::LoaderState;

use position::Position;

/// How a [`Loader`] makes batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoaderConfig {
    /// Items in a batch.
    pub batch_size: usize,
    /// Seed of the shuffle, which is another one in every epoch. The default is
    /// `None`: items come in their own order.
    pub shuffle: Option<u64>,
    /// Leaves out the last items of an epoch if they do not fill a batch. The
    /// default is `false`.
    pub drop_last: bool,
    /// Batches that a background thread prepares in advance; with 0 there is no
    /// thread. The default is `2`.
    pub prefetch: usize,
}

impl LoaderConfig {
    /// Batches of `batch_size`, and the defaults.
    pub fn new(batch_size: usize) -> Self {
        Self {
            batch_size,
            shuffle: None,
            drop_last: false,
            prefetch: 2,
        }
    }

    /// Shuffles every epoch anew.
    pub fn with_shuffle(self, seed: u64) -> Self {
        Self {
            shuffle: Some(seed),
            ..self
        }
    }

    /// Chooses what happens to the last items of an epoch.
    pub fn with_drop_last(self, drop_last: bool) -> Self {
        Self { drop_last, ..self }
    }

    /// Chooses how many batches are prepared in advance.
    pub fn with_prefetch(self, prefetch: usize) -> Self {
        Self { prefetch, ..self }
    }
}

/// Turns items into a batch, with a seed for each item.
///
/// The seed depends on the loader's seed, the epoch and the item alone, so an
/// augmentation drawn from it repeats in a resumed run. A burn [`Batcher`] serves
/// where no seed is needed: see [`Loader::new`].
pub trait SeededBatcher<I, O>: Send + Sync {
    /// Batches `items` on `device`; `seeds[k]` belongs to `items[k]`.
    fn batch(&self, items: Vec<I>, seeds: &[u64], device: &Device) -> O;
}

/// A burn batcher, which knows of no seeds.
struct Unseeded<B>(B);

impl<I, O, B: Batcher<I, O>> SeededBatcher<I, O> for Unseeded<B> {
    fn batch(&self, items: Vec<I>, _seeds: &[u64], device: &Device) -> O {
        self.0.batch(items, device)
    }
}

/// What all copies and iterators of a loader share.
struct Source<I, O> {
    dataset: Arc<dyn Dataset<I>>,
    batcher: Arc<dyn SeededBatcher<I, O>>,
    config: LoaderConfig,
}

impl<I, O> Source<I, O> {
    /// Items that an epoch delivers.
    fn epoch_len(&self) -> usize {
        let (len, batch_size) = (self.dataset.len(), self.config.batch_size);
        match self.config.drop_last {
            true => len - len % batch_size,
            false => len,
        }
    }
}

/// Batches of a dataset, in an order that is the same in every run and that a
/// resumed run takes up exactly where it stopped.
///
/// Every call of [`batches`](Self::batches) goes on from the loader's position to the end of
/// the epoch; the next call begins the next epoch with another shuffle. As
/// a burn `DataLoader` it goes into burn-train as it is; keep the `Arc` and ask
/// it for the [`state`](Self::state) to save.
///
/// # Exactness
/// The order after [`resume`](Self::resume) is that of an uninterrupted run, for the same
/// dataset and batch size, whatever `prefetch` was and is.
///
/// # Example
/// ```
/// use burn::{data::{dataloader::batcher::Batcher, dataset::InMemDataset}, prelude::*};
/// use burn_memopt_datasets::loader::{Loader, LoaderConfig};
///
/// struct Collect;
/// impl Batcher<u8, Vec<u8>> for Collect {
///     fn batch(&self, items: Vec<u8>, _device: &Device) -> Vec<u8> { items }
/// }
/// let make = || {
///     let config = LoaderConfig::new(2).with_shuffle(1);
///     Loader::new(InMemDataset::new((0..6).collect()), Collect, config, &Device::flex())
/// };
/// let loader = make()?;
/// loader.batches().next().expect("a batch")?;
/// let state = loader.state();
/// let rest: Vec<_> = loader.batches().collect::<Result<_, _>>()?;
///
/// let resumed = make()?;
/// resumed.resume(&state)?;
/// assert_eq!(resumed.batches().collect::<Result<Vec<_>, _>>()?, rest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Loader<I, O> {
    source: Arc<Source<I, O>>,
    device: Device,
    position: Arc<Mutex<Position>>,
}

impl<I: Send + 'static, O: Send + 'static> Loader<I, O> {
    /// Makes batches with a burn batcher, on `device`.
    ///
    /// # Errors
    /// If the dataset is empty, or smaller than one batch with `drop_last`.
    ///
    /// # Panics
    /// If `batch_size` is zero.
    pub fn new(
        dataset: impl Dataset<I> + 'static,
        batcher: impl Batcher<I, O> + 'static,
        config: LoaderConfig,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        Self::seeded(dataset, Unseeded(batcher), config, device)
    }

    /// Makes batches with a batcher that draws random numbers, on `device`.
    ///
    /// # Errors
    /// If the dataset is empty, or smaller than one batch with `drop_last`.
    ///
    /// # Panics
    /// If `batch_size` is zero.
    pub fn seeded(
        dataset: impl Dataset<I> + 'static,
        batcher: impl SeededBatcher<I, O> + 'static,
        config: LoaderConfig,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        assert!(
            config.batch_size > 0,
            "batch_size must be at least 1, got 0"
        );
        let source = Source {
            dataset: Arc::new(dataset),
            batcher: Arc::new(batcher),
            config,
        };
        if source.epoch_len() == 0 {
            return Err(LoaderError::NoBatches {
                num_items: source.dataset.len(),
                batch_size: config.batch_size,
            });
        }
        Ok(Self {
            source: Arc::new(source),
            device: device.clone(),
            position: Arc::default(),
        })
    }

    /// The batches from the loader's position to the end of the epoch.
    ///
    /// An error ends them; the position stays before the batch that failed. One
    /// iterator at a time: each moves the position of the loader.
    pub fn batches(&self) -> Batches<O> {
        Batches::start(&self.source, &self.device, &self.position)
    }

    /// Batches in a whole epoch.
    pub fn num_batches(&self) -> usize {
        let batch_size = self.source.config.batch_size;
        self.source.epoch_len().div_ceil(batch_size)
    }

    /// Goes back to the beginning of the present epoch, as a validation that looked at
    /// some batches only wants it.
    pub fn rewind(&self) {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        position.next_item = 0;
    }

    /// Where the consumer is: what to save with a run.
    pub fn state(&self) -> LoaderState {
        let position = *self.position.lock().unwrap_or_else(PoisonError::into_inner);
        LoaderState {
            epoch: position.epoch,
            next_item: position.next_item,
            num_items: self.source.dataset.len(),
            batch_size: self.source.config.batch_size,
            drop_last: self.source.config.drop_last,
            seed: self.source.config.shuffle,
        }
    }

    /// Goes to where a saved run was; the next [`batches`](Self::batches) begin there.
    ///
    /// # Errors
    /// If the state belongs to a loader of another length, batch size or seed, whose
    /// batches would not be the same.
    pub fn resume(&self, state: &LoaderState) -> Result<(), LoaderError> {
        state.check_matches(&self.state(), self.source.epoch_len())?;
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = Position {
            epoch: state.epoch,
            next_item: state.next_item,
        };
        Ok(())
    }
}
