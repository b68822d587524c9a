//! Datasets that are read from front to back.

use burn::data::dataset::DatasetError;

/// What a stream reads in order, from the record that was asked for on.
pub type Records<R> = Box<dyn Iterator<Item = Result<R, DatasetError>> + Send>;

/// A dataset that is read in its own order, of a length that need not be known.
///
/// Reading is in two parts. [`records`](Self::records) reads what must be read one
/// after the other, and does little with it: a line of text, a file name, the next
/// frame of a video. [`load`](Self::load) makes an item of a record and may take its time: any
/// number of threads load at once, without a change of order.
///
/// Records are numbered from 0, whoever reads them, so a number is a position: a run that
/// stopped goes on from numbers, and needs to save no record.
pub trait StreamingDataset<I>: Send + Sync {
    /// What is read in order.
    type Record: Send + 'static;

    /// Reads from record number `start` on; nothing if the stream is shorter.
    ///
    /// A record that is damaged is an error and counts as one, so that those after it
    /// keep their numbers. A stream that cannot go on ends after its error.
    ///
    /// # Errors
    /// If the source cannot be opened.
    fn records(&self, start: u64) -> Result<Records<Self::Record>, DatasetError>;

    /// Makes an item of a record.
    ///
    /// # Errors
    /// If the record does not hold what it should, or what it points to cannot be read.
    fn load(&self, record: Self::Record) -> Result<I, DatasetError>;

    /// Bytes of host memory that the record's item takes once it is loaded, as
    /// [`LazyDataset::item_bytes`](crate::lazy::LazyDataset::item_bytes).
    fn item_bytes(&self, record: &Self::Record) -> u64;

    /// Records of the whole stream, where that is known without reading it. The default
    /// is `None`.
    fn num_records(&self) -> Option<u64> {
        None
    }
}
