//! Any record of a file, parsed when it is asked for.

use std::{marker::PhantomData, path::Path};

use burn::data::dataset::{Dataset, DatasetError};
use serde::de::DeserializeOwned;

use super::{
    error::JsonlError,
    file::{JsonlConfig, JsonlFile},
    index::JsonlIndex,
};
use crate::lazy::LazyDataset;

/// Records of a JSON Lines file, each read and parsed when it is asked for.
///
/// In memory is only the index: eight bytes a record, and never more than 8 MiB unless
/// the [configuration](JsonlConfig) says so. Opening reads the file once; with a
/// saved index, only the first time. Threads read side by side without a lock.
///
/// A record that is damaged is an error when it is asked for, which names path, record and
/// byte; the others are not concerned.
///
/// # Example
/// ```
/// use burn::data::dataset::Dataset;
/// use burn_memopt_datasets::jsonl::JsonlDataset;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("pairs.jsonl");
/// std::fs::write(&path, "{\"text\": \"one\", \"label\": 1}\n{\"text\": \"two\", \"label\": 2}")?;
///
/// #[derive(serde::Deserialize)]
/// struct Pair { text: String, label: u8 }
///
/// let pairs = JsonlDataset::<Pair>::open(&path)?;
/// assert_eq!(pairs.len(), 2);
/// let last = pairs.get(1)?;
/// assert_eq!((last.text.as_str(), last.label), ("two", 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct JsonlDataset<T> {
    file: JsonlFile,
    made: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonlDataset<T> {
    /// Opens a file with the defaults.
    ///
    /// # Errors
    /// If the file cannot be opened or read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JsonlError> {
        Self::open_with(path, &JsonlConfig::new())
    }

    /// Opens a file as `config` says.
    ///
    /// # Errors
    /// If the file cannot be opened or read, or its index cannot be saved.
    ///
    /// # Panics
    /// If `max_offsets` is zero.
    pub fn open_with(path: impl AsRef<Path>, config: &JsonlConfig) -> Result<Self, JsonlError> {
        Ok(Self {
            file: JsonlFile::open(path.as_ref(), config)?,
            made: PhantomData,
        })
    }

    /// Where the records begin.
    pub fn index(&self) -> &JsonlIndex {
        self.file.index()
    }

    /// Reads and parses item `index`.
    ///
    /// # Errors
    /// If it cannot be read, is longer than the limit, no UTF-8, no JSON or not a `T`.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn item(&self, index: usize) -> Result<T, JsonlError> {
        self.file.record(index)?.parse(self.file.path())
    }
}

impl<T: DeserializeOwned> Dataset<T> for JsonlDataset<T> {
    fn get(&self, index: usize) -> Result<T, DatasetError> {
        self.item(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.file.len()
    }
}

/// Items cost what their text takes, and their own fields.
impl<T: DeserializeOwned> LazyDataset<T> for JsonlDataset<T> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.file.index().record_len(index as u64) + size_of::<T>() as u64
    }
}
