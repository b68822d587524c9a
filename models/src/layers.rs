//! Layers that several models use: doubling the sides of an image, of parts of it too, in ways that have
//! a backward pass everywhere, and group normalization of images of any size.

use burn::nn::{GroupNorm, LayerNorm};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use burn_memopt::grad_checkpoint::Segment;
use burn_memopt::memory::on_host;
use burn_memopt::nn;
use burn_memopt::precision::full_precision_with;

/// How the pixels of an image and of its double correspond.
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
    nn::canonical_strides(interpolate(x, options))
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

/// The place of a part of an image along one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// First pixel of the part.
    pub start: usize,
    /// Pixels of the whole side.
    pub whole: usize,
}

/// Doubles parts of an image, height and width of each, as [`double_bilinear`] with aligned corners doubles
/// the whole: with pixels of their own only, so that those at a border within the image are wrong.
///
/// # Shapes
/// As [`double_bilinear`].
pub(crate) fn double_parts(x: Tensor<4>, parts: &[[Part; 2]]) -> Tensor<4> {
    if parts.iter().all(|part| *part == parts[0]) {
        return double_part(x, parts[0]);
    }
    let doubled = parts.iter().enumerate();
    let doubled = doubled.map(|(number, part)| double_part(x.clone().narrow(0, number, 1), *part));
    Tensor::cat(doubled.collect(), 0)
}

/// In the order in which burn interpolates on the host: to the same rounding, so that no value is on another side of a
/// kink of what follows than in the whole.
fn double_part(x: Tensor<4>, [rows, columns]: [Part; 2]) -> Tensor<4> {
    let [left, right] = columns.terms(x, 3);
    let [top_left, bottom_left] = rows.terms(left, 2);
    let [top_right, bottom_right] = rows.terms(right, 2);
    top_left + top_right + bottom_left + bottom_right
}

impl Part {
    /// What the pixels before and after each new one add to it, along `dim`.
    fn terms(self, x: Tensor<4>, dim: usize) -> [Tensor<4>; 2] {
        let (device, len) = (x.device(), x.dims()[dim]);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut shares = Vec::new();
        for output in 0..2 * len {
            let position = aligned(2 * self.start + output, self.whole);
            let pixel = (position.floor() as usize)
                .saturating_sub(self.start)
                .min(len - 1);
            before.push(pixel as i32);
            after.push((pixel + 1).min(len - 1) as i32);
            shares.push(position.fract() as f32);
        }
        let mut shape = [1; 4];
        shape[dim] = 2 * len;
        let shares = TensorData::new(shares, shape);
        let shares = Tensor::<4>::from_data(shares, (&device, x.dtype()));
        let pixels = |indices: Vec<i32>| {
            let indices = Tensor::<1, Int>::from_data(&indices[..], &device);
            x.clone().select(dim, indices)
        };
        let (before, after) = (pixels(before), pixels(after));
        [before * (1.0 - shares.clone()), after * shares]
    }
}

/// The place among `len` pixels of one of `2 * len`, corners aligned.
fn aligned(output: usize, len: usize) -> f64 {
    // The ratio first, as burn computes it: to the same rounding.
    output as f64 * ((len - 1) as f64 / (2 * len - 1) as f64)
}

fn by_interpolation(x: Tensor<4>, corners: Corners) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let options = InterpolateOptions::new(InterpolateMode::Bilinear)
        .with_align_corners(corners == Corners::Aligned)
        .with_output_size([2 * height, 2 * width]);
    nn::canonical_strides(interpolate(x, options))
}

/// Brings an image to `size` by bilinear interpolation, outer edges on outer edges. Reducing takes the pixels
/// next to each position alone.
///
/// # Shapes
/// - x: `[batch_size, channels, height, width]`
/// - output: `[batch_size, channels, size[0], size[1]]`
pub(crate) fn resize(x: Tensor<4>, size: [usize; 2]) -> Tensor<4> {
    matrices(x, size, Corners::Edges)
}

fn by_matrices(x: Tensor<4>, corners: Corners) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    matrices(x, [2 * height, 2 * width], corners)
}

fn matrices(x: Tensor<4>, size: [usize; 2], corners: Corners) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let weights = |from, to| {
        let weights = weights(from, to, corners, &x.device());
        weights.cast(x.dtype()).unsqueeze::<4>()
    };
    let (rows, columns) = (
        weights(height, size[0]),
        weights(width, size[1]).swap_dims(2, 3),
    );
    rows.matmul(x.matmul(columns))
}

/// The weights with which `from` pixels make `to`.
///
/// # Shapes
/// - output: `[to, from]`
fn weights(from: usize, to: usize, corners: Corners, device: &Device) -> Tensor<2> {
    let mut weights = vec![0.0_f32; to * from];
    for (output, row) in weights.chunks_mut(from).enumerate() {
        let last = (from - 1) as f64;
        let position = match corners {
            Corners::Aligned => output as f64 * (last / (to - 1).max(1) as f64),
            Corners::Edges => {
                ((output as f64 + 0.5) * (from as f64 / to as f64) - 0.5).clamp(0.0, last)
            }
        };
        let before = position.floor() as usize;
        let share = position - before as f64;
        row[before] += (1.0 - share) as f32;
        if share > 0.0 {
            row[before + 1] += share as f32;
        }
    }
    Tensor::from_data(TensorData::new(weights, [to, from]), device)
}

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
    if norm
        .gamma
        .as_ref()
        .is_some_and(|gamma| gamma.val().dtype() != x.dtype())
    {
        // An autocast policy keeps the norm in f32.
        let segment = Segment::new().without_randomness();
        let forward = |norm: &GroupNorm, x| group_norm(norm, x);
        return full_precision_with(segment, norm, x, forward);
    }
    if batch_size * channels * height * width > 2 {
        return nn::group_norm(norm, x);
    }
    // burn refuses tensors of one or two values. The images of a batch do not see each other.
    let twice = Tensor::cat(vec![x.clone(), x], 0);
    norm.forward(twice).narrow(0, 0, batch_size)
}

/// Normalizes `x`, as [`LayerNorm::forward`] does; in f32 where an autocast policy keeps the norm there.
pub(crate) fn layer_norm<const D: usize>(norm: &LayerNorm, x: Tensor<D>) -> Tensor<D> {
    if norm.gamma.val().dtype() == x.dtype() {
        return norm.forward(x);
    }
    let segment = Segment::new().without_randomness();
    full_precision_with(segment, norm, x, |norm: &LayerNorm, x| norm.forward(x))
}

/// Normalizes the channels of each pixel of `x`.
///
/// # Shapes
/// - x, output: `[batch_size, channels, height, width]`
pub(crate) fn channel_norm(norm: &LayerNorm, x: Tensor<4>) -> Tensor<4> {
    let channels_last = x.permute([0, 2, 3, 1]);
    layer_norm(norm, channels_last).permute([0, 3, 1, 2])
}

/// `tensor` in `dtype`; nothing is recorded where it is so already.
pub(crate) fn in_dtype<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    if tensor.dtype() == dtype {
        tensor
    } else {
        tensor.cast(FloatDType::from(dtype))
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::GroupNormConfig;
    use burn::tensor::{Device, Distribution, Tolerance};
    use burn_memopt::grad_checkpoint::hold_random_stream;
    use rstest::rstest;

    use super::*;

    #[test]
    fn parts_are_doubled_as_the_whole() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = Device::flex();
        let x = Tensor::<4>::random([2, 3, 31, 40], Distribution::Default, &device);
        let whole = double_bilinear(x.clone(), Corners::Aligned);
        for (rows, columns) in [(0..31, 0..40), (4..20, 8..40), (16..31, 0..24)] {
            let sides = [(&rows, 31), (&columns, 40)].map(|(range, whole)| Part {
                start: range.start,
                whole,
            });
            let part = x.clone().slice([0..2, 0..3, rows.clone(), columns.clone()]);
            let doubled = double_part(part, sides);
            // Pixels at a border within the image need one from beyond it.
            let inside = |range: std::ops::Range<usize>, len: usize| {
                let start = usize::from(range.start > 0);
                let end = usize::from(range.end < len);
                (start..2 * range.len() - end, 2 * range.start)
            };
            let ((rows, top), (columns, left)) = (inside(rows, 31), inside(columns, 40));
            let got = doubled.slice([0..2, 0..3, rows.clone(), columns.clone()]);
            let wanted = whole.clone().slice([
                0..2,
                0..3,
                top + rows.start..top + rows.end,
                left + columns.start..left + columns.end,
            ]);
            assert_eq!(got.into_data(), wanted.into_data());
        }
    }

    #[rstest]
    fn matrices_interpolate_as_burn_does_forward_and_backward(
        #[values(Corners::Aligned, Corners::Edges)] corners: Corners,
    ) {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
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

    #[test]
    fn two_values_are_normalized() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
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
