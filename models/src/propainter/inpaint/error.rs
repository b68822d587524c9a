use std::io;
use std::path::{Path, PathBuf};

use burn_memopt::chunked::BoxError;

use super::{Fallback, Stage};

/// Why a video could not be completed. Frames that were finished stay.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum InpaintError {
    /// A frame or mask cannot be read.
    #[error(
        "cannot read the {what} of frame {index}; {done} frames before it are finished and kept"
    )]
    Read {
        /// "pixels" or "mask".
        what: &'static str,
        /// The frame, from 0.
        index: usize,
        /// Frames that are finished.
        done: usize,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// A finished frame cannot be kept.
    #[error("cannot write frame {index}; check that the output has room")]
    Write {
        /// The frame, from 0.
        index: usize,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// What a stage keeps on the disk cannot be written or read.
    #[error("{path}: cannot keep what later stages need; check that the disk has room", path = .path.display())]
    Store {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What an earlier run left in the work folder cannot be used.
    #[error(
        "{path}: cannot resume from this file: {why}; remove the unfinished run to begin again",
        path = .path.display()
    )]
    Resume {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// A network failed on the device.
    #[error("{stage} failed at frame {index}")]
    Network {
        /// The stage.
        stage: Stage,
        /// First frame that it worked on.
        index: usize,
        /// What the device says.
        #[source]
        source: BoxError,
    },
    /// A network's output holds infinities, or what is no number.
    #[error(
        "{stage} gave values that are no numbers at frame {index}; compute in f32, and check that the weights are those of this network"
    )]
    NotFinite {
        /// The stage.
        stage: Stage,
        /// First frame that it worked on.
        index: usize,
    },
    /// Memory ran out, and nothing is left that could be computed with less.
    #[error(
        "{stage} runs out of memory at frame {index}{tried}; {done} frames before it are finished \
         and kept: give a smaller size or budget, or free memory",
        tried = after(.tried)
    )]
    OutOfMemory {
        /// The stage.
        stage: Stage,
        /// First frame that it worked on.
        index: usize,
        /// Frames that are finished.
        done: usize,
        /// The settings that were tried, one after the other.
        tried: Vec<Fallback>,
        /// What the device says.
        #[source]
        source: BoxError,
    },
    /// The caller asked to stop.
    #[error("stopped after {done} of {total} frames; the same call goes on from there")]
    Cancelled {
        /// Finished frames.
        done: usize,
        /// Frames of the video.
        total: usize,
    },
}

fn after(fallbacks: &[Fallback]) -> String {
    if fallbacks.is_empty() {
        return String::new();
    }
    let tried: Vec<_> = fallbacks.iter().map(Fallback::to_string).collect();
    format!(", and did with {}", tried.join(", "))
}

impl InpaintError {
    pub(super) fn store(path: &Path, source: io::Error) -> Self {
        Self::Store {
            path: path.into(),
            source,
        }
    }
}
