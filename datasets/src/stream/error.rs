/// Why a stream did not give what it gave before.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// A record that was there is not any more.
    #[error(
        "record {record} was read before, and now the stream ends before it: it was shortened or replaced while in use"
    )]
    Shortened {
        /// The record's number.
        record: u64,
    },
}
