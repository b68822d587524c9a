//! Losses of masks and classes: cross-entropies, Dice, and their sums.

use burn::tensor::activation::{log_sigmoid, log_softmax, sigmoid, softmax};
use burn::tensor::{Int, Tensor};
use burn_memopt::precision::ops::full;

use super::{LossSum, masked_sum};

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
        let (mut probs, mut targets) = (full(probs), full(targets));
        let mut products = probs.clone() * targets.clone();
        if let Some(mask) = mask {
            let mask = full(mask);
            probs = probs * mask.clone();
            targets = targets * mask.clone();
            products = products * mask;
        }
        self.of_sums(products.sum(), probs.sum() + targets.sum())
    }

    /// The loss of `Σ p t` and `Σ p + Σ t`, one element each.
    pub(super) fn of_sums(&self, products: Tensor<1>, sizes: Tensor<1>) -> Tensor<1> {
        let overlap = products.mul_scalar(2.0);
        let empty = sizes.clone().equal_scalar(0.0);
        let sizes = sizes.mask_where(empty, overlap.clone());
        let dice = overlap.add_scalar(self.epsilon) / sizes.add_scalar(self.epsilon);
        dice.neg().add_scalar(1.0)
    }
}

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
        masked_sum(self.each(logits, targets), mask)
    }

    /// The loss of every element.
    pub(super) fn each<const D: usize>(&self, logits: Tensor<D>, targets: Tensor<D>) -> Tensor<D> {
        let (logits, targets) = (full(logits), full(targets));
        let positive = targets.clone() * log_sigmoid(logits.clone());
        let negative = targets.neg().add_scalar(1.0) * log_sigmoid(logits.neg());
        (positive + negative).neg()
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
        let logits = full(logits);
        let probs = sigmoid(logits.clone());
        let bce = BceLoss.forward(logits, targets.clone(), mask.clone());
        bce + self.dice.forward(probs, targets, mask)
    }
}

/// Cross-entropy of logits over classes, one label a pixel, stable for logits of any size.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_memopt_models::loss::CrossEntropyLoss;
///
/// let device = Device::flex();
/// let logits = Tensor::<4>::zeros([1, 3, 2, 2], &device);
/// let labels = Tensor::<3, Int>::ones([1, 2, 2], &device);
/// let loss = CrossEntropyLoss.forward(logits, labels, None);
/// assert!((loss.into_scalar::<f32>() - 3f32.ln()).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrossEntropyLoss;

impl CrossEntropyLoss {
    /// Computes the mean over all pixels, weighted by `mask` where there is one.
    ///
    /// # Shapes
    /// - logits: `[batch_size, classes, height, width]`
    /// - labels: `[batch_size, height, width]`, each below `classes`
    /// - mask: `[batch_size, height, width]`
    /// - output: `[1]`
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn forward(
        &self,
        logits: Tensor<4>,
        labels: Tensor<3, Int>,
        mask: Option<Tensor<3>>,
    ) -> Tensor<1> {
        self.forward_sum(logits, labels, mask).mean()
    }

    /// Computes the sum over all pixels; its weight is their number or the sum of `mask`.
    ///
    /// With a mask, the weight is read from the device. Shapes are those of
    /// [`forward`](Self::forward).
    ///
    /// # Exactness
    /// The sums and weights of micro-batches add up to those of the batch.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn forward_sum(
        &self,
        logits: Tensor<4>,
        labels: Tensor<3, Int>,
        mask: Option<Tensor<3>>,
    ) -> LossSum {
        let losses = self.each(logits, labels);
        masked_sum(losses, mask.map(|mask| mask.unsqueeze_dim(1)))
    }

    /// The loss of every pixel, `[batch_size, 1, height, width]`.
    pub(super) fn each(&self, logits: Tensor<4>, labels: Tensor<3, Int>) -> Tensor<4> {
        check_labels(&logits, &labels);
        let log_probs = log_softmax(full(logits), 1);
        let chosen = log_probs.gather(1, labels.unsqueeze_dim(1));
        chosen.neg()
    }
}

/// Cross-entropy plus Dice of the softmax against the one-hot labels.
///
/// The class axis counts as part of the batch: the sums of Dice run over all classes at once.
///
/// # Exactness
/// The Dice part sees the whole batch: see [`DiceLoss`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_memopt_models::loss::CrossEntropyDiceLoss;
///
/// let device = Device::flex();
/// let logits = Tensor::<4>::zeros([1, 2, 2, 2], &device);
/// let labels = Tensor::<3, Int>::ones([1, 2, 2], &device);
/// let loss = CrossEntropyDiceLoss::default().forward(logits, labels, None);
/// assert!((loss.into_scalar::<f32>() - (2f32.ln() + 0.5)).abs() < 1e-5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropyDiceLoss {
    /// The Dice part.
    pub dice: DiceLoss,
}

impl CrossEntropyDiceLoss {
    /// Computes the loss of `logits` against `labels`.
    ///
    /// Shapes are those of [`CrossEntropyLoss::forward`].
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn forward(
        &self,
        logits: Tensor<4>,
        labels: Tensor<3, Int>,
        mask: Option<Tensor<3>>,
    ) -> Tensor<1> {
        let logits = full(logits);
        let cross_entropy = CrossEntropyLoss.forward(logits.clone(), labels.clone(), mask.clone());
        cross_entropy + self.dice(logits, labels, mask)
    }

    /// Computes the Dice part alone.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn dice(
        &self,
        logits: Tensor<4>,
        labels: Tensor<3, Int>,
        mask: Option<Tensor<3>>,
    ) -> Tensor<1> {
        check_labels(&logits, &labels);
        let shape = logits.dims();
        let targets = one_hot(labels, shape);
        let mask = mask.map(|mask| mask.unsqueeze_dim::<4>(1).expand(shape));
        self.dice.forward(softmax(full(logits), 1), targets, mask)
    }
}

/// `[b, h, w]` labels as `[b, c, h, w]` zeros and ones.
pub(super) fn one_hot(labels: Tensor<3, Int>, shape: [usize; 4]) -> Tensor<4> {
    let classes = Tensor::<1, Int>::arange(0..shape[1] as i64, &labels.device());
    let classes = classes.reshape([1, shape[1], 1, 1]).expand(shape);
    labels
        .unsqueeze_dim::<4>(1)
        .expand(shape)
        .equal(classes)
        .float()
}

fn check_labels(logits: &Tensor<4>, labels: &Tensor<3, Int>) {
    let [batch_size, _, height, width] = logits.dims();
    assert!(
        labels.dims() == [batch_size, height, width],
        "labels must have shape {:?}, got {:?}",
        [batch_size, height, width],
        labels.dims()
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    fn row<const N: usize>(values: [f32; N], device: &Device) -> Tensor<1> {
        Tensor::from_floats(values, device)
    }

    fn plain<const N: usize>(values: [f32; N]) -> Tensor<1> {
        row(values, &Device::flex())
    }

    #[test]
    fn half_of_the_overlap_gives_the_textbook_value() {
        let loss = DiceLoss::default().forward(
            plain([1.0, 1.0, 0.0, 0.0]),
            plain([0.0, 1.0, 1.0, 0.0]),
            None,
        );
        assert!((loss.into_scalar::<f32>() - 0.5).abs() < 1e-6);
    }

    #[test]
    fn two_empty_masks_lose_nothing() {
        let loss = DiceLoss::default().forward(plain([0.0; 4]), plain([0.0; 4]), None);
        assert_eq!(loss.into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn masked_elements_do_not_count() {
        let dice = DiceLoss::default();
        let masked = dice.forward(
            plain([0.3, 0.9, 0.5, 0.7]),
            plain([0.0, 1.0, 1.0, 0.0]),
            Some(plain([1.0, 1.0, 0.0, 0.0])),
        );
        let cut = dice.forward(
            plain([0.3, 0.9, 0.0, 0.0]),
            plain([0.0, 1.0, 0.0, 0.0]),
            None,
        );
        assert_eq!(masked.into_data(), cut.into_data());
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

    fn sample(device: &Device) -> (Tensor<4>, Tensor<3, Int>) {
        let logits = Tensor::<1>::from_floats(
            [
                0.5, -1.0, 2.0, 0.0, 1.5, 0.2, -0.3, 0.9, 400.0, 0.1, -400.0, 0.4,
            ],
            device,
        );
        let labels = Tensor::<1, Int>::from_ints([0, 2, 1, 1], device);
        (logits.reshape([2, 3, 1, 2]), labels.reshape([2, 1, 2]))
    }

    #[test]
    fn huge_logits_stay_finite() {
        let device = Device::flex();
        let (logits, labels) = sample(&device);
        let loss = CrossEntropyDiceLoss::default().forward(logits, labels, None);
        assert!(loss.into_scalar::<f32>().is_finite());
    }

    #[test]
    fn sums_and_weights_of_frames_add_up_to_the_batch() {
        let device = Device::flex();
        let (logits, labels) = sample(&device);
        let mask = Tensor::<1>::from_floats([1.0, 0.0, 1.0, 1.0], &device).reshape([2, 1, 2]);
        let frame = |i: usize| {
            CrossEntropyLoss.forward_sum(
                logits.clone().slice_dim(0, i..i + 1),
                labels.clone().slice_dim(0, i..i + 1),
                Some(mask.clone().slice_dim(0, i..i + 1)),
            )
        };
        let (first, second) = (frame(0), frame(1));
        assert_eq!((first.weight, second.weight), (1.0, 2.0));
        let parts = (first.sum + second.sum) / 3.0;
        let whole = CrossEntropyLoss.forward(logits.clone(), labels.clone(), Some(mask.clone()));
        let error = (parts - whole.clone()).into_scalar::<f32>() / whole.into_scalar::<f32>();
        assert!(error.abs() < 1e-6, "{error}");
    }

    #[test]
    #[should_panic(expected = "labels must have shape [2, 1, 2], got [1, 1, 2]")]
    fn labels_of_another_batch_are_refused() {
        let device = Device::flex();
        let (logits, labels) = sample(&device);
        CrossEntropyLoss.forward(logits, labels.slice_dim(0, 0..1), None);
    }
}
