//! Group normalization that keeps its input alone.

use burn::module::Param;
use burn::nn::GroupNorm;
use burn::tensor::Tensor;

/// Normalizes groups of channels, as burn's `norm.forward(x)` does.
///
/// For the backward pass it keeps the input alone, where burn keeps several tensors of that size, and
/// it uses all cores. Anything but `flex` in f32 is burn's `forward`.
///
/// # Shapes
/// - x, output: `[batch_size, channels, ...]`
///
/// # Exactness
/// Equal to f32 rounding, gradients too. The number of threads changes nothing.
///
/// # Panics
/// Where `norm.forward(x)` does.
///
/// # Example
/// ```
/// use burn::nn::GroupNormConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::nn::group_norm;
///
/// let device = Device::flex().autodiff();
/// let norm = GroupNormConfig::new(2, 4).init(&device);
/// let x = Tensor::<4>::random([1, 4, 8, 8], Distribution::Default, &device);
/// let y = group_norm(&norm, x.clone());
/// assert!((y - norm.forward(x)).abs().max().into_scalar::<f32>() < 1e-5);
/// ```
///
/// # References
/// Wu and He 2018, "Group Normalization", arXiv:1803.08494, equations 1, 2 and 6.
pub fn group_norm<const D: usize>(norm: &GroupNorm, x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(output) = flex::group_norm(norm, &x) {
        return output;
    }
    norm.forward(x)
}

#[cfg(feature = "flex")]
mod flex {
    use burn_backend::TensorMetadata;
    use rayon::prelude::*;

    use super::super::operation::{Operation, Primitive, run, tensor};
    use super::super::sums::{sum, sum_of_pairs};
    use super::{GroupNorm, Param, Tensor};

    pub(super) fn group_norm<const D: usize>(norm: &GroupNorm, x: &Tensor<D>) -> Option<Tensor<D>> {
        let dims = x.dims();
        // burn refuses what has another number of channels, or is too small.
        let (batch_size, channels) = (*dims.first()?, *dims.get(1)?);
        let values = dims.iter().product::<usize>();
        if channels != norm.num_channels || values <= 2 {
            return None;
        }
        let groups = Groups {
            channels,
            group: channels / norm.num_groups,
            values: values / batch_size / channels,
            epsilon: norm.epsilon,
        };
        let per_channel = |param: &Option<Param<Tensor<1>>>, default: f64| match param {
            Some(param) => param.val().into_dispatch(),
            None => Tensor::<1>::full([channels], default, &x.device()).into_dispatch(),
        };
        let inputs = [
            x.clone().into_dispatch(),
            per_channel(&norm.gamma, 1.0),
            per_channel(&norm.beta, 0.0),
        ];
        run(groups, inputs).ok().map(Tensor::from_dispatch)
    }

    /// Layout of the groups in a tensor.
    #[derive(Debug, Clone)]
    struct Groups {
        channels: usize,
        /// Channels of a group.
        group: usize,
        /// Values of a channel.
        values: usize,
        epsilon: f64,
    }

    impl Groups {
        fn len(&self) -> usize {
            self.group * self.values
        }

        /// The first channel of the group with this number, counted over the batch.
        fn first(&self, number: usize) -> usize {
            number * self.group % self.channels
        }

        /// Mean and reciprocal of the standard deviation of a group.
        fn statistics(&self, x: &[f32]) -> (f32, f32) {
            let mean = (sum(x, |x| x) / x.len() as f64) as f32;
            let variance = sum(x, |x| (x - mean) * (x - mean)) / x.len() as f64;
            (mean, (1.0 / (variance + self.epsilon).sqrt()) as f32)
        }
    }

    impl Operation<3> for Groups {
        fn forward(&self, inputs: [Primitive; 3]) -> Primitive {
            let shape = inputs[0].shape();
            let inputs = inputs.map(|input| input.to_contiguous());
            let [x, gamma, beta] = inputs.each_ref().map(|input| input.storage::<f32>());
            let mut output = vec![0.0; x.len()];
            let groups = output
                .par_chunks_exact_mut(self.len())
                .zip(x.par_chunks_exact(self.len()));
            groups.enumerate().for_each(|(number, (output, x))| {
                let (mean, inverse) = self.statistics(x);
                let channels = output
                    .chunks_exact_mut(self.values)
                    .zip(x.chunks_exact(self.values));
                for (channel, (output, x)) in (self.first(number)..).zip(channels) {
                    let (scale, shift) = (gamma[channel] * inverse, beta[channel]);
                    for (output, &x) in output.iter_mut().zip(x) {
                        *output = (x - mean) * scale + shift;
                    }
                }
            });
            tensor(output, shape)
        }

        fn backward(
            &self,
            kept: Vec<Primitive>,
            grad: Primitive,
            wanted: [bool; 3],
        ) -> [Option<Primitive>; 3] {
            let shape = kept[0].shape();
            let [x, gamma, grad] = [&kept[0], &kept[1], &grad].map(|input| input.to_contiguous());
            let [x, gamma, grad] = [&x, &gamma, &grad].map(|input| input.storage::<f32>());
            let mut x_grad = vec![0.0; if wanted[0] { x.len() } else { 0 }];
            // Per channel of every item: the sums of the gradient, and of its product with the
            // normalized values.
            let sums = |(number, x): (usize, &[f32])| {
                let (mean, inverse) = self.statistics(x);
                let grads = &grad[number * self.len()..][..self.len()];
                let channels = x
                    .chunks_exact(self.values)
                    .zip(grads.chunks_exact(self.values));
                let sums: Vec<[f64; 2]> = channels
                    .map(|(x, grad)| {
                        let both = sum_of_pairs(x, grad, |x, grad| (x - mean) * inverse * grad);
                        [sum(grad, |grad| grad), both]
                    })
                    .collect();
                (mean, inverse, sums)
            };
            let groups = x.par_chunks_exact(self.len()).enumerate();
            let groups: Vec<_> = groups.map(sums).collect();

            let of_groups = x_grad
                .par_chunks_exact_mut(self.len())
                .zip(x.par_chunks_exact(self.len()));
            of_groups.enumerate().for_each(|(number, (x_grad, x))| {
                let (mean, inverse, sums) = &groups[number];
                let first = self.first(number);
                let weighted = |at: usize| {
                    let channels = sums.iter().zip(&gamma[first..]);
                    let total: f64 = channels
                        .map(|(sums, &gamma)| sums[at] * f64::from(gamma))
                        .sum();
                    (total / self.len() as f64) as f32
                };
                let (mean_grad, mean_both) = (weighted(0), weighted(1));
                let grads = &grad[number * self.len()..][..self.len()];
                let channels = x_grad.chunks_exact_mut(self.values).zip(
                    x.chunks_exact(self.values)
                        .zip(grads.chunks_exact(self.values)),
                );
                for (channel, (x_grad, (x, grad))) in (first..).zip(channels) {
                    let scale = gamma[channel];
                    for (x_grad, (&x, &grad)) in x_grad.iter_mut().zip(x.iter().zip(grad)) {
                        let normalized = (x - mean) * inverse;
                        *x_grad = inverse * (grad * scale - mean_grad - normalized * mean_both);
                    }
                }
            });

            let per_channel = |at: usize| {
                let mut totals = vec![0.0; self.channels];
                for (number, (_, _, sums)) in groups.iter().enumerate() {
                    let totals = &mut totals[self.first(number)..];
                    for (total, sums) in totals.iter_mut().zip(sums) {
                        *total += sums[at];
                    }
                }
                let totals: Vec<f32> = totals.into_iter().map(|total: f64| total as f32).collect();
                tensor(totals, [self.channels])
            };
            [
                wanted[0].then(|| tensor(x_grad, shape)),
                wanted[1].then(|| per_channel(1)),
                wanted[2].then(|| per_channel(0)),
            ]
        }
    }
}
