//! Any record of a file, found by an index and parsed when it is asked for.

use std::{
    io::BufReader,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use burn::{
    config::Config,
    data::dataset::{Dataset, DatasetError},
};
use burn_memopt::files::FileStamp;
use serde::de::DeserializeOwned;

use super::{
    JsonlError,
    index::{self, JsonlIndex},
    lines::JsonlRecord,
};
use crate::{lazy::LazyDataset, shared_file::SharedFile};

/// Bytes that are read at a time.
pub(super) const CHUNK_LEN: usize = 64 << 10;

/// How a JSON Lines file is read.
#[derive(Config, Debug, PartialEq)]
pub struct JsonlConfig {
    /// Bytes of the longest line that is read; a longer one is an error when its record is asked
    /// for. Reading a record takes at most twice as much memory. The default is
    /// `16777216` (16 MiB).
    #[config(default = 16777216)]
    pub max_line_len: usize,
    /// Offsets that an index keeps at most, of eight bytes each. Beyond as many
    /// records, only every second is kept, or fourth, and so on. The default is `1048576`,
    /// which is 8 MiB.
    #[config(default = 1048576)]
    pub max_offsets: usize,
    /// Where the index is saved, and found again when the same file is opened later,
    /// which then takes no time. It is used only if length and modification
    /// time of the text are those it was made of, and is replaced if not. A text
    /// that is changed within the clock's resolution and keeps its length goes
    /// unnoticed. The default is `None`: the file is read once whenever it is opened.
    pub saved_index: Option<PathBuf>,
}

/// An open file of records, shared by any number of threads.
#[derive(Debug)]
pub(super) struct JsonlFile {
    path: PathBuf,
    file: SharedFile,
    index: JsonlIndex,
    max_line_len: usize,
}

impl JsonlFile {
    pub(super) fn open(path: &Path, config: &JsonlConfig) -> Result<Self, JsonlError> {
        let failed = |source| JsonlError::open(path, source);
        let file = SharedFile::open(path).map_err(failed)?;
        let metadata = file.file().and_then(|file| file.metadata().ok());
        let stamp = metadata.and_then(|metadata| FileStamp::from_metadata(&metadata).ok());
        let saved = config.saved_index.as_deref().zip(stamp);
        let found = saved.and_then(|(path, stamp)| index::load(path, stamp, config.max_offsets));
        let index = match found {
            Some(index) => index,
            None => {
                let text = BufReader::with_capacity(CHUNK_LEN, file.span(0..file.len()));
                let index = JsonlIndex::build(text, config.max_offsets).map_err(failed)?;
                if let Some((path, stamp)) = saved {
                    index::save(path, stamp, &index).map_err(|source| JsonlError::SaveIndex {
                        path: path.into(),
                        source,
                    })?;
                }
                index
            }
        };
        Ok(Self {
            path: path.into(),
            file,
            index,
            max_line_len: config.max_line_len,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn index(&self) -> &JsonlIndex {
        &self.index
    }

    /// Records of the file, as far as this machine can count items.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.index.num_records()).unwrap_or(usize::MAX)
    }

    /// Reads a record; takes no lock.
    pub(super) fn record(&self, index: usize) -> Result<JsonlRecord, JsonlError> {
        let number = index as u64;
        let mut offset = 0;
        let line = self.index.read(number, self.max_line_len, |range| {
            offset = range.start;
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            BufReader::with_capacity(len.min(CHUNK_LEN), self.file.span(range))
        });
        match line {
            Ok(Some(line)) => JsonlRecord::new(&self.path, number, line, self.max_line_len),
            Ok(None) => Err(JsonlError::Changed {
                path: self.path.clone(),
                record: number,
                offset,
            }),
            Err(source) => Err(JsonlError::Read {
                path: self.path.clone(),
                record: number,
                offset,
                source,
            }),
        }
    }
}

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
