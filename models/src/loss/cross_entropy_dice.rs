use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Int, Tensor};

use super::{DiceLoss, LossSum, masked_sum, widen};

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
        check_labels(&logits, &labels);
        let log_probs = log_softmax(widen(logits), 1);
        // [b, c, h, w] -> [b, 1, h, w]
        let chosen = log_probs.gather(1, labels.unsqueeze_dim(1));
        masked_sum(chosen.neg(), mask.map(|mask| mask.unsqueeze_dim(1)))
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
        let logits = widen(logits);
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
        self.dice.forward(softmax(widen(logits), 1), targets, mask)
    }
}

/// `[b, h, w]` labels as `[b, c, h, w]` zeros and ones.
fn one_hot(labels: Tensor<3, Int>, shape: [usize; 4]) -> Tensor<4> {
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
    use burn::tensor::Device;

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
