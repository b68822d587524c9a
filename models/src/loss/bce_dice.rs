use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, sigmoid};

use super::{DiceLoss, LossSum, masked_sum, widen};

/// Binary cross-entropy of logits, stable for logits of any size.
///
/// Per element `-t log σ(x) - (1 - t) log σ(-x)`: two terms of one sign, so nothing cancels.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::loss::BceLoss;
///
/// let device = Device::flex();
/// let logits = Tensor::<1>::from_floats([0.0, 1000.0], &device);
/// let targets = Tensor::<1>::from_floats([1.0, 1.0], &device);
/// let loss = BceLoss.forward(logits, targets, None);
/// assert!((loss.into_scalar::<f32>() - 2f32.ln() / 2.0).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BceLoss;

impl BceLoss {
    /// Computes the mean over all elements, weighted by `mask` where there is one.
    ///
    /// # Shapes
    /// - logits, targets, mask: the same, any; targets lie in 0..=1
    /// - output: `[1]`
    pub fn forward<const D: usize>(
        &self,
        logits: Tensor<D>,
        targets: Tensor<D>,
        mask: Option<Tensor<D>>,
    ) -> Tensor<1> {
        self.forward_sum(logits, targets, mask).mean()
    }

    /// Computes the sum over all elements; its weight is their number or the sum of `mask`.
    ///
    /// With a mask, the weight is read from the device.
    ///
    /// # Exactness
    /// The sums and weights of micro-batches add up to those of the batch.
    pub fn forward_sum<const D: usize>(
        &self,
        logits: Tensor<D>,
        targets: Tensor<D>,
        mask: Option<Tensor<D>>,
    ) -> LossSum {
        let (logits, targets) = (widen(logits), widen(targets));
        let positive = targets.clone() * log_sigmoid(logits.clone());
        let negative = targets.neg().add_scalar(1.0) * log_sigmoid(logits.neg());
        masked_sum((positive + negative).neg(), mask)
    }
}

/// Binary cross-entropy of logits plus Dice of their sigmoid, for a binary mask.
///
/// # Exactness
/// The Dice part sees the whole batch: see [`DiceLoss`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::loss::BceDiceLoss;
///
/// let device = Device::flex();
/// let targets = Tensor::<4>::ones([1, 1, 2, 2], &device);
/// let sure = BceDiceLoss::default().forward(targets.clone() * 50.0, targets, None);
/// assert!(sure.into_scalar::<f32>().abs() < 1e-5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BceDiceLoss {
    /// The Dice part.
    pub dice: DiceLoss,
}

impl BceDiceLoss {
    /// Computes the loss of `logits` against `targets`.
    ///
    /// # Shapes
    /// - logits, targets, mask: the same, usually `[batch_size, 1, height, width]`
    /// - output: `[1]`
    pub fn forward<const D: usize>(
        &self,
        logits: Tensor<D>,
        targets: Tensor<D>,
        mask: Option<Tensor<D>>,
    ) -> Tensor<1> {
        let logits = widen(logits);
        let probs = sigmoid(logits.clone());
        let bce = BceLoss.forward(logits, targets.clone(), mask.clone());
        bce + self.dice.forward(probs, targets, mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    fn row<const N: usize>(values: [f32; N], device: &Device) -> Tensor<1> {
        Tensor::from_floats(values, device)
    }

    #[test]
    fn gradients_are_the_sigmoid_minus_the_target_even_at_the_extremes() {
        let device = Device::flex().autodiff();
        let logits = row([-1e4, -20.0, 0.0, 20.0, 1e4], &device).require_grad();
        let targets = row([0.0, 1.0, 1.0, 0.0, 1.0], &device);
        let loss = BceLoss.forward_sum(logits.clone(), targets, None).sum;
        assert!(loss.clone().into_scalar::<f32>().is_finite());
        let grads = logits.grad(&loss.backward()).expect("tracked");
        let grads = grads.into_data().try_to_vec::<f32>().expect("f32");
        for (grad, wanted) in grads.into_iter().zip([0.0, -1.0, -0.5, 1.0, 0.0]) {
            assert!((grad - wanted).abs() < 1e-6, "{grad} {wanted}");
        }
    }

    #[test]
    fn sums_and_weights_of_ragged_masked_parts_add_up_to_the_whole() {
        let device = Device::flex();
        let logits = row([0.3, -1.2, 2.0, 0.1, -0.4], &device);
        let targets = row([1.0, 0.0, 1.0, 0.0, 1.0], &device);
        let mask = row([1.0, 0.0, 1.0, 1.0, 0.5], &device);
        let part = |range: std::ops::Range<usize>| {
            BceLoss.forward_sum(
                logits.clone().slice(range.clone()),
                targets.clone().slice(range.clone()),
                Some(mask.clone().slice(range)),
            )
        };
        let (first, second) = (part(0..3), part(3..5));
        let whole = BceLoss.forward(logits.clone(), targets.clone(), Some(mask.clone()));
        let parts = (first.sum + second.sum) / (first.weight + second.weight);
        let error = (parts - whole).into_scalar::<f32>();
        assert!(error.abs() < 1e-7, "{error}");
    }

    #[test]
    fn an_all_zero_mask_gives_zero_and_not_nan() {
        let device = Device::flex();
        let values = row([0.5, 0.2], &device);
        let loss = BceLoss.forward(values.clone(), values, Some(row([0.0, 0.0], &device)));
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn half_precision_logits_give_a_full_precision_loss() {
        let device = Device::flex();
        let logits = row([0.5, -0.25], &device);
        let targets = row([1.0, 0.0], &device);
        let full = BceDiceLoss::default().forward(logits.clone(), targets.clone(), None);
        let half = BceDiceLoss::default().forward(logits.cast(DType::F16), targets, None);
        assert_eq!(half.dtype(), DType::F32);
        assert_eq!(half.into_data(), full.into_data());
    }
}
