use std::borrow::BorrowMut;
use std::collections::VecDeque;

use super::{BatchError, BatchReport, BatchRunner};
use crate::chunked::BoxError;

/// The results of a function on items, which run in batches as large as memory allows.
///
/// An iterator over results in the order of the items. When memory runs out, the same items run
/// again in two halves: none is read twice, none is lost. It ends after an error.
///
/// # Panics
/// As the function does, unless it panics for lack of memory; and if it returns another number of
/// results than it was given items.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::batch::{AdaptiveBatches, BatchRunner, BatchSizeConfig};
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
/// let runner = BatchRunner::new(BatchSizeConfig::default());
/// let mut batches = AdaptiveBatches::new(runner, frames, sum);
/// let sums: Vec<f32> = batches.by_ref().collect::<Result<_, _>>()?;
/// assert_eq!(sums[9], 36.0);
/// assert_eq!(batches.report().failed_sizes, [8, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AdaptiveBatches<R, S: Iterator, O, F> {
    runner: R,
    items: S,
    run: F,
    /// Items that were read and not yet run.
    waiting: Vec<S::Item>,
    results: VecDeque<O>,
    num_done: usize,
    is_over: bool,
}

impl<R, S, O, E, F> AdaptiveBatches<R, S, O, F>
where
    R: BorrowMut<BatchRunner>,
    S: Iterator,
    E: Into<BoxError>,
    F: FnMut(&[S::Item]) -> Result<Vec<O>, E>,
{
    /// Runs `run` on batches of `items`. It must read its results from the device, so that
    /// lack of memory shows.
    ///
    /// A runner that is lent keeps what it learned for other items.
    pub fn new(runner: R, items: impl IntoIterator<IntoIter = S, Item = S::Item>, run: F) -> Self {
        Self {
            runner,
            items: items.into_iter(),
            run,
            waiting: Vec::new(),
            results: VecDeque::new(),
            num_done: 0,
            is_over: false,
        }
    }

    /// What happened so far, in earlier runs of the same runner too.
    pub fn report(&self) -> BatchReport {
        self.runner.borrow().report()
    }

    /// Runs the next batch.
    fn advance(&mut self) -> Result<(), BatchError> {
        let runner = self.runner.borrow_mut();
        let missing = runner.next_size().saturating_sub(self.waiting.len());
        self.waiting.extend(self.items.by_ref().take(missing));
        if self.waiting.is_empty() {
            self.is_over = true;
            return Ok(());
        }
        let ended = runner.run(&self.waiting, &mut self.run);
        self.is_over = ended.is_err();
        let results = ended.map_err(|error| error.after(self.num_done))?;
        self.waiting.drain(..results.len());
        self.num_done += results.len();
        self.results.extend(results);
        Ok(())
    }
}

impl<R, S, O, E, F> Iterator for AdaptiveBatches<R, S, O, F>
where
    R: BorrowMut<BatchRunner>,
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
