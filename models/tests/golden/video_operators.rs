//! The operators the video networks are made of, with their gradients.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv3d, Conv3dConfig, DeformConv2dConfig};
use burn::nn::{InstanceNormConfig, PaddingConfig2d};
use burn::tensor::activation::{elu, gelu, leaky_relu};
use burn::tensor::module::{adaptive_avg_pool2d, avg_pool2d, interpolate, layer_norm, max_pool2d};
use burn::tensor::ops::{
    AvgPoolOptions, GridSampleOptions, GridSamplePaddingMode, InterpolateMode, InterpolateOptions,
    MaxPoolOptions, PadMode,
};
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt_models::propainter::{
    FusionFeedForward, PseudoConv3d, Sampling, SoftComposition, SoftSplit, SpectralConv3d,
    consistency, fold, overlaps, sampling_grid, unfold, warp,
};
use rstest::rstest;

use crate::fill::Fill;
use crate::harness::{Case, Comparison, number_in};
use crate::{network, part};

/// More than any layer needs: nothing is divided.
const BYTES: usize = usize::MAX;

#[rstest]
#[case::basic("prim_deform_conv_basic")]
#[case::groups16("prim_deform_conv_groups16")]
#[case::no_mask("prim_deform_conv_no_mask")]
#[case::strided_dilated("prim_deform_conv_strided_dilated")]
fn golden_deformable_convolution_and_its_gradients(#[case] name: &str) {
    let case = Case::open(name);
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let leaf = |name: &str| case.tensor::<4>(name, &device).require_grad();
    let (x, offset) = (leaf("x"), leaf("offset"));
    let with = |name: &str| case.names(name).contains(&name);
    let mask = with("mask").then(|| leaf("mask"));
    let number = |name: &str| [0, 1].map(|at| case.require(&format!("{name}/{at}")) as usize);
    let [groups, offset_groups] =
        ["groups", "deform_groups"].map(|name| case.require(name) as usize);
    let [pad_y, pad_x] = number("padding");
    let [_, channels, ..] = x.dims();
    let outputs = case.shape("weight")[0];
    let [_, _, kernel_y, kernel_x] = case.shape("weight")[..] else {
        panic!("{name}: the weight is no kernel")
    };
    let mut conv = DeformConv2dConfig::new([channels, outputs], [kernel_y, kernel_x])
        .with_stride(number("stride"))
        .with_padding(PaddingConfig2d::Explicit(pad_y, pad_x, pad_y, pad_x))
        .with_dilation(number("dilation"))
        .with_weight_groups(groups)
        .with_offset_groups(offset_groups)
        .with_bias(with("bias"))
        .init(&device);
    conv.weight = Param::from_tensor(case.tensor("weight", &device));
    conv.bias = with("bias").then(|| Param::from_tensor(case.tensor("bias", &device)));
    let y = conv.forward(x.clone(), offset.clone(), mask.clone());
    let grads = (y.clone() * case.tensor("cotangent", &device))
        .sum()
        .backward();
    comparison.tensor("y", y);
    comparison.tensor("grad_x", x.grad(&grads).unwrap());
    comparison.tensor("grad_offset", offset.grad(&grads).unwrap());
    comparison.tensor("grad_weight", conv.weight.val().grad(&grads).unwrap());
    if let Some(bias) = conv.bias {
        comparison.tensor("grad_bias", bias.val().grad(&grads).unwrap());
    }
    if let Some(mask) = mask {
        comparison.tensor("grad_mask", mask.grad(&grads).unwrap());
    }
    comparison.finish();
}

#[test]
fn golden_warp_follows_a_flow_and_its_gradients() {
    let case = Case::open("prim_flow_warp");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let x = case.tensor::<4>("x", &device).require_grad();
    let stored = case.tensor::<4>("flow", &device).require_grad();
    let flow = stored.clone().permute([0, 3, 1, 2]);
    let y = warp(x.clone(), flow.clone(), Sampling::Bilinear);
    let grads = (y.clone() * case.tensor("cotangent", &device))
        .sum()
        .backward();
    comparison.tensor("bilinear_zeros", y);
    comparison.tensor("grad_x", x.grad(&grads).unwrap());
    comparison.tensor("grad_flow", stored.grad(&grads).unwrap());
    // Nearest sampling passes gradients to the image alone.
    let nearest = warp(x.clone(), flow.clone(), Sampling::Nearest);
    let grads = nearest.clone().sum().backward();
    assert!(x.grad(&grads).is_some());
    comparison.tensor("nearest_zeros", nearest);
    let border = GridSampleOptions::new(InterpolateMode::Bilinear)
        .with_padding_mode(GridSamplePaddingMode::Border)
        .with_align_corners(true);
    comparison.tensor(
        "bilinear_border",
        x.grid_sample_2d(sampling_grid(flow), border),
    );
    comparison.finish();
    warps(&Device::flex(), 1.0);
}

/// What inference uses, on any device.
pub fn warps(device: &Device, times: f64) {
    let case = Case::open("prim_flow_warp");
    let mut comparison = Comparison::within(&case, times);
    let x = case.tensor::<4>("x", device);
    let flow = case.tensor::<4>("flow", device).permute([0, 3, 1, 2]);
    comparison.tensor(
        "bilinear_zeros",
        warp(x.clone(), flow.clone(), Sampling::Bilinear),
    );
    comparison.tensor("nearest_zeros", warp(x, flow, Sampling::Nearest));
    let [there, back] = ["flow_f", "flow_b"].map(|name| case.tensor::<4>(name, device));
    comparison.tensor("fb_valid", consistency(there, back));
    comparison.finish();
}

#[test]
fn golden_grid_sampling_of_burn() {
    let case = Case::open("prim_grid_sample");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex();
    for name in case.names("") {
        let parts: Vec<&str> = name.split('_').collect();
        let [mode, padding, "align", align] = parts[..] else {
            continue;
        };
        let mode = match mode {
            "nearest" => InterpolateMode::Nearest,
            _ => InterpolateMode::Bilinear,
        };
        let padding = match padding {
            "border" => GridSamplePaddingMode::Border,
            "reflection" => GridSamplePaddingMode::Reflection,
            _ => GridSamplePaddingMode::Zeros,
        };
        let options = GridSampleOptions::new(mode)
            .with_padding_mode(padding)
            .with_align_corners(align == "True");
        let x = case.tensor::<4>("x", &device);
        let grid = case.tensor::<4>("grid", &device);
        comparison.tensor(name, x.grid_sample_2d(grid, options));
    }
    comparison.finish();
}

#[test]
fn golden_patches_are_cut_summed_and_mixed() {
    patches(&Device::flex(), 1.0);
    patches(&Device::flex().autodiff(), 1.0);
}

/// Patches and the layers between them, with gradients where the device has them.
pub fn patches(device: &Device, times: f64) {
    let case = Case::open("prim_fold_unfold");
    let mut comparison = Comparison::within(&case, times);
    let x = case.tensor::<4>("x", device);
    let [_, num_frames, rows, columns, hidden] = case.shape("soft_split")[..] else {
        panic!("soft_split holds no tokens")
    };
    let [_, channels, height, width] = x.dims();
    let size = [height, width];
    let patches = unfold(x.clone());
    comparison.tensor("unfold", patches.clone().swap_dims(1, 2));
    comparison.tensor("fold_of_unfold", fold(patches, size));
    comparison.tensor("fold_of_ones", overlaps(size, device));

    let split = part::filled(SoftSplit::new(channels, hidden, device), &case);
    let tokens = split.forward(x, BYTES);
    comparison.tensor("soft_split", tokens.clone().unsqueeze::<5>());
    let composition = part::filled(SoftComposition::new(channels, hidden, device), &case);
    comparison.tensor(
        "soft_comp_of_soft_split",
        composition.forward(tokens, size, BYTES),
    );

    let stored = case.tensor::<3>("tokens", device);
    let [batch_size, num_tokens, width] = stored.dims();
    let hidden = case.stated("hidden")[0] as usize;
    let fusion = network::filled(FusionFeedForward::new(width, hidden, device), &case);
    let stored = match device.is_autodiff() {
        true => stored.require_grad(),
        false => stored,
    };
    let tokens = stored.clone();
    let tokens = tokens.reshape([batch_size * num_frames, rows, columns, width]);
    let y = fusion.forward(tokens, size, BYTES);
    let y = y.reshape([batch_size, num_tokens, width]);
    if device.is_autodiff() {
        let cotangent = case.tensor("cotangent", device);
        let grads = (y.clone() * cotangent).sum().backward();
        comparison.tensor("grad_tokens", stored.grad(&grads).unwrap());
    }
    comparison.tensor("fusion_ffn", y);
    comparison.finish();
}

#[test]
fn golden_convolutions_in_space_and_then_in_time() {
    let case = Case::open("prim_p3d");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex();
    let fill = Fill::new(case.gain_table(), case.salt());
    let values = |name: &str, shape: Vec<usize>| TensorData::new(fill.values(name, &shape), shape);
    let [inputs, middle, outputs] = ["x", "replicate_conv", "y"].map(|name| case.shape(name)[1]);
    let mut conv: Conv3d = Conv3dConfig::new([inputs, middle], [1, 5, 5])
        .with_stride([1, 2, 2])
        .init(&device);
    let weight = values("0.weight", vec![middle, inputs, 1, 5, 5]);
    conv.weight = conv.weight.map(|_| Tensor::from_data(weight, &device));
    let bias = values("0.bias", vec![middle]);
    conv.bias = conv
        .bias
        .map(|old| old.map(|_| Tensor::from_data(bias, &device)));
    let x = case.tensor::<5>("x", &device);
    let x = conv.forward(x.pad([(2, 2), (2, 2)], PadMode::Edge));
    let x = leaky_relu(x, 0.2);
    comparison.tensor("replicate_conv", x.clone());

    let first = PseudoConv3d::new([middle, outputs], 2, &device);
    let first = network::filled_below(first, &case, "2.");
    let second = PseudoConv3d::new([outputs, outputs], 1, &device);
    let second = network::filled_below(second, &case, "3.");
    let x = first.forward(x);
    comparison.tensor("y", second.forward(x.clone()) + x);
    comparison.finish();
}

#[test]
fn golden_resampling_and_normalization_of_burn() {
    let case = Case::open("prim_resample_norm");
    let mut comparison = Comparison::new(&case);
    let x = case.tensor::<4>("x", &Device::flex());
    for stored in case.names("").into_iter().filter(|name| *name != "x") {
        let y = operator(stored, x.clone());
        let channels = case.shape(stored)[1];
        comparison.tensor(stored, y.narrow(1, 0, channels));
    }
    comparison.finish();
}

/// The operator that a name describes, such as `up2_bilinear_align_true` or `maxpool_k7_s3_p3`.
fn operator(name: &str, x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let number = |key: &str| number_in::<usize>(name, key);
    let align = name.contains("align_true");
    let resized = |x: Tensor<4>, size: [usize; 2]| {
        let mode = match name.contains("nearest") {
            true => InterpolateMode::Nearest,
            false => InterpolateMode::Bilinear,
        };
        let options = InterpolateOptions::new(mode)
            .with_align_corners(align)
            .with_output_size(size);
        interpolate(x, options)
    };
    if let Some(factor) = number("up") {
        let larger = resized(x, [height * factor, width * factor]);
        return match number("_times") {
            Some(times) => larger.mul_scalar(times as f64),
            None => larger,
        };
    }
    if let Some(factor) = number("down") {
        let size = [height / factor, width / factor];
        if name.ends_with("_area") {
            return adaptive_avg_pool2d(x, size);
        }
        // Whole blocks alone, so that they are `factor` pixels apart at any size.
        let x = x.narrow(2, 0, factor * size[0]);
        return resized(x.narrow(3, 0, factor * size[1]), size);
    }
    if let Some(kernel) = number("pool_k") {
        let stride = number("_s").unwrap_or(kernel);
        let padding = number("_p").unwrap_or(0);
        return match name.starts_with("max") {
            true => {
                let options = MaxPoolOptions::new([kernel; 2]).with_stride([stride; 2]);
                max_pool2d(x, options.with_padding([padding; 2]))
            }
            false => {
                let options = AvgPoolOptions::new([kernel; 2]).with_stride([stride; 2]);
                avg_pool2d(x, options.with_padding([padding; 2]))
            }
        };
    }
    match name {
        "instance_norm" => InstanceNormConfig::new(x.dims()[1])
            .with_affine(false)
            .init(&x.device())
            .forward(x),
        "layer_norm_lastdim" => {
            let ones = Tensor::ones([width], &x.device());
            layer_norm(x, ones, None, 1e-5)
        }
        "gelu_erf" => gelu(x),
        "elu" => elu(x, 1.0),
        other => panic!("the operator {other} is not known"),
    }
}

#[test]
fn golden_spectral_normalization_and_its_gradient() {
    let case = Case::open("prim_spectral_norm");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let [outputs, inputs, frames, height, width] = case.shape("grad_weight_orig")[..] else {
        panic!("grad_weight_orig is no kernel")
    };
    let (channels, kernel) = ([inputs, outputs], [frames, height, width]);
    let conv = SpectralConv3d::new(channels, kernel, [1, 2, 2], [1, 2, 2], &device);
    let conv = part::filled(conv, &case);
    let x = case.tensor::<5>("x", &device);
    let num_passes = case.names("y_train_").len();
    for pass in 0..num_passes {
        let y = conv.forward(x.clone());
        if pass + 1 == num_passes {
            let cotangent = case.tensor("cotangent", &device);
            let grads = (y.clone() * cotangent).sum().backward();
            let grad = conv.weight_orig.val().grad(&grads).unwrap();
            comparison.tensor("grad_weight_orig", grad);
        }
        comparison.tensor(&format!("y_train_{pass}"), y);
        let [u, v] = [&conv.weight_u, &conv.weight_v].map(|state| state.value_sync());
        comparison.tensor(&format!("u_{pass}"), u);
        comparison.tensor(&format!("v_{pass}"), v);
    }
    let still = conv.valid();
    let x = case.tensor::<5>("x", &Device::flex());
    comparison.tensor("y_eval", still.forward(x));
    comparison.finish();
}
