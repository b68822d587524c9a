use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};

use super::correlation::NUM_VALUES;

/// Channels of the hidden state, and of the input from the first frame.
pub(super) const HIDDEN: usize = 128;

/// One correction of the flow.
#[derive(Module, Debug)]
pub struct UpdateBlock {
    /// Features of the flow so far.
    pub encoder: MotionEncoder,
    /// The recurrent cell.
    pub gru: SepConvGru,
    /// The correction, from the hidden state.
    pub flow_head: FlowHead,
    /// The weights of [`upsample_flow`](super::upsample_flow), from the hidden state.
    pub mask: MaskHead,
}

/// Turns the hidden state into a correction of the flow.
#[derive(Module, Debug)]
pub struct FlowHead {
    /// 3×3 convolution.
    pub conv1: Conv2d,
    /// 3×3 convolution to x and y.
    pub conv2: Conv2d,
}

/// Turns the hidden state into the weights with which the flow is upsampled.
#[derive(Module, Debug)]
pub struct MaskHead {
    /// 3×3 convolution.
    pub conv1: Conv2d,
    /// 1×1 convolution to 9 weights for each of 8×8 pixels.
    pub conv2: Conv2d,
}

impl UpdateBlock {
    pub(super) fn new(device: &Device) -> Self {
        let conv = |channels, size| convolution(channels, size, device);
        Self {
            encoder: MotionEncoder::new(device),
            gru: SepConvGru::new(HIDDEN, 2 * HIDDEN, device),
            flow_head: FlowHead {
                conv1: conv([HIDDEN, 256], 3),
                conv2: conv([256, 2], 3),
            },
            mask: MaskHead {
                conv1: conv([HIDDEN, 256], 3),
                conv2: conv([256, 9 * 8 * 8], 1),
            },
        }
    }

    /// Renews the hidden state, given the input from the first frame, the looked-up values and the
    /// flow so far.
    ///
    /// # Shapes
    /// - hidden, input, output: `[batch_size, 128, height, width]`
    /// - correlation: `[batch_size, 324, height, width]`
    /// - flow: `[batch_size, 2, height, width]`
    pub fn forward(
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
}

impl FlowHead {
    /// Computes the correction.
    ///
    /// # Shapes
    /// - hidden: `[batch_size, 128, height, width]`
    /// - output: `[batch_size, 2, height, width]`
    pub fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        self.conv2.forward(relu(self.conv1.forward(hidden)))
    }
}

impl MaskHead {
    /// Computes the weights, before their softmax.
    ///
    /// # Shapes
    /// - hidden: `[batch_size, 128, height, width]`
    /// - output: `[batch_size, 576, height, width]`
    pub fn forward(&self, hidden: Tensor<4>) -> Tensor<4> {
        let weights = self.conv2.forward(relu(self.conv1.forward(hidden)));
        // As trained: smaller gradients into the hidden state.
        weights.mul_scalar(0.25)
    }
}

/// A recurrent cell on maps: first along the rows, then along the columns.
///
/// Each of both passes computes, from the hidden state `h` and the input `x`, how much to renew
/// (`z`), how much of the state to look at (`r`) and what to renew it by (`q`).
#[derive(Module, Debug)]
pub struct SepConvGru {
    /// Renewal along the rows, 1×5.
    pub convz1: Conv2d,
    /// Reset along the rows, 1×5.
    pub convr1: Conv2d,
    /// Candidate along the rows, 1×5.
    pub convq1: Conv2d,
    /// Renewal along the columns, 5×1.
    pub convz2: Conv2d,
    /// Reset along the columns, 5×1.
    pub convr2: Conv2d,
    /// Candidate along the columns, 5×1.
    pub convq2: Conv2d,
}

impl SepConvGru {
    /// Builds a cell with a state of `hidden` channels and inputs of `input` channels.
    pub fn new(hidden: usize, input: usize, device: &Device) -> Self {
        let channels = [hidden + input, hidden];
        let along_rows = || {
            Conv2dConfig::new(channels, [1, 5])
                .with_padding(PaddingConfig2d::Explicit(0, 2, 0, 2))
                .init(device)
        };
        let along_columns = || {
            Conv2dConfig::new(channels, [5, 1])
                .with_padding(PaddingConfig2d::Explicit(2, 0, 2, 0))
                .init(device)
        };
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
    let z = sigmoid(convz.forward(both.clone()));
    let r = sigmoid(convr.forward(both));
    let q = convq.forward(Tensor::cat(vec![r * h.clone(), x], 1)).tanh();
    (1.0 - z.clone()) * h + z * q
}

/// Turns the flow so far, and what was looked up where it leads, into features.
#[derive(Module, Debug)]
pub struct MotionEncoder {
    /// 1×1 convolution of the looked-up values.
    pub convc1: Conv2d,
    /// 3×3 convolution of the looked-up values.
    pub convc2: Conv2d,
    /// 7×7 convolution of the flow.
    pub convf1: Conv2d,
    /// 3×3 convolution of the flow.
    pub convf2: Conv2d,
    /// 3×3 convolution of both.
    pub conv: Conv2d,
}

impl MotionEncoder {
    /// Builds the encoder.
    pub fn new(device: &Device) -> Self {
        let conv = |channels, size| convolution(channels, size, device);
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
        let values = relu(self.convc1.forward(correlation));
        let values = relu(self.convc2.forward(values));
        let motion = relu(self.convf1.forward(flow.clone()));
        let motion = relu(self.convf2.forward(motion));
        let both = relu(self.conv.forward(Tensor::cat(vec![values, motion], 1)));
        Tensor::cat(vec![both, flow], 1)
    }
}

/// A convolution of odd `size` that keeps the size of the map.
pub(super) fn convolution(channels: [usize; 2], size: usize, device: &Device) -> Conv2d {
    let padding = size / 2;
    Conv2dConfig::new(channels, [size, size])
        .with_padding(PaddingConfig2d::Explicit(
            padding, padding, padding, padding,
        ))
        .init(device)
}

/// Pixels of the frame on a side of a pixel of the flow.
pub(super) const FACTOR: usize = 8;

/// Makes a flow eight times as large and as long: each new pixel is a weighted mean of the 3×3
/// pixels around the one it lies in, zero outside.
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
