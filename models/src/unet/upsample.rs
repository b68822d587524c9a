use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::memory::on_host;

/// Doubles height and width; the corner pixels of both images coincide.
///
/// # Shapes
/// - x: `[batch_size, channels, height, width]`
/// - output: `[batch_size, channels, 2 * height, 2 * width]`
///
/// # Exactness
/// burn 0.22.1 has no backward pass of bilinear interpolation on CubeCL devices. There the image
/// is multiplied by the weights as matrices, one an axis: equal to rounding.
pub(super) fn double_bilinear(x: Tensor<4>) -> Tensor<4> {
    if !x.is_autodiff() || on_host(&x.device()) {
        return by_interpolation(x);
    }
    by_matrices(x)
}

fn by_interpolation(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let options = InterpolateOptions::new(InterpolateMode::Bilinear)
        .with_align_corners(true)
        .with_output_size([2 * height, 2 * width]);
    interpolate(x, options)
}

fn by_matrices(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let weights = |len| {
        let weights = weights(len, &x.device());
        weights.cast(x.dtype()).unsqueeze::<4>()
    };
    let (rows, columns) = (weights(height), weights(width).swap_dims(2, 3));
    rows.matmul(x.matmul(columns))
}

/// The weights with which `len` pixels make `2 * len`.
///
/// # Shapes
/// - output: `[2 * len, len]`
fn weights(len: usize, device: &Device) -> Tensor<2> {
    let mut weights = vec![0.0_f32; 2 * len * len];
    for (output, row) in weights.chunks_mut(len).enumerate() {
        let position = output as f64 * (len - 1) as f64 / (2 * len - 1) as f64;
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

    #[test]
    fn matrices_interpolate_as_burn_does_forward_and_backward() {
        let device = Device::flex().autodiff();
        for [height, width] in [[1, 1], [1, 5], [4, 3], [7, 16]] {
            let shape = [2, 3, height, width];
            let x = Tensor::<4>::random(shape, Distribution::Default, &device).require_grad();
            let weight = Tensor::<4>::random(
                [2, 3, 2 * height, 2 * width],
                Distribution::Default,
                &device,
            );
            let run = |double: fn(Tensor<4>) -> Tensor<4>| {
                let y = double(x.clone());
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
