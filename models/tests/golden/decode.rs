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

use crate::harness::{Case, Comparison, number_in};
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

/// The network that the parameters of the case describe.
fn sigma_munet(case: &Case) -> SigmaMUNetConfig {
    let number = |name: &str| case.require(name) as usize;
    let activation = match case.word("activation").as_deref() {
        None | Some("elu") => Activation::Elu,
        Some("relu") => Activation::Relu,
        Some(other) => panic!("{}: the activation {other}", case.name),
    };
    let pooling = match case.word("pool_mode").as_deref() {
        Some("strideconv") => Pooling::StridedConv,
        Some("maxpool") => Pooling::Max,
        other => panic!("{}: the pooling {other:?}", case.name),
    };
    let interpolation = match case.word("upsample_mode").as_deref() {
        Some("nearest") => Interpolation::Nearest,
        Some("bilinear") => Interpolation::Bilinear,
        other => panic!("{}: the interpolation {other:?}", case.name),
    };
    let core = MUNetConfig::new()
        .with_num_frames(case.shape("x")[1])
        .with_depth_shared(number("depth_shared"))
        .with_depth_union(number("depth_union"))
        .with_initial_features(number("initial_features"))
        .with_inter_features(number("inter_features"))
        .with_activation(activation)
        .with_pooling(pooling)
        .with_interpolation(interpolation);
    SigmaMUNetConfig::new().with_core(core)
}

#[test]
fn golden_decode_sigma_munet_forward() {
    let case = Case::open("decode_sigma_munet_forward");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex();
    let x = case.tensor::<4>("x", &device);

    let config = sigma_munet(&case);
    let num_frames = config.core.num_frames;
    let middle = x.clone().narrow(1, num_frames / 2, 1);
    let munet = network::filled(config.init(&device), &case);
    let shared = |frame| munet.net.unet_shared.forward(x.clone().narrow(1, frame, 1));
    let stored_channels = case.shape("shared_frame0")[1];
    comparison.tensor("shared_frame0", shared(0).narrow(1, 0, stored_channels));
    let all = Tensor::cat((0..num_frames).map(shared).collect(), 1);
    comparison.channels("core", &munet.net.unet_union.forward(all), 1);
    comparison.tensor("y", munet.forward(x.clone()));

    let disabled = config.clone().with_disabled(vec![Attribute::Z]);
    let disabled = disabled.init(&device);
    let disabled = network::filled(disabled, &case);
    comparison.tensor("y_z_disabled", disabled.forward(x));

    let one = config.core.clone().with_num_frames(1);
    let one = config.with_core(one).init(&device);
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
    let config = unet2d_groupnorm();
    let unet = network::filled(config.init(&device), &case);
    let inputs = x.narrow(1, 0, config.in_channels);
    comparison.tensor("unet2d_groupnorm", unet.forward(inputs));
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
    let channels = 0..case.shape("output")[1];
    let weights = channels.map(|i| case.require(&format!("channel_weight/{i}")));
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
    let raw = case.stated("raw threshold")[0];
    let config = DetectionConfig::new().with_split_threshold(case.stated("split threshold")[0]);
    for stored in case.names("p_") {
        let raw = number_in(stored, "_raw").unwrap_or(raw);
        let sum = config.clone().with_raw_threshold(raw);
        let sum = sum.integrate(probs.clone());
        let is_norm = stored.starts_with("p_norm_sum");
        comparison.tensor(stored, if is_norm { sum.clamp(0.0, 1.0) } else { sum });
    }
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
    let munet = sigma_munet(&case).init(&device);
    let mut munet = network::filled(munet.with_grad_checkpoint(policy), &case);
    let kind = case.word("optimizer").expect("an optimizer");
    let mut optimizer = optimizer::optimizer(&kind, &case, "");
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
