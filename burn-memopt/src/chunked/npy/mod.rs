//! Images and results as files of NumPy, read and written by position.

mod header;
mod sink;
mod source;

use std::io;
use std::path::{Path, PathBuf};

pub use sink::NpySink;
pub use source::NpySource;

/// Why a file of NumPy could not be read or written.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum NpyError {
    /// The file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is no array of f32 in C order, or shorter than it says.
    #[error(
        "{} must be a .npy file of f32 in C order with 2 to 4 axes: {found}",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// An interrupted run left a part of another result.
    #[error(
        "{} is a part of another result than {dims:?}: remove it to start anew",
        path.display()
    )]
    OtherResult {
        /// The file of the interrupted run.
        path: PathBuf,
        /// `[num_images, channels, height, width]` of this result.
        dims: [usize; 4],
    },
    /// A result was to be finished before all of its rows were there.
    #[error("{} has {rows} of {height} rows: run again to complete it", path.display())]
    Unfinished {
        /// The file of the run.
        path: PathBuf,
        /// Rows that are there.
        rows: usize,
        /// Rows in all.
        height: usize,
    },
}

impl NpyError {
    fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            action,
            source,
        }
    }
}
