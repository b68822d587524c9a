use burn_memopt::chunked::BoxError;

/// A video with holes, read frame by frame in rising order.
pub trait Footage {
    /// Frames of the video.
    fn num_frames(&self) -> usize;

    /// Height and width of a frame in pixels: multiples of 8.
    fn size(&self) -> [usize; 2];

    /// Red, green and blue of frame `index`, from 0 to 255: `[height, width, 3]`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn frame(&mut self, index: usize) -> Result<Vec<u8>, BoxError>;

    /// 1 where pixels of frame `index` are to be filled, else 0: `[height, width]`.
    ///
    /// # Errors
    /// If it cannot be read.
    fn mask(&mut self, index: usize) -> Result<Vec<u8>, BoxError>;
}

/// Where finished frames go, in rising order. After an interruption some come again, with the same
/// pixels.
pub trait FrameSink {
    /// Keeps frame `index`: `[height, width, 3]`.
    ///
    /// # Errors
    /// If it cannot be kept.
    fn write(&mut self, index: usize, pixels: &[u8]) -> Result<(), BoxError>;
}
