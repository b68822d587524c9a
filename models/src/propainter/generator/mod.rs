//! The network that completes what is left of the holes, from features of neighbouring and far frames.

mod attention;
mod codec;
mod input;
mod model;
mod propagation;
mod tokens;
mod transformer;
mod windows;

pub use input::{GeneratorInput, Guides};
pub use model::{InpaintGenerator, InpaintGeneratorConfig};
pub use propagation::FeaturePropagation;
pub use tokens::{SoftComposition, SoftSplit, fold, overlaps, unfold};
pub use transformer::{FusionFeedForward, SparseTransformer, TransformerBlock};
pub use windows::Holes;
