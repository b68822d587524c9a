//! Questions from front to back, of plain and of compressed files.

use std::path::{Path, PathBuf};

use burn::data::dataset::DatasetError;

use super::{VqaConfig, VqaError, VqaItem, images::Images};
use crate::{
    jsonl::{JsonlRecord, stream::JsonlRecords},
    pixel::Pixel,
    stream::{Records, StreamingDataset},
};

/// Questions about images from front to back, without an index; gzip too.
///
/// The records are read as by [`JsonlStream`](crate::jsonl::JsonlStream), their images as by
/// [`VqaDataset`](super::VqaDataset): by [`load`](StreamingDataset::load), which any number of threads do at
/// once.
#[derive(Debug)]
pub struct VqaStream<P: Pixel = f32> {
    path: PathBuf,
    max_line_len: usize,
    images: Images<P>,
}

impl<P: Pixel> VqaStream<P> {
    /// Names a file of questions, and checks that it can be opened.
    ///
    /// # Errors
    /// If it cannot.
    pub fn open(path: impl AsRef<Path>, config: &VqaConfig) -> Result<Self, VqaError> {
        let (path, max_line_len) = (path.as_ref(), config.jsonl.max_line_len);
        JsonlRecords::open(path, max_line_len, 0)?;
        Ok(Self {
            path: path.into(),
            max_line_len,
            images: Images::new(path, config),
        })
    }
}

impl<P: Pixel> StreamingDataset<VqaItem<P>> for VqaStream<P> {
    type Record = JsonlRecord;

    fn records(&self, start: u64) -> Result<Records<JsonlRecord>, DatasetError> {
        JsonlRecords::open(&self.path, self.max_line_len, start)
            .map(JsonlRecords::boxed)
            .map_err(DatasetError::new)
    }

    fn load(&self, record: JsonlRecord) -> Result<VqaItem<P>, DatasetError> {
        self.images.load(&record).map_err(DatasetError::new)
    }

    fn item_bytes(&self, record: &JsonlRecord) -> u64 {
        let text_len = record.text.len() as u64;
        self.images.item_bytes(text_len, || Some(record.clone()))
    }
}
