//! Completing videos: from frames with holes to frames without, in bounded memory.
//!
//! | piece | does |
//! |---|---|
//! | [`Inpainter`] | runs all stages, and goes on after an interruption |
//! | [`InpaintConfig`] | lengths and strides, by the names ProPainter gives them |
//! | [`Networks`] | what computes flow, propagates pixels and generates the rest |
//! | [`Footage`], [`FrameSink`] | where frames come from and go to |
//! | [`Stage`], [`StageTime`], [`InpaintProgress`] | how far it is, and where the time goes |

mod completion;
mod compose;
mod config;
mod error;
mod features;
mod finished;
mod footage;
mod frames;
mod generation;
mod inpainter;
mod motion;
mod networks;
mod parts;
mod propagation;
mod store;
#[cfg(test)]
mod tests;
mod watch;

pub use config::InpaintConfig;
pub use error::InpaintError;
pub use footage::{Footage, FrameSink};
pub use inpainter::Inpainter;
pub use networks::Networks;
pub use watch::{InpaintProgress, Stage, StageTime};
