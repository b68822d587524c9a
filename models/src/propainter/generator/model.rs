use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;

use super::codec::{Decoder, Encoder, SCALE};
use super::input::{GeneratorInput, Guides};
use super::propagation::FeaturePropagation;
use super::tokens::{SoftComposition, SoftSplit};
use super::transformer::SparseTransformer;
use super::windows::Holes;
use crate::propainter::layers::{as_batch, as_frames, in_parts, stage, with_references};

/// Channels of the features.
const CHANNELS: usize = 128;
/// Width of a token.
const TOKEN_WIDTH: usize = 512;
/// Values of a patch between the linear layers of a block.
const HIDDEN: usize = 1960;

/// Settings of an [`InpaintGenerator`].
#[derive(Config, Debug, PartialEq, Eq)]
pub struct InpaintGeneratorConfig {
    /// Blocks of the transformer. The default is `8`, that of the published weights.
    #[config(default = 8)]
    pub depth: usize,
    /// Heads of the attention. The default is `4`, that of the published weights.
    #[config(default = 4)]
    pub heads: usize,
    /// What a layer may allocate at a time besides its input and output, in bytes, where its work
    /// can be divided: attention, patches, encoder and decoder. A single window or frame is always
    /// done at once. The default is `268435456`, 256 MiB.
    #[config(default = 268_435_456)]
    pub working_bytes: usize,
}

impl InpaintGeneratorConfig {
    /// Builds the network on `device`.
    pub fn init(&self, device: &Device) -> InpaintGenerator {
        InpaintGenerator {
            encoder: Encoder::new(device),
            decoder: Decoder::new(CHANNELS, device),
            ss: SoftSplit::new(CHANNELS, TOKEN_WIDTH, device),
            sc: SoftComposition::new(CHANNELS, TOKEN_WIDTH, device),
            feat_prop_module: FeaturePropagation::new(CHANNELS, device),
            transformers: SparseTransformer::new(
                self.depth,
                TOKEN_WIDTH,
                self.heads,
                HIDDEN,
                device,
            ),
            working_bytes: self.working_bytes,
            recompute: false,
        }
    }
}

/// Completes frames whose holes are filled as far as pixels could be found elsewhere.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::propainter::{
///     Flows, GeneratorInput, ImagePropagation, InpaintGeneratorConfig, Sampling,
/// };
///
/// let device = Device::flex();
/// let generator = InpaintGeneratorConfig::new().with_depth(1).init(&device);
/// // Two neighbours and a frame from elsewhere, all of them unknown.
/// let frames = Tensor::<5>::zeros([1, 3, 3, 16, 16], &device);
/// let masks = Tensor::ones([1, 3, 1, 16, 16], &device);
/// let flow = Tensor::zeros([1, 1, 2, 16, 16], &device);
/// let flows = Flows { forward: flow.clone(), backward: flow };
/// let propagation = ImagePropagation { sampling: Sampling::Nearest };
/// let input = GeneratorInput::propagated(frames, flows, masks, 2, propagation);
/// assert_eq!(generator.forward(input).dims(), [1, 2, 3, 16, 16]);
/// ```
///
/// # Exactness
/// Work is divided to bound memory; frames and windows do not see each other's share, so that the
/// bound changes results by no more than the rounding of differently shaped products.
///
/// # References
/// Zhou et al. 2023, "ProPainter: Improving Propagation and Transformer for Video Inpainting",
/// arXiv:2309.03897, section 3; layers and names follow `sczhou/ProPainter`, whose code is not used
/// here.
#[derive(Module, Debug)]
pub struct InpaintGenerator {
    encoder: Encoder,
    /// From features to frames.
    pub decoder: Decoder,
    /// From features to tokens.
    pub ss: SoftSplit,
    /// From tokens to features.
    pub sc: SoftComposition,
    feat_prop_module: FeaturePropagation,
    /// Exchanges tokens between frames.
    pub transformers: SparseTransformer,
    working_bytes: usize,
    recompute: bool,
}

impl InpaintGenerator {
    /// Recomputes activations in the backward pass of training instead of keeping them: those of every
    /// step of the propagation, every block and in it again attention and patches, and encoder,
    /// tokens and decoder, all in the portions that
    /// [`working_bytes`](InpaintGeneratorConfig::working_bytes) makes: 16 MiB suit training.
    ///
    /// The default is [`Policy::None`]; the blocks are fixed, so that any other policy is
    /// [`Policy::EveryBlock`]. Inference is the same either way.
    ///
    /// # Exactness
    /// Gradients are those of plain training.
    #[must_use]
    pub fn with_grad_checkpoint(mut self, policy: Policy) -> Self {
        let recompute = policy != Policy::None;
        self.recompute = recompute;
        self.feat_prop_module.recompute = recompute;
        self.ss.recompute = recompute;
        self.sc.recompute = recompute;
        self.transformers.set_recompute(recompute);
        self
    }

    /// Bounds what a layer allocates at a time, as
    /// [`working_bytes`](InpaintGeneratorConfig::working_bytes) does.
    #[must_use]
    pub fn with_working_bytes(mut self, bytes: usize) -> Self {
        self.working_bytes = bytes;
        self
    }

    /// Completes the local frames.
    ///
    /// # Shapes
    /// - output: `[batch_size, num_local, 3, height, width]`, in [-1, 1]
    ///
    /// # Panics
    /// If a side is no multiple of 4, or there is no local frame.
    pub fn forward(&self, input: GeneratorInput) -> Tensor<5> {
        let num_local = input.num_local;
        self.run(input, num_local)
    }

    /// Completes all frames, as in training.
    ///
    /// # Shapes
    /// - output: `[batch_size, frames, 3, height, width]`, in [-1, 1]
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn forward_all(&self, input: GeneratorInput) -> Tensor<5> {
        let count = input.frames.dims()[1];
        self.run(input, count)
    }

    /// Completes the first `num_output` frames, and looks for holes in these.
    fn run(&self, input: GeneratorInput, num_output: usize) -> Tensor<5> {
        input.check();
        let num_local = input.num_local;
        let features = self.encode(
            input.frames,
            input.masks.clone(),
            input.updated_masks.clone(),
        );
        let guides = Guides::new(input.flows, input.masks, input.updated_masks);
        let features = self.propagate(features, &guides, num_local);
        let holes = guides.holes(num_output);
        let tokens = self.transform(self.split(features.clone()), &holes, &features);
        let features = features.narrow(1, 0, num_output);
        self.decode(features, tokens.narrow(1, 0, num_output))
    }

    /// Encodes frames, each alone: features can be kept for other calls.
    ///
    /// # Shapes
    /// - frames, masks, updated_masks: see [`GeneratorInput`]
    /// - output: `[batch_size, frames, 128, height / 4, width / 4]`
    pub fn encode(
        &self,
        frames: Tensor<5>,
        masks: Tensor<5>,
        updated_masks: Tensor<5>,
    ) -> Tensor<5> {
        let [batch_size, _, _, height, width] = frames.dims();
        let x = as_batch(Tensor::cat(vec![frames, masks, updated_masks], 2));
        let each = Encoder::frame_bytes(height, width);
        let features = in_parts(x, each, self.working_bytes, |x| {
            stage(self.recompute, &self.encoder, x, Encoder::forward)
        });
        as_frames(features, batch_size)
    }

    /// Carries the features of the first `num_local` frames along the flows.
    pub fn propagate(&self, features: Tensor<5>, guides: &Guides, num_local: usize) -> Tensor<5> {
        let masks = guides.masks.clone().narrow(1, 0, num_local);
        let local = features.clone().narrow(1, 0, num_local);
        let local = self.feat_prop_module.forward(local, &guides.flows, masks);
        with_references(local, features)
    }

    /// Makes tokens of features.
    ///
    /// # Shapes
    /// - output: `[batch_size, frames, rows, columns, 512]`
    pub fn split(&self, features: Tensor<5>) -> Tensor<5> {
        let batch_size = features.dims()[0];
        let tokens = self.ss.forward(as_batch(features), self.working_bytes);
        as_frames(tokens, batch_size)
    }

    /// Runs the transformer on the tokens of `features`.
    pub fn transform(&self, tokens: Tensor<5>, holes: &Holes, features: &Tensor<5>) -> Tensor<5> {
        let [_, _, _, height, width] = features.dims();
        let size = [height, width];
        self.transformers
            .forward(tokens, holes, size, self.working_bytes)
    }

    /// Makes frames of features and what the transformer made of them.
    ///
    /// # Shapes
    /// - features: `[batch_size, frames, 128, height, width]`
    /// - tokens: `[batch_size, frames, rows, columns, 512]`
    /// - output: `[batch_size, frames, 3, 4 * height, 4 * width]`
    pub fn decode(&self, features: Tensor<5>, tokens: Tensor<5>) -> Tensor<5> {
        let [batch_size, _, _, height, width] = features.dims();
        let (size, bytes) = ([height, width], self.working_bytes);
        let composed = self.sc.forward(as_batch(tokens), size, bytes);
        let features = as_batch(features) + composed;
        let each = Decoder::frame_bytes(SCALE * height, SCALE * width);
        let frames = in_parts(features, each, bytes, |x| {
            stage(self.recompute, &self.decoder, x, Decoder::forward)
        });
        as_frames(frames, batch_size)
    }
}
