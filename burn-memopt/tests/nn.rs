//! `nn` against burn's own layers: outputs, gradients, memory.

use burn::module::Module;
use burn::nn::conv::{
    Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, DeformConv2d, DeformConv2dConfig,
};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d, PaddingConfig3d};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor, activation};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::nn;
use proptest::prelude::*;

/// Largest deviation, as a share of the largest value.
const TOLERANCE: f32 = 2e-5;

fn autodiff() -> Device {
    Device::flex().autodiff()
}

fn normal<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Panics if values deviate by more than rounding.
fn assert_close<const D: usize>(what: &str, ours: Tensor<D>, burns: Tensor<D>) {
    assert_eq!(ours.dims(), burns.dims(), "{what}");
    let values = |tensor: Tensor<D>| tensor.into_data().try_to_vec::<f32>().unwrap();
    let (ours, burns) = (values(ours), values(burns));
    let largest = burns
        .iter()
        .fold(0.3_f32, |largest, value| largest.max(value.abs()));
    for (ours, burns) in ours.iter().zip(&burns) {
        let deviation = (ours - burns).abs() / largest;
        assert!(deviation <= TOLERANCE, "{what}: {ours} is not {burns}");
    }
}

/// Panics if output or gradients of two ways to compute a layer differ.
fn assert_same<M: Module, const D: usize>(
    layer: &M,
    x: Tensor<D>,
    ours: impl Fn(&M, Tensor<D>) -> Tensor<D>,
    burns: impl Fn(&M, Tensor<D>) -> Tensor<D>,
) {
    type Results<const D: usize> = (Tensor<D>, Tensor<D>, GradientsParams);
    let run = |forward: &dyn Fn(&M, Tensor<D>) -> Tensor<D>| -> Results<D> {
        let x = x.clone().require_grad();
        let y = forward(layer, x.clone());
        // Weights of the sum, so that gradients differ from place to place.
        let place = Tensor::arange(0..y.shape().num_elements() as i64, &y.device()).float();
        let weights = place.mul_scalar(0.7).sin().reshape(y.dims());
        let mut grads = (y.clone() * weights).sum().backward();
        let x_grad = x.grad_remove(&mut grads).expect("the input has a gradient");
        (
            y.detach(),
            Tensor::from_data(x_grad.into_data(), &Device::flex()),
            GradientsParams::from_grads(grads, layer),
        )
    };
    let (y, x_grad, grads) = run(&ours);
    let (burns_y, burns_x_grad, burns_grads) = run(&burns);
    assert_close("output", y, burns_y);
    assert_close("gradient of the input", x_grad, burns_x_grad);
    struct Compare<'a>(&'a GradientsParams, &'a GradientsParams);
    impl burn::module::ModuleVisitor for Compare<'_> {
        fn visit_float<const R: usize>(&mut self, param: &burn::module::Param<Tensor<R>>) {
            let [ours, burns] = [self.0, self.1].map(|grads| grads.get::<R>(param.id).unwrap());
            assert_close("gradient of a parameter", ours, burns);
        }
    }
    layer.visit(&mut Compare(&grads, &burns_grads));
}

fn conv2d_layer(device: &Device) -> impl Strategy<Value = (Conv2d, Tensor<4>)> {
    let device = device.clone();
    let channels = (1..=3usize, 1..=3usize, 1..=2usize);
    let kernel = (1..=3usize, 1..=4usize);
    let around = (0..=2usize, 0..=2usize, 0..=2usize, 0..=2usize);
    let strides = (1..=3usize, 1..=2usize);
    let size = (1..=3usize, 5..=9usize, 7..=40usize);
    (
        channels,
        kernel,
        around,
        strides,
        1..=2usize,
        size,
        any::<bool>(),
        0..=2usize,
    )
        .prop_map(
            move |(
                (inputs, outputs, groups),
                (high, wide),
                around,
                strides,
                dilation,
                size,
                bias,
                pad,
            )| {
                let (top, left, bottom, right) = around;
                let padding = match pad {
                    0 => PaddingConfig2d::Valid,
                    1 => PaddingConfig2d::Explicit(top, left, bottom, right),
                    _ => PaddingConfig2d::Same,
                };
                let layer = Conv2dConfig::new([inputs * groups, outputs * groups], [high, wide])
                    .with_padding(padding)
                    .with_stride([strides.0, strides.1])
                    .with_dilation([dilation; 2])
                    .with_groups(groups)
                    .with_bias(bias)
                    .init(&device);
                let (batch_size, height, width) = size;
                (
                    layer,
                    normal([batch_size, inputs * groups, height, width], &device),
                )
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn conv2d_is_burns_whatever_its_settings((layer, x) in conv2d_layer(&autodiff())) {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        // A kernel that is larger than its input is refused by burn.
        let fits = |axis: usize| layer.dilation[axis] * (layer.kernel_size[axis] - 1) < x.dims()[2 + axis];
        prop_assume!(fits(0) && fits(1));
        assert_same(&layer, x, nn::conv2d, |layer, x| layer.forward(x));
    }

    #[test]
    fn conv2d_without_autodiff_is_burns((layer, x) in conv2d_layer(&Device::flex())) {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let fits = |axis: usize| layer.dilation[axis] * (layer.kernel_size[axis] - 1) < x.dims()[2 + axis];
        prop_assume!(fits(0) && fits(1));
        assert_close("output", nn::conv2d(&layer, x.clone()), layer.forward(x));
    }
}

/// Several bands, blocks of channels, and rows that are cut.
#[test]
fn large_convolutions_are_burns() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = autodiff();
    device.seed(1);
    let sizes = [
        ([3, 64], [3, 3], [1, 40, 40]),
        ([80, 200], [3, 3], [1, 12, 12]),
        ([6, 4], [3, 5], [2, 3, 3000]),
        ([300, 8], [1, 1], [1, 60, 61]),
    ];
    for (channels, kernel, [batch_size, height, width]) in sizes {
        let layer: Conv2d = Conv2dConfig::new(channels, kernel)
            .with_padding(PaddingConfig2d::Same)
            .init(&device);
        let x = normal([batch_size, channels[0], height, width], &device);
        assert_same(&layer, x, nn::conv2d, |layer, x| layer.forward(x));
    }
}

#[test]
fn a_view_of_a_tensor_is_convolved_as_what_it_shows() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = autodiff();
    let layer: Conv2d = Conv2dConfig::new([4, 6], [3, 3]).init(&device);
    let x = normal([9, 8, 7, 2], &device);
    let view = |x: Tensor<4>| x.permute([3, 1, 0, 2]).narrow(1, 2, 4);
    assert_same(
        &layer,
        x,
        |layer, x| nn::conv2d(layer, view(x)),
        |layer, x| layer.forward(view(x)),
    );
}

#[test]
fn flat_kernels_in_three_dimensions_are_burns() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = autodiff();
    let padding = PaddingConfig3d::Explicit;
    let layers: [Conv3d; 5] = [
        Conv3dConfig::new([3, 5], [1, 3, 3])
            .with_padding(padding(0, 1, 1))
            .init(&device),
        Conv3dConfig::new([3, 5], [1, 3, 3])
            .with_stride([1, 2, 2])
            .with_padding(padding(0, 1, 1))
            .init(&device),
        Conv3dConfig::new([3, 5], [3, 1, 1])
            .with_dilation([2, 1, 1])
            .with_padding(padding(2, 0, 0))
            .init(&device),
        Conv3dConfig::new([3, 4], [1, 3, 3])
            .with_dilation([1, 2, 2])
            .init(&device),
        // Not flat: burn's.
        Conv3dConfig::new([3, 4], [2, 3, 3]).init(&device),
    ];
    for layer in layers {
        let x = normal([2, 3, 4, 9, 11], &device);
        assert_same(&layer, x.clone(), nn::conv3d, |layer, x| layer.forward(x));
        let plain = layer.clone().fork(&Device::flex());
        let x = Tensor::from_data(x.into_data(), &Device::flex());
        assert_close("output", nn::conv3d(&plain, x.clone()), plain.forward(x));
    }
}

#[test]
fn deformable_convolutions_are_burns_also_far_outside() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex();
    for (groups, offset_groups, stride) in [(1, 1, 1), (1, 2, 1), (2, 4, 2)] {
        let layer: DeformConv2d = DeformConv2dConfig::new([8, 6], [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .with_weight_groups(groups)
            .with_offset_groups(offset_groups)
            .with_stride([stride; 2])
            .init(&device);
        let (height, width) = (10, 13);
        let (out_height, out_width) = ((height - 1) / stride + 1, (width - 1) / stride + 1);
        let x = normal([2, 8, height, width], &device);
        let points = 9 * offset_groups;
        let offset = normal([2, 2 * points, out_height, out_width], &device) * 6.0;
        let modulation = activation::sigmoid(normal([2, points, out_height, out_width], &device));
        let ours = nn::deform_conv2d(&layer, x.clone(), offset.clone(), modulation.clone());
        assert_close("output", ours, layer.forward(x, offset, Some(modulation)));
    }
}

#[test]
fn group_norm_is_burns() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = autodiff();
    for (groups, channels, shape) in [
        (1, 4, [3, 4, 5, 7]),
        (2, 6, [2, 6, 33, 40]),
        (4, 4, [1, 4, 1, 3]),
    ] {
        let norm: GroupNorm = GroupNormConfig::new(groups, channels).init(&device);
        let x = normal(shape, &device) * 3.0 + 5.0;
        assert_same(&norm, x, nn::group_norm, |norm, x| norm.forward(x));
    }
}

#[test]
fn activations_are_burns() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = autodiff();
    let x = normal([3, 5, 7], &device);
    let run = |ours: fn(Tensor<3>) -> Tensor<3>, burns: fn(Tensor<3>) -> Tensor<3>| {
        assert_same(
            &None::<Conv2d>,
            x.clone(),
            move |_, x| ours(x),
            move |_, x| burns(x),
        );
    };
    run(nn::relu, activation::relu);
    run(
        |x| nn::leaky_relu(x, 0.2),
        |x| activation::leaky_relu(x, 0.2),
    );
    run(
        |x| nn::leaky_relu(x, -0.5),
        |x| activation::leaky_relu(x, -0.5),
    );
    run(nn::sigmoid, activation::sigmoid);
    run(nn::tanh, activation::tanh);
    run(nn::gelu, activation::gelu);
    // In half precision the operations are burn's own.
    let in_half = |of: fn(Tensor<3>) -> Tensor<3>| {
        move |_: &_, x: Tensor<3>| of(x.cast(FloatDType::F16)).cast(FloatDType::F32)
    };
    let none = None::<Conv2d>;
    assert_same(
        &none,
        x.clone(),
        in_half(nn::relu),
        in_half(activation::relu),
    );
    assert_same(
        &none,
        x.clone(),
        in_half(nn::sigmoid),
        in_half(activation::sigmoid),
    );
    assert_same(
        &none,
        x.clone(),
        in_half(nn::gelu),
        in_half(activation::gelu),
    );
    // burn rounds the slope to half precision first.
    let ours = in_half(|x| nn::leaky_relu(x, 0.2))(&none, x.clone());
    let burns = in_half(|x| activation::leaky_relu(x, 0.2))(&none, x);
    assert!((ours - burns).abs().max().into_scalar::<f32>() < 1e-3);
}

#[test]
fn what_else_has_a_tensor_keeps_its_values() {
    let device = Device::flex();
    let x = Tensor::<1>::from_floats([-1.0, 2.0], &device);
    let same = x.clone();
    let y = nn::relu(x);
    assert_eq!(same.into_data().try_to_vec::<f32>().unwrap(), [-1.0, 2.0]);
    assert_eq!(y.into_data().try_to_vec::<f32>().unwrap(), [0.0, 2.0]);
}

#[test]
fn no_number_stays_no_number() {
    let x = Tensor::<1>::from_floats([f32::NAN, -1.0], &Device::flex());
    let activations: [fn(Tensor<1>) -> Tensor<1>; 5] = [
        nn::relu,
        |x| nn::leaky_relu(x, 0.1),
        nn::sigmoid,
        nn::tanh,
        nn::gelu,
    ];
    for activation in activations {
        let y = activation(x.clone())
            .into_data()
            .try_to_vec::<f32>()
            .unwrap();
        assert!(y[0].is_nan() && !y[1].is_nan());
    }
}

#[test]
fn half_precision_and_frozen_layers_work_as_burns() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = autodiff();
    let layer: Conv2d = Conv2dConfig::new([2, 3], [3, 3]).init(&device);
    let x = normal([1, 2, 6, 6], &device);
    let half = layer.clone().map(&mut Half);
    let y = nn::conv2d(&half, x.clone().cast(FloatDType::F16));
    assert_eq!(y.dtype(), DType::F16);

    let frozen = layer.no_grad();
    let x = x.require_grad();
    let grads = nn::conv2d(&frozen, x.clone()).sum().backward();
    assert!(x.grad(&grads).is_some() && frozen.weight.val().grad(&grads).is_none());
}

struct Half;

impl burn::module::ModuleMapper for Half {
    fn map_float<const D: usize>(
        &mut self,
        param: burn::module::Param<Tensor<D>>,
    ) -> burn::module::Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(FloatDType::F16))
    }
}

#[test]
fn burns_strategy_to_keep_little_gives_the_same_gradients() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff().gradient_checkpointing();
    let layer: Conv2d = Conv2dConfig::new([2, 2], [3, 3]).init(&device);
    let x = normal([1, 2, 8, 8], &device);
    assert_same(
        &layer,
        x,
        |layer, x| nn::relu(nn::conv2d(layer, nn::tanh(x))),
        |layer, x| activation::relu(layer.forward(activation::tanh(x))),
    );
}

/// Threads share work by sizes alone.
#[test]
fn the_number_of_threads_changes_no_bit() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = autodiff();
    let layer: Conv2d = Conv2dConfig::new([16, 40], [3, 3]).init(&device);
    let norm: GroupNorm = GroupNormConfig::new(4, 40).init(&device);
    let x = normal([2, 16, 50, 60], &device);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let y = nn::relu(nn::group_norm(&norm, nn::conv2d(&layer, x.clone())));
            let grads = y.clone().square().sum().backward();
            let weight = layer.weight.val().grad(&grads).unwrap();
            let gamma = norm.gamma.as_ref().unwrap().val().grad(&grads).unwrap();
            (y.into_data(), weight.into_data(), gamma.into_data())
        })
    };
    assert_eq!(run(1), run(5));
}
