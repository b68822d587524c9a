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
pub mod raft;
pub mod training;
mod weights;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt::memory::{Bytes, on_host};
use burn_memopt::precision::ops::full;
use burn_memopt::precision::{Autocast, Precision, PrecisionError};

use crate::weights::WeightsError;
use inpaint::Networks;
use layers::{as_batch, as_frames, in_dtype, inverse};
use raft::{Correlation, Raft};

pub use flow::{
    FlowCompletion, FlowPrediction, Flows, ImagePropagation, MaskedFrame, PseudoConv3d, Sampling,
    combine, consistency, masks_of_pairs, sampling_grid, warp,
};
pub use generator::{
    FeaturePropagation, FusionFeedForward, GeneratorInput, Guides, Holes, InpaintGenerator,
    InpaintGeneratorConfig, SoftComposition, SoftSplit, SparseTransformer, TransformerBlock, fold,
    overlaps, unfold,
};
pub use training::{AdversarialStep, Discriminator, Rivals, SpectralConv3d, View};
pub use weights::Published;

/// What is computed at a time besides the frames, by default.
const WORKING_MEMORY: Bytes = Bytes::gib(1);
/// Features that are compared at a time, which a processor's cache holds.
const FEATURES_ON_HOST: Bytes = Bytes::mib(4);
/// Features that are compared at a time on a GPU, which has many cores to feed.
const FEATURES_ON_GPU: Bytes = Bytes::mib(64);

/// The networks that complete videos, by the weights that were published with ProPainter.
///
/// # Example
/// ```no_run
/// use burn::tensor::Device;
/// use burn_memopt_models::propainter::ProPainter;
///
/// let networks = ProPainter::load("weights", &Device::flex())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Module, Debug)]
pub struct ProPainter {
    /// Optical flow; weights `raft-things`.
    pub flow: Raft,
    /// Flow inside the holes; weights `recurrent_flow_completion`.
    pub completion: FlowCompletion,
    /// What no frame shows; weights `ProPainter`.
    pub generator: InpaintGenerator,
}

impl ProPainter {
    /// Loads `raft-things`, `recurrent_flow_completion` and `ProPainter` out of a folder, each
    /// `.safetensors` or else `.pth`.
    ///
    /// # Errors
    /// If a file cannot be read, or a tensor is missing, unexpected or of another shape.
    pub fn load(folder: impl AsRef<Path>, device: &Device) -> Result<Self, WeightsError> {
        let folder = folder.as_ref();
        let networks = Self {
            flow: Raft::load_published(folder, device)?,
            completion: FlowCompletion::load_published(folder, device)?,
            generator: InpaintGenerator::load_published(folder, device)?,
        };
        Ok(networks.with_working_memory(WORKING_MEMORY, device))
    }

    /// Makes the weights up from their names, the same on every machine: for trials of everything
    /// but the pictures, which are patterns. The flow is small, as between most frames.
    pub fn procedural(device: &Device) -> Self {
        let networks = Self {
            flow: Raft::procedural(device),
            completion: FlowCompletion::procedural(device),
            generator: InpaintGenerator::procedural(device),
        };
        networks.with_working_memory(WORKING_MEMORY, device)
    }

    /// Computes flow completion and the generator in this precision, in half the memory if it is
    /// half; the optical flow, and whatever decides where pixels come from, stays f32.
    ///
    /// # Exactness
    /// Half precision rounds to three decimal digits: completed pixels differ by a few of 255.
    ///
    /// # Errors
    /// If `device`, on which the networks are, does not compute in it.
    pub fn in_precision(
        self,
        precision: Precision,
        device: &Device,
    ) -> Result<Self, PrecisionError> {
        precision.check(device)?;
        let autocast = Autocast::new(precision);
        Ok(Self {
            flow: self.flow,
            completion: autocast.view(&self.completion),
            generator: autocast.view(&self.generator),
        })
    }

    /// Bounds what is computed at a time besides the frames that are given, where work can be
    /// divided: the comparison of frames by the optical flow to `working`, layers of the generator
    /// to a quarter of it. A single window or frame is always done at once. The default is 1 GiB.
    ///
    /// # Exactness
    /// The result is the same up to rounding, whatever the bound.
    #[must_use]
    pub fn with_working_memory(self, working: Bytes, device: &Device) -> Self {
        let part = working.get() / 4;
        let correlation = Correlation::Bounded {
            max_volume: working,
            max_bytes: if on_host(device) {
                FEATURES_ON_HOST
            } else {
                FEATURES_ON_GPU.min(Bytes::new(part))
            },
        };
        let bytes = usize::try_from(part).unwrap_or(usize::MAX);
        Self {
            flow: self.flow.with_correlation(correlation),
            completion: self.completion,
            generator: self.generator.with_working_bytes(bytes),
        }
    }
}

impl Networks for ProPainter {
    fn flows(&self, images: Tensor<5>, iterations: usize) -> Flows {
        self.flow.clip_flows(images, iterations)
    }

    fn complete(&self, flows: Flows, holes: Tensor<5>) -> Flows {
        let dtype = self.completion.downsample.weight.dtype();
        let given = flows.clone().map(|flow| in_dtype(flow, dtype));
        let predicted = self
            .completion
            .predict(given, &in_dtype(holes.clone(), dtype));
        combine(predicted.map(full), flows, &holes)
    }

    fn propagate(&self, images: Tensor<5>, flows: Flows, holes: Tensor<5>) -> [Tensor<5>; 2] {
        let propagation = ImagePropagation {
            sampling: Sampling::Nearest,
        };
        let known = images * inverse(holes.clone());
        let (filled, left) = propagation.forward(known.clone(), &flows, holes.clone());
        [known + filled * holes, left]
    }

    fn encode(&self, image: Tensor<5>, hole: Tensor<5>, left: Tensor<5>) -> Tensor<4> {
        let dtype = self.generator.ss.embedding.weight.dtype();
        let [image, hole, left] = [image, hole, left].map(|given| in_dtype(given, dtype));
        as_batch(self.generator.encode(image, hole, left))
    }

    fn generate(
        &self,
        features: Vec<Tensor<4>>,
        flows: Flows,
        holes: Tensor<5>,
        left: Tensor<5>,
    ) -> Tensor<4> {
        let num_local = holes.dims()[1];
        let features = as_frames(Tensor::cat(features, 0), 1);
        let dtype = features.dtype();
        let [holes, left] = [holes, left].map(|given| in_dtype(given, dtype));
        let flows = flows.map(|flow| in_dtype(flow, dtype));
        let guides = Guides::new(flows, holes, left);
        let features = self.generator.propagate(features, &guides, num_local);
        let holes = guides.holes(num_local);
        let tokens = self.generator.split(features.clone());
        let tokens = self.generator.transform(tokens, &holes, &features);
        let features = features.narrow(1, 0, num_local);
        let frames = self
            .generator
            .decode(features, tokens.narrow(1, 0, num_local));
        as_batch(frames)
    }
}
