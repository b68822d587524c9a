//! Completing videos: from frames with holes to frames without, in bounded memory.
//!
//! | piece | does |
//! |---|---|
//! | [`Inpainter`] | runs all stages, and resumes after an interruption |
//! | [`InpaintConfig`] | lengths and strides, by the names ProPainter gives them |
//! | [`Networks`] | what computes flow, propagates pixels and generates the rest |
//! | [`choose`], [`Workload`] | settings that keep a budget of memory, and what settings take |
//! | [`Fallback`] | what is computed with less when memory runs out |
//! | [`Footage`], [`FrameSink`] | where frames come from and go to |
//! | [`Stage`], [`StageTime`], [`InpaintProgress`] | how far it is, and where the time goes |
//!
//! # Example
//! Two grey frames with a hole. The weights are made up, so what is painted means nothing.
//!
//! ```
//! use std::ops::ControlFlow;
//!
//! use burn::tensor::Device;
//! use burn_memopt::chunked::BoxError;
//! use burn_memopt_models::propainter::ProPainter;
//! use burn_memopt_models::propainter::inpaint::{Footage, FrameSink, InpaintConfig, Inpainter};
//!
//! /// Reads frames when they are asked for; here from nowhere.
//! struct Grey;
//!
//! impl Footage for Grey {
//!     fn num_frames(&self) -> usize {
//!         2
//!     }
//!     fn size(&self) -> [usize; 2] {
//!         [64, 64]
//!     }
//!     fn frame(&mut self, _index: usize) -> Result<Vec<u8>, BoxError> {
//!         Ok(vec![128; 64 * 64 * 3])
//!     }
//!     fn mask(&mut self, _index: usize) -> Result<Vec<u8>, BoxError> {
//!         Ok((0..64 * 64).map(|pixel| u8::from(pixel % 64 < 16)).collect())
//!     }
//! }
//!
//! struct Frames(Vec<Vec<u8>>);
//!
//! impl FrameSink for Frames {
//!     fn write(&mut self, _index: usize, pixels: &[u8]) -> Result<(), BoxError> {
//!         self.0.push(pixels.to_vec());
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::flex();
//! let networks = ProPainter::procedural(&device); // or `load`, from a folder of weights
//! let config = InpaintConfig { raft_iter: 1, ..InpaintConfig::default() };
//! let work = tempfile::tempdir()?; // what stages finish, for resuming
//! let mut frames = Frames(Vec::new());
//! let inpainter = Inpainter::new(&networks, config, &device);
//! inpainter.run(&mut Grey, work.path(), &mut frames, &mut |_| ControlFlow::Continue(()))?;
//! assert_eq!(frames.0.len(), 2);
//! assert_eq!(frames.0[0][3 * 63], 128); // outside of the mask, pixels stay
//! # Ok(())
//! # }
//! ```

mod budget;
mod config;
mod estimate;
mod frames;
mod generation;
mod inpainter;
mod pipeline;
mod progress;
mod resume;

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

#[cfg(test)]
mod tests;

pub use budget::{BudgetRequest, Values, choose};
pub use config::{
    Fallback, InpaintConfig, NEIGHBOR_LENGTHS, REF_STRIDES, SUBVIDEO_LENGTHS, Setting,
};
pub use estimate::{WORKING_MEMORY, Workload};
pub use inpainter::{InpaintError, Inpainter};
pub use progress::{InpaintProgress, Stage, StageTime};
