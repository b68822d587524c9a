use std::error::Error;
use std::io;

use super::WindowPlace;

/// What a source, a model or a sink failed with.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why an image could not be worked through window by window.
///
/// Rows that the sink has already stay there.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum ChunkedError {
    /// A part of the image could not be read.
    #[error("cannot read image {image} at row {row}, column {column} for a window")]
    Read {
        /// Number of the image in its batch.
        image: usize,
        /// First row that was asked for.
        row: usize,
        /// First column that was asked for.
        column: usize,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
    /// The model failed, or its result could not be read from its device: lack of memory on a GPU
    /// shows here, which [`Failure::of`](crate::batch::Failure::of) recognizes.
    #[error("cannot run the model on image {image} at row {row}, column {column}")]
    Model {
        /// Number of the image, in its batch, of the first window that was to be run.
        image: usize,
        /// Row of the image that the window starts with; below zero where the image is padded.
        row: isize,
        /// Column of the image that the window starts with; below zero where the image is padded.
        column: isize,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
    /// The file that keeps sums of windows failed.
    #[error("cannot keep the sums of output {output} in a file")]
    Accumulator {
        /// Number of the output.
        output: usize,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Finished rows could not be written.
    #[error("cannot write rows from {row} on of output {output}")]
    Write {
        /// Number of the output.
        output: usize,
        /// First row that was to be written.
        row: usize,
        /// Why it failed.
        #[source]
        source: BoxError,
    },
    /// The caller asked to stop.
    #[error("stopped by request after {done} of {total} windows")]
    Cancelled {
        /// Windows that were run.
        done: usize,
        /// Windows in all.
        total: usize,
    },
}

impl ChunkedError {
    pub(super) fn read(image: usize, [row, column]: [usize; 2], source: BoxError) -> Self {
        Self::Read {
            image,
            row,
            column,
            source,
        }
    }

    pub(super) fn model(place: WindowPlace, source: BoxError) -> Self {
        Self::Model {
            image: place.image,
            row: place.row,
            column: place.column,
            source,
        }
    }

    pub(super) fn accumulator(output: usize, source: io::Error) -> Self {
        Self::Accumulator { output, source }
    }

    pub(super) fn write(output: usize, row: usize, source: BoxError) -> Self {
        Self::Write {
            output,
            row,
            source,
        }
    }

    /// Panics with what failed and why, for callers without a `Result`.
    pub(super) fn panic(self) -> ! {
        match self.source() {
            Some(source) => panic!("{self}: {source}"),
            None => panic!("{self}"),
        }
    }
}
