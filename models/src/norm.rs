//! Group normalization of images of any size.

use burn::nn::GroupNorm;
use burn::tensor::Tensor;
use burn_memopt::nn;

/// Normalizes `x`, as [`GroupNorm::forward`] does.
///
/// # Shapes
/// - x, output: `[batch_size, channels, height, width]`
///
/// # Panics
/// If a group has a single value, which normalization would set to 0 whatever it is.
pub(crate) fn group_norm(norm: &GroupNorm, x: Tensor<4>) -> Tensor<4> {
    let [batch_size, channels, height, width] = x.dims();
    assert!(
        channels / norm.num_groups * height * width > 1,
        "group norm needs more than one value a group, got {channels} channels of {height}×{width} \
         in {} groups: use larger images, fewer groups or a smaller depth",
        norm.num_groups
    );
    if batch_size * channels * height * width > 2 {
        return nn::group_norm(norm, x);
    }
    // burn refuses tensors of one or two values. The images of a batch do not see each other.
    let twice = Tensor::cat(vec![x.clone(), x], 0);
    norm.forward(twice).narrow(0, 0, batch_size)
}

#[cfg(test)]
mod tests {
    use burn::nn::GroupNormConfig;
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn two_values_are_normalized() {
        let device = Device::flex();
        let norm = GroupNormConfig::new(1, 2).init(&device);
        let x = Tensor::<1>::from_floats([1.0, 3.0], &device).reshape([1, 2, 1, 1]);
        let values = group_norm(&norm, x)
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert!(
            (values[0] + 1.0).abs() < 1e-4 && (values[1] - 1.0).abs() < 1e-4,
            "{values:?}"
        );
    }

    #[test]
    #[should_panic(expected = "more than one value a group")]
    fn a_single_value_is_refused() {
        let device = Device::flex();
        let norm = GroupNormConfig::new(2, 2).init(&device);
        group_norm(&norm, Tensor::ones([1, 2, 1, 1], &device));
    }
}
