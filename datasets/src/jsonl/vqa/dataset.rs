//! Any question of a file, with its image.

use std::path::Path;

use burn::data::dataset::{Dataset, DatasetError};

use super::{VqaConfig, VqaError, VqaItem, VqaRecord, images::Images};
use crate::{jsonl::file::JsonlFile, lazy::LazyDataset, pixel::Pixel};

/// Questions about images in a JSON Lines file; records are read and images decoded when they are
/// asked for.
///
/// A record is an object with the path of an image, a question and an answer or a
/// list of answers, under names that [`VqaConfig`] may change. Other fields are
/// passed over. Paths start from the folder of the file, or from a root, and may not
/// leave it unless the configuration allows it.
///
/// In memory is the index of the file, as for [`JsonlDataset`](crate::jsonl::JsonlDataset). An
/// item is its text and one decoded image, `3 · height · width` values of four bytes; of one
/// byte with `P = u8`.
///
/// # Example
/// ```
/// use burn_memopt_datasets::{jsonl::{VqaConfig, VqaDataset}, synthetic::vqa::VqaSetConfig};
///
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// let file = VqaSetConfig::new(3).with_size([8, 12]).write(folder)?;
/// let questions = VqaDataset::<u8>::open(file, &VqaConfig::new())?;
/// let item = questions.item(2)?;
/// assert_eq!(item.image.len(), 3 * 8 * 12);
/// assert_eq!(item.question, "What colour is the square?");
/// assert_eq!(item.answers.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct VqaDataset<P: Pixel = f32> {
    file: JsonlFile,
    images: Images<P>,
}

impl<P: Pixel> VqaDataset<P> {
    /// Opens a file of questions; no image is looked at.
    ///
    /// # Errors
    /// If the file cannot be opened or read, or its index cannot be saved.
    ///
    /// # Panics
    /// If `max_offsets` is zero.
    pub fn open(path: impl AsRef<Path>, config: &VqaConfig) -> Result<Self, VqaError> {
        let path = path.as_ref();
        Ok(Self {
            file: JsonlFile::open(path, &config.jsonl)?,
            images: Images::new(path, config),
        })
    }

    /// The text of item `index`, without its image.
    ///
    /// # Errors
    /// If the record cannot be read, or lacks a field.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn record(&self, index: usize) -> Result<VqaRecord, VqaError> {
        self.images.parse(&self.file.record(index)?)
    }

    /// Reads item `index` and decodes its image.
    ///
    /// # Errors
    /// If the record cannot be read or lacks a field, or its image is missing, outside
    /// the root, damaged, too large or of another size than is expected.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn item(&self, index: usize) -> Result<VqaItem<P>, VqaError> {
        self.images.load(&self.file.record(index)?)
    }
}

impl<P: Pixel> Dataset<VqaItem<P>> for VqaDataset<P> {
    fn get(&self, index: usize) -> Result<VqaItem<P>, DatasetError> {
        self.item(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.file.len()
    }
}

/// With an `image_size`, from the index alone; else from the header of the image.
impl<P: Pixel> LazyDataset<VqaItem<P>> for VqaDataset<P> {
    fn item_bytes(&self, index: usize) -> u64 {
        let text_len = self.file.index().record_len(index as u64);
        self.images
            .item_bytes(text_len, || self.file.record(index).ok())
    }
}
