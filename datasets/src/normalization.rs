//! Robust scaling of pixels, measured once on the training frames.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use burn_memopt::files;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::tiff::{FrameSource, TiffStackError};

/// The share of pixels below `high`. Spots cover few pixels of a frame, so a
/// lower percentile would measure the noise of the background.
const HIGH_SHARE: f64 = 0.999;
/// Frames that are read at most, evenly spread.
const MAX_FRAMES: usize = 256;
/// Pixels that are taken from a frame at most.
const MAX_PIXELS: usize = 4096;

/// Scales pixels so that `low` becomes 0 and `high` becomes 1.
///
/// The default leaves pixels as they are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalization {
    /// Becomes 0: the median of the pixels measured.
    pub low: f32,
    /// Becomes 1: the 99.9th percentile of the pixels measured.
    pub high: f32,
}

/// Why pixels could not be measured, or the values not be saved or loaded.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum NormalizationError {
    /// A frame could not be read.
    #[error(transparent)]
    Stack(#[from] TiffStackError),
    /// All pixels measured are infinite or not a number.
    #[error("no pixel in frames {start} to {end} of {path} is finite, so they cannot be normalised", start = .frames.start, end = .frames.end, path = .path.display())]
    NotFinite {
        /// The stack.
        path: PathBuf,
        /// The frames measured.
        frames: Range<usize>,
    },
    /// The values could not be written.
    #[error("cannot save the normalisation to {path}: check that its folder exists and may be written", path = .path.display())]
    Save {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The values could not be read.
    #[error("cannot load the normalisation from {path}: pass the artifacts of a run that saved it", path = .path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Default for Normalization {
    fn default() -> Self {
        Self {
            low: 0.0,
            high: 1.0,
        }
    }
}

impl Normalization {
    /// Measures `frames` of a stack, reading one frame at a time.
    ///
    /// At most 256 frames, evenly spread, and 4096 pixels of each, at random
    /// places that are always the same, are used: enough for both
    /// percentiles, and bounded for a stack of any size.
    ///
    /// # Errors
    /// If a frame cannot be read, or no pixel is finite.
    ///
    /// # Panics
    /// If `frames` is empty.
    pub fn measure(
        stack: &dyn FrameSource,
        frames: Range<usize>,
    ) -> Result<Self, NormalizationError> {
        assert!(!frames.is_empty(), "frames to measure must not be empty");
        let count = frames.len().min(MAX_FRAMES);
        let mut rng = StdRng::seed_from_u64(0);
        let mut sample = Vec::new();
        for step in 0..count {
            let pixels = stack
                .frame(frames.start + step * frames.len() / count)?
                .pixels;
            match pixels.len() <= MAX_PIXELS {
                true => sample.extend(pixels),
                false => sample
                    .extend((0..MAX_PIXELS).map(|_| pixels[rng.random_range(0..pixels.len())])),
            }
        }
        sample.retain(|pixel: &f32| pixel.is_finite());
        if sample.is_empty() {
            return Err(NormalizationError::NotFinite {
                path: stack.path().into(),
                frames,
            });
        }
        let mut below = |share: f64| {
            let rank = (share * (sample.len() - 1) as f64).round() as usize;
            *sample.select_nth_unstable_by(rank, f32::total_cmp).1
        };
        Ok(Self {
            low: below(0.5),
            high: below(HIGH_SHARE),
        })
    }

    /// Scales pixels in place. Where `high` equals `low`, they are only shifted.
    pub fn apply(&self, pixels: &mut [f32]) {
        let range = self.high - self.low;
        let scale = if range > 0.0 { 1.0 / range } else { 1.0 };
        for pixel in pixels {
            *pixel = (*pixel - self.low) * scale;
        }
    }

    /// Saves the values as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), NormalizationError> {
        let path = path.as_ref();
        serde_json::to_vec_pretty(self)
            .map_err(Into::into)
            .and_then(|json| files::write(path, |file| file.write_all(&json)))
            .map_err(|source| NormalizationError::Save {
                path: path.into(),
                source,
            })
    }

    /// Loads values that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// If the file cannot be read or holds something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, NormalizationError> {
        let path = path.as_ref();
        fs::read(path)
            .and_then(|json| serde_json::from_slice(&json).map_err(Into::into))
            .map_err(|source| NormalizationError::Load {
                path: path.into(),
                source,
            })
    }
}
