//! DECODE's networks, with and without uncertainties, and their names in its checkpoints.

use burn::module::{Module, Param};
use burn::tensor::activation::sigmoid;
use burn::tensor::{DType, Tensor};
use burn_memopt::chunked::Windows;
use burn_memopt::grad_checkpoint::Cut;
use burn_memopt::precision::ops::full;

use super::config::Attribute;
use super::munet::MUNet;
use super::unet2d::{Stage, UNet2d};
use crate::chain::{BlockChain, GradCheckpoint, Keep};
use crate::weights::{StateDict, parameter_name};

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

    /// Localizes the middle frame of windows that are tiles of larger ones.
    ///
    /// # Shapes
    /// - tiles: `[tiles, num_frames, height, width]`
    /// - output: `[tiles, 10, height, width]`, f32
    ///
    /// # Exactness
    /// As [`forward`](Self::forward) on whole frames, for tiles with a margin as wide as the network reaches that start at
    /// multiples of [`MUNet::size_multiple`], if the network has no normalization.
    ///
    /// # Panics
    /// As [`forward`](Self::forward), and with
    /// [`Interpolation::Bilinear`](super::Interpolation::Bilinear), which samples by the size of what it doubles.
    pub fn forward_tiles(&self, tiles: Windows) -> Tensor<4> {
        self.net.check_interpolation();
        self.forward(tiles.pixels)
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

impl GradCheckpoint for SigmaMUNet {
    type Block = Stage;

    fn forward(&self, windows: Tensor<4>) -> Tensor<4> {
        Self::forward(self, windows)
    }

    fn cut(&self) -> &Cut {
        self.net.cut()
    }

    fn cut_mut(&mut self) -> &mut Cut {
        self.net.cut_mut()
    }

    fn chain_keeping(&self, keep: Keep) -> BlockChain<Stage> {
        self.net.chain_keeping(keep)
    }
}

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
        activate_pixels(self.net.forward(windows), |logits| logits)
    }

    /// Localizes the middle frame of every window, with probabilities.
    ///
    /// Shapes and panics are those of [`forward`](Self::forward).
    pub fn infer(&self, windows: Tensor<4>) -> Tensor<4> {
        activate_pixels(self.net.forward(windows), sigmoid)
    }
}

fn activate_pixels(raw: Tensor<4>, prob: impl FnOnce(Tensor<4>) -> Tensor<4>) -> Tensor<4> {
    let raw = full(raw);
    let channels = raw.dims()[1];
    let part = |first, count| raw.clone().narrow(1, first, count);
    let mut parts = vec![prob(part(0, 1)), sigmoid(part(1, 1)), part(2, 3).tanh()];
    if channels == 6 {
        parts.push(sigmoid(part(5, 1)));
    }
    Tensor::cat(parts, 1)
}

impl GradCheckpoint for DoubleMUNet {
    type Block = Stage;

    fn forward(&self, windows: Tensor<4>) -> Tensor<4> {
        Self::forward(self, windows)
    }

    fn cut(&self) -> &Cut {
        self.net.cut()
    }

    fn cut_mut(&mut self) -> &mut Cut {
        self.net.cut_mut()
    }

    fn chain_keeping(&self, keep: Keep) -> BlockChain<Stage> {
        self.net.chain_keeping(keep)
    }
}

/// The names are those of DECODE, such as `encoder.0.2.weight`.
impl StateDict for UNet2d {
    fn state_dict_name(path: &str) -> String {
        decode_name(path)
    }
}

/// The names are those of DECODE, such as `unet_shared.encoder.0.2.weight`.
impl StateDict for SigmaMUNet {
    fn state_dict_name(path: &str) -> String {
        decode_name(path)
    }
}

/// The names are those of DECODE, such as `unet_shared.encoder.0.2.weight`.
impl StateDict for DoubleMUNet {
    fn state_dict_name(path: &str) -> String {
        decode_name(path)
    }
}

/// Leaves out the fields that DECODE does not have, and calls the parameters of a normalization
/// as PyTorch does.
fn decode_name(path: &str) -> String {
    let parts = path
        .split('.')
        .filter(|part| !["net", "layers"].contains(part));
    parts.map(parameter_name).collect::<Vec<_>>().join(".")
}
