use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, DeformConv2d, DeformConv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use super::deformable::deformable;
use super::layers::{chain, conv3x3};
use super::warp::in_dtype;

/// Groups of channels with offsets of their own.
const GROUPS: usize = 16;
/// Pixels of the kernel, over all groups.
const POINTS: usize = 9 * GROUPS;

/// Aligns features by a modulated deformable convolution, whose offsets and weights are predicted
/// from a condition.
///
/// # References
/// Zhu et al. 2019, "Deformable ConvNets v2", arXiv:1811.11168, eq. 1; Chan et al. 2022,
/// "BasicVSR++", arXiv:2104.13371, section 3.2 (offsets around a flow).
#[derive(Module, Debug)]
pub struct DeformAlign {
    /// The convolution, with 16 groups of offsets.
    pub deform: DeformConv2d,
    /// From the condition to offsets and weights.
    pub conv_offset: Vec<Conv2d>,
    reach: f64,
}

impl DeformAlign {
    /// Builds the layer for input and output `channels`, a condition of `condition` channels and
    /// offsets of up to `reach` pixels on `device`.
    ///
    /// The last layer begins with zeros: no offsets, all weights one half.
    pub fn new(channels: [usize; 2], condition: usize, reach: f64, device: &Device) -> Self {
        let width = channels[1];
        let deform = DeformConv2dConfig::new(channels, [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .with_offset_groups(GROUPS);
        let last = Conv2dConfig::new([width, 3 * POINTS], [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .with_initializer(Initializer::Zeros);
        Self {
            deform: deform.init(device),
            conv_offset: vec![
                conv3x3([condition, width], device),
                conv3x3([width, width], device),
                conv3x3([width, width], device),
                last.init(device),
            ],
            reach,
        }
    }

    /// Convolves `x` where the offsets predicted from `condition`, around `flow` if there is one,
    /// point to.
    ///
    /// # Shapes
    /// - x: `[batch_size, channels, height, width]`
    /// - condition: `[batch_size, condition, height, width]`
    /// - flow: `[batch_size, 2, height, width]`, to the right and down, in pixels
    /// - output: `[batch_size, channels, height, width]`
    pub fn forward(
        &self,
        x: Tensor<4>,
        condition: Tensor<4>,
        flow: Option<Tensor<4>>,
    ) -> Tensor<4> {
        let predicted = chain(&self.conv_offset, 0.1, condition);
        let offset = predicted.clone().narrow(1, 0, 2 * POINTS).tanh();
        let offset = offset.mul_scalar(self.reach);
        let offset = match flow {
            None => offset,
            Some(flow) => {
                // Offsets go down first.
                let flow = in_dtype(flow, offset.dtype()).flip([1]);
                offset + flow.repeat_dim(1, POINTS)
            }
        };
        let weights = sigmoid(predicted.narrow(1, 2 * POINTS, POINTS));
        deformable(&self.deform, x, offset, weights)
    }
}
