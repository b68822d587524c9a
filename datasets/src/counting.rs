//! Frames and the emitters in them, for learning to count.
//!
//! The target of a frame is a density map: every emitter is a small spot whose
//! pixels sum to one, so the map's sum is the number of emitters.

mod inside;

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::data::dataset::{Dataset, DatasetError};

use crate::{
    lazy::LazyDataset,
    localizations::{Localization, LocalizationError, read_table},
    normalization::{Normalization, NormalizationError},
    synthetic::emitters::spot,
    tiff::{FrameSource, TiffStackError, open_frames},
};
use inside::{check_emitter, rows_inside};

/// Standard deviation in pixels of an emitter in the density map.
const DENSITY_SIGMA: f64 = 1.0;

/// One frame, and where its emitters are.
#[derive(Debug, Clone, PartialEq)]
pub struct CountItem {
    /// Frame of the stack, from 0.
    pub frame: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Normalised pixels, row by row: `height * width` of them.
    pub image: Vec<f32>,
    /// Emitters for each pixel; sums to `count`, up to rounding.
    pub density: Vec<f32>,
    /// Number of emitters in the frame.
    pub count: f32,
}

/// Why frames and emitters could not be brought together.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum CountError {
    /// The stack could not be opened or read.
    #[error(transparent)]
    Stack(#[from] TiffStackError),
    /// The table could not be read.
    #[error(transparent)]
    Localizations(#[from] LocalizationError),
    /// The training frames could not be measured.
    #[error(transparent)]
    Normalization(#[from] NormalizationError),
    /// An emitter is outside its frame.
    #[error("an emitter in frame {frame} is at x = {x}, y = {y}, outside the {height}×{width} pixels of {path}: positions must be in pixels; name columns in nanometres \"x [nm]\" and \"y [nm]\"", path = .path.display())]
    OutsideFrame {
        /// The stack.
        path: PathBuf,
        /// The frame.
        frame: usize,
        /// Column in pixels.
        x: f32,
        /// Row in pixels.
        y: f32,
        /// Height of the frames.
        height: usize,
        /// Width of the frames.
        width: usize,
    },
    /// A list of localizations names a frame that the stack does not have.
    #[error("an emitter is in frame {frame}, but {path} has {num_frames} frames", path = .path.display())]
    FrameOutOfRange {
        /// The stack.
        path: PathBuf,
        /// The frame named.
        frame: usize,
        /// Frames in the stack.
        num_frames: usize,
    },
    /// Too many rows of a table are in no frame, or outside their frame.
    #[error("{table}: {outside} of {rows} rows are outside the {num_frames} frames of {height}×{width} pixels of {stack}: {named}. Pass the table that belongs to the stack; positions must be in pixels, and columns in nanometres be named \"x [nm]\" and \"y [nm]\"", table = .table.display(), stack = .stack.display())]
    RowsOutside {
        /// The table.
        table: PathBuf,
        /// The stack.
        stack: PathBuf,
        /// Rows outside.
        outside: usize,
        /// Rows of the table.
        rows: usize,
        /// The first of the rows outside, with their lines.
        named: String,
        /// Frames of the stack.
        num_frames: usize,
        /// Height of the frames.
        height: usize,
        /// Width of the frames.
        width: usize,
    },
    /// A split leaves one side without frames.
    #[error("cannot train on the first {train_frames} of {num_frames} frames: choose 1 to {most}, so that frames are left to validate on", most = .num_frames.saturating_sub(1))]
    EmptySplit {
        /// Frames asked for.
        train_frames: usize,
        /// Frames there are.
        num_frames: usize,
    },
}

/// A range of frames of one stack with the emitters in them.
///
/// Frames are read when they are asked for; only the table is in memory.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// use burn::data::dataset::Dataset;
/// use burn_memopt_datasets::{counting::CountDataset, synthetic::emitters::{EmitterConfig, EmitterMovie}};
///
/// let movie = EmitterMovie::generate(&EmitterConfig::new().with_num_frames(10));
/// let files = movie.write(folder.path())?;
/// let (train, validation) = CountDataset::open(files.frames, files.localizations)?.split(8)?;
/// assert_eq!((train.len(), validation.len()), (8, 2));
/// let item = validation.get(0)?;
/// assert!((item.density.iter().sum::<f32>() - item.count).abs() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CountDataset {
    stack: Arc<dyn FrameSource>,
    emitters: Arc<HashMap<usize, Vec<Localization>>>,
    frames: Range<usize>,
    normalization: Normalization,
    notes: Arc<[String]>,
}

impl CountDataset {
    /// Opens a stack, or a folder of TIFF files, and the table that belongs to it, in pixels. Pixels stay as they are stored.
    ///
    /// # Errors
    /// As [`open_scaled`](Self::open_scaled).
    pub fn open(stack: impl AsRef<Path>, table: impl AsRef<Path>) -> Result<Self, CountError> {
        Self::open_scaled(stack, table, None)
    }

    /// Opens a stack and the table that belongs to it, as [`with_table`](Self::with_table) does.
    ///
    /// # Errors
    /// If the stack cannot be opened, and as [`with_table`](Self::with_table).
    pub fn open_scaled(
        stack: impl AsRef<Path>,
        table: impl AsRef<Path>,
        pixel_size: Option<f64>,
    ) -> Result<Self, CountError> {
        Self::with_table(open_frames(stack)?, table, pixel_size)
    }

    /// Brings an open stack and the table that belongs to it together. The table may be in
    /// nanometres; `pixel_size` is the side of a pixel in nanometres.
    ///
    /// Rows that are in no frame or outside their frame are left out; [`notes`](Self::notes) names
    /// them.
    ///
    /// # Errors
    /// If the table cannot be read, has no rows, or has more than a third of them in no frame or
    /// outside their frame.
    pub fn with_table(
        stack: Arc<dyn FrameSource>,
        table: impl AsRef<Path>,
        pixel_size: Option<f64>,
    ) -> Result<Self, CountError> {
        let path = table.as_ref();
        let table = read_table(path, pixel_size)?;
        let (rows, notes) = rows_inside(&*stack, path, table)?;
        Ok(Self::with_rows(stack, rows, notes))
    }

    /// What about the table is worth a look, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Brings an open stack and its emitters together. Pixels stay as they are stored.
    ///
    /// # Errors
    /// If an emitter is in no frame or outside its frame.
    pub fn new(
        stack: Arc<dyn FrameSource>,
        localizations: Vec<Localization>,
    ) -> Result<Self, CountError> {
        let mut rows = localizations.iter();
        rows.try_for_each(|row| check_emitter(&*stack, row))?;
        Ok(Self::with_rows(stack, localizations, Vec::new()))
    }

    /// Brings frames and the emitters inside them together.
    fn with_rows(stack: Arc<dyn FrameSource>, rows: Vec<Localization>, notes: Vec<String>) -> Self {
        let mut emitters: HashMap<usize, Vec<Localization>> = HashMap::new();
        for row in rows {
            emitters.entry(row.frame).or_default().push(row);
        }
        Self {
            frames: 0..stack.num_frames(),
            stack,
            emitters: Arc::new(emitters),
            normalization: Normalization::default(),
            notes: notes.into(),
        }
    }

    /// Splits into the first `train_frames` frames and the rest, both
    /// normalised by what the training frames show.
    ///
    /// # Errors
    /// If a side would be empty, or a training frame cannot be read.
    pub fn split(self, train_frames: usize) -> Result<(Self, Self), CountError> {
        let num_frames = self.frames.len();
        if train_frames == 0 || train_frames >= num_frames {
            return Err(CountError::EmptySplit {
                train_frames,
                num_frames,
            });
        }
        let cut = self.frames.start + train_frames;
        let training = self.frames.start..cut;
        let normalization = Normalization::measure(&self.stack, training.clone())?;
        let part = |frames| Self {
            frames,
            normalization,
            ..self.clone()
        };
        Ok((part(training), part(cut..self.frames.end)))
    }

    /// Normalises by known values, as a resumed run or an evaluation does.
    pub fn with_normalization(self, normalization: Normalization) -> Self {
        Self {
            normalization,
            ..self
        }
    }

    /// How pixels are normalised.
    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// The stack that frames are read from.
    pub fn stack(&self) -> &Arc<dyn FrameSource> {
        &self.stack
    }

    /// The emitters of item `index`.
    pub fn emitters(&self, index: usize) -> &[Localization] {
        let frame = self.frames.start + index;
        self.emitters.get(&frame).map_or(&[], Vec::as_slice)
    }

    /// Reads item `index`.
    ///
    /// # Errors
    /// If its frame cannot be read.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn item(&self, index: usize) -> Result<CountItem, CountError> {
        crate::check_index("item", index, self.frames.len());
        let frame = self.stack.frame(self.frames.start + index)?;
        let (height, width) = (frame.height, frame.width);
        let mut image = frame.pixels;
        self.normalization.apply(&mut image);
        let emitters = self.emitters(index);
        Ok(CountItem {
            frame: frame.index,
            height,
            width,
            image,
            density: density(emitters, height, width),
            count: emitters.len() as f32,
        })
    }
}

impl Dataset<CountItem> for CountDataset {
    fn get(&self, index: usize) -> Result<CountItem, DatasetError> {
        self.item(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.frames.len()
    }
}

/// Image and density map of the frame.
impl LazyDataset<CountItem> for CountDataset {
    fn item_bytes(&self, index: usize) -> u64 {
        crate::check_index("item", index, self.frames.len());
        2 * self.stack.frame_bytes()
    }
}

/// The density map of some emitters: a spot for each, whose pixels sum to one.
///
/// What a spot would lose over the border is spread over its part inside.
pub fn density(emitters: &[Localization], height: usize, width: usize) -> Vec<f32> {
    let mut density = vec![0f64; height * width];
    for emitter in emitters {
        let (columns, rows) = (whole_spot(emitter.x, width), whole_spot(emitter.y, height));
        for (row, share) in density.chunks_exact_mut(width).zip(rows) {
            for (pixel, column) in row.iter_mut().zip(&columns) {
                *pixel += share * column;
            }
        }
    }
    density.into_iter().map(|value| value as f32).collect()
}

/// A spot in a line of pixels, with all of its weight inside the line.
fn whole_spot(centre: f32, len: usize) -> Vec<f64> {
    let centre = f64::from(centre).clamp(0.0, (len - 1) as f64);
    let mut line = spot(centre, DENSITY_SIGMA, len);
    let sum: f64 = line.iter().sum();
    line.iter_mut().for_each(|share| *share /= sum);
    line
}
