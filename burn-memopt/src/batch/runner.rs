use std::fmt;

use burn::tensor::Device;
use serde::Serialize;

use super::{BatchSize, BatchSizeConfig, Failure, HostEstimate};
use crate::budget::{AttemptError, catch_out_of_memory, retry};
use crate::chunked::BoxError;
use crate::memory::{MemoryManager, PeakMeter, PressureConfig, on_host};

/// Why a batch was not run.
const TOO_LARGE: &str = "it is estimated to need more memory than is free";

/// Runs batches, each as large as memory allows, and learns from each how large that is.
///
/// What it learned stays: use one for as long as items are alike.
///
/// # Example
/// ```
/// use burn_memopt::batch::{BatchRunner, BatchSizeConfig};
/// use burn_memopt::chunked::BoxError;
///
/// let mut runner = BatchRunner::new(BatchSizeConfig::default());
/// let run = |items: &[u32]| -> Result<Vec<u32>, BoxError> {
///     match items.len() {
///         1..=4 => Ok(items.to_vec()),
///         _ => Err("can't allocate buffer of size: 64".into()), // as a small device would
///     }
/// };
/// let results = runner.run(&[1, 2, 3, 4, 5, 6, 7], run)?;
/// assert_eq!(results, [1, 2, 3, 4]);
/// assert_eq!(runner.report().failed_sizes, [7]);
/// # Ok::<(), burn_memopt::batch::BatchError>(())
/// ```
pub struct BatchRunner {
    size: BatchSize,
    device: Option<Device>,
    has_room: Box<dyn FnMut() -> bool>,
    fits: Box<dyn FnMut(usize) -> bool>,
    estimate: Option<HostEstimate>,
    report: BatchReport,
}

impl BatchRunner {
    /// Starts with the configured size; every size is tried, and grows after success.
    ///
    /// # Panics
    /// If the sizes of `config` contradict each other.
    pub fn new(config: BatchSizeConfig) -> Self {
        Self {
            size: BatchSize::new(config),
            device: None,
            has_room: Box::new(|| true),
            fits: Box::new(|_| true),
            estimate: None,
            report: BatchReport::default(),
        }
    }

    /// Starts with the configured size on `device`: it gives back what it does not use before a
    /// smaller batch runs, and batches grow while memory is not scarce, by
    /// [`PressureConfig::default`]. If its tensors are in the memory of the host, each size is
    /// estimated before it is run, by [`HostEstimate::default`].
    ///
    /// # Panics
    /// If the sizes of `config` contradict each other.
    pub fn on(config: BatchSizeConfig, device: &Device) -> Self {
        let mut runner = Self::new(config);
        runner.device = Some(device.clone());
        runner.estimate = on_host(device).then(HostEstimate::default);
        runner.with_memory_manager(MemoryManager::new(device, PressureConfig::default()))
    }

    /// Lets batches grow only while memory is not scarce, and gives it back where it is.
    pub fn with_memory_manager(self, mut manager: MemoryManager) -> Self {
        self.with_room(move || !manager.check().is_high)
    }

    /// Asks `has_room` before batches grow: whether memory is not under pressure.
    pub fn with_room(mut self, has_room: impl FnMut() -> bool + 'static) -> Self {
        self.has_room = Box::new(has_room);
        self
    }

    /// Compares each size with the memory of the host that is free before it is run.
    pub fn with_host_estimate(mut self, estimate: HostEstimate) -> Self {
        self.estimate = Some(estimate);
        self
    }

    /// Asks `fits` before a batch of a size runs: whether its estimate fits into the memory that is
    /// free.
    pub fn with_estimate(mut self, fits: impl FnMut(usize) -> bool + 'static) -> Self {
        self.fits = Box::new(fits);
        self
    }

    /// Items that the next batch may have.
    pub fn next_size(&self) -> usize {
        match &self.estimate {
            Some(estimate) if estimate.wants_to_measure() && self.device.is_some() => {
                self.size.floor()
            }
            _ => self.size.get(),
        }
    }

    /// What happened so far.
    pub fn report(&self) -> BatchReport {
        BatchReport {
            final_size: self.size.get(),
            ..self.report.clone()
        }
    }

    /// Runs the first of `items`, as many as [`next_size`](Self::next_size) says, fewer if these do
    /// not fit, and returns their results, one for each item. `run` must read them from the device, so that
    /// lack of memory shows.
    ///
    /// # Errors
    /// If not even the smallest batch fits, or anything else fails.
    ///
    /// # Panics
    /// As `run` does, unless it panics for lack of memory; and if it returns another number of
    /// results than it got items.
    pub fn run<I, O, E: Into<BoxError>>(
        &mut self,
        items: &[I],
        mut run: impl FnMut(&[I]) -> Result<Vec<O>, E>,
    ) -> Result<Vec<O>, BatchError> {
        let run = |count: usize| {
            let results = run(&items[..count])?;
            assert_eq!(
                results.len(),
                count,
                "a batch must have one result for each of its items"
            );
            Ok::<_, E>(results)
        };
        Ok(self.run_first(items.len(), run)?.1)
    }

    /// As [`run`](Self::run), of the first of `num_items` items that `run` knows by their number. Returns
    /// how many ran, and their result.
    pub(crate) fn run_first<O, E: Into<BoxError>>(
        &mut self,
        num_items: usize,
        mut run: impl FnMut(usize) -> Result<O, E>,
    ) -> Result<(usize, O), BatchError> {
        let mut tried = Vec::new();
        let devices: Vec<_> = self.device.iter().cloned().collect();
        retry(
            self,
            &devices,
            |runner| runner.attempt(num_items, &mut run),
            |runner, source| {
                let size = runner.next_size().min(num_items);
                tried.push(size);
                runner.report.failed_sizes.push(size);
                if runner.shrink_below(size) {
                    return Ok(());
                }
                Err(BatchError::OutOfMemory {
                    item: 0,
                    tried: std::mem::take(&mut tried),
                    source,
                })
            },
        )
    }

    fn is_estimated_to_fit(&mut self, size: usize) -> bool {
        let fits = self.estimate.as_mut().is_none_or(|host| host.fits(size));
        fits && (self.fits)(size)
    }

    /// Runs one batch, unless it is estimated not to fit.
    fn attempt<O, E: Into<BoxError>>(
        &mut self,
        num_items: usize,
        run: &mut impl FnMut(usize) -> Result<O, E>,
    ) -> Result<(usize, O), AttemptError<BatchError>> {
        let size = self.next_size().min(num_items);
        if !self.is_estimated_to_fit(size) {
            return Err(AttemptError::OutOfMemory(TOO_LARGE.into()));
        }
        let device = self.device.as_ref().filter(|_| self.estimate.is_some());
        let meter = device.map(PeakMeter::start);
        let result = catch_out_of_memory(|| {
            run(size).map_err(|error| {
                let source = error.into();
                match Failure::of(&*source) {
                    Failure::OutOfMemory { .. } => AttemptError::OutOfMemory(source),
                    Failure::DevicePoisoned => {
                        AttemptError::Failed(BatchError::DevicePoisoned { item: 0, source })
                    }
                    Failure::Other => AttemptError::Failed(BatchError::Failed {
                        item: 0,
                        size,
                        source,
                    }),
                }
            })
        })?;
        if let (Some(estimate), Some(meter)) = (&mut self.estimate, meter) {
            estimate.measured(meter.finish(), size);
        }
        self.succeed(size);
        Ok((size, result))
    }

    fn succeed(&mut self, size: usize) {
        self.report.num_items += size;
        self.report.num_batches += 1;
        self.report.largest_batch = self.report.largest_batch.max(size);
        if size == self.size.get() {
            self.size.succeed((self.has_room)());
        }
    }

    /// Shrinks until the next batch is below `size`, which may itself be the rest of the items.
    fn shrink_below(&mut self, size: usize) -> bool {
        while self.size.shrink() {
            if self.size.get() < size {
                return true;
            }
        }
        false
    }
}

/// What happened while items were run in batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BatchReport {
    /// Items whose results are there.
    pub num_items: usize,
    /// Batches that succeeded.
    pub num_batches: usize,
    /// Sizes that did not fit, in the order in which they were tried.
    pub failed_sizes: Vec<usize>,
    /// Largest batch that succeeded.
    pub largest_batch: usize,
    /// Size that the next batch would have.
    pub final_size: usize,
}

impl fmt::Display for BatchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} items in {} batches of up to {}",
            self.num_items, self.num_batches, self.largest_batch
        )?;
        match self.failed_sizes.as_slice() {
            [] => Ok(()),
            sizes => write!(f, "; too large were {}", list(sizes)),
        }
    }
}

/// Numbers with commas between them.
pub(crate) fn list(sizes: &[usize]) -> String {
    let sizes: Vec<_> = sizes.iter().map(ToString::to_string).collect();
    sizes.join(", ")
}

/// Why items could not all be run. Results that were returned before stay good.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum BatchError {
    /// Not even the smallest batch fits.
    #[error(
        "memory does not suffice from item {item} on, for batches of {}: make the items smaller or \
         free memory",
        list(tried)
    )]
    OutOfMemory {
        /// First item of the batch that failed.
        item: usize,
        /// Sizes that did not fit, in the order in which they were tried.
        tried: Vec<usize>,
        /// How the last one failed.
        #[source]
        source: BoxError,
    },
    /// The device is lost: the process has to be started again.
    #[error("the device is lost at item {item}: start again from there in a new process")]
    DevicePoisoned {
        /// First item of the batch that failed.
        item: usize,
        /// What the device returned.
        #[source]
        source: BoxError,
    },
    /// A batch failed for another reason than memory.
    #[error("the batch of {size} items from item {item} on failed")]
    Failed {
        /// First item of the batch that failed.
        item: usize,
        /// Items of the batch.
        size: usize,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
}

impl BatchError {
    /// The same of items that come after `num_items` others.
    pub(super) fn after(mut self, num_items: usize) -> Self {
        let (Self::OutOfMemory { item, .. }
        | Self::DevicePoisoned { item, .. }
        | Self::Failed { item, .. }) = &mut self;
        *item += num_items;
        self
    }
}
