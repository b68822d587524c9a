//! Records from front to back, of plain and of compressed files.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    marker::PhantomData,
    path::{Path, PathBuf},
};

use burn::data::dataset::DatasetError;
use flate2::bufread::MultiGzDecoder;
use serde::de::DeserializeOwned;

use super::{
    JsonlError,
    dataset::{CHUNK_LEN, JsonlConfig},
    lines::{JsonlRecord, LinesFromStart},
};
use crate::stream::{Records, StreamingDataset};

/// The first bytes of every gzip file.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Records of a JSON Lines file from front to back, without an index; gzip too.
///
/// In memory is one line at a time. A gzip file is known by its first bytes, whatever its name,
/// and may have several members. Records are parsed by
/// [`load`](StreamingDataset::load), which any number of threads do at once.
///
/// Reading from record `start` on reads what comes before it too, and
/// decompresses it, but parses none of it.
///
/// # Example
/// ```
/// use burn_memopt_datasets::{jsonl::JsonlStream, stream::StreamingDataset};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("numbers.jsonl");
/// std::fs::write(&path, "1\n2\n3\n")?;
/// let numbers = JsonlStream::<u32>::open(&path)?;
/// let from_second = numbers.records(1)?.map(|record| numbers.load(record?));
/// assert_eq!(from_second.collect::<Result<Vec<_>, _>>()?, [2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct JsonlStream<T> {
    path: PathBuf,
    max_line_len: usize,
    made: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonlStream<T> {
    /// Names a file with the defaults, and checks that it can be opened.
    ///
    /// # Errors
    /// If it cannot.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, JsonlError> {
        Self::open_with(path, &JsonlConfig::new())
    }

    /// Names a file whose lines have at most `max_line_len` bytes, and checks that it can be
    /// opened. There is no index, so the rest of `config` is not used.
    ///
    /// # Errors
    /// If it cannot.
    pub fn open_with(path: impl AsRef<Path>, config: &JsonlConfig) -> Result<Self, JsonlError> {
        let path = path.as_ref();
        JsonlRecords::open(path, config.max_line_len, 0)?;
        Ok(Self {
            path: path.into(),
            max_line_len: config.max_line_len,
            made: PhantomData,
        })
    }
}

impl<T: DeserializeOwned> StreamingDataset<T> for JsonlStream<T> {
    type Record = JsonlRecord;

    fn records(&self, start: u64) -> Result<Records<JsonlRecord>, DatasetError> {
        JsonlRecords::open(&self.path, self.max_line_len, start)
            .map(JsonlRecords::boxed)
            .map_err(DatasetError::new)
    }

    fn load(&self, record: JsonlRecord) -> Result<T, DatasetError> {
        record.parse(&self.path).map_err(DatasetError::new)
    }

    fn item_bytes(&self, record: &JsonlRecord) -> u64 {
        record.text.len() as u64 + size_of::<T>() as u64
    }
}

/// The records of a file from front to back.
///
/// A line that is too long is an error and counts as a record; the records after it
/// follow. After an error of the file itself there are none.
pub(crate) struct JsonlRecords {
    path: PathBuf,
    lines: LinesFromStart<Box<dyn BufRead + Send>>,
    max_line_len: usize,
    is_gzip: bool,
    start: u64,
    /// Number of the next record; `None` behind the last.
    next: Option<u64>,
}

impl JsonlRecords {
    /// Opens the plain or gzip file at `path`, to read its records from `start` on.
    pub(crate) fn open(path: &Path, max_line_len: usize, start: u64) -> Result<Self, JsonlError> {
        let failed = |source| JsonlError::open(path, source);
        let file = File::open(path).map_err(failed)?;
        let mut file = BufReader::with_capacity(CHUNK_LEN, file);
        let is_gzip = file.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC);
        let text: Box<dyn BufRead + Send> = if is_gzip {
            Box::new(BufReader::with_capacity(
                CHUNK_LEN,
                MultiGzDecoder::new(file),
            ))
        } else {
            Box::new(file)
        };
        let path = PathBuf::from(path);
        let lines = LinesFromStart::from_start(text)
            .map_err(|source| read_error(path.clone(), 0, 0, source, is_gzip))?;
        Ok(Self {
            path,
            lines,
            max_line_len,
            is_gzip,
            start,
            next: Some(0),
        })
    }

    /// As a streaming dataset returns them.
    pub(super) fn boxed(self) -> Records<JsonlRecord> {
        Box::new(self.map(|record| record.map_err(DatasetError::new)))
    }

    /// The next record from `start` on.
    fn advance(&mut self, number: &mut u64) -> io::Result<Option<Result<JsonlRecord, JsonlError>>> {
        while *number < self.start {
            if self.lines.skip_line()?.is_none() {
                return Ok(None);
            }
            *number += 1;
        }
        let line = self.lines.next_line(self.max_line_len)?;
        let record = |line| JsonlRecord::new(&self.path, *number, line, self.max_line_len);
        Ok(line.map(record))
    }
}

impl Iterator for JsonlRecords {
    type Item = Result<JsonlRecord, JsonlError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut number = self.next.take()?;
        match self.advance(&mut number) {
            Ok(Some(record)) => {
                self.next = Some(number + 1);
                Some(record)
            }
            Ok(None) => None,
            Err(source) => {
                let (path, offset) = (self.path.clone(), self.lines.offset());
                Some(Err(read_error(path, number, offset, source, self.is_gzip)))
            }
        }
    }
}

/// Names an error of the file itself: the decoder meets the end where there is more to come only
/// in a truncated file.
fn read_error(
    path: PathBuf,
    record: u64,
    offset: u64,
    source: io::Error,
    is_gzip: bool,
) -> JsonlError {
    if is_gzip && source.kind() == io::ErrorKind::UnexpectedEof {
        return JsonlError::Truncated {
            path,
            record,
            offset,
            source,
        };
    }
    JsonlError::Read {
        path,
        record,
        offset,
        source,
    }
}
