//! The cross-entropy of rows of logits, which keeps its logits alone.

use burn::tensor::{Int, Tensor};

use crate::precision::ops;

/// The cross-entropy of every row of `logits`: minus the logarithm of the softmax at its target.
///
/// On `flex` in f32 it uses all cores and keeps its logits alone, where `log_softmax` and `gather` keep and make
/// several tensors of their size.
///
/// # Shapes
/// - logits: `[rows, classes]`
/// - targets: `[rows]`, each below `classes`
/// - output: `[rows]`, in f32 where `logits` is in half precision
///
/// # Exactness
/// Equal to burn's operations to f32 rounding, gradients too.
///
/// # Panics
/// If there are more or fewer targets than rows, or, on `flex`, a target is no class.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_memopt::nn::cross_entropy;
///
/// let device = Device::flex();
/// let logits = Tensor::<2>::zeros([2, 10], &device);
/// let losses = cross_entropy(logits, Tensor::<1, Int>::from_ints([3, 9], &device));
/// assert!((losses.max().into_scalar::<f32>() - 10f32.ln()).abs() < 1e-6);
/// ```
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let (rows, num_targets) = (logits.dims()[0], targets.dims()[0]);
    assert!(
        num_targets == rows,
        "there must be a target for each row, got {num_targets} for {rows}"
    );
    #[cfg(feature = "flex")]
    if crate::memory::on_host(&logits.device())
        && let Some(losses) = flex::run(&logits, &targets)
    {
        return losses;
    }
    let log_probs = ops::log_softmax(logits, 1);
    let chosen = log_probs.gather(1, targets.unsqueeze_dim(1));
    chosen.squeeze_dim::<1>(1).neg()
}

#[cfg(feature = "flex")]
mod flex {
    use std::sync::Arc;

    use burn::tensor::{Int, Tensor};
    use rayon::prelude::*;

    use super::super::operation::{self, Operation, Primitive};

    #[derive(Clone, Debug)]
    struct CrossEntropy {
        targets: Arc<Vec<usize>>,
    }

    /// The losses; `None` if they are burn's to compute.
    pub(super) fn run(logits: &Tensor<2>, targets: &Tensor<1, Int>) -> Option<Tensor<1>> {
        let [rows, classes] = logits.dims();
        if rows == 0 || classes == 0 {
            return None;
        }
        let target = |target: i64| match usize::try_from(target) {
            Ok(target) if target < classes => target,
            _ => panic!(
                "targets must be from 0 to below {classes}, the number of classes, got {target}: where a loss is to be \
                 ignored, give any class and multiply it by zero"
            ),
        };
        let targets: Vec<usize> = targets.to_data().iter::<i64>().map(target).collect();
        let operation = CrossEntropy {
            targets: Arc::new(targets),
        };
        let losses = operation::run(operation, [logits.clone().into_dispatch()]);
        losses.ok().map(Tensor::from_dispatch)
    }

    impl Operation<1> for CrossEntropy {
        fn forward(&self, [logits]: [Primitive; 1]) -> Primitive {
            let rows = self.targets.len();
            let logits = logits.to_contiguous();
            let values = logits.storage::<f32>();
            let lines = values.par_chunks(values.len() / rows);
            let losses = lines.zip(&*self.targets).map(|(logits, &target)| {
                let largest = largest(logits);
                let sum = sum(logits, |logit| (logit - largest).exp());
                (largest - logits[target]) + sum.ln()
            });
            operation::tensor(losses.collect(), [rows])
        }

        /// The softmax minus one at the target, times the gradient of the row.
        fn backward(
            &self,
            mut kept: Vec<Primitive>,
            grad: Primitive,
            _: [bool; 1],
        ) -> [Option<Primitive>; 1] {
            // In place, where nothing else has the logits.
            let mut logits = kept.swap_remove(0).to_contiguous();
            drop(kept);
            let grad = grad.to_contiguous();
            let rows = self.targets.len();
            let values = logits.storage_mut::<f32>();
            let lines = values.par_chunks_mut(values.len() / rows);
            let rows = lines.zip(&*self.targets).zip(grad.storage::<f32>());
            rows.for_each(|((logits, &target), &grad)| {
                let largest = largest(logits);
                logits
                    .iter_mut()
                    .for_each(|logit| *logit = (*logit - largest).exp());
                let scale = grad / sum(logits, |exponential| exponential);
                logits
                    .iter_mut()
                    .for_each(|exponential| *exponential *= scale);
                logits[target] -= grad;
            });
            [Some(logits)]
        }
    }

    fn largest(logits: &[f32]) -> f32 {
        logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// The sum of a function of all values. Blocks keep the rounding of a sum over many classes that of a few.
    fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f32 {
        let blocks = values.chunks(256);
        blocks
            .map(|values| values.iter().copied().map(&of).sum::<f32>())
            .sum()
    }
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{DType, Device, Distribution, Tolerance};

    use super::*;

    fn plain(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        let chosen = log_softmax(logits, 1).gather(1, targets.unsqueeze_dim(1));
        chosen.squeeze_dim::<1>(1).neg()
    }

    #[test]
    fn losses_and_gradients_are_burns_even_of_huge_logits() {
        let device = Device::flex().autodiff();
        let targets = Tensor::<1, Int>::from_ints([3, 699, 0, 41], &device);
        for sd in [0.1, 3.0, 200.0] {
            let logits = Tensor::<2>::random([4, 700], Distribution::Normal(0.0, sd), &device);
            let logits = logits.require_grad();
            let weights = Tensor::<1>::from_floats([1.0, -2.0, 0.0, 0.5], &device);
            let run = |of: fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>| {
                let losses = of(logits.clone(), targets.clone());
                let grads = (losses.clone() * weights.clone()).sum().backward();
                (losses.into_data(), logits.grad(&grads).unwrap().into_data())
            };
            let (got, wanted) = (run(cross_entropy), run(plain));
            let tolerance = Tolerance::<f32>::rel_abs(1e-5, 1e-6);
            got.0.assert_approx_eq::<f32>(&wanted.0, tolerance);
            got.1.assert_approx_eq::<f32>(&wanted.1, tolerance);
        }
    }

    #[test]
    fn a_class_that_is_ruled_out_has_no_gradient() {
        let device = Device::flex().autodiff();
        let logits = Tensor::<2>::from_floats([[0.0, f32::NEG_INFINITY, 0.0]], &device);
        let logits = logits.require_grad();
        let loss = cross_entropy(logits.clone(), Tensor::<1, Int>::from_ints([2], &device));
        let grad = logits.grad(&loss.backward()).unwrap().into_data();
        assert_eq!(grad.try_to_vec::<f32>().unwrap(), [0.5, 0.0, -0.5]);
    }

    #[test]
    fn half_precision_logits_give_a_full_precision_loss() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0.5, -0.25]], &device).cast(DType::F16);
        let losses = cross_entropy(logits, Tensor::<1, Int>::from_ints([0], &device));
        assert_eq!(losses.dtype(), DType::F32);
    }

    #[test]
    #[should_panic(expected = "targets must be from 0 to below 3, the number of classes, got 3")]
    fn a_target_that_is_no_class_is_refused() {
        let device = Device::flex();
        let targets = Tensor::<1, Int>::from_ints([0, 3], &device);
        cross_entropy(Tensor::<2>::zeros([2, 3], &device), targets);
    }
}
