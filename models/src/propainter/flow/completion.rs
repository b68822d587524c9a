use burn::module::Module;
use burn::nn::PaddingConfig3d;
use burn::nn::conv::{Conv2d, Conv2dConfig, Conv3d, Conv3dConfig};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::impl_tensors;
use burn_memopt::nn::{conv2d, conv3d, leaky_relu, sigmoid};

use super::Flows;
use super::propagation::FlowPropagation;
use crate::propainter::layers::{UpsamplingConv, as_batch, as_frames, conv, inverse, stage};

/// Spatial dilations of the layers in the middle.
const DILATIONS: [usize; 3] = [3, 2, 1];

/// Completes optical flow inside holes, from the flow around them and from other frames.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::propainter::{FlowCompletion, Flows};
///
/// let device = Device::flex();
/// let network = FlowCompletion::new(&device);
/// // Three frames of 16×16 pixels: two flows each way.
/// let flow = Tensor::<5>::ones([1, 2, 2, 16, 16], &device);
/// let flows = Flows { forward: flow.clone(), backward: flow };
/// let masks = Tensor::zeros([1, 3, 1, 16, 16], &device);
/// let completed = network.complete(flows.clone(), &masks);
/// // Without a hole nothing changes.
/// assert_eq!(completed.forward.into_data(), flows.forward.into_data());
/// ```
///
/// # References
/// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.2 (recurrent flow completion); layers
/// and names follow `sczhou/ProPainter`, whose code is not used here.
#[derive(Module, Debug)]
pub struct FlowCompletion {
    /// To half the sides.
    pub downsample: Conv3d,
    encoder1: Vec<PseudoConv3d>,
    encoder2: Vec<PseudoConv3d>,
    mid_dilation: Vec<Conv3d>,
    /// Carries features through time.
    pub feat_prop_module: FlowPropagation,
    /// To a quarter of the sides.
    pub decoder2: UpStage,
    decoder1: UpStage,
    /// To flow at the full sides.
    pub upsample: UpStage,
    /// Finds the edges of the completed flow.
    pub edge_detector: EdgeDetector,
    recompute: bool,
}

/// What a [`FlowCompletion`] predicts for a clip in training.
#[derive(Clone, Debug)]
pub struct FlowPrediction {
    /// The flows everywhere.
    pub flows: Flows,
    /// How likely each pixel is on an edge of the forward, and of the backward flow:
    /// `[batch_size, frames - 1, 1, height, width]` each.
    pub edges: [Tensor<5>; 2],
}

impl_tensors!(FlowPrediction { flows, edges });

/// A convolution and one that doubles the sides.
#[derive(Module, Debug)]
pub struct UpStage {
    pub conv: Conv2d,
    pub up: UpsamplingConv,
}

impl UpStage {
    fn new([inputs, outputs]: [usize; 2], device: &Device) -> Self {
        Self {
            conv: conv([inputs, inputs], 3, device),
            up: UpsamplingConv {
                conv: conv([inputs, outputs], 3, device),
            },
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.up.forward(leaky_relu(conv2d(&self.conv, x), 0.2))
    }
}

impl FlowCompletion {
    /// Builds the network on `device`.
    pub fn new(device: &Device) -> Self {
        let encoder = |inputs: usize, outputs: usize| {
            vec![
                PseudoConv3d::new([inputs, inputs], 1, device),
                PseudoConv3d::new([inputs, outputs], 2, device),
            ]
        };
        let dilated = |dilation: usize| {
            Conv3dConfig::new([128, 128], [1, 3, 3])
                .with_dilation([1, dilation, dilation])
                .with_padding(PaddingConfig3d::Explicit(0, dilation, dilation))
                .init(device)
        };
        let downsample = Conv3dConfig::new([3, 32], [1, 5, 5]).with_stride([1, 2, 2]);
        Self {
            downsample: downsample.init(device),
            encoder1: encoder(32, 64),
            encoder2: encoder(64, 128),
            mid_dilation: DILATIONS.map(dilated).into(),
            feat_prop_module: FlowPropagation::new(128, device),
            decoder2: UpStage::new([128, 64], device),
            decoder1: UpStage::new([64, 32], device),
            upsample: UpStage::new([32, 2], device),
            edge_detector: EdgeDetector::new(device),
            recompute: false,
        }
    }

    /// Recomputes activations in the backward pass of training instead of keeping them: those
    /// of every layer, and of every step of the propagation.
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
        self
    }

    /// Predicts the flow everywhere, in one direction.
    ///
    /// # Shapes
    /// - flows and output: `[batch_size, pairs, 2, height, width]`, 0 in the holes, in pixels
    /// - masks: `[batch_size, pairs, 1, height, width]`, 1 in the holes
    ///
    /// # Panics
    /// If a side is no multiple of 8.
    pub fn forward(&self, flows: Tensor<5>, masks: Tensor<5>) -> Tensor<5> {
        let [batch_size, _, _, height, width] = flows.dims();
        assert!(
            height.is_multiple_of(8) && width.is_multiple_of(8),
            "flow sides must be multiples of 8 pixels, got {height}×{width}"
        );
        let x = Tensor::cat(vec![flows, masks], 2).swap_dims(1, 2);
        let quarter = self.encode(self.halve(x));
        let x = self.dilate(self.encode_further(quarter.clone()));
        let x = as_batch(self.feat_prop_module.forward(x.swap_dims(1, 2)));
        let double = |up: &UpStage, x| {
            stage(self.recompute, up, x, |up, x| {
                leaky_relu(up.forward(x), 0.2)
            })
        };
        let x = double(&self.decoder2, x) + as_batch(quarter.swap_dims(1, 2));
        let x = double(&self.decoder1, x);
        let x = stage(self.recompute, &self.upsample, x, UpStage::forward);
        as_frames(x, batch_size)
    }

    /// To half the sides; the input continues beyond its edges as it ends.
    ///
    /// # Shapes
    /// - x: `[batch_size, 3, pairs, height, width]`, flow and mask
    /// - output: `[batch_size, 32, pairs, height / 2, width / 2]`
    pub fn halve(&self, x: Tensor<5>) -> Tensor<5> {
        stage(self.recompute, &self.downsample, x, |conv, x| {
            let x = x.pad([(2, 2), (2, 2)], PadMode::Edge);
            leaky_relu(conv3d(conv, x), 0.2)
        })
    }

    /// From half to a quarter of the sides, 64 channels.
    pub fn encode(&self, x: Tensor<5>) -> Tensor<5> {
        self.run(&self.encoder1, x, PseudoConv3d::forward)
    }

    /// From a quarter to an eighth of the sides, 128 channels.
    pub fn encode_further(&self, x: Tensor<5>) -> Tensor<5> {
        self.run(&self.encoder2, x, PseudoConv3d::forward)
    }

    /// The dilated convolutions at an eighth of the sides.
    pub fn dilate(&self, x: Tensor<5>) -> Tensor<5> {
        self.run(&self.mid_dilation, x, conv3d)
    }

    /// Layers one after the other, each followed by a leaky ReLU.
    fn run<M: Module + 'static>(
        &self,
        layers: &[M],
        x: Tensor<5>,
        forward: fn(&M, Tensor<5>) -> Tensor<5>,
    ) -> Tensor<5> {
        layers.iter().fold(x, |x, layer| {
            stage(self.recompute, layer, x, move |layer, x| {
                leaky_relu(forward(layer, x), 0.2)
            })
        })
    }

    /// How likely each pixel of a flow is on one of its edges.
    ///
    /// # Shapes
    /// - flows: `[batch_size, pairs, 2, height, width]`
    /// - output: `[batch_size, pairs, 1, height, width]`
    pub fn edges(&self, flows: Tensor<5>) -> Tensor<5> {
        let batch_size = flows.dims()[0];
        let x = as_batch(flows);
        let detector = &self.edge_detector;
        let edges = stage(self.recompute, detector, x, EdgeDetector::forward);
        as_frames(edges, batch_size)
    }

    /// Predicts the flows of both directions everywhere; the values given inside the holes are
    /// ignored.
    ///
    /// # Shapes
    /// - flows and output: `[batch_size, frames - 1, 2, height, width]` each way
    /// - masks: `[batch_size, frames, 1, height, width]`, 1 in the holes
    pub fn predict(&self, flows: Flows, masks: &Tensor<5>) -> Flows {
        let [there, back] = masks_of_pairs(masks);
        let known = |flow: Tensor<5>, mask: &Tensor<5>| flow * inverse(mask.clone());
        let forward = self.forward(known(flows.forward, &there), there);
        let backward = known(flows.backward, &back).flip([1]);
        let backward = self.forward(backward, back.flip([1])).flip([1]);
        Flows { forward, backward }
    }

    /// Predicts the flows of both directions and their edges, which
    /// [`FlowCompletionLoss`](crate::propainter::training::FlowCompletionLoss) takes.
    ///
    /// # Shapes
    /// As [`predict`](Self::predict).
    pub fn predict_with_edges(&self, flows: Flows, masks: &Tensor<5>) -> FlowPrediction {
        let flows = self.predict(flows, masks);
        let edges = [&flows.forward, &flows.backward].map(|flow| self.edges(flow.clone()));
        FlowPrediction { flows, edges }
    }

    /// Completes flows: what is predicted inside the holes, what is given outside.
    ///
    /// # Shapes
    /// As [`predict`](Self::predict).
    pub fn complete(&self, flows: Flows, masks: &Tensor<5>) -> Flows {
        combine(self.predict(flows.clone(), masks), flows, masks)
    }
}

/// Takes `inside` where the masks are 1 and `outside` where they are 0.
///
/// # Shapes
/// As [`FlowCompletion::predict`].
pub fn combine(inside: Flows, outside: Flows, masks: &Tensor<5>) -> Flows {
    let [there, back] = masks_of_pairs(masks);
    let chosen = |inside: Tensor<5>, outside: Tensor<5>, mask: Tensor<5>| {
        inside * mask.clone() + outside * inverse(mask)
    };
    Flows {
        forward: chosen(inside.forward, outside.forward, there),
        backward: chosen(inside.backward, outside.backward, back),
    }
}

/// The masks of the frames that the forward and the backward flows begin in.
pub fn masks_of_pairs(masks: &Tensor<5>) -> [Tensor<5>; 2] {
    let pairs = masks.dims()[1] - 1;
    [0, 1].map(|first| masks.clone().narrow(1, first, pairs))
}

/// A convolution of 3×3 pixels within each frame, then one of three frames, every other one, at
/// each pixel.
///
/// # References
/// Qiu et al. 2017, "Pseudo-3D residual networks", arXiv:1711.10305, fig. 2 (P3D-A).
#[derive(Module, Debug)]
pub struct PseudoConv3d {
    conv1: Conv3d,
    conv2: Conv3d,
}

impl PseudoConv3d {
    /// Builds the layer for input and output `channels` and a spatial `stride` on `device`.
    pub fn new(channels: [usize; 2], stride: usize, device: &Device) -> Self {
        let spatial = Conv3dConfig::new(channels, [1, 3, 3])
            .with_stride([1, stride, stride])
            .with_padding(PaddingConfig3d::Explicit(0, 1, 1));
        let temporal = Conv3dConfig::new([channels[1], channels[1]], [3, 1, 1])
            .with_dilation([2, 1, 1])
            .with_padding(PaddingConfig3d::Explicit(2, 0, 0));
        Self {
            conv1: spatial.init(device),
            conv2: temporal.init(device),
        }
    }

    /// Convolves, with a leaky ReLU in between.
    ///
    /// # Shapes
    /// - x: `[batch_size, channels, frames, height, width]`
    /// - output: `[batch_size, channels, frames, height / stride, width / stride]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        conv3d(&self.conv2, leaky_relu(conv3d(&self.conv1, x), 0.2))
    }
}

/// Channels between the layers.
const WIDTH: usize = 16;

/// Finds the edges of a flow, for a loss that keeps completed flows sharp; used in training only.
///
/// # References
/// Zhang et al. 2022, "Flow-Guided Transformer for Video Inpainting", arXiv:2208.06768, section
/// 3.2 (edge loss).
#[derive(Module, Debug)]
pub struct EdgeDetector {
    pub projection: Conv2d,
    mid_layer_1: Conv2d,
    mid_layer_2: Conv2d,
    out_layer: Conv2d,
}

impl EdgeDetector {
    fn new(device: &Device) -> Self {
        Self {
            projection: conv([2, WIDTH], 3, device),
            mid_layer_1: conv([WIDTH, WIDTH], 3, device),
            mid_layer_2: conv([WIDTH, WIDTH], 3, device),
            out_layer: Conv2dConfig::new([WIDTH, 1], [1, 1]).init(device),
        }
    }

    /// How likely each pixel is on an edge.
    ///
    /// # Shapes
    /// - flow: `[batch_size, 2, height, width]`
    /// - output: `[batch_size, 1, height, width]`
    fn forward(&self, flow: Tensor<4>) -> Tensor<4> {
        let x = leaky_relu(conv2d(&self.projection, flow), 0.2);
        let branch = leaky_relu(conv2d(&self.mid_layer_1, x.clone()), 0.2);
        let branch = conv2d(&self.mid_layer_2, branch);
        sigmoid(conv2d(&self.out_layer, leaky_relu(x + branch, 0.01)))
    }
}
