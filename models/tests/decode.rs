//! DECODE's networks as a whole: checkpointing, sequences, half precision, weights in files.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData, Tolerance};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::precision::{Autocast, Precision};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::decode::{
    Activation, Emitter, EmitterTargets, Interpolation, MUNetConfig, OutputScale, Pooling,
    SigmaMUNet, SigmaMUNetConfig, UNet2dConfig,
};
use burn_memopt_models::loss::MixtureLossConfig;
use burn_memopt_models::weights::StateDict;
use rstest::rstest;

fn test_device() -> Device {
    Device::flex()
}

fn tiny() -> MUNetConfig {
    MUNetConfig::new()
        .with_initial_features(4)
        .with_inter_features(4)
        .with_depth_shared(1)
}

fn sigma(core: MUNetConfig, device: &Device) -> SigmaMUNet {
    SigmaMUNetConfig::new().with_core(core).init(device)
}

fn windows(shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// The output and the gradients of all parameters and of the input, as one list.
fn run(munet: &SigmaMUNet, x: &Tensor<4>) -> Vec<(String, TensorData)> {
    let x = x.clone().require_grad();
    let output = munet.forward(x.clone());
    let mut grads = output.clone().square().sum().backward();
    let input = x.grad_remove(&mut grads).unwrap();
    let grads = GradientsParams::from_grads(grads, munet);
    let mut found = vec![
        ("output".into(), output.into_data()),
        ("input".into(), input.into_data()),
    ];
    for tensor in munet.collect(None, None, true) {
        let id = burn::module::ParamId::from(tensor.param_id.unwrap());
        let grad = match tensor.shape.len() {
            1 => grads.get::<1>(id).map(Tensor::into_data),
            _ => grads.get::<4>(id).map(Tensor::into_data),
        };
        if let Some(grad) = grad {
            found.push((tensor.name, grad));
        }
    }
    found
}

#[rstest]
fn recomputed_gradients_are_bit_equal_to_plain_ones(
    #[values(Policy::EveryBlock, Policy::Segments(3), Policy::Segments(1))] policy: Policy,
    #[values(None, Some(2))] norm_groups: Option<usize>,
    #[values(Activation::Elu, Activation::Relu)] activation: Activation,
) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = test_device().autodiff();
    let core = tiny()
        .with_norm_groups(norm_groups)
        .with_activation(activation);
    let plain = sigma(core, &device);
    let x = windows([2, 3, 8, 12], &device);
    let expected = run(&plain, &x);
    // Two U-Nets of depth 1 and 2, four heads; sigma_eps is not trained.
    let num_params = plain.collect(None, None, true).len() - 1;
    assert_eq!(expected.len(), num_params + 2);
    assert_eq!(run(&plain.with_grad_checkpoint(policy), &x), expected);
}

#[rstest]
#[case::one_frame(1)]
#[case::three_frames(3)]
#[case::five_frames(5)]
fn a_sequence_of_frames_gives_the_windows_results(#[case] num_frames: usize) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = test_device();
    let munet = sigma(tiny().with_num_frames(num_frames), &device);
    let frames = windows([num_frames + 3, 1, 8, 8], &device);
    let stacked = (0..4)
        .map(|first| {
            let window = frames.clone().narrow(0, first, num_frames);
            window.swap_dims(0, 1)
        })
        .collect();
    let (sequence, stacked) = (
        munet.forward_sequence(frames),
        munet.forward(Tensor::cat(stacked, 0)),
    );
    let tolerance = Tolerance::<f32>::rel_abs(1e-5, 1e-6);
    sequence
        .into_data()
        .assert_approx_eq::<f32>(&stacked.into_data(), tolerance);
}

#[rstest]
#[case::f16(Precision::F16, 0.03)]
#[case::bf16(Precision::Bf16, 0.2)]
fn half_precision_comes_close_and_ends_in_full(#[case] precision: Precision, #[case] near: f32) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = test_device().autodiff();
    let munet = sigma(tiny(), &device).with_grad_checkpoint(Policy::EveryBlock);
    let x = windows([1, 3, 16, 16], &device);
    let half = Autocast::new(precision).run(&munet, x.clone(), |munet, x| {
        let output = munet.forward(x);
        assert_eq!(output.dtype(), DType::F32);
        output
    });
    let emitter = Emitter {
        x: 7.5,
        y: 3.0,
        z: 0.1,
        photons: 600.0,
    };
    let scale = OutputScale::new(1000.0, 50.0);
    let targets = EmitterTargets::new(&[vec![emitter]], &[20.0], [16, 16], &scale, &test_device());
    let loss = MixtureLossConfig::new()
        .init()
        .forward_sum(half.clone(), &targets);
    let grads = GradientsParams::from_grads(loss.sum.backward(), &munet);
    assert!(grads.len() + 1 == munet.collect(None, None, true).len());
    // Of values up to 3; random weights make some pixels deviate ten times as much.
    let error = (half - munet.forward(x)).abs().mean().into_scalar::<f32>();
    println!("mean deviation {error}");
    assert!(error > 0.0 && error < near, "{error}");
}

#[rstest]
fn any_kind_of_unet_keeps_sides_that_its_poolings_halve(
    #[values(Pooling::StridedConv, Pooling::Max)] pooling: Pooling,
    #[values(Interpolation::Nearest, Interpolation::Bilinear)] interpolation: Interpolation,
    #[values(None, Some(4))] norm_groups: Option<usize>,
) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let config = UNet2dConfig::new(2, 3)
        .with_features(4)
        .with_pooling(pooling)
        .with_interpolation(interpolation)
        .with_norm_groups(norm_groups);
    let unet = config.init(&test_device());
    let output = unet.forward(windows([1, 2, 8, 12], &test_device()));
    assert_eq!(output.dims(), [1, 3, 8, 12]);
    // An odd column is dropped by the pooling and cropped from the skip.
    let output = unet.forward(windows([1, 2, 9, 14], &test_device()));
    assert_eq!(output.dims(), [1, 3, 8, 12]);
}

#[test]
#[should_panic(expected = "frame sides must be multiples of 4 pixels, got 8×10")]
fn frames_whose_sides_the_poolings_do_not_halve_are_refused() {
    let _stream = hold_random_stream();
    sigma(tiny(), &test_device()).forward(windows([1, 3, 8, 10], &test_device()));
}

#[test]
#[should_panic(expected = "windows must have 3 frames, got 2")]
fn windows_of_another_length_are_refused() {
    let _stream = hold_random_stream();
    sigma(tiny(), &test_device()).forward(windows([1, 2, 8, 8], &test_device()));
}

#[test]
fn saved_weights_come_back_and_give_the_same_output() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decode.safetensors");
    let trained = sigma(tiny().with_norm_groups(Some(2)), &test_device().autodiff());
    trained.save_safetensors(&path).unwrap();
    let fresh = sigma(tiny().with_norm_groups(Some(2)), &test_device());
    let again = fresh.load_safetensors(&path).unwrap();
    let x = windows([1, 3, 8, 8], &test_device());
    assert_eq!(
        again.forward(x.clone()).into_data(),
        trained.valid().forward(x).into_data()
    );
}

#[test]
fn loading_weights_leaves_the_smallest_deviation_untrained() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = test_device().autodiff();
    let munet = sigma(tiny(), &device);
    let state: Vec<_> = munet
        .collect(None, None, true)
        .iter()
        .map(|t| {
            (
                SigmaMUNet::state_dict_name(&t.name),
                bridge::to_data(t).unwrap(),
            )
        })
        .collect();
    let munet = munet.load_state_dict(state).unwrap();
    let x = windows([1, 3, 8, 8], &device);
    let grads = munet.forward(x).sum().backward();
    assert!(munet.sigma_eps.val().grad(&grads).is_none());
    assert!(
        munet.net.mt_heads[2]
            .out_conv
            .weight
            .val()
            .grad(&grads)
            .is_some()
    );
}

#[test]
fn networks_begin_with_few_emitters() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = test_device();
    let mut counts = [0; 15].map(|_| {
        let munet = sigma(tiny(), &device);
        let output = munet.forward(windows([1, 3, 16, 16], &device) * 0.1);
        output.narrow(1, 0, 1).sum().into_scalar::<f32>()
    });
    // Weights are random, and a rare network begins with more.
    counts.sort_by(f32::total_cmp);
    assert!(counts[7] < 10.0, "{counts:?} emitters in 256 pixels");
}
