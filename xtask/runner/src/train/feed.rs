//! Where a run's micro-batches come from.

use anyhow::Result;
use burn::tensor::Device;
use burn_memopt_datasets::loader::{Batches, Loader, LoaderState};

use super::job::Job;

/// The batches of a loader, one epoch after the other.
pub struct Feed<J: Job> {
    /// Makes the batches.
    pub loader: Loader<J::Item, J::Batch>,
    batch_size: usize,
    device: Device,
    batches: Option<Batches<J::Batch>>,
}

impl<J: Job> Feed<J> {
    /// Batches of `batch_size` items from the beginning of the data.
    ///
    /// # Errors
    /// If there is no batch.
    pub fn new(job: &J, data: &J::Data, batch_size: usize, device: &Device) -> Result<Self> {
        Ok(Self {
            loader: job.loader(data, batch_size, device)?,
            batch_size,
            device: device.clone(),
            batches: None,
        })
    }

    /// Goes on from `state` in batches of `batch_size`, whatever size they had: items come in the
    /// same order.
    ///
    /// # Errors
    /// If the state is of other data.
    pub fn go_on(
        &mut self,
        job: &J,
        data: &J::Data,
        batch_size: usize,
        state: &LoaderState,
    ) -> Result<()> {
        self.batches = None;
        if batch_size != self.batch_size {
            self.loader = job.loader(data, batch_size, &self.device)?;
            self.batch_size = batch_size;
        }
        let state = LoaderState {
            batch_size,
            ..state.clone()
        };
        Ok(self.loader.resume(&state)?)
    }

    /// Items in a batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Hands up to `num_batches` batches to `run`, and answers how many items were in them. They
    /// end with their epoch; the first may begin one.
    ///
    /// # Errors
    /// If a batch cannot be loaded.
    pub fn each(&mut self, num_batches: usize, mut run: impl FnMut(J::Batch)) -> Result<u64> {
        let mut items = 0;
        for number in 0..num_batches {
            let Some(batch) = self.next(number == 0)? else {
                break;
            };
            items += J::num_items(&batch) as u64;
            run(batch);
        }
        Ok(items)
    }

    /// The next batch of this epoch; after its end `None`, or the first of the next.
    fn next(&mut self, may_begin_epoch: bool) -> Result<Option<J::Batch>> {
        if let Some(batch) = self.batches.as_mut().and_then(Iterator::next) {
            return Ok(Some(batch?));
        }
        if !may_begin_epoch {
            return Ok(None);
        }
        let batches = self.batches.insert(self.loader.batches());
        Ok(batches.next().transpose()?)
    }
}
