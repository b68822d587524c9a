use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::memory::on_host;

/// How the pixels of an image and its double lie on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corners {
    /// The centres of the corner pixels coincide.
    Aligned,
    /// The outer edges coincide.
    Edges,
}

/// Doubles height and width: every pixel becomes four.
///
/// # Shapes
/// - x: `[batch_size, channels, height, width]`
/// - output: `[batch_size, channels, 2 * height, 2 * width]`
pub(crate) fn double_nearest(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let options =
        InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([2 * height, 2 * width]);
    interpolate(x, options)
}

/// Doubles height and width by bilinear interpolation.
///
/// # Shapes
/// - x: `[batch_size, channels, height, width]`
/// - output: `[batch_size, channels, 2 * height, 2 * width]`
///
/// # Exactness
/// burn 0.22.1 has no backward pass of bilinear interpolation on CubeCL devices. There the image
/// is multiplied by the weights as matrices, one an axis: equal to rounding.
pub(crate) fn double_bilinear(x: Tensor<4>, corners: Corners) -> Tensor<4> {
    if !x.is_autodiff() || on_host(&x.device()) {
        return by_interpolation(x, corners);
    }
    by_matrices(x, corners)
}

fn by_interpolation(x: Tensor<4>, corners: Corners) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let options = InterpolateOptions::new(InterpolateMode::Bilinear)
        .with_align_corners(corners == Corners::Aligned)
        .with_output_size([2 * height, 2 * width]);
    interpolate(x, options)
}

fn by_matrices(x: Tensor<4>, corners: Corners) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let weights = |len| {
        let weights = weights(len, corners, &x.device());
        weights.cast(x.dtype()).unsqueeze::<4>()
    };
    let (rows, columns) = (weights(height), weights(width).swap_dims(2, 3));
    rows.matmul(x.matmul(columns))
}

/// The weights with which `len` pixels make `2 * len`.
///
/// # Shapes
/// - output: `[2 * len, len]`
fn weights(len: usize, corners: Corners, device: &Device) -> Tensor<2> {
    let mut weights = vec![0.0_f32; 2 * len * len];
    for (output, row) in weights.chunks_mut(len).enumerate() {
        let last = (len - 1) as f64;
        let position = match corners {
            Corners::Aligned => output as f64 * last / (2 * len - 1) as f64,
            Corners::Edges => (output as f64 / 2.0 - 0.25).clamp(0.0, last),
        };
        let before = position.floor() as usize;
        let share = position - before as f64;
        row[before] += (1.0 - share) as f32;
        if share > 0.0 {
            row[before + 1] += share as f32;
        }
    }
    Tensor::from_data(TensorData::new(weights, [2 * len, len]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};
    use rstest::rstest;

    #[rstest]
    fn matrices_interpolate_as_burn_does_forward_and_backward(
        #[values(Corners::Aligned, Corners::Edges)] corners: Corners,
    ) {
        let device = Device::flex().autodiff();
        for [height, width] in [[1, 1], [1, 5], [4, 3], [7, 16]] {
            let shape = [2, 3, height, width];
            let x = Tensor::<4>::random(shape, Distribution::Default, &device).require_grad();
            let weight = Tensor::<4>::random(
                [2, 3, 2 * height, 2 * width],
                Distribution::Default,
                &device,
            );
            let run = |double: fn(Tensor<4>, Corners) -> Tensor<4>| {
                let y = double(x.clone(), corners);
                let grads = (y.clone() * weight.clone()).sum().backward();
                (
                    y.into_data(),
                    x.grad(&grads).expect("x is tracked").into_data(),
                )
            };
            let (mine, burns) = (run(by_matrices), run(by_interpolation));
            let tolerance = Tolerance::<f32>::rel_abs(1e-5, 1e-5);
            mine.0.assert_approx_eq::<f32>(&burns.0, tolerance);
            mine.1.assert_approx_eq::<f32>(&burns.1, tolerance);
        }
    }
}
