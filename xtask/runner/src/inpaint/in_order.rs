//! Items of a stream by rising number.

use burn_memopt::chunked::BoxError;
use burn_memopt_datasets::stream::{Records, StreamingDataset};

/// Reads items of a source by their number, which must not fall, with one in memory.
pub struct InOrder<S: StreamingDataset<I>, I> {
    source: S,
    records: Option<Records<S::Record>>,
    /// Number of the next record.
    next: usize,
    last: Option<(usize, I)>,
}

impl<I: Clone, S: StreamingDataset<I>> InOrder<S, I> {
    /// Reads nothing yet.
    pub fn new(source: S) -> Self {
        Self {
            source,
            records: None,
            next: 0,
            last: None,
        }
    }

    /// The item of a number; that of the one before is still at hand.
    ///
    /// # Errors
    /// If it cannot be read, or the source ends before it.
    pub fn get(&mut self, index: usize) -> Result<I, BoxError> {
        if let Some((last, item)) = &self.last
            && *last == index
        {
            return Ok(item.clone());
        }
        let records = match self.records.take() {
            Some(records) if index >= self.next => self.records.insert(records),
            // A run that goes on begins where the one before stopped.
            _ => {
                self.next = index;
                self.records.insert(self.source.records(index as u64)?)
            }
        };
        let Some(record) = records.nth(index - self.next) else {
            self.records = None;
            return Err(
                format!("it ends before frame {index}, with fewer than were counted").into(),
            );
        };
        self.next = index + 1;
        let item = self.source.load(record?)?;
        self.last = Some((index, item.clone()));
        Ok(item)
    }
}
