use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::Device;

use super::{BatchError, BatchReport, BatchSize, BatchSizeConfig, Failure};
use crate::chunked::BoxError;

/// The results of a function on items, which run in batches as large as memory allows.
///
/// An iterator over results in the order of the items. When memory runs out, the same items run
/// again in two halves: none is read twice, none is lost. It ends after an error.
///
/// # Panics
/// As the function does, unless it panics for lack of memory; and if it answers another number of
/// results than it was given items.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::batch::{AdaptiveBatches, BatchSizeConfig};
/// use burn_memopt::chunked::BoxError;
///
/// let device = Device::flex();
/// let frames = (0..10).map(|number| Tensor::<1>::full([4], number as f32, &device));
/// let sum = |frames: &[Tensor<1>]| -> Result<Vec<f32>, BoxError> {
///     if frames.len() > 3 {
///         return Err("can't allocate buffer of size: 64".into()); // as a small device would
///     }
///     let sums = Tensor::stack::<2>(frames.to_vec(), 0).sum_dim(1).try_into_data()?;
///     Ok(sums.iter::<f32>().collect())
/// };
/// let mut batches = AdaptiveBatches::new(BatchSizeConfig::default(), frames, sum);
/// let sums: Vec<f32> = batches.by_ref().collect::<Result<_, _>>()?;
/// assert_eq!(sums[9], 36.0);
/// assert_eq!(batches.report().failed_sizes, [8, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AdaptiveBatches<S: Iterator, O, F> {
    items: S,
    run: F,
    size: BatchSize,
    device: Option<Device>,
    has_room: Box<dyn FnMut() -> bool>,
    fits: Box<dyn FnMut(usize) -> bool>,
    /// Items that were read and not yet run.
    waiting: Vec<S::Item>,
    results: VecDeque<O>,
    report: BatchReport,
    is_over: bool,
}

impl<S, O, E, F> AdaptiveBatches<S, O, F>
where
    S: Iterator,
    E: Into<BoxError>,
    F: FnMut(&[S::Item]) -> Result<Vec<O>, E>,
{
    /// Runs `run` on batches of `items`. It must read its results from the device, so that
    /// lack of memory shows.
    ///
    /// # Panics
    /// If the sizes of `config` contradict each other.
    pub fn new(
        config: BatchSizeConfig,
        items: impl IntoIterator<IntoIter = S, Item = S::Item>,
        run: F,
    ) -> Self {
        Self {
            items: items.into_iter(),
            run,
            size: BatchSize::new(config),
            device: None,
            has_room: Box::new(|| true),
            fits: Box::new(|_| true),
            waiting: Vec::new(),
            results: VecDeque::new(),
            report: BatchReport::default(),
            is_over: false,
        }
    }

    /// Has this device give back what it does not use before a smaller batch runs.
    pub fn with_device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Asks `has_room` before batches grow: whether memory is not under pressure. The default is
    /// that it is not.
    pub fn with_room(mut self, has_room: impl FnMut() -> bool + 'static) -> Self {
        self.has_room = Box::new(has_room);
        self
    }

    /// Asks `fits` before a batch of a size runs: whether its estimate fits into the memory that is
    /// free. On the host nothing else can be done, as the system ends a process that takes too
    /// much. The default is that every size fits.
    pub fn with_estimate(mut self, fits: impl FnMut(usize) -> bool + 'static) -> Self {
        self.fits = Box::new(fits);
        self
    }

    /// What happened so far.
    pub fn report(&self) -> BatchReport {
        BatchReport {
            final_size: self.size.get(),
            ..self.report.clone()
        }
    }

    /// Runs the next batch, smaller ones if it does not fit.
    fn advance(&mut self) -> Result<(), BatchError> {
        let mut tried = Vec::new();
        loop {
            let missing = self.size.get().saturating_sub(self.waiting.len());
            self.waiting.extend(self.items.by_ref().take(missing));
            let size = self.size.get().min(self.waiting.len());
            if size == 0 {
                self.is_over = true;
                return Ok(());
            }
            let item = self.report.num_items;
            if (self.fits)(size) && self.run_batch(size)? {
                return Ok(());
            }
            if let Some(device) = &self.device {
                device.memory_cleanup();
            }
            tried.push(size);
            self.report.failed_sizes.push(size);
            if !self.shrink_below(size) {
                self.is_over = true;
                return Err(BatchError::OutOfMemory { item, tried });
            }
        }
    }

    /// Runs `size` waiting items; answers whether memory sufficed.
    fn run_batch(&mut self, size: usize) -> Result<bool, BatchError> {
        let (run, batch) = (&mut self.run, &self.waiting[..size]);
        let ended = catch_unwind(AssertUnwindSafe(|| run(batch)));
        let item = self.report.num_items;
        match ended {
            Ok(Ok(results)) => {
                let num_results = results.len();
                assert_eq!(
                    num_results, size,
                    "a batch must have one result for each of its items"
                );
                self.waiting.drain(..size);
                self.results.extend(results);
                self.report.num_items += size;
                self.report.num_batches += 1;
                self.report.largest_batch = self.report.largest_batch.max(size);
                if size == self.size.get() {
                    self.size.succeed((self.has_room)());
                }
                Ok(true)
            }
            Ok(Err(error)) => {
                let source = error.into();
                let failure = Failure::of(&*source);
                self.is_over = !failure.is_out_of_memory();
                match failure {
                    Failure::OutOfMemory { .. } => Ok(false),
                    Failure::DevicePoisoned => Err(BatchError::DevicePoisoned { item, source }),
                    Failure::Other => Err(BatchError::Failed { item, size, source }),
                }
            }
            Err(panic) if Failure::of_panic(&*panic).is_out_of_memory() => Ok(false),
            Err(panic) => resume_unwind(panic),
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

impl<S, O, E, F> Iterator for AdaptiveBatches<S, O, F>
where
    S: Iterator,
    E: Into<BoxError>,
    F: FnMut(&[S::Item]) -> Result<Vec<O>, E>,
{
    type Item = Result<O, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.results.is_empty()
            && !self.is_over
            && let Err(error) = self.advance()
        {
            return Some(Err(error));
        }
        self.results.pop_front().map(Ok)
    }
}
