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
mod fallback;
mod frames;
mod generation;
mod inpainter;
mod interfaces;
mod pipeline;
mod progress;
mod resume;
mod store;
#[cfg(test)]
mod tests;

pub use budget::{BudgetRequest, Values, choose};
pub use config::InpaintConfig;
pub use estimate::{WORKING_MEMORY, Workload};
pub use fallback::{Fallback, NEIGHBOR_LENGTHS, REF_STRIDES, SUBVIDEO_LENGTHS, Setting};
pub use inpainter::{InpaintError, Inpainter};
pub use interfaces::{Footage, FrameSink, Networks};
pub use progress::{InpaintProgress, Stage, StageTime};
