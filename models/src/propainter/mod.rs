//! ProPainter: completes holes in videos.
//!
//! | piece | does |
//! |---|---|
//! | [`FlowCompletion`] | completes optical flow inside the holes |
//! | [`ImagePropagation`] | fills holes with pixels of other frames, along the completed flow |
//! | [`InpaintGenerator`] | completes what is left, from features of neighbouring and far frames |
//! | [`Discriminator`] | tells real clips from completed ones, for training |
//! | [`loss`] | what they learn from |
//! | [`AdversarialStep`] | a training step of generator and discriminator |
//! | [`ProPainter`] | the networks with their published weights |
//! | [`inpaint`] | completes videos of any length in bounded memory |
//! | [`raft`] | the optical flow between two frames |
//! | [`warp`], [`consistency`] | follow a flow, and say where it can be trusted |
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

mod adversarial;
mod attention;
mod decoder;
mod deform_align;
mod deformable;
mod direction;
mod discriminator;
mod edge_detector;
mod encoder;
mod feature_propagation;
mod flow_completion;
mod flow_propagation;
mod fusion;
mod generator;
mod generator_input;
mod guides;
mod holes;
mod image_propagation;
mod in_parts;
pub mod inpaint;
mod layers;
pub mod loss;
mod model;
mod p3d;
mod patches;
mod procedural;
mod projection;
mod published;
pub mod raft;
mod soft_split;
mod spectral_norm;
mod stage;
mod transformer;
mod upsampling_conv;
mod warp;
mod weights;
mod windows;

pub use adversarial::{AdversarialStep, Rivals};
pub use attention::SparseWindowAttention;
pub use decoder::Decoder;
pub use deform_align::DeformAlign;
pub use discriminator::{Discriminator, View};
pub use edge_detector::EdgeDetector;
pub use encoder::Encoder;
pub use feature_propagation::{FeaturePass, FeaturePropagation, Flows};
pub use flow_completion::{FlowCompletion, FlowPrediction, UpStage, combine, masks_of_pairs};
pub use flow_propagation::{FlowPass, FlowPropagation};
pub use fusion::FusionFeedForward;
pub use generator::{InpaintGenerator, InpaintGeneratorConfig};
pub use generator_input::GeneratorInput;
pub use guides::Guides;
pub use holes::Holes;
pub use image_propagation::{Filled, ImagePropagation};
pub use model::ProPainter;
pub use p3d::PseudoConv3d;
pub use patches::{fold, overlaps, token_grid, unfold};
pub use projection::Projection;
pub use published::Published;
pub use soft_split::{SoftComposition, SoftSplit};
pub use spectral_norm::SpectralConv3d;
pub use transformer::{SparseTransformer, TransformerBlock};
pub use upsampling_conv::UpsamplingConv;
pub use warp::{Sampling, consistency, sampling_grid, warp};
