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
mod error;
mod file;
mod index;
mod lines;
mod record;
mod saved_index;
mod stream;
#[cfg(feature = "tokenizers")]
pub mod tokens;
mod vqa;

pub use dataset::JsonlDataset;
pub use error::JsonlError;
pub use file::JsonlConfig;
pub use index::JsonlIndex;
pub use lines::Line;
pub use record::JsonlRecord;
pub use stream::JsonlStream;
pub use vqa::{VqaConfig, VqaDataset, VqaError, VqaItem, VqaRecord, VqaStream};

#[cfg(test)]
mod tests;
