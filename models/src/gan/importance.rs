use burn::tensor::{Int, Tensor, TensorData};

/// Added to the weight of every point before further ones are placed by it.
const LEAST_WEIGHT: f64 = 1e-5;
/// Keeps quotients finite.
const TINY: f64 = 1e-10;

/// Distances of further points, more of them where weights are large: evenly spaced quantiles of the distribution that
/// is even between the middles of neighbouring points.
///
/// # Shapes
/// - depths, weights: `[batch_size, rays, samples]`, 3 samples or more
/// - output: `[batch_size, rays, num_fine]`
///
/// # References
/// Mildenhall et al. 2020, "NeRF", arXiv:2003.08934, section 5.2.
pub(super) fn importance(depths: &Tensor<3>, weights: Tensor<3>, num_fine: usize) -> Tensor<3> {
    let [batch_size, rays, samples] = depths.dims();
    let device = depths.device();
    let before = depths.clone().narrow(2, 0, samples - 1);
    let middles = (before + depths.clone().narrow(2, 1, samples - 1)).div_scalar(2.0);
    // Of the points between the middles, each a little, so that none is left out for ever.
    let shares = weights.narrow(2, 1, samples - 2).add_scalar(LEAST_WEIGHT);
    let shares = shares.clone() / shares.sum_dim(2);
    let zero = Tensor::zeros([batch_size, rays, 1], &device);
    let below = Tensor::cat(vec![zero, shares.cumsum(2)], 2);
    let quantiles: Vec<f32> = (0..num_fine)
        .map(|number| (number as f32 + 0.5) / num_fine as f32)
        .collect();
    let quantiles = Tensor::<3>::from_data(TensorData::new(quantiles, [1, 1, num_fine]), &device);
    let quantiles = quantiles.expand([batch_size, rays, num_fine]);
    let is_below = below
        .clone()
        .unsqueeze_dim::<4>(2)
        .lower_equal(quantiles.clone().unsqueeze_dim::<4>(3));
    let start = is_below
        .int()
        .sum_dim(3)
        .squeeze_dim::<3>(3)
        .sub_scalar(1)
        .clamp(0, samples as i32 - 3);
    let at = |x: &Tensor<3>, place: Tensor<3, Int>| x.clone().gather(2, place);
    let [low, high] = [
        at(&below, start.clone()),
        at(&below, start.clone().add_scalar(1)),
    ];
    let share = (quantiles - low.clone()) / (high - low).clamp_min(TINY);
    let [from, to] = [
        at(&middles, start.clone()),
        at(&middles, start.add_scalar(1)),
    ];
    from.clone() + (to - from) * share.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn further_points_are_where_the_weight_is() {
        let device = Device::flex();
        let depths = Tensor::<3>::from_floats([[[0.0, 1.0, 2.0, 3.0, 4.0]]], &device);
        let fine = |weights: [f32; 5]| {
            let weights = Tensor::<3>::from_floats([[weights]], &device);
            importance(&depths, weights, 4)
                .into_data()
                .iter::<f32>()
                .collect::<Vec<_>>()
        };
        // Between the middles around the third point, and evenly there.
        let close = fine([0.0, 0.0, 1.0, 0.0, 0.0]);
        for (depth, wanted) in close.iter().zip([1.625, 1.875, 2.125, 2.375]) {
            assert!((depth - wanted).abs() < 1e-3, "{close:?}");
        }
        // Without any, evenly between the first and the last middle.
        let even = fine([0.0; 5]);
        for (depth, wanted) in even.iter().zip([0.875, 1.625, 2.375, 3.125]) {
            assert!((depth - wanted).abs() < 1e-3, "{even:?}");
        }
    }
}
