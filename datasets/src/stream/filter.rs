use std::sync::Arc;

use burn::data::dataset::DatasetError;

use super::{Records, StreamingDataset};

/// See [`StreamingDatasetExt::filter`](super::StreamingDatasetExt::filter).
#[derive(Debug)]
pub struct Filter<S, P> {
    stream: S,
    keep: Arc<P>,
}

impl<S, P> Filter<S, P> {
    pub(super) fn new(stream: S, keep: P) -> Self {
        Self {
            stream,
            keep: Arc::new(keep),
        }
    }
}

impl<I, S, P> StreamingDataset<I> for Filter<S, P>
where
    S: StreamingDataset<I>,
    P: Fn(&S::Record) -> bool + Send + Sync + 'static,
{
    type Record = S::Record;

    fn records(&self, start: u64) -> Result<Records<S::Record>, DatasetError> {
        let keep = self.keep.clone();
        let mut left = start;
        let kept = self.stream.records(0)?.filter(move |record| {
            let kept = record.as_ref().map_or(true, |record| keep(record));
            let before = kept && left > 0;
            left -= u64::from(before);
            kept && !before
        });
        Ok(Box::new(kept))
    }

    fn load(&self, record: S::Record) -> Result<I, DatasetError> {
        self.stream.load(record)
    }

    fn item_bytes(&self, record: &S::Record) -> u64 {
        self.stream.item_bytes(record)
    }
}
