//! DECODE's networks, losses, post-processing and units.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::decode::{
    Activation, Attribute, DetectionConfig, DoubleMUNetConfig, EmitterTargets, InputScale,
    Interpolation, MUNetConfig, OutputScale, Pooling, SigmaMUNetConfig, UNet2dConfig,
};
use burn_memopt_models::loss::{MixtureLossConfig, PixelLossConfig};
use rstest::rstest;

use crate::harness::{Case, Comparison};
use crate::{network, optimizer};

/// The settings of the manifest `decode_double_munet`.
pub fn double_munet() -> DoubleMUNetConfig {
    let core = MUNetConfig::new()
        .with_initial_features(24)
        .with_inter_features(24)
        .with_activation(Activation::Relu)
        .with_interpolation(Interpolation::Bilinear);
    DoubleMUNetConfig::new().with_core(core)
}

/// The settings of the manifest `decode_unet2d_groupnorm`.
pub fn unet2d_groupnorm() -> UNet2dConfig {
    UNet2dConfig::new(2, 5)
        .with_features(8)
        .with_activation(Activation::Relu)
        .with_pooling(Pooling::Max)
        .with_interpolation(Interpolation::Bilinear)
        .with_norm_groups(Some(4))
}

#[test]
fn golden_decode_sigma_munet_forward() {
    let case = Case::open("decode_sigma_munet_forward");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex();
    let x = case.tensor::<4>("x", &device);
    let middle = x.clone().narrow(1, 1, 1);

    let config = SigmaMUNetConfig::new();
    let munet = network::filled(config.init(&device), &case);
    let shared = |frame| munet.net.unet_shared.forward(x.clone().narrow(1, frame, 1));
    comparison.tensor("shared_frame0", shared(0).narrow(1, 0, 8));
    let all = Tensor::cat((0..3).map(shared).collect(), 1);
    let core = munet.net.unet_union.forward(all).narrow(1, 0, 16);
    comparison.tensor("core_ch0_15", core);
    comparison.tensor("y", munet.forward(x.clone()));

    let disabled = config.with_disabled(vec![Attribute::Z]).init(&device);
    let disabled = network::filled(disabled, &case);
    comparison.tensor("y_z_disabled", disabled.forward(x));

    let one = MUNetConfig::new().with_num_frames(1);
    let one = SigmaMUNetConfig::new().with_core(one).init(&device);
    let one = network::filled(one, &case);
    comparison.tensor("y_one_frame", one.forward(middle));
    comparison.finish();
}

#[test]
fn golden_decode_double_munet_forward() {
    let case = Case::open("decode_double_munet_forward");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex();
    let x = case.tensor::<4>("x", &device);
    let munet = network::filled(double_munet().init(&device), &case);
    comparison.tensor("y_train", munet.forward(x.clone()));
    comparison.tensor("y_eval", munet.infer(x.clone()));
    let unet = network::filled(unet2d_groupnorm().init(&device), &case);
    comparison.tensor("unet2d_groupnorm", unet.forward(x.narrow(1, 0, 2)));
    comparison.finish();
}

#[test]
fn golden_decode_gmm_loss() {
    let case = Case::open("decode_gmm_loss");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let output = case.tensor::<4>("output", &device).require_grad();
    let weights = [0, 1].map(|i| case.require(&format!("channel_weight/{i}")));
    let loss = MixtureLossConfig::new()
        .with_channel_weights(weights)
        .init();
    let loss = loss.forward(output.clone(), &targets(&case, &device));
    let mean = loss.clone().mean();
    let grads = mean.clone().backward();
    comparison.tensor("loss", loss);
    comparison.values("loss_mean", &[mean.into_scalar()]);
    comparison.tensor("grad_output", output.grad(&grads).unwrap());
    comparison.finish();
}

#[test]
fn golden_decode_ppxyzb_loss() {
    let case = Case::open("decode_ppxyzb_loss");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let output = case.tensor::<4>("output", &device).require_grad();
    let weights = (0..6).map(|i| case.require(&format!("channel_weight/{i}")));
    let loss = PixelLossConfig::new()
        .with_channel_weights(weights.collect())
        .with_positive_weight(case.require("p_fg_weight"))
        .init();
    let [target, weight] = ["target", "weight"].map(|name| case.tensor(name, &device));
    let losses = loss.forward(output.clone(), target, weight);
    let mean = losses.clone().mean();
    let grads = mean.clone().backward();
    comparison.tensor("loss", losses);
    comparison.values("loss_mean", &[mean.into_scalar()]);
    comparison.tensor("grad_output", output.grad(&grads).unwrap());
    comparison.finish();
}

#[test]
fn golden_decode_scaling() {
    let case = Case::open("decode_scaling");
    let mut comparison = Comparison::new(&case);
    let number = |name: &str| case.require(name) as f32;
    let scale = OutputScale {
        photons: number("scale_phot"),
        row: number("scale_x"),
        column: number("scale_y"),
        z: number("scale_z"),
        background_offset: number("mu_sig_bg/0"),
        background: number("mu_sig_bg/1"),
        buffer: number("buffer"),
    };
    let amplitude = InputScale {
        offset: number("amplitude/offset"),
        scale: number("amplitude/scale"),
    };
    let x = case.tensor::<4>("x", &Device::flex());
    comparison.tensor("offset_rescale", scale.to_physical(x.clone()));
    comparison.tensor("inverse", scale.to_network(x.clone()));
    comparison.tensor("amplitude", amplitude.forward(x));
    comparison.finish();
}

#[test]
fn golden_decode_spatial_integration() {
    let case = Case::open("decode_spatial_integration");
    let mut comparison = Comparison::new(&case);
    let probs = case.tensor::<3>("p", &Device::flex());
    let integrate = |raw: f64| {
        let config = DetectionConfig::new().with_raw_threshold(raw);
        config.integrate(probs.clone())
    };
    comparison.tensor("p_sum", integrate(0.5));
    comparison.tensor("p_norm_sum", integrate(0.5).clamp(0.0, 1.0));
    comparison.tensor("p_norm_sum_raw0.1", integrate(0.1).clamp(0.0, 1.0));
    comparison.finish();
}

/// Two steps, recomputed and plain: losses, gradients and parameters.
#[rstest]
#[case::plain(Policy::None)]
#[case::every_block_recomputed(Policy::EveryBlock)]
fn golden_decode_train_step(#[case] policy: Policy) {
    let case = Case::open("decode_train_step");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let munet = SigmaMUNetConfig::new().init(&device);
    let mut munet = network::filled(munet.with_grad_checkpoint(policy), &case);
    let mut optimizer = optimizer::optimizer("adamw", &case, "");
    let loss = MixtureLossConfig::new().init();
    let (x, targets) = (case.tensor::<4>("x", &device), targets(&case, &device));
    let [mut means, mut norms] = [Vec::new(), Vec::new()];
    for step in 0..case.require("steps") as usize {
        let output = munet.forward(x.clone());
        let losses = loss.forward(output.clone(), &targets);
        let mean = losses.clone().mean();
        let grads = mean.backward();
        let grads = GradientsParams::from_grads(grads, &munet);
        if step == 0 {
            comparison.tensor("y_step0", output);
            comparison.tensor("loss_step0", losses.clone());
            network::compare_gradients(&mut comparison, &case, &munet, &grads);
        }
        let norm = network::total_norm(&munet, &grads);
        means.push(losses.mean().into_scalar::<f32>());
        norms.push(norm as f32);
        let factor = (case.require("clip_grad_norm") / (norm + 1e-6)).min(1.0);
        let grads = network::scaled(&munet, grads, factor);
        munet = optimizer.step(case.require("lr"), munet, grads);
    }
    comparison.values("loss_mean_per_step", &means);
    comparison.values("total_grad_norm_before_clip", &norms);
    let values = network::values(&munet.valid());
    for stored in case.names("after:") {
        comparison.values(stored, &values[stored.trim_start_matches("after:")]);
    }
    comparison.finish();
}

fn targets(case: &Case, device: &Device) -> EmitterTargets {
    EmitterTargets {
        params: case.tensor("target_params", device),
        mask: case.tensor("target_mask", device),
        background: case.tensor("target_bg", device),
    }
}
