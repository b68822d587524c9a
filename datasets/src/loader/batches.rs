//! The batches of one epoch, made on demand or by a background thread.

use std::{
    any::Any,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
};

use burn::prelude::*;

use super::{Source, error::LoaderError, position::Position};
use crate::shuffle::{epoch_order, mix};

/// The batches from a loader's position to the end of its epoch.
///
/// Dropping it early is no loss: batches that were not taken come again.
pub struct Batches<O> {
    makers: Makers<O>,
    /// The loader's position, moved whenever a batch is taken.
    shared: Arc<Mutex<Position>>,
    start: Position,
    taken: usize,
    epoch_len: usize,
    batch_size: usize,
    failed: bool,
}

/// Who makes the batches.
enum Makers<O> {
    /// The consumer, when it asks.
    Here(Box<dyn FnMut(Range<usize>) -> Result<O, LoaderError> + Send>),
    /// A thread, ahead of the consumer.
    Ahead(Receiver<Result<O, LoaderError>>),
    /// Nobody: the thread did not start.
    Nobody(Option<std::io::Error>),
}

impl<O: Send + 'static> Batches<O> {
    pub(super) fn start<I: Send + 'static>(
        source: &Arc<Source<I, O>>,
        device: &Device,
        shared: &Arc<Mutex<Position>>,
    ) -> Self {
        let start = *shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (epoch_len, batch_size) = (source.epoch_len(), source.config.batch_size);
        let epoch = Epoch::new(source.clone(), device.clone(), start.epoch);
        let makers = match source.config.prefetch {
            0 => Makers::Here(Box::new(move |range| epoch.batch(range))),
            prefetch => prepare(epoch, start.next_item, epoch_len, prefetch),
        };
        Self {
            makers,
            shared: shared.clone(),
            start,
            taken: start.next_item,
            epoch_len,
            batch_size,
            failed: false,
        }
    }
}

impl<O> Batches<O> {
    /// Items of the epoch that were taken, those of an interrupted run included.
    pub fn items_taken(&self) -> usize {
        self.taken
    }

    /// Items of the whole epoch.
    pub fn items_total(&self) -> usize {
        self.epoch_len
    }

    /// The epoch, from 0.
    pub fn epoch(&self) -> u64 {
        self.start.epoch
    }
}

impl<O> Iterator for Batches<O> {
    type Item = Result<O, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.taken >= self.epoch_len {
            return None;
        }
        let end = self.epoch_len.min(self.taken + self.batch_size);
        let lost = LoaderError::ThreadLost {
            epoch: self.start.epoch,
        };
        let batch = match &mut self.makers {
            Makers::Here(make) => make(self.taken..end),
            Makers::Ahead(receiver) => receiver.recv().unwrap_or(Err(lost)),
            Makers::Nobody(error) => Err(error.take().map_or(lost, LoaderError::Thread)),
        };
        match &batch {
            Ok(_) => {
                self.taken = end;
                *self.shared.lock().unwrap_or_else(PoisonError::into_inner) =
                    self.start.after(end, self.epoch_len);
            }
            Err(_) => self.failed = true,
        }
        Some(batch)
    }
}

/// Starts a thread that is at most `prefetch` batches ahead.
///
/// It ends with the epoch, after an error, or when the consumer goes away: then
/// nobody receives, and sending fails.
fn prepare<I: Send + 'static, O: Send + 'static>(
    epoch: Epoch<I, O>,
    start: usize,
    end: usize,
    prefetch: usize,
) -> Makers<O> {
    // The thread holds one more batch, the one that it is trying to send.
    let (sender, receiver) = sync_channel(prefetch - 1);
    let batch_size = epoch.source.config.batch_size;
    let run = move || {
        for first in (start..end).step_by(batch_size) {
            let batch = epoch.batch(first..end.min(first + batch_size));
            let failed = batch.is_err();
            if sender.send(batch).is_err() || failed {
                break;
            }
        }
    };
    let thread = thread::Builder::new().name("loader".into()).spawn(run);
    match thread {
        Ok(_) => Makers::Ahead(receiver),
        Err(error) => Makers::Nobody(Some(error)),
    }
}

/// One epoch's order, and what is needed to follow it.
struct Epoch<I, O> {
    source: Arc<Source<I, O>>,
    device: Device,
    number: u64,
    order: Vec<usize>,
}

impl<I, O> Epoch<I, O> {
    fn new(source: Arc<Source<I, O>>, device: Device, number: u64) -> Self {
        let order = epoch_order(source.config.shuffle, number, source.dataset.len());
        Self {
            source,
            device,
            number,
            order,
        }
    }

    /// Loads and batches the items at `positions` of the order.
    fn batch(&self, positions: Range<usize>) -> Result<O, LoaderError> {
        let items: Vec<I> = positions
            .clone()
            .map(|position| self.item(position))
            .collect::<Result<_, _>>()?;
        let indices = &self.order[positions];
        let epoch_seed = mix(self.source.config.shuffle.unwrap_or(0), self.number);
        let seeds: Vec<u64> = indices
            .iter()
            .map(|&index| mix(epoch_seed, index as u64))
            .collect();
        catch_unwind(AssertUnwindSafe(|| {
            self.source.batcher.batch(items, &seeds, &self.device)
        }))
        .map_err(|panic| LoaderError::BatchPanicked {
            indices: indices.to_vec(),
            epoch: self.number,
            message: message(panic),
        })
    }

    fn item(&self, position: usize) -> Result<I, LoaderError> {
        let (index, epoch) = (self.order[position], self.number);
        let dataset = &self.source.dataset;
        match catch_unwind(AssertUnwindSafe(|| dataset.get(index))) {
            Ok(Ok(item)) => Ok(item),
            Ok(Err(source)) => Err(LoaderError::Item {
                index,
                position,
                epoch,
                source,
            }),
            Err(panic) => Err(LoaderError::ItemPanicked {
                index,
                position,
                epoch,
                message: message(panic),
            }),
        }
    }
}

/// What a panic said.
fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
