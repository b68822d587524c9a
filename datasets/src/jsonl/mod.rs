//! JSON Lines: one record a line, of which only what is asked for is in memory.
//!
//! | source | access | module item |
//! |---|---|---|
//! | `.jsonl` | any record, by an index of byte offsets | [`JsonlDataset`] |
//! | `.jsonl`, `.jsonl.gz` | front to back | [`JsonlStream`] |
//! | records that name an image, a question and answers | either | [`VqaDataset`], [`VqaStream`] |
//!
//! What counts as a record:
//! - Lines end at `\n`; a `\r` before it is a space to JSON. The last line needs no end.
//! - Lines of spaces alone are skipped and have no number.
//! - Records are numbered from 0, and begin at the first byte of their line that is no space.
//! - A UTF-8 byte-order mark at the start of the file is skipped.
//! - Damage concerns its record alone: other records of the file are read as ever.

mod dataset;
mod index;
mod lines;
mod stream;
#[cfg(feature = "tokenizers")]
pub mod tokens;
mod vqa;

pub use dataset::{JsonlConfig, JsonlDataset};
pub use index::JsonlIndex;
pub use lines::{JsonlRecord, Line};
#[cfg(all(feature = "tiff", feature = "video"))]
pub(crate) use stream::JsonlRecords;
pub use stream::JsonlStream;
pub use vqa::{VqaConfig, VqaDataset, VqaError, VqaItem, VqaRecord, VqaStream};

use std::{
    io,
    path::{Path, PathBuf},
    str::Utf8Error,
};

/// Why a JSON Lines file could not be read. Records are numbered from 0, and bytes count
/// from the start of the file, of a gzip file from the start of its text.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum JsonlError {
    /// The file is missing or may not be read.
    #[error("cannot open {path}: check that the file exists and may be read", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// The index could not be saved.
    #[error("cannot save the index {path}: check that its folder exists, may be written and has room, or save none", path = .path.display())]
    SaveIndex {
        /// The file of the index.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Reading failed before the end of the file, or its compressed data are damaged.
    #[error("{path}: cannot read record {record} near byte {offset}: check the medium, or fetch the file again", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// Up to where reading succeeded.
        offset: u64,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A gzip file ends too early.
    #[error("{path}: the gzip file is truncated: it ends in record {record}, after {offset} bytes of text; fetch it again", path = .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The record that is not whole, or is missing.
        record: u64,
        /// Bytes of text before the end.
        offset: u64,
        /// What the decoder found.
        #[source]
        source: io::Error,
    },
    /// The file became shorter after it was opened.
    #[error("{path}: record {record} at byte {offset} is gone: the file changed after it was opened; open it again", path = .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// Where it or a record shortly before it was.
        offset: u64,
    },
    /// A line is longer than the limit.
    #[error("{path}: record {record} at byte {offset} is longer than the limit of {max_line_len} bytes; allow longer lines if it is meant to be", path = .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// Where it begins.
        offset: u64,
        /// Bytes that are allowed.
        max_line_len: usize,
    },
    /// A record is no UTF-8 text.
    #[error("{path}: record {record} at byte {offset} is not UTF-8: convert the file to UTF-8", path = .path.display())]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// Where it begins.
        offset: u64,
        /// Where in the record it is wrong.
        #[source]
        source: Utf8Error,
    },
    /// The file is one array of records.
    #[error("{path}: the file is a JSON array, not JSON Lines; write one record on each line, for example with `jq -c '.[]' {path}`", path = .path.display())]
    JsonArray {
        /// The file.
        path: PathBuf,
    },
    /// A record is no JSON, or not of the wanted type.
    #[error("{path}: record {record} at byte {offset} is not the JSON that is wanted", path = .path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// Where it begins.
        offset: u64,
        /// What the parser found; its columns count from the beginning of the record.
        #[source]
        source: serde_json::Error,
    },
}

impl JsonlError {
    fn open(path: &Path, source: io::Error) -> Self {
        Self::Open {
            path: path.into(),
            source,
        }
    }
}

#[cfg(test)]
mod tests;
