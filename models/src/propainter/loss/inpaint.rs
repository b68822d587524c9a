use burn::config::Config;
use burn::tensor::Tensor;

use super::hinge::HingeLoss;
use super::masked_l1::masked_l1;
use crate::propainter::feature_propagation::Flows;
use crate::propainter::generator_input::GeneratorInput;
use crate::propainter::image_propagation::ImagePropagation;
use crate::propainter::warp::Sampling;

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
