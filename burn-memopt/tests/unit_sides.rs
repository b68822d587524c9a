//! Results of one channel, row or column are right on a GPU, software included, whatever is fused with them.
#![cfg(feature = "wgpu")]

mod blocks;

use burn::module::Module;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::module::{adaptive_avg_pool2d, conv_transpose2d, interpolate, max_pool2d};
use burn::tensor::ops::{
    ConvTransposeOptions, InterpolateMode, InterpolateOptions, MaxPoolOptions,
};
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::nn::{canonical_strides, conv2d};
use rstest::rstest;

fn image(shape: [usize; 4], device: &Device) -> Tensor<4> {
    let values = (0..shape.iter().product()).map(|at| (at % 13) as f32);
    Tensor::from_data(TensorData::new(values.collect(), shape), device)
}

/// The layer with weights that depend on nothing but their position.
fn convolution(x: Tensor<4>) -> Tensor<4> {
    let channels = x.dims()[1];
    let layer = Conv2dConfig::new([channels, channels], [1, 1])
        .with_bias(false)
        .init(&x.device());
    let mut record = layer.clone();
    record.weight = record.weight.map(|weight| weight.zeros_like() + 0.5);
    conv2d(&record.no_grad(), x)
}

fn transposed(x: Tensor<4>) -> Tensor<4> {
    let channels = x.dims()[1];
    let weight = Tensor::ones([channels, channels, 1, 1], &x.device());
    let options = ConvTransposeOptions::new([1, 1], [0, 0], [0, 0], [1, 1], 1);
    canonical_strides(conv_transpose2d(x, weight, None, options))
}

fn pooled(x: Tensor<4>) -> Tensor<4> {
    canonical_strides(max_pool2d(x, MaxPoolOptions::new([1, 1])))
}

fn averaged(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    canonical_strides(adaptive_avg_pool2d(x, [height, width]))
}

fn doubled(x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let options = InterpolateOptions::new(InterpolateMode::Nearest);
    canonical_strides(interpolate(
        x,
        options.with_output_size([2 * height, 2 * width]),
    ))
}

#[rstest]
#[case::convolution(convolution)]
#[case::transposed(transposed)]
#[case::pooled(pooled)]
#[case::averaged(averaged)]
#[case::doubled(doubled)]
fn values_used_twice_are_those_of_the_cpu(#[case] layer: fn(Tensor<4>) -> Tensor<4>) {
    let Some(gpu) = blocks::gpu_device() else {
        return;
    };
    let (gpu, cpu) = (gpu.inner(), Device::flex());
    for shape in [
        [2, 1, 8, 8],
        [1, 1, 1, 8],
        [8, 1, 1, 1],
        [2, 4, 8, 1],
        [2, 4, 1, 8],
    ] {
        for is_read in [false, true] {
            let values = |device: &Device| {
                let x = layer(image(shape, device));
                if is_read {
                    x.clone().into_data();
                }
                // The quotient takes the place of `x`, which is not used again.
                let quotient = x / 4.0;
                let difference = quotient.clone() - 1.0;
                let sums = quotient.clone().sum_dim(3);
                [difference, quotient, sums].map(Tensor::into_data)
            };
            for (got, expected) in values(&gpu).iter().zip(&values(&cpu)) {
                got.assert_approx_eq::<f32>(expected, burn::tensor::Tolerance::absolute(1e-5));
            }
        }
    }
}
