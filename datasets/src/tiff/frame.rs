//! Frames, and what gives them.

use std::sync::Arc;

use super::{error::TiffStackError, page::Page};

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
pub trait FrameSource: Send + Sync {
    /// Number of frames.
    fn num_frames(&self) -> usize;

    /// Height of every frame in pixels.
    fn height(&self) -> usize;

    /// Width of every frame in pixels.
    fn width(&self) -> usize;

    /// Frame `index` as it is stored.
    ///
    /// # Errors
    /// If there is no such frame, or its bytes cannot be read or decoded.
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

impl<S: FrameSource + ?Sized> FrameSource for Arc<S> {
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
