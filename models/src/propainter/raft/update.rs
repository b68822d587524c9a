use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::softmax;
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};
use burn_memopt::nn::{conv2d, relu, sigmoid, tanh};

use super::correlation::NUM_VALUES;
use crate::propainter::layers::conv;

/// Channels of the hidden state, and of the input from the first frame.
pub(super) const HIDDEN: usize = 128;

/// One correction of the flow.
#[derive(Module, Debug)]
pub(super) struct UpdateBlock {
    pub encoder: MotionEncoder,
    pub gru: SepConvGru,
    /// From the hidden state to the correction, `[batch_size, 2, height, width]`.
    pub flow_head: Head,
    /// From the hidden state to the weights of [`upsample_flow`].
    pub mask: Head,
}

/// Two convolutions.
#[derive(Module, Debug)]
pub(super) struct Head {
    pub conv1: Conv2d,
    pub conv2: Conv2d,
}

impl UpdateBlock {
    pub(super) fn new(device: &Device) -> Self {
        let head = |outputs, kernel| Head {
            conv1: conv([HIDDEN, 256], 3, device),
            conv2: conv([256, outputs], kernel, device),
        };
        Self {
            encoder: MotionEncoder::new(device),
            gru: SepConvGru::new(HIDDEN, 2 * HIDDEN, device),
            flow_head: head(2, 3),
            mask: head(9 * FACTOR * FACTOR, 1),
        }
    }

    /// Renews the hidden state, given the input from the first frame, the looked-up values and the
    /// flow so far.
    ///
    /// # Shapes
    /// - hidden, input, output: `[batch_size, 128, height, width]`
    /// - correlation: `[batch_size, 324, height, width]`
    /// - flow: `[batch_size, 2, height, width]`
    pub(super) fn forward(
        &self,
        hidden: Tensor<4>,
        input: Tensor<4>,
        correlation: Tensor<4>,
        flow: Tensor<4>,
    ) -> Tensor<4> {
        let motion = self.encoder.forward(flow, correlation);
        self.gru
            .forward(hidden, Tensor::cat(vec![input, motion], 1))
    }

    /// The weights of [`upsample_flow`], before their softmax.
    pub(super) fn weights(&self, hidden: Tensor<4>) -> Tensor<4> {
        // As trained: smaller gradients into the hidden state.
        self.mask.forward(hidden).mul_scalar(0.25)
    }
}

impl Head {
    pub(super) fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        conv2d(&self.conv2, relu(conv2d(&self.conv1, hidden)))
    }
}

/// A recurrent cell on maps: first along the rows, then along the columns.
///
/// Each of both passes computes, from the hidden state `h` and the input `x`, how much to renew
/// (`z`), how much of the state to look at (`r`) and what to renew it by (`q`).
#[derive(Module, Debug)]
pub struct SepConvGru {
    convz1: Conv2d,
    convr1: Conv2d,
    convq1: Conv2d,
    convz2: Conv2d,
    convr2: Conv2d,
    convq2: Conv2d,
}

impl SepConvGru {
    /// Builds a cell with a state of `hidden` channels and inputs of `input` channels.
    pub fn new(hidden: usize, input: usize, device: &Device) -> Self {
        let channels = [hidden + input, hidden];
        let conv = |kernel, [down, right]: [usize; 2]| {
            let padding = PaddingConfig2d::Explicit(down, right, down, right);
            let config = Conv2dConfig::new(channels, kernel).with_padding(padding);
            config.init(device)
        };
        let along_rows = || conv([1, 5], [0, 2]);
        let along_columns = || conv([5, 1], [2, 0]);
        Self {
            convz1: along_rows(),
            convr1: along_rows(),
            convq1: along_rows(),
            convz2: along_columns(),
            convr2: along_columns(),
            convq2: along_columns(),
        }
    }

    /// Renews the state.
    ///
    /// # Shapes
    /// - h, output: `[batch_size, hidden, height, width]`
    /// - x: `[batch_size, input, height, width]`
    pub fn forward(&self, h: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
        let h = pass([&self.convz1, &self.convr1, &self.convq1], h, x.clone());
        pass([&self.convz2, &self.convr2, &self.convq2], h, x)
    }
}

fn pass([convz, convr, convq]: [&Conv2d; 3], h: Tensor<4>, x: Tensor<4>) -> Tensor<4> {
    let both = Tensor::cat(vec![h.clone(), x.clone()], 1);
    let z = sigmoid(conv2d(convz, both.clone()));
    let r = sigmoid(conv2d(convr, both));
    let q = tanh(conv2d(convq, Tensor::cat(vec![r * h.clone(), x], 1)));
    (1.0 - z.clone()) * h + z * q
}

/// Turns the flow so far, and what was looked up where it leads, into features.
#[derive(Module, Debug)]
pub struct MotionEncoder {
    convc1: Conv2d,
    convc2: Conv2d,
    convf1: Conv2d,
    convf2: Conv2d,
    conv: Conv2d,
}

impl MotionEncoder {
    /// Builds the encoder.
    pub fn new(device: &Device) -> Self {
        let conv = |channels, kernel| conv(channels, kernel, device);
        Self {
            convc1: conv([NUM_VALUES, 256], 1),
            convc2: conv([256, 192], 3),
            convf1: conv([2, 128], 7),
            convf2: conv([128, 64], 3),
            conv: conv([192 + 64, 128 - 2], 3),
        }
    }

    /// Computes the features; the last two channels are the flow itself.
    ///
    /// # Shapes
    /// - flow: `[batch_size, 2, height, width]`
    /// - correlation: `[batch_size, 324, height, width]`
    /// - output: `[batch_size, 128, height, width]`
    pub fn forward(&self, flow: Tensor<4>, correlation: Tensor<4>) -> Tensor<4> {
        let values = relu(conv2d(&self.convc1, correlation));
        let values = relu(conv2d(&self.convc2, values));
        let motion = relu(conv2d(&self.convf1, flow.clone()));
        let motion = relu(conv2d(&self.convf2, motion));
        let both = relu(conv2d(&self.conv, Tensor::cat(vec![values, motion], 1)));
        Tensor::cat(vec![both, flow], 1)
    }
}

/// Pixels of the frame on a side of a pixel of the flow.
pub(super) const FACTOR: usize = 8;

/// Makes a flow eight times as large and as long: each new pixel is a weighted mean of the 3×3
/// pixels around the one it is in, zero outside.
///
/// # Shapes
/// - flow: `[batch_size, 2, height, width]`, in its own pixels
/// - weights: `[batch_size, 576, height, width]`, before their softmax: 9 neighbours row by row, for
///   each of 8×8 new pixels
/// - output: `[batch_size, 2, 8 * height, 8 * width]`, in new pixels
///
/// # References
/// Teed and Deng 2020, arXiv:2003.12039, §3.3, "upsampling".
pub fn upsample_flow(flow: Tensor<4>, weights: Tensor<4>) -> Tensor<4> {
    let [batch_size, _, height, width] = flow.dims();
    let num_new = FACTOR * FACTOR;
    let weights = weights.reshape([batch_size, 9, num_new, height, width]);
    let weights = softmax(weights, 1);
    let padded = flow
        .mul_scalar(FACTOR as f64)
        .pad((1, 1, 1, 1), PadMode::Constant(0.0));
    let neighbours = (0..3).flat_map(|row| (0..3).map(move |column| (row, column)));
    let weighted = neighbours.enumerate().map(|(neighbour, (row, column))| {
        // [b, 2, h, w] -> [b, 2, 1, h, w], and [b, 1, 64, h, w]
        let shifted = padded
            .clone()
            .narrow(2, row, height)
            .narrow(3, column, width);
        let weight = weights.clone().narrow(1, neighbour, 1);
        shifted.unsqueeze_dim::<5>(2) * weight
    });
    let upsampled = weighted.reduce(|sum, next| sum + next);
    upsampled
        .expect("invariant: there are nine neighbours")
        .reshape([batch_size, 2, FACTOR, FACTOR, height, width])
        .permute([0, 1, 4, 2, 5, 3])
        .reshape([batch_size, 2, FACTOR * height, FACTOR * width])
}
