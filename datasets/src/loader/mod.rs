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
//! 5. Whatever becomes of the threads, the consumer never waits without end.

mod batches;
mod config;
mod error;
mod run;
mod source;
mod state;
mod track;
mod workers;

use std::sync::{Arc, Mutex, MutexGuard};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress, batcher::Batcher},
        dataset::DatasetError,
    },
    prelude::*,
};

pub use batches::{Batches, Group};
pub use config::{LoaderConfig, OnError};
pub use error::LoaderError;
pub use track::{BufferState, LoaderReport, LoaderState, SkippedItem};

use crate::{lazy::LazyDataset, lock, stream::StreamingDataset};
use run::Run;
use source::{AsStream, ByIndex, Source};
use track::{Position, Track};
use workers::Workers;

/// Turns items into a batch, with a seed for each item.
///
/// The seed depends on the loader's seed, the epoch and the item alone, so an
/// augmentation drawn from it repeats in a resumed run. A burn [`Batcher`] serves
/// where no seed is needed: see [`Loader::new`].
pub trait SeededBatcher<I, O>: Send + Sync {
    /// Batches `items` on `device`; `seeds[k]` belongs to `items[k]`.
    fn batch(&self, items: Vec<I>, seeds: &[u64], device: &Device) -> O;
}

/// A burn batcher, which knows no seeds.
struct Unseeded<B>(B);

impl<I, O, B: Batcher<I, O>> SeededBatcher<I, O> for Unseeded<B> {
    fn batch(&self, items: Vec<I>, _seeds: &[u64], device: &Device) -> O {
        self.0.batch(items, device)
    }
}

/// What batches are made of, how, and where.
struct Plan<I, O> {
    source: Arc<dyn Source<I>>,
    batcher: Arc<dyn SeededBatcher<I, O>>,
    config: LoaderConfig,
    /// Batches go to them in turn.
    devices: Vec<Device>,
}

impl<I, O> Plan<I, O> {
    /// The same on other devices.
    fn on(&self, devices: Vec<Device>) -> Self {
        Self {
            source: self.source.clone(),
            batcher: self.batcher.clone(),
            config: self.config.clone(),
            devices,
        }
    }

    /// Where an epoch begins.
    fn beginning(&self, epoch: u64) -> Position {
        self.source.begin(epoch, &self.config)
    }
}

/// Batches of a dataset, in an order that is the same in every run and that a
/// resumed run takes up exactly where it stopped.
///
/// Every call of [`batches`](Self::batches) continues from the loader's position to the end of
/// the epoch; the next call begins the next epoch with another shuffle. As
/// a burn `DataLoader` it goes into burn-train as it is; keep the `Arc` and ask
/// it for the [`state`](Self::state) to save.
///
/// # Memory
/// Items that are loading or wait for their turn take at most `prefetch_bytes`; an item that
/// is larger goes alone. With those in batches that are being put together or wait for the
/// consumer they take at most `prefetch_bytes` as well, or one batch, where a batch is larger.
/// So leave room for `2 + staged` batches if loading is to continue while the consumer computes.
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
///     let config = LoaderConfig::new(2).with_shuffle(Some(1)).with_workers(workers);
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
    plan: Arc<Plan<I, O>>,
    workers: Arc<Workers<I, O>>,
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
        config.check();
        if let Some(num_items) = source.len()
            && config.is_over(0, num_items)
        {
            return Err(LoaderError::NoBatches {
                num_items,
                batch_size: config.batch_size,
            });
        }
        let plan = Plan {
            source: Arc::new(source),
            batcher: Arc::new(batcher),
            config,
            devices: vec![device.clone()],
        };
        Ok(Self::at_beginning(plan, 0))
    }

    /// A loader with workers and a position of its own.
    fn at_beginning(plan: Plan<I, O>, epoch: u64) -> Self {
        Self {
            workers: Arc::new(Workers::new(plan.config.workers)),
            track: Arc::new(Mutex::new(Track::new(plan.beginning(epoch)))),
            plan: Arc::new(plan),
        }
    }

    /// Puts batches on `devices` in turn: batch *n* of what [`batches`](Self::batches) returns, counted from 0, on
    /// device *n* modulo their number. Name devices as often as a step has micro-batches, and each begins with the first
    /// of them.
    ///
    /// # Panics
    /// If there is no device.
    #[must_use]
    pub fn with_devices(self, devices: &[Device]) -> Self {
        assert!(
            !devices.is_empty(),
            "a loader needs at least one device, got none"
        );
        self.on(devices.to_vec())
    }

    /// A loader for other devices that moves the same position, with the same workers.
    fn on(&self, devices: Vec<Device>) -> Self {
        Self {
            plan: Arc::new(self.plan.on(devices)),
            workers: self.workers.clone(),
            track: self.track.clone(),
        }
    }

    /// The batches from the loader's position to the end of the epoch.
    ///
    /// An error ends them; the position stays before the batch that failed. One
    /// iterator at a time: the one made last moves the position of the loader.
    pub fn batches(&self) -> Batches<I, O> {
        Batches::start(Self {
            plan: self.plan.clone(),
            workers: self.workers.clone(),
            track: self.track.clone(),
        })
    }

    /// Begins a run from `position` to the end of its epoch.
    fn run(&self, position: &Position) -> Arc<Run<I, O>> {
        let run = Arc::new(Run::new(self.plan.clone(), position));
        self.workers.serve(&run);
        run
    }

    /// Batches in a whole epoch, if no item is skipped. For a stream of unknown length those of
    /// the last epoch, and 0 before one was read to its end.
    pub fn num_batches(&self) -> usize {
        self.num_items().div_ceil(self.plan.config.batch_size)
    }

    /// Goes back to the beginning of the present epoch, as a validation that looked at
    /// some batches only wants it.
    pub fn rewind(&self) {
        let mut track = self.track();
        let beginning = self.plan.beginning(track.position.epoch);
        track.set(beginning);
    }

    /// Index of each of the next `count` items, which are not loaded, and the bytes that it takes once it is; fewer items at the
    /// end of the epoch.
    pub fn upcoming(&self, count: usize) -> Vec<(u64, u64)> {
        let position = self.track().position.clone();
        let mut feed = self.plan.source.feed(&position, &self.plan.config);
        let next = || feed.next().ok().flatten();
        let items = std::iter::from_fn(next).take(count);
        items.map(|ticket| (ticket.index, ticket.bytes)).collect()
    }

    /// Where the consumer is: what to save with a run.
    pub fn state(&self) -> LoaderState {
        let num_items = self.plan.source.len();
        self.track().position.state(num_items, &self.plan.config)
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
        let num_items = self.plan.source.len();
        let beginning = self.plan.beginning(state.epoch);
        let position = state.position(beginning, num_items, &self.plan.config)?;
        self.track().set(position);
        Ok(())
    }

    /// What became of the items so far.
    pub fn report(&self) -> LoaderReport {
        self.track().report.clone()
    }
}

impl<I, O> Loader<I, O> {
    fn track(&self) -> MutexGuard<'_, Track> {
        lock(&self.track)
    }
}

/// [`Batches`] with burn's error type.
struct BurnBatches<I, O>(Batches<I, O>);

impl<I: Send + 'static, O: Send + 'static> Iterator for BurnBatches<I, O> {
    type Item = Result<O, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|batch| batch.map_err(DatasetError::new))
    }
}

impl<I: Send + 'static, O: Send + 'static> DataLoaderIterator<O> for BurnBatches<I, O> {
    /// In items of the epoch's order, skipped ones included.
    ///
    /// As long as the length of a stream is unknown, the total is one item more than was
    /// taken: the progress is complete when, and not before, the stream has ended.
    fn progress(&self) -> Progress {
        let taken = self.0.items_taken();
        let total = self.0.items_total().unwrap_or(taken + 1);
        let taken = if self.0.is_over() {
            total
        } else {
            taken.min(total)
        };
        Progress::new(taken as usize, total as usize, Some("items".to_string()))
    }
}

impl<I: Send + 'static, O: Send + 'static> DataLoader<O> for Loader<I, O> {
    /// Goes on from the loader's position to the end of the epoch.
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<O> + 'a> {
        Box::new(BurnBatches(self.batches()))
    }

    /// Items that an epoch delivers if none is skipped: the number is asked for before it is
    /// known which ones fail. For a stream of unknown length, those of the last epoch; 0 before
    /// one was read to its end, since burn has no word for "unknown".
    fn num_items(&self) -> usize {
        let total = self.plan.source.len().or(self.track().total);
        let delivered = total.map(|total| self.plan.config.delivered(total));
        delivered.unwrap_or(0) as usize
    }

    /// A loader for another device that moves the same position, with the same workers:
    /// the state of this one is the state of both.
    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<O>> {
        Arc::new(self.on(vec![device.clone()]))
    }

    /// A loader of some of the items, or of a stream's records, with workers and a position of
    /// its own that starts at the beginning of the present epoch.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<O>> {
        let plan = Plan {
            source: self.plan.source.slice(start, end),
            batcher: self.plan.batcher.clone(),
            config: self.plan.config.clone(),
            devices: self.plan.devices.clone(),
        };
        let epoch = self.track().position.epoch;
        Arc::new(Self::at_beginning(plan, epoch))
    }
}
