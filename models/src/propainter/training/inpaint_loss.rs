use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_memopt::precision::ops::{full, mean};

use super::flow_loss::masked_l1;
use crate::propainter::flow::{Flows, ImagePropagation, Sampling};
use crate::propainter::generator::GeneratorInput;

/// Weights of the terms that train an [`InpaintGenerator`](crate::propainter::InpaintGenerator).
#[derive(Config, Debug, PartialEq)]
pub struct InpaintLoss {
    /// Of the hole. The default is `1.0`.
    #[config(default = 1.0)]
    pub hole: f64,
    /// Of the rest. The default is `1.0`.
    #[config(default = 1.0)]
    pub valid: f64,
    /// Of the verdict of a discriminator. The default is `0.01`.
    #[config(default = 0.01)]
    pub adversarial: f64,
}

/// A clip whose pixels are known.
#[derive(Clone, Debug)]
pub struct InpaintTarget {
    /// Frames in [-1, 1]: `[batch_size, frames, 3, height, width]`.
    pub frames: Tensor<5>,
    /// What a generator is given of it; its masks say where the holes are.
    pub input: GeneratorInput,
}

impl InpaintTarget {
    /// Fills the holes of the local frames, the first `num_local`, with pixels of each other as far
    /// as flows lead there, and blanks what is left of the holes.
    ///
    /// # Shapes
    /// - frames: `[batch_size, frames, 3, height, width]`, in [-1, 1]
    /// - flows: completed, between the local frames
    /// - masks: `[batch_size, frames, 1, height, width]`, 1 in the hole
    pub fn new(frames: Tensor<5>, flows: Flows, masks: Tensor<5>, num_local: usize) -> Self {
        let propagation = ImagePropagation {
            sampling: Sampling::Nearest,
        };
        let seen = frames.clone();
        Self {
            frames,
            input: GeneratorInput::propagated(seen, flows, masks, num_local, propagation),
        }
    }

    /// The same on a device that records gradients, to learn from.
    #[must_use]
    pub fn autodiff(self) -> Self {
        let GeneratorInput {
            frames,
            flows,
            masks,
            updated_masks,
            num_local,
        } = self.input;
        Self {
            frames: self.frames.autodiff(),
            input: GeneratorInput {
                frames: frames.autodiff(),
                flows: flows.autodiff(),
                masks: masks.autodiff(),
                updated_masks: updated_masks.autodiff(),
                num_local,
            },
        }
    }

    /// Takes what is `predicted` in the holes, and the true frames outside.
    pub fn completed_by(&self, predicted: Tensor<5>) -> Tensor<5> {
        let masks = &self.input.masks;
        let outside = masks.clone().neg().add_scalar(1.0);
        predicted * masks.clone() + self.frames.clone() * outside
    }
}

/// The weighted terms.
#[derive(Clone, Debug)]
pub struct InpaintTerms {
    /// Distance in the hole.
    pub hole: Tensor<1>,
    /// Distance outside.
    pub valid: Tensor<1>,
    /// The verdict, if there is a discriminator.
    pub adversarial: Option<Tensor<1>>,
}

impl InpaintTerms {
    /// The loss.
    pub fn total(self) -> Tensor<1> {
        let distance = self.hole + self.valid;
        match self.adversarial {
            None => distance,
            Some(adversarial) => distance + adversarial,
        }
    }
}

impl InpaintLoss {
    /// Judges completed frames, of which a discriminator may have given a `verdict`.
    ///
    /// # Shapes
    /// - predicted, truth: `[batch_size, frames, 3, height, width]`
    /// - masks: `[batch_size, frames, 1, height, width]`, 1 in the hole
    ///
    /// # References
    /// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.5.
    pub fn terms(
        &self,
        predicted: &Tensor<5>,
        truth: &Tensor<5>,
        masks: &Tensor<5>,
        verdict: Option<Tensor<5>>,
    ) -> InpaintTerms {
        let outside = masks.clone().neg().add_scalar(1.0);
        InpaintTerms {
            hole: masked_l1(predicted, truth, masks).mul_scalar(self.hole),
            valid: masked_l1(predicted, truth, &outside).mul_scalar(self.valid),
            adversarial: verdict
                .map(|verdict| HingeLoss.generator(verdict).mul_scalar(self.adversarial)),
        }
    }
}

/// The hinge loss of adversarial training.
///
/// # References
/// Lim and Ye 2017, "Geometric GAN", arXiv:1705.02894, eq. 6 and 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HingeLoss;

impl HingeLoss {
    /// What a generator makes small: how clearly its results are taken for made up.
    pub fn generator<const D: usize>(&self, verdict: Tensor<D>) -> Tensor<1> {
        mean(verdict).neg()
    }

    /// What a discriminator makes small: the mean of [`real`](Self::real) and
    /// [`made_up`](Self::made_up).
    pub fn discriminator<const D: usize>(&self, real: Tensor<D>, made_up: Tensor<D>) -> Tensor<1> {
        (self.real(real) + self.made_up(made_up)).div_scalar(2.0)
    }

    /// What a discriminator makes small on real clips.
    pub fn real<const D: usize>(&self, verdict: Tensor<D>) -> Tensor<1> {
        relu(full(verdict).neg().add_scalar(1.0)).mean()
    }

    /// What a discriminator makes small on a generator's results.
    pub fn made_up<const D: usize>(&self, verdict: Tensor<D>) -> Tensor<1> {
        relu(full(verdict).add_scalar(1.0)).mean()
    }
}
