use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{DType, Tensor};
use burn_memopt::grad_checkpoint::{BlockCost, Cut, Plan, PlanError, Policy, UnmeasuredError};
use burn_memopt::precision::ops::full;

use super::backbone::MUNet;
use super::config::Attribute;

/// The mean of an attribute that is not estimated, and its deviation.
const DISABLED: [f64; 2] = [0.0, 0.1];
/// Logits of a probability stay within this, so that its logarithm stays finite.
const LARGEST_LOGIT: f64 = 8.0;

/// DECODE's network for localizations with their uncertainties.
///
/// For every pixel it estimates the probability that an emitter is there, and the mean and
/// standard deviation of its photons and of its position relative to the pixel.
///
/// | channel | holds | range |
/// |---|---|---|
/// | 0 | probability of an emitter | 0 to 1 |
/// | 1 | photons, as a share of a scale | 0 to 1 |
/// | 2, 3 | offset from the pixel's centre along the rows' axis and the columns' axis, in pixels | -1 to 1 |
/// | 4 | z, as a share of a scale | -1 to 1 |
/// | 5 to 8 | standard deviations of channels 1 to 4 | 0.001 to 3.001 |
/// | 9 | background, as a share of a scale | 0 to 1 |
///
/// DECODE calls the first image axis, the row, `x`.
///
/// # Exactness
/// The final activations are computed in f32 whatever the precision of the network: sums of the
/// probabilities over the image do not survive half precision.
///
/// # References
/// Speiser et al. 2021, Nature Methods 18, 1082-1090, fig. 1; the layers follow the network of
/// `TuragaLab/DECODE`, whose code is not used here.
#[derive(Module, Debug)]
pub struct SigmaMUNet {
    /// The network before its outputs.
    pub net: MUNet,
    /// The smallest standard deviation, not trained.
    ///
    /// # Shapes
    /// - `[1]`
    pub sigma_eps: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) disabled: Vec<Attribute>,
}

impl SigmaMUNet {
    /// Channels of the output.
    pub const CHANNELS: usize = 10;
    pub(super) const LEAST_SIGMA: f64 = 0.001;

    /// Localizes the middle frame of every window.
    ///
    /// # Shapes
    /// - windows: `[batch_size, num_frames, height, width]`, neighbouring frames in their order
    /// - output: `[batch_size, 10, height, width]`, f32
    ///
    /// # Panics
    /// If the number of frames is another, or a side is no multiple of
    /// [`MUNet::size_multiple`].
    pub fn forward(&self, windows: Tensor<4>) -> Tensor<4> {
        self.activate(self.net.forward(windows))
    }

    /// Localizes every frame of a stack but those at its ends, as
    /// [`MUNet::forward_sequence`] says.
    ///
    /// # Shapes
    /// - frames: `[num_windows + num_frames - 1, 1, height, width]`
    /// - output: `[num_windows, 10, height, width]`, f32
    ///
    /// # Panics
    /// As [`MUNet::forward_sequence`].
    pub fn forward_sequence(&self, frames: Tensor<4>) -> Tensor<4> {
        self.activate(self.net.forward_sequence(frames))
    }

    /// Attributes that are not estimated.
    pub fn disabled(&self) -> &[Attribute] {
        &self.disabled
    }

    /// Cuts the network by another policy or plan: see [`MUNet::with_grad_checkpoint`].
    pub fn with_grad_checkpoint(mut self, cut: impl Into<Cut>) -> Self {
        self.net = self.net.with_grad_checkpoint(cut);
        self
    }

    /// Plans where to cut: see [`MUNet::plan`].
    ///
    /// # Errors
    /// As [`MUNet::plan`].
    pub fn plan(&self, policy: Policy, sample: Tensor<4>) -> Result<Plan, PlanError> {
        self.net.plan(policy, sample)
    }

    /// Measures what each block costs: see [`MUNet::profile`].
    ///
    /// # Errors
    /// As [`MUNet::profile`].
    pub fn profile(&self, sample: Tensor<4>) -> Result<Vec<BlockCost>, UnmeasuredError> {
        self.net.profile(sample)
    }

    /// Brings the outputs of the heads into their ranges.
    fn activate(&self, raw: Tensor<4>) -> Tensor<4> {
        let raw = full(raw);
        let part = |first, count| raw.clone().narrow(1, first, count);
        let probs = sigmoid(part(0, 1).clamp(-LARGEST_LOGIT, LARGEST_LOGIT));
        let least = self.sigma_eps.val().cast(DType::F32).reshape([1, 1, 1, 1]);
        let sigmas = sigmoid(part(5, 4)).mul_scalar(3.0) + least;
        let (mut parts, mut deviations) = (vec![probs], Vec::new());
        for (index, attribute) in Attribute::ALL.into_iter().enumerate() {
            let sigma = sigmas.clone().narrow(1, index, 1);
            if self.disabled.contains(&attribute) {
                parts.push(sigma.full_like(DISABLED[0]));
                deviations.push(sigma.full_like(DISABLED[1]));
                continue;
            }
            let mean = part(1 + index, 1);
            parts.push(match attribute {
                Attribute::Photons => sigmoid(mean),
                _ => mean.tanh(),
            });
            deviations.push(sigma);
        }
        parts.append(&mut deviations);
        parts.push(sigmoid(part(9, 1)));
        Tensor::cat(parts, 1)
    }
}
