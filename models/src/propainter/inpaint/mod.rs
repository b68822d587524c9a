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
