//! A file whose records are found by an index.

use std::{
    io::BufReader,
    path::{Path, PathBuf},
};

use burn::config::Config;

use super::{
    error::JsonlError,
    index::JsonlIndex,
    record::JsonlRecord,
    saved_index::{self, Stamp},
};
use crate::shared_file::SharedFile;

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
        let stamp = file.file().and_then(Stamp::new);
        let saved = config.saved_index.as_deref().zip(stamp);
        let found =
            saved.and_then(|(path, stamp)| saved_index::load(path, stamp, config.max_offsets));
        let index = match found {
            Some(index) => index,
            None => {
                let text = BufReader::with_capacity(CHUNK_LEN, file.span(0..file.len()));
                let index = JsonlIndex::build(text, config.max_offsets).map_err(failed)?;
                if let Some((path, stamp)) = saved {
                    saved_index::save(path, stamp, &index).map_err(|source| {
                        JsonlError::SaveIndex {
                            path: path.into(),
                            source,
                        }
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
