use burn::tensor::Tensor;

use super::widen;

/// One minus the Dice coefficient of the whole batch.
///
/// `1 - (2 Σ p t + ε) / (Σ p + Σ t + ε)`, the sums running over all elements of the batch at
/// once. Where `Σ p + Σ t` is 0 it is replaced by `2 Σ p t`, so two empty masks lose nothing.
///
/// # Exactness
/// Not additive: the losses of micro-batches do not add up to the loss of the batch.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::loss::DiceLoss;
///
/// let device = Device::flex();
/// let mask = Tensor::<2>::from_floats([[1.0, 0.0], [1.0, 1.0]], &device);
/// let loss = DiceLoss::default().forward(mask.clone(), mask, None);
/// assert!(loss.into_scalar::<f32>().abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiceLoss {
    /// Added to numerator and denominator. The default is `1e-6`.
    pub epsilon: f64,
}

impl Default for DiceLoss {
    fn default() -> Self {
        Self { epsilon: 1e-6 }
    }
}

impl DiceLoss {
    /// Computes the loss of `probs` against `targets`.
    ///
    /// # Shapes
    /// - probs, targets, mask: the same, any; probabilities and targets lie in 0..=1
    /// - output: `[1]`
    ///
    /// Elements where `mask` is 0 do not count; in between they count in part.
    pub fn forward<const D: usize>(
        &self,
        probs: Tensor<D>,
        targets: Tensor<D>,
        mask: Option<Tensor<D>>,
    ) -> Tensor<1> {
        let (mut probs, mut targets) = (widen(probs), widen(targets));
        let mut products = probs.clone() * targets.clone();
        if let Some(mask) = mask {
            let mask = widen(mask);
            probs = probs * mask.clone();
            targets = targets * mask.clone();
            products = products * mask;
        }
        let overlap = products.sum().mul_scalar(2.0);
        let sizes = probs.sum() + targets.sum();
        let empty = sizes.clone().equal_scalar(0.0);
        let sizes = sizes.mask_where(empty, overlap.clone());
        let dice = overlap.add_scalar(self.epsilon) / sizes.add_scalar(self.epsilon);
        dice.neg().add_scalar(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn row(values: [f32; 4]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex())
    }

    #[test]
    fn half_of_the_overlap_gives_the_textbook_value() {
        let loss =
            DiceLoss::default().forward(row([1.0, 1.0, 0.0, 0.0]), row([0.0, 1.0, 1.0, 0.0]), None);
        assert!((loss.into_scalar::<f32>() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn two_empty_masks_lose_nothing() {
        let loss = DiceLoss::default().forward(row([0.0; 4]), row([0.0; 4]), None);
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn masked_elements_do_not_count() {
        let dice = DiceLoss::default();
        let masked = dice.forward(
            row([0.3, 0.9, 0.5, 0.7]),
            row([0.0, 1.0, 1.0, 0.0]),
            Some(row([1.0, 1.0, 0.0, 0.0])),
        );
        let cut = dice.forward(row([0.3, 0.9, 0.0, 0.0]), row([0.0, 1.0, 0.0, 0.0]), None);
        assert_eq!(masked.into_data(), cut.into_data());
    }
}
