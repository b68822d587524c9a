use burn::config::Config;
use burn::tensor::Tensor;

use super::hinge::HingeLoss;
use super::masked_l1::masked_l1;

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
