//! Windows of neighbouring frames.

use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataset::{Dataset, DatasetError};
use lru::LruCache;

use super::{
    error::TiffStackError,
    frame::{Frame, FrameSource},
};
use crate::lazy::{Edge, LazyDataset, inside};

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
    source: S,
    before: usize,
    after: usize,
    edge: Edge,
    recent: Mutex<LruCache<usize, Slot>>,
}

/// A frame that is decoded by whoever asks for it first, while the others wait.
type Slot = Arc<Mutex<Option<Arc<Frame>>>>;

impl<S: FrameSource> FrameWindows<S> {
    /// Windows of `before` frames, the frame itself and `after` frames; beyond the border its
    /// frame is repeated.
    pub fn new(source: S, before: usize, after: usize) -> Self {
        let len = before.saturating_add(after).saturating_add(1);
        let kept = len.saturating_mul(2).try_into();
        let kept = kept.expect("invariant: a window has a frame");
        Self {
            source,
            before,
            after,
            edge: Edge::Repeat,
            // Unbounded at first: a large window need not have that many frames.
            recent: Mutex::new({
                let mut recent = LruCache::unbounded();
                recent.resize(kept);
                recent
            }),
        }
    }

    /// Sets what is shown beyond the first and last frame. The default is [`Edge::Repeat`].
    pub fn with_edge(self, edge: Edge) -> Self {
        Self { edge, ..self }
    }

    /// Number of frames in a window.
    pub fn window_len(&self) -> usize {
        self.before + 1 + self.after
    }

    /// Where the frames come from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Number of windows.
    pub fn num_windows(&self) -> usize {
        let num_frames = self.source.num_frames();
        match self.edge {
            Edge::Skip => num_frames.saturating_sub(self.before + self.after),
            Edge::Repeat | Edge::Reflect => num_frames,
        }
    }

    /// Reads window `index`.
    ///
    /// # Errors
    /// If one of its frames cannot be read.
    ///
    /// # Panics
    /// If there is no window `index`.
    pub fn window(&self, index: usize) -> Result<FrameWindow, TiffStackError> {
        self.check(index);
        let middle = match self.edge {
            Edge::Skip => index + self.before,
            Edge::Repeat | Edge::Reflect => index,
        };
        let num_frames = self.source.num_frames();
        let frames = (0..self.window_len())
            .map(|offset| (middle + offset) as isize - self.before as isize)
            .map(|position| self.frame(inside(position, num_frames, self.edge)))
            .collect::<Result<_, _>>()?;
        Ok(FrameWindow {
            index: middle,
            frames,
        })
    }

    fn check(&self, index: usize) {
        let len = self.num_windows();
        assert!(index < len, "window must be below {len}, got {index}");
    }

    fn frame(&self, index: usize) -> Result<Arc<Frame>, TiffStackError> {
        let slot = {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.get_or_insert(index, Slot::default).clone()
        };
        // A slot holds a whole frame or none, whatever happened to another thread.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = &*slot {
            return Ok(frame.clone());
        }
        let frame = Arc::new(self.source.frame(index)?);
        *slot = Some(frame.clone());
        Ok(frame)
    }
}

impl<S: FrameSource> Dataset<FrameWindow> for FrameWindows<S> {
    fn get(&self, index: usize) -> Result<FrameWindow, DatasetError> {
        self.window(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.num_windows()
    }
}

/// Every frame counts, though neighbouring windows share theirs: an upper bound.
impl<S: FrameSource> LazyDataset<FrameWindow> for FrameWindows<S> {
    fn item_bytes(&self, index: usize) -> u64 {
        self.check(index);
        self.window_len() as u64 * self.source.frame_bytes()
    }
}
