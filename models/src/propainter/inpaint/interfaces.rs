use burn::tensor::Tensor;
use burn_memopt::chunked::BoxError;

use crate::propainter::Flows;

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

/// What computes on frames: the pipeline cuts a video into windows of frames, and calls these for
/// one window after the other.
///
/// Frames are from -1 to 1, holes 1 where pixels are missing and 0 elsewhere, flows in pixels with
/// x first; what is given and returned is on one device, in f32. Equal input must give equal
/// output, or an interrupted run continues differently.
pub trait Networks {
    /// Optical flow between neighbouring frames, from each to the next and back, in `iterations`
    /// steps. A pair's flow must not depend on the pairs around it.
    ///
    /// # Shapes
    /// - images: `[1, frames, 3, height, width]`
    /// - output: `[1, frames - 1, 2, height, width]` each way
    fn flows(&self, images: Tensor<5>, iterations: usize) -> Flows;

    /// Replaces the flow inside the holes.
    ///
    /// # Shapes
    /// - flows: `[1, frames - 1, 2, height, width]` each way
    /// - holes: `[1, frames, 1, height, width]`
    /// - output: as flows
    fn complete(&self, flows: Flows, holes: Tensor<5>) -> Flows;

    /// Fills pixels of the holes that other frames show, following completed flow.
    ///
    /// # Shapes
    /// - images: `[1, frames, 3, height, width]`
    /// - flows: `[1, frames - 1, 2, height, width]` each way
    /// - holes: `[1, frames, 1, height, width]`
    /// - output: images, 0 where nothing is known, and the holes that are left
    fn propagate(&self, images: Tensor<5>, flows: Flows, holes: Tensor<5>) -> [Tensor<5>; 2];

    /// Encodes a propagated frame on its own, for [`generate`](Self::generate).
    ///
    /// # Shapes
    /// - image: `[1, 1, 3, height, width]`
    /// - hole, and what is left of it: `[1, 1, 1, height, width]`
    /// - output: `[1, channels, rows, columns]`, whatever `generate` takes
    fn encode(&self, image: Tensor<5>, hole: Tensor<5>, left: Tensor<5>) -> Tensor<4>;

    /// Generates the pixels of neighbouring frames that no frame shows.
    ///
    /// # Shapes
    /// - features: those of the neighbouring frames, then those of reference frames
    /// - flows between the neighbouring frames: `[1, frames - 1, 2, height, width]` each way
    /// - holes, and what is left of them: `[1, frames, 1, height, width]`
    /// - output: `[frames, 3, height, width]`, from -1 to 1
    fn generate(
        &self,
        features: Vec<Tensor<4>>,
        flows: Flows,
        holes: Tensor<5>,
        left: Tensor<5>,
    ) -> Tensor<4>;
}
