use burn::data::dataset::DatasetError;

use super::{Records, StreamingDataset};

/// See [`StreamingDatasetExt::shard`](super::StreamingDatasetExt::shard).
#[derive(Clone, Debug)]
pub struct Shard<S> {
    stream: S,
    index: u64,
    count: u64,
}

impl<S> Shard<S> {
    pub(super) fn new(stream: S, index: u64, count: u64) -> Self {
        assert!(
            index < count,
            "index must be below count, got {index} of {count}"
        );
        Self {
            stream,
            index,
            count,
        }
    }

    /// The number in the whole stream of a record of this part.
    ///
    /// # Panics
    /// If it is above `u64::MAX`, where no stream has records.
    pub fn whole_number(&self, record: u64) -> u64 {
        self.checked_number(record)
            .expect("the record must be one of the stream's")
    }

    fn checked_number(&self, record: u64) -> Option<u64> {
        record.checked_mul(self.count)?.checked_add(self.index)
    }
}

impl<I, S: StreamingDataset<I>> StreamingDataset<I> for Shard<S> {
    type Record = S::Record;

    fn records(&self, start: u64) -> Result<Records<S::Record>, DatasetError> {
        let Some(number) = self.checked_number(start) else {
            return Ok(Box::new(std::iter::empty()));
        };
        // From behind the one before on: the stream may end with an error in between.
        let first = number.saturating_sub(self.count - 1);
        let first = if start == 0 { 0 } else { first };
        Ok(Box::new(Every {
            records: self.stream.records(first)?,
            count: self.count,
            others: number - first,
        }))
    }

    fn load(&self, record: S::Record) -> Result<I, DatasetError> {
        self.stream.load(record)
    }

    fn item_bytes(&self, record: &S::Record) -> u64 {
        self.stream.item_bytes(record)
    }

    fn num_records(&self) -> Option<u64> {
        let records = self.stream.num_records()?;
        Some(records.saturating_sub(self.index).div_ceil(self.count))
    }
}

/// One of every `count` records.
struct Every<R> {
    records: Records<R>,
    count: u64,
    /// Records of other parts to read before the next of this one.
    others: u64,
}

impl<R> Iterator for Every<R> {
    type Item = Result<R, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        // A stream may end with an error because it cannot go on. Each part says so, not
        // only the one that the record belongs to; the others would seem complete.
        let mut last_error = None;
        while self.others > 0 {
            match self.records.next() {
                Some(record) => last_error = record.err(),
                None => {
                    self.others = 0;
                    return last_error.map(Err);
                }
            }
            self.others -= 1;
        }
        match self.records.next() {
            Some(record) => {
                self.others = self.count - 1;
                Some(record)
            }
            None => last_error.map(Err),
        }
    }
}
