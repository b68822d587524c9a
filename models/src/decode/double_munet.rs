use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use burn_memopt::grad_checkpoint::Cut;
use burn_memopt::precision::ops::full;

use super::backbone::MUNet;

/// DECODE's network for localizations without uncertainties.
///
/// | channel | holds | range |
/// |---|---|---|
/// | 0 | an emitter is here: logit in training, probability in inference | any, 0 to 1 |
/// | 1 | photons, as a share of a scale | 0 to 1 |
/// | 2, 3 | offset from the pixel's centre along the rows' axis and the columns' axis | -1 to 1 |
/// | 4 | z | -1 to 1 |
/// | 5 | background, where there are six channels | 0 to 1 |
#[derive(Module, Debug)]
pub struct DoubleMUNet {
    /// The network before its outputs.
    pub net: MUNet,
}

impl DoubleMUNet {
    /// Localizes the middle frame of every window, with logits for
    /// [`PixelLoss`](crate::loss::PixelLoss).
    ///
    /// # Shapes
    /// - windows: `[batch_size, num_frames, height, width]`, neighbouring frames in their order
    /// - output: `[batch_size, channels, height, width]`, f32
    ///
    /// # Panics
    /// As [`MUNet::forward`].
    pub fn forward(&self, windows: Tensor<4>) -> Tensor<4> {
        activate(self.net.forward(windows), |logits| logits)
    }

    /// Localizes the middle frame of every window, with probabilities.
    ///
    /// Shapes and panics are those of [`forward`](Self::forward).
    pub fn infer(&self, windows: Tensor<4>) -> Tensor<4> {
        activate(self.net.forward(windows), sigmoid)
    }

    /// Cuts the network by another policy or plan: see [`MUNet::with_grad_checkpoint`].
    pub fn with_grad_checkpoint(mut self, cut: impl Into<Cut>) -> Self {
        self.net = self.net.with_grad_checkpoint(cut);
        self
    }
}

fn activate(raw: Tensor<4>, prob: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let raw = full(raw);
    let channels = raw.dims()[1];
    let part = |first, count| raw.clone().narrow(1, first, count);
    let mut parts = vec![prob(part(0, 1)), sigmoid(part(1, 1)), part(2, 3).tanh()];
    if channels == 6 {
        parts.push(sigmoid(part(5, 1)));
    }
    Tensor::cat(parts, 1)
}
