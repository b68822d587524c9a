//! Patches: small rectangles of frames.

use burn::data::dataset::{Dataset, DatasetError};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::frame::FrameSource;
use crate::lazy::LazyDataset;

/// A rectangle of a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// The frame it is of, from 0.
    pub frame: usize,
    /// Its first row in the frame.
    pub top: usize,
    /// Its first column in the frame.
    pub left: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Pixel values as stored, row by row: `height * width` of them.
    pub pixels: Vec<f32>,
}

/// Where the patches of a frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Places {
    /// This many pixels from one to the next.
    Grid { stride: usize },
    /// This many in each frame, at places made of the seed.
    Random { per_frame: usize, seed: u64 },
}

/// Patches of one size out of all frames, frame by frame.
///
/// Of frames that are memory-mapped only the rows of the patch are read; others are
/// decoded whole for each patch.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("movie.tif");
/// use burn::data::dataset::Dataset;
/// use burn_memopt_datasets::tiff::{FramePatches, TiffStack, TiffStackWriter};
///
/// let mut writer = TiffStackWriter::create(&path, 2, 3)?;
/// writer.write_frame(&[1u8, 2, 3, 4, 5, 6])?;
/// writer.finish()?;
///
/// let patches = FramePatches::grid(TiffStack::open(&path)?, 2, 2, 2);
/// assert_eq!(patches.len(), 2);
/// assert_eq!(patches.get(1)?.pixels, [2.0, 3.0, 5.0, 6.0]); // moved back inside
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FramePatches<S> {
    source: S,
    height: usize,
    width: usize,
    places: Places,
}

impl<S: FrameSource> FramePatches<S> {
    /// Patches that cover each frame, `stride` pixels from one to the next, row by row. The last
    /// of a line is moved back inside the frame.
    ///
    /// # Panics
    /// If a patch is empty or larger than a frame, or `stride` is zero.
    pub fn grid(source: S, height: usize, width: usize, stride: usize) -> Self {
        assert!(stride > 0, "stride of patches must be at least 1, got 0");
        Self::new(source, height, width, Places::Grid { stride })
    }

    /// `per_frame` patches of each frame at random places, always the same for one seed.
    ///
    /// # Panics
    /// If a patch is empty or larger than a frame.
    pub fn random(source: S, height: usize, width: usize, per_frame: usize, seed: u64) -> Self {
        Self::new(source, height, width, Places::Random { per_frame, seed })
    }

    fn new(source: S, height: usize, width: usize, places: Places) -> Self {
        for (what, size, most) in [
            ("height", height, source.height()),
            ("width", width, source.width()),
        ] {
            assert!(
                (1..=most).contains(&size),
                "{what} of a patch must lie between 1 and the frame's {most}, got {size}"
            );
        }
        Self {
            source,
            height,
            width,
            places,
        }
    }

    /// Where the frames come from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Number of patches of each frame.
    pub fn patches_per_frame(&self) -> usize {
        match self.places {
            Places::Grid { .. } => self.rows() * self.columns(),
            Places::Random { per_frame, .. } => per_frame,
        }
    }

    fn check(&self, index: usize) {
        crate::check_index("patch", index, self.len());
    }

    /// Frame, top and left of a patch.
    fn place(&self, index: usize) -> (usize, usize, usize) {
        let per_frame = self.patches_per_frame();
        let (frame, place) = (index / per_frame, index % per_frame);
        let (most_top, most_left) = (
            self.source.height() - self.height,
            self.source.width() - self.width,
        );
        match self.places {
            Places::Grid { stride } => {
                let (row, column) = (place / self.columns(), place % self.columns());
                let top = (row * stride).min(most_top);
                (frame, top, (column * stride).min(most_left))
            }
            Places::Random { seed, .. } => {
                // One generator a patch, so that patches can be read in any order.
                let mut state = [0; 32];
                state[..8].copy_from_slice(&seed.to_le_bytes());
                state[8..16].copy_from_slice(&(index as u64).to_le_bytes());
                let mut rng = StdRng::from_seed(state);
                let top = rng.random_range(0..=most_top);
                (frame, top, rng.random_range(0..=most_left))
            }
        }
    }

    fn rows(&self) -> usize {
        self.steps(self.source.height() - self.height)
    }

    fn columns(&self) -> usize {
        self.steps(self.source.width() - self.width)
    }

    /// Places of a line whose last patch starts at `most`.
    fn steps(&self, most: usize) -> usize {
        match self.places {
            Places::Grid { stride } => most.div_ceil(stride) + 1,
            Places::Random { .. } => 1,
        }
    }
}

impl<S: FrameSource> Dataset<Patch> for FramePatches<S> {
    fn get(&self, index: usize) -> Result<Patch, DatasetError> {
        self.check(index);
        let (frame, top, left) = self.place(index);
        let page = self.source.page(frame).map_err(DatasetError::new)?;
        let (height, width) = (self.height, self.width);
        Ok(Patch {
            frame,
            top,
            left,
            height,
            width,
            pixels: page.patch(top..top + height, left..left + width),
        })
    }

    fn len(&self) -> usize {
        self.source.num_frames() * self.patches_per_frame()
    }
}

impl<S: FrameSource> LazyDataset<Patch> for FramePatches<S> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.check(index);
        (self.height * self.width * size_of::<f32>()) as u64
    }
}
