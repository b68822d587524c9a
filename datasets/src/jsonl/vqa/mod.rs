//! Questions about images.

mod item;
mod record;

use std::{
    io,
    path::{Path, PathBuf},
};

use burn::{
    config::Config,
    data::dataset::{Dataset, DatasetError},
};

use super::{JsonlConfig, JsonlError, JsonlRecord, dataset::JsonlFile, stream::JsonlRecords};
use crate::{
    image_file::{ImageFileError, Pixel},
    lazy::LazyDataset,
    stream::{Records, StreamingDataset},
};

use item::Images;
pub use record::VqaRecord;

/// How questions about images are read.
#[derive(Config, Debug, PartialEq)]
pub struct VqaConfig {
    /// Field with the path of the image. The default is `image`.
    #[config(default = "String::from(\"image\")")]
    pub image_field: String,
    /// Field with the question. The default is `question`.
    #[config(default = "String::from(\"question\")")]
    pub question_field: String,
    /// Field with the answer, or a list of answers; each may be an object with `answer`. `None` if there are none, as in
    /// a test set. The default is `answer`.
    #[config(default = "Some(String::from(\"answer\"))")]
    pub answer_field: Option<String>,
    /// Folder that the paths of images start from. The default is `None`: the folder of
    /// the JSON Lines file.
    pub root: Option<PathBuf>,
    /// Reads images wherever a path leads, absolute ones included. The default is `false`: a path that
    /// leaves the root is an error, so that a data set from elsewhere reads no
    /// other file. Links inside the root are followed either way.
    #[config(default = false)]
    pub allow_outside_root: bool,
    /// Height and width in pixels that every image must have. The default is `None`:
    /// any size.
    pub image_size: Option<[usize; 2]>,
    /// Bytes of the largest decoded image, `3 · height · width` values; a larger one is an error
    /// before it is decoded. The default is `1073741824` (1 GiB).
    #[config(default = 1073741824)]
    pub max_image_bytes: u64,
    /// How the JSON Lines file is read.
    #[config(default = "JsonlConfig::new()")]
    pub jsonl: JsonlConfig,
}

/// A question about an image, its answers, and the image decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct VqaItem<P: Pixel = f32> {
    /// Number of the record, from 0.
    pub record: u64,
    /// The file of the image.
    pub image_path: PathBuf,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Red, then green, then blue, each row by row: `[3, height, width]`.
    pub image: Vec<P>,
    /// The question.
    pub question: String,
    /// The answers; several if people answered differently.
    pub answers: Vec<String>,
}

/// Why a question or its image could not be read. Records are numbered from 0.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum VqaError {
    /// The record itself cannot be read.
    #[error(transparent)]
    Record(#[from] JsonlError),
    /// The path of an image leads out of the root folder.
    #[error("{path}: record {record} names the image {image}, which is outside {root}, the folder that images are read from: give a folder that contains it, or move it there", path = .path.display(), root = .root.display())]
    OutsideRoot {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image as the record names it.
        image: String,
        /// The folder that images must be in.
        root: PathBuf,
    },
    /// An image is not there.
    #[error("{path}: the image {image} of record {record} is missing: add it, or give the folder that paths start from", path = .path.display(), image = .image.display())]
    MissingImage {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image.
        image: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// What is named as an image is no file but a folder or a device.
    #[error("{path}: the image {image} of record {record} is no file", path = .path.display(), image = .image.display())]
    NotAFile {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image.
        image: PathBuf,
    },
    /// An image is damaged.
    #[error("{path}: the image of record {record} cannot be read", path = .path.display())]
    Image {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// What is wrong with which image.
        #[source]
        source: ImageFileError,
    },
    /// An image has another size than all should have.
    #[error("{path}: the image {image} of record {record} is {found_height}×{found_width} pixels (height × width), expected is {height}×{width}: scale it, or expect another size", path = .path.display(), image = .image.display())]
    SizeDiffers {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image.
        image: PathBuf,
        /// Height of the image.
        found_height: usize,
        /// Width of the image.
        found_width: usize,
        /// Height that is expected.
        height: usize,
        /// Width that is expected.
        width: usize,
    },
    /// An image would take more memory than is allowed.
    #[error("{path}: the image {image} of record {record} takes {needed} bytes decoded, {allowed} are allowed: scale it, or allow larger images", path = .path.display(), image = .image.display())]
    TooLarge {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image.
        image: PathBuf,
        /// Bytes that its pixels take.
        needed: u64,
        /// Bytes that are allowed.
        allowed: u64,
    },
}

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

    /// Makes an item of a record.
    ///
    /// # Errors
    /// As [`VqaDataset::item`].
    pub fn item(&self, record: &JsonlRecord) -> Result<VqaItem<P>, VqaError> {
        self.images.load(record)
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
        self.item(&record).map_err(DatasetError::new)
    }

    fn item_bytes(&self, record: &JsonlRecord) -> u64 {
        let text_len = record.text.len() as u64;
        self.images.item_bytes(text_len, || Some(record.clone()))
    }
}

#[cfg(test)]
mod tests;
