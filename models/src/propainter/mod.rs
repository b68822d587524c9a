//! ProPainter: completes holes in videos.
//!
//! | piece | does |
//! |---|---|
//! | [`FlowCompletion`] | completes optical flow inside the holes |
//! | [`ImagePropagation`] | fills holes with pixels of other frames, along the completed flow |
//! | [`InpaintGenerator`] | completes what is left, from features of neighbouring and far frames |
//! | [`Discriminator`] | distinguishes real clips from completed ones, for training |
//! | [`training`] | what they learn from |
//! | [`AdversarialStep`] | a training step of generator and discriminator |
//! | [`ProPainter`] | the networks with their published weights |
//! | [`inpaint`] | completes videos of any length in bounded memory |
//! | [`raft`] | the optical flow between two frames |
//! | [`warp`], [`consistency`] | follow a flow, and where it can be trusted |
//!
//! Layers and names in a checkpoint are those of ProPainter, so that its weights load through
//! [`StateDict`](crate::weights::StateDict). Clips are `[batch_size, frames, channels, height,
//! width]`, colours in [-1, 1]; flows have channel 0 to the right and channel 1 down, in pixels; a
//! mask is 1 in the hole.
//!
//! # Memory
//! Attention runs in batches of windows, and patches, encoder and decoder in batches of frames, all
//! bounded in bytes by [`InpaintGeneratorConfig::working_bytes`]. For training,
//! [`InpaintGenerator::with_grad_checkpoint`] recomputes every stage of a step and every block, and
//! [`FlowCompletion::with_grad_checkpoint`] every layer.
//!
//! # References
//! Zhou et al. 2023, "ProPainter: Improving Propagation and Transformer for Video Inpainting",
//! arXiv:2309.03897; layers follow `sczhou/ProPainter`, whose code is not used here.

mod flow;
mod generator;
pub mod inpaint;
mod layers;
mod model;
mod published;
pub mod raft;
pub mod training;
mod weights;

pub use flow::{
    FlowCompletion, FlowPrediction, Flows, ImagePropagation, MaskedFrame, PseudoConv3d, Sampling,
    combine, consistency, masks_of_pairs, sampling_grid, warp,
};
pub use generator::{
    FeaturePropagation, FusionFeedForward, GeneratorInput, Guides, Holes, InpaintGenerator,
    InpaintGeneratorConfig, SoftComposition, SoftSplit, SparseTransformer, TransformerBlock, fold,
    overlaps, unfold,
};
pub use model::ProPainter;
pub use published::Published;
pub use training::{AdversarialStep, Discriminator, Rivals, SpectralConv3d, View};
