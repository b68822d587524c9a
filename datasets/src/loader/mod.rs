//! Batches in a reproducible order that can be taken up again anywhere, loaded by several
//! threads within a bound in bytes.
//!
//! Rules of this module:
//! 1. The order of an epoch depends on seed, epoch and length alone; for streams on the size
//!    of the shuffle buffer, too. Threads decide when an item comes, never where.
//! 2. The position is that of the consumer, in items of the source: batches prepared in
//!    advance do not count until they are taken, items that were skipped do.
//! 3. A panic in a dataset or batcher is an error that names the item.
//! 4. What is in memory is bounded in bytes, before it is loaded.
//! 5. Whatever becomes of the threads, the consumer never waits for nobody.

mod assembly;
mod batcher;
mod batches;
mod budget;
mod burn_loader;
mod config;
mod error;
mod group;
mod position;
mod report;
mod run;
mod source;
mod track;
mod workers;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::{data::dataloader::batcher::Batcher, prelude::*};

pub use batcher::SeededBatcher;
pub use batches::Batches;
pub use config::{LoaderConfig, OnError};
pub use error::LoaderError;
pub use group::Group;
pub use position::{BufferState, LoaderState};
pub use report::{LoaderReport, SkippedItem};

use crate::{lazy::LazyDataset, stream::StreamingDataset};
use batcher::Unseeded;
use batches::Works;
use source::{AsStream, ByIndex, Source};
use track::Track;
use workers::Workers;

/// What batches are made of, and how.
struct Plan<I, O> {
    source: Arc<dyn Source<I>>,
    batcher: Arc<dyn SeededBatcher<I, O>>,
    config: LoaderConfig,
}

/// Batches of a dataset, in an order that is the same in every run and that a
/// resumed run takes up exactly where it stopped.
///
/// Every call of [`batches`](Self::batches) goes on from the loader's position to the end of
/// the epoch; the next call begins the next epoch with another shuffle. As
/// a burn `DataLoader` it goes into burn-train as it is; keep the `Arc` and ask
/// it for the [`state`](Self::state) to save.
///
/// # Memory
/// Items that are loading or wait for their turn take at most `prefetch_bytes`; an item that
/// is larger goes alone. With those in batches that are being put together or wait for the
/// consumer they take at most `prefetch_bytes` as well, or one batch, where a batch is larger.
/// So leave room for `2 + staged` batches if loading is to go on while the consumer computes.
/// All this by what the dataset says its items cost; while a batch is made, its tensors come on
/// top of its items. A stream's shuffle buffer holds records on top, not items.
///
/// # Exactness
/// The order and content after [`resume`](Self::resume) are those of an uninterrupted run, for
/// the same dataset, batch size and shuffle, whatever the other settings were and are. So they
/// are when items fail and are skipped, if the same ones fail again.
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
/// let make = |workers| {
///     let config = LoaderConfig::new(2).with_shuffle(1).with_workers(workers);
///     Loader::new(InMemDataset::new((0..6).collect()), Collect, config, &Device::flex())
/// };
/// let loader = make(2)?;
/// loader.batches().next().expect("a batch")?;
/// let state = loader.state();
/// let rest: Vec<_> = loader.batches().collect::<Result<_, _>>()?;
///
/// let resumed = make(0)?;
/// resumed.resume(&state)?;
/// assert_eq!(resumed.batches().collect::<Result<Vec<_>, _>>()?, rest);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Loader<I, O> {
    works: Arc<Works<I, O>>,
    track: Arc<Mutex<Track>>,
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
        dataset: impl LazyDataset<I> + 'static,
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
        dataset: impl LazyDataset<I> + 'static,
        batcher: impl SeededBatcher<I, O> + 'static,
        config: LoaderConfig,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        Self::with_source(ByIndex::new(dataset), batcher, config, device)
    }

    /// Makes batches of a stream with a burn batcher, on `device`.
    ///
    /// # Errors
    /// If the stream is known to be empty, or smaller than one batch with `drop_last`.
    ///
    /// # Panics
    /// If `batch_size` or `shuffle_buffer` is zero.
    pub fn streaming(
        stream: impl StreamingDataset<I> + 'static,
        batcher: impl Batcher<I, O> + 'static,
        config: LoaderConfig,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        Self::streaming_seeded(stream, Unseeded(batcher), config, device)
    }

    /// Makes batches of a stream with a batcher that draws random numbers, on `device`.
    ///
    /// # Errors
    /// If the stream is known to be empty, or smaller than one batch with `drop_last`.
    ///
    /// # Panics
    /// If `batch_size` or `shuffle_buffer` is zero.
    pub fn streaming_seeded(
        stream: impl StreamingDataset<I> + 'static,
        batcher: impl SeededBatcher<I, O> + 'static,
        config: LoaderConfig,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        Self::with_source(AsStream::new(stream), batcher, config, device)
    }

    fn with_source(
        source: impl Source<I> + 'static,
        batcher: impl SeededBatcher<I, O> + 'static,
        config: LoaderConfig,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        let config = config.validate();
        if let Some(num_items) = source.len()
            && config.is_over(0, num_items)
        {
            return Err(LoaderError::NoBatches {
                num_items,
                batch_size: config.batch_size,
            });
        }
        let track = Track::new(source.begin(0, &config));
        let plan = Plan {
            source: Arc::new(source),
            batcher: Arc::new(batcher),
            config,
        };
        let works = Works {
            plan: Arc::new(plan),
            device: device.clone(),
            workers: Arc::new(Workers::new(config.workers)),
        };
        Ok(Self {
            works: Arc::new(works),
            track: Arc::new(Mutex::new(track)),
        })
    }

    /// The batches from the loader's position to the end of the epoch.
    ///
    /// An error ends them; the position stays before the batch that failed. One
    /// iterator at a time: the one made last moves the position of the loader.
    pub fn batches(&self) -> Batches<O> {
        let num_items = self.works.plan.source.len();
        Batches::start(self.works.clone(), self.config(), num_items, &self.track)
    }

    /// Batches in a whole epoch, if no item is skipped. For a stream of unknown length those of
    /// the last epoch, and 0 before one was read to its end.
    pub fn num_batches(&self) -> usize {
        let config = self.config();
        let delivered = self.total().map(|total| config.delivered(total));
        let batches = delivered.unwrap_or(0).div_ceil(config.batch_size as u64);
        batches as usize
    }

    /// Goes back to the beginning of the present epoch, as a validation that looked at
    /// some batches only wants it.
    pub fn rewind(&self) {
        let mut track = self.lock();
        let beginning = self.beginning(track.position.epoch);
        track.set(beginning);
    }

    /// Where the consumer is: what to save with a run.
    pub fn state(&self) -> LoaderState {
        let num_items = self.works.plan.source.len();
        self.lock().position.state(num_items, &self.config())
    }

    /// Goes to where a saved run was; the next [`batches`](Self::batches) begin there.
    ///
    /// A stream is read from the first record that is still needed, once: the shuffle
    /// buffer of the saved run is filled with the same records again.
    ///
    /// # Errors
    /// If the state belongs to a loader of another length, batch size or shuffle, whose
    /// batches would not be the same, or is damaged.
    pub fn resume(&self, state: &LoaderState) -> Result<(), LoaderError> {
        let num_items = self.works.plan.source.len();
        let beginning = self.beginning(state.epoch);
        let position = state.position(beginning, num_items, &self.config())?;
        self.lock().set(position);
        Ok(())
    }

    /// What became of the items so far.
    pub fn report(&self) -> LoaderReport {
        self.lock().report.clone()
    }

    fn beginning(&self, epoch: u64) -> position::Position {
        self.works.plan.source.begin(epoch, &self.config())
    }

    fn config(&self) -> LoaderConfig {
        self.works.plan.config
    }

    /// Items of an epoch, where that is known by now.
    fn total(&self) -> Option<u64> {
        self.works.plan.source.len().or(self.lock().total)
    }

    fn lock(&self) -> MutexGuard<'_, Track> {
        self.track.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
