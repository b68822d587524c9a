//! Frames, what gives them, and windows of neighbouring ones.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex},
};

use burn::data::dataset::{Dataset, DatasetError};
use lru::LruCache;

use super::{error::TiffStackError, page::Page, sequence::TiffSequence, stack::TiffStack};
use crate::{
    check_index,
    lazy::{Edge, LazyDataset, Windows},
    lock,
};

/// One page of a stack as `f32`.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Position in the stack, from 0.
    pub index: usize,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Pixel values as stored, row by row: `height * width` of them.
    pub pixels: Vec<f32>,
}

/// Frames of one size that are read in any order: a stack, or a sequence of stacks.
pub trait FrameSource: fmt::Debug + Send + Sync {
    /// The file or folder that is read.
    fn path(&self) -> &Path;

    /// What a user should know about the files, though they are read: pages that are left out, or
    /// values that another program would show in another way. Each is one line, without the path.
    fn notes(&self) -> &[String];

    /// Number of frames.
    fn num_frames(&self) -> usize;

    /// Height of every frame in pixels.
    fn height(&self) -> usize;

    /// Width of every frame in pixels.
    fn width(&self) -> usize;

    /// Frame `index` as it is stored.
    ///
    /// # Errors
    /// If there is no such frame, its bytes cannot be read or decoded, or its file changed.
    fn page(&self, index: usize) -> Result<Page, TiffStackError>;

    /// Frame `index` as `f32`.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    fn frame(&self, index: usize) -> Result<Frame, TiffStackError> {
        Ok(self.page(index)?.to_frame())
    }

    /// Bytes of a frame as `f32`.
    fn frame_bytes(&self) -> u64 {
        (self.height() * self.width() * size_of::<f32>()) as u64
    }
}

/// Opens a file as a [`TiffStack`], a folder of TIFF files as a [`TiffSequence`].
///
/// # Errors
/// As those.
pub fn open_frames(path: impl AsRef<Path>) -> Result<Arc<dyn FrameSource>, TiffStackError> {
    let path = path.as_ref();
    Ok(match path.is_dir() {
        true => Arc::new(TiffSequence::open(path)?),
        false => Arc::new(TiffStack::open(path)?),
    })
}

impl<S: FrameSource + ?Sized> FrameSource for Arc<S> {
    fn path(&self) -> &Path {
        (**self).path()
    }

    fn notes(&self) -> &[String] {
        (**self).notes()
    }

    fn num_frames(&self) -> usize {
        (**self).num_frames()
    }

    fn height(&self) -> usize {
        (**self).height()
    }

    fn width(&self) -> usize {
        (**self).width()
    }

    fn page(&self, index: usize) -> Result<Page, TiffStackError> {
        (**self).page(index)
    }
}

macro_rules! dataset_of_frames {
    ($source:ty) => {
        impl Dataset<Frame> for $source {
            fn get(&self, index: usize) -> Result<Frame, DatasetError> {
                check_index("frame", index, self.num_frames());
                self.frame(index).map_err(DatasetError::new)
            }

            fn len(&self) -> usize {
                self.num_frames()
            }
        }

        impl LazyDataset<Frame> for $source {
            fn item_bytes(&self, index: usize) -> u64 {
                check_index("frame", index, self.num_frames());
                self.frame_bytes()
            }
        }
    };
}

dataset_of_frames!(TiffStack);
dataset_of_frames!(TiffSequence);

/// A frame with its neighbours.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameWindow {
    /// The frame in the middle, from 0.
    pub index: usize,
    /// The frames from the earliest to the latest; neighbouring windows share them.
    pub frames: Vec<Arc<Frame>>,
}

/// For every frame the window of frames around it, as temporal models read them.
///
/// As [`LazyDatasetExt::windows`](crate::lazy::LazyDatasetExt::windows) over the frames, but
/// frames are decoded once while windows are read one after the other, also by several threads:
/// those of the last windows are kept, twice the window's length of them.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("movie.tif");
/// use burn::data::dataset::Dataset;
/// use burn_memopt_datasets::tiff::{FrameWindows, TiffStack, TiffStackWriter};
///
/// let mut writer = TiffStackWriter::create(&path, 1, 1)?;
/// for frame in 0..4u8 {
///     writer.write_frame(&[frame])?;
/// }
/// writer.finish()?;
///
/// let windows = FrameWindows::new(TiffStack::open(&path)?, 1, 1);
/// let window = windows.get(0)?;
/// let shown: Vec<_> = window.frames.iter().map(|frame| frame.index).collect();
/// assert_eq!((windows.len(), shown), (4, vec![0, 0, 1]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FrameWindows<S> {
    windows: Windows<RecentFrames<S>>,
}

impl<S: FrameSource> FrameWindows<S> {
    /// Windows of `before` frames, the frame itself and `after` frames; beyond the border its
    /// frame is repeated.
    pub fn new(source: S, before: usize, after: usize) -> Self {
        let len = before.saturating_add(after).saturating_add(1);
        let kept = len.saturating_mul(2).try_into();
        // Unbounded at first: a large window need not have that many frames.
        let mut recent = LruCache::unbounded();
        recent.resize(kept.expect("invariant: a window has a frame"));
        let frames = RecentFrames {
            source,
            recent: Mutex::new(recent),
        };
        Self {
            windows: Windows::new(frames, before, after, Edge::Repeat),
        }
    }

    /// Sets what is shown beyond the first and last frame. The default is [`Edge::Repeat`].
    pub fn with_edge(self, edge: Edge) -> Self {
        Self {
            windows: self.windows.with_edge(edge),
        }
    }

    /// Where the frames come from.
    pub fn source(&self) -> &S {
        &self.windows.dataset().source
    }

    /// Reads window `index`.
    ///
    /// # Errors
    /// If one of its frames cannot be read.
    ///
    /// # Panics
    /// If there is no window `index`.
    pub fn window(&self, index: usize) -> Result<FrameWindow, TiffStackError> {
        let frames = self.windows.items(index);
        Ok(FrameWindow {
            frames: frames
                .map(|frame| self.windows.dataset().frame(frame))
                .collect::<Result<_, _>>()?,
            index: self.windows.centre(index),
        })
    }
}

impl<S: FrameSource> Dataset<FrameWindow> for FrameWindows<S> {
    fn get(&self, index: usize) -> Result<FrameWindow, DatasetError> {
        self.window(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.windows.len()
    }
}

/// Every frame counts, though neighbouring windows share theirs: an upper bound.
impl<S: FrameSource> LazyDataset<FrameWindow> for FrameWindows<S> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.windows.item_bytes(index)
    }
}

/// The frames of a source, of which those used last are kept.
#[derive(Debug)]
struct RecentFrames<S> {
    source: S,
    recent: Mutex<LruCache<usize, Slot>>,
}

/// A frame that is decoded by whoever asks for it first, while the others wait.
type Slot = Arc<Mutex<Option<Arc<Frame>>>>;

impl<S: FrameSource> RecentFrames<S> {
    fn frame(&self, index: usize) -> Result<Arc<Frame>, TiffStackError> {
        let slot = lock(&self.recent)
            .get_or_insert(index, Slot::default)
            .clone();
        // A slot holds a whole frame or none, whatever happened to another thread.
        let mut slot = lock(&slot);
        if let Some(frame) = &*slot {
            return Ok(frame.clone());
        }
        let frame = self.source.frame(index)?;
        Ok(slot.insert(Arc::new(frame)).clone())
    }
}

impl<S: FrameSource> Dataset<Arc<Frame>> for RecentFrames<S> {
    fn get(&self, index: usize) -> Result<Arc<Frame>, DatasetError> {
        self.frame(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.source.num_frames()
    }
}

impl<S: FrameSource> LazyDataset<Arc<Frame>> for RecentFrames<S> {
    fn item_bytes(&self, _index: usize) -> u64 {
        self.source.frame_bytes()
    }
}
