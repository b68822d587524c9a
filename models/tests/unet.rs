//! The U-Net as a whole: shapes, ranges of blocks, weights in files.

use burn::module::Module;
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::grad_checkpoint::{Span, hold_random_stream};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig, Upsample};
use burn_memopt_models::weights::{StateDict, WeightsError};
use proptest::prelude::*;
use rstest::rstest;

fn test_device() -> Device {
    Device::flex()
}

fn tiny(depth: usize) -> UNetConfig {
    UNetConfig::new(1, 2)
        .with_base_channels(4)
        .with_depth(depth)
}

fn image(height: usize, width: usize, device: &Device) -> Tensor<4> {
    Tensor::random(
        [2, 1, height, width],
        Distribution::Normal(0.0, 1.0),
        device,
    )
}

/// The state dict of a network.
fn state(unet: &UNet) -> Vec<(String, TensorData)> {
    let tensors = unet.collect(None, None, true);
    tensors
        .iter()
        .map(|t| (UNet::state_dict_name(&t.name), bridge::to_data(t).unwrap()))
        .collect()
}

#[rstest]
fn any_image_size_comes_back_at_its_own_size(
    #[values(Upsample::Bilinear, Upsample::Transposed)] upsample: Upsample,
    #[values(NormKind::Batch, NormKind::Group { groups: 2 })] norm: NormKind,
    #[values([4, 4], [5, 7], [11, 16])] size: [usize; 2],
) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = test_device();
    let unet = tiny(2)
        .with_upsample(upsample)
        .with_norm(norm)
        .init(&device);
    let output = unet.forward(image(size[0], size[1], &device));
    assert_eq!(output.dims(), [2, 2, size[0], size[1]]);
    assert!(output.abs().max().into_scalar::<f32>().is_finite());
}

#[rstest]
#[case::bilinear(Upsample::Bilinear, 17_262_977)]
#[case::transposed(Upsample::Transposed, 31_037_633)]
fn the_default_network_has_the_published_number_of_parameters(
    #[case] upsample: Upsample,
    #[case] published: usize,
) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let unet = UNetConfig::new(3, 1)
        .with_upsample(upsample)
        .init(&test_device());
    let tensors = unet.collect(None, None, true);
    let parameters = tensors.iter().filter(|t| !t.name.contains("running_"));
    let count: usize = parameters.map(|t| t.shape.num_elements()).sum();
    assert_eq!(count, published);
}

#[test]
#[should_panic(expected = "image sides must be at least 4 pixels for depth 2, got 3×8")]
fn an_image_that_pooling_would_empty_is_refused() {
    let device = test_device();
    tiny(2).init(&device).forward(image(3, 8, &device));
}

#[test]
#[should_panic(expected = "norm groups must divide the 4 base channels, got 3")]
fn groups_that_do_not_divide_the_channels_are_refused() {
    tiny(1)
        .with_norm(NormKind::Group { groups: 3 })
        .init(&test_device());
}

#[test]
fn a_small_head_begins_with_a_small_output() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = test_device();
    let x = image(8, 8, &device);
    let largest = |scale| {
        let unet = tiny(1).with_head_scale(scale).init(&device);
        unet.forward(x.clone()).abs().max().into_scalar::<f32>()
    };
    assert!(20.0 * largest(1e-3) < largest(1.0));
}

#[test]
fn the_config_survives_json() {
    let config = tiny(3).with_norm(NormKind::Group { groups: 2 });
    let text = serde_json::to_string(&config).unwrap();
    let again: UNetConfig = serde_json::from_str(&text).unwrap();
    assert_eq!(again.to_string(), config.to_string());
}

/// Output and parameter gradients of a step.
fn run(unet: &UNet, x: Tensor<4>) -> Vec<TensorData> {
    let y = unet.forward(x);
    let grads = y.clone().square().mean().backward();
    let weights = [&unet.inc.conv1, &unet.outc];
    let grads = weights.map(|conv| conv.weight.grad(&grads).unwrap().into_data());
    [y.into_data()].into_iter().chain(grads).collect()
}

/// Cuts the blocks at some places, every second span recomputed and cut again in its middle.
fn spans(cuts: impl IntoIterator<Item = usize>, num_blocks: usize) -> Vec<Span> {
    let mut bounds = vec![0];
    bounds.extend(cuts.into_iter().filter(|&cut| cut < num_blocks));
    bounds.push(num_blocks);
    let span = |(index, bounds): (usize, &[usize])| {
        let (start, end) = (bounds[0], bounds[1]);
        let middle = start + (end - start) / 2;
        match (index % 2, middle > start) {
            (0, _) => Span::plain(start..end),
            (_, false) => Span::recomputed(start..end),
            _ => {
                let inner = vec![Span::recomputed(start..middle), Span::plain(middle..end)];
                Span::recomputed(start..end).with_inner(inner)
            }
        }
    };
    bounds.windows(2).enumerate().map(span).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_cut_gives_bit_equal_output_and_gradients(
        depth in 1usize..4,
        cuts in proptest::collection::btree_set(1usize..14, 1..7),
        bilinear: bool,
    ) {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let device = test_device().autodiff();
        let upsample = if bilinear { Upsample::Bilinear } else { Upsample::Transposed };
        let unet = tiny(depth).with_upsample(upsample).init(&device);
        let spans = spans(cuts, unet.chain().num_blocks());
        let x = image(9, 14, &device);

        let plain = run(&unet, x.clone());
        prop_assert_eq!(run(&unet.with_grad_checkpoint(&spans[..]), x), plain);
    }
}

#[test]
fn a_published_checkpoint_with_its_extra_entries_loads() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny_unet.pth");
    let unet = UNetConfig::new(1, 1)
        .with_base_channels(2)
        .with_depth(1)
        .init(&test_device())
        .load_pytorch(path)
        .unwrap();
    let first = |name: &str| {
        let found = state(&unet).into_iter().find(|(own, _)| own == name);
        let (_, data) = found.unwrap();
        data.iter::<f32>().next().unwrap() * 64.0
    };
    assert_eq!(first("inc.double_conv.0.weight"), 1.0);
    assert_eq!(first("inc.double_conv.1.bias"), 3.0);
    assert_eq!(first("inc.double_conv.4.running_var"), 11.0);
    assert_eq!(first("outc.conv.bias"), 38.0);
}

#[rstest]
fn saved_weights_come_back_and_give_the_same_output(
    #[values(Upsample::Bilinear, Upsample::Transposed)] upsample: Upsample,
    #[values(NormKind::Batch, NormKind::Group { groups: 2 })] norm: NormKind,
) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unet.safetensors");
    let config = tiny(2).with_upsample(upsample).with_norm(norm);
    let trained = config.init(&test_device().autodiff());
    trained.forward(image(8, 8, &test_device().autodiff()));
    trained.save_safetensors(&path).unwrap();

    let again = config.init(&test_device()).load_safetensors(&path).unwrap();
    let x = image(8, 9, &test_device());
    assert_eq!(
        again.forward(x.clone()).into_data(),
        trained.valid().forward(x).into_data()
    );
}

#[test]
fn loaded_statistics_replace_those_of_a_network_in_training() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = test_device().autodiff();
    let fresh = state(&tiny(1).init(&device));
    let unet = tiny(1).init(&device);
    unet.forward(image(8, 8, &device));
    let unet = unet.load_state_dict(fresh).unwrap();
    for (name, data) in state(&unet.valid()) {
        if name.ends_with("running_mean") {
            assert!(data.iter::<f32>().all(|mean| mean == 0.0), "{name}");
        }
    }
}

#[test]
fn every_missing_unexpected_and_reshaped_tensor_is_named() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let mut state = state(&tiny(1).init(&test_device()));
    state.retain(|(name, _)| name != "inc.double_conv.1.bias");
    state.push(("down9.weight".into(), TensorData::from([1.0f32])));
    for (name, data) in &mut state {
        if name == "outc.conv.bias" {
            *data = TensorData::from([1.0f32, 2.0, 3.0]);
        }
    }
    let error = tiny(1)
        .init(&test_device())
        .load_state_dict(state)
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, WeightsError::Mismatch { .. }));
    for part in [
        "missing (1): inc.double_conv.1.bias",
        "unexpected (1): down9.weight",
        "outc.conv.bias: shape must be [2], got [3]",
    ] {
        assert!(text.contains(part), "{part} not in {text}");
    }
}

#[rstest]
#[case::not_there("nowhere.pth")]
#[case::not_a_checkpoint("README.md")]
fn a_file_that_is_no_checkpoint_is_refused_by_name(#[case] name: &str) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/").to_string() + name;
    for error in [
        tiny(1)
            .init(&test_device())
            .load_pytorch(&path)
            .unwrap_err(),
        tiny(1)
            .init(&test_device())
            .load_safetensors(&path)
            .unwrap_err(),
    ] {
        assert!(matches!(error, WeightsError::Read { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// A step on a GPU, software included, gives the gradients of the CPU to rounding.
#[cfg(feature = "wgpu")]
#[test]
fn a_checkpointed_bilinear_unet_trains_on_a_gpu_as_on_the_cpu() {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::{DeviceKind, Gradients};
    use burn_memopt::grad_checkpoint::Policy;

    struct Collect<'a>(&'a Gradients, Vec<TensorData>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1
                .extend(param.val().grad(self.0).map(Tensor::into_data));
        }
    }

    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let open = || {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        Tensor::<1>::ones([1], &device).into_data();
        device.autodiff()
    };
    let Ok(gpu) = std::panic::catch_unwind(open) else {
        eprintln!("skipped: no GPU adapter (nor software Vulkan) on this machine");
        return;
    };
    let cpu = Device::flex().autodiff();
    let config = UNetConfig::new(1, 1).with_base_channels(4).with_depth(2);
    let unet = config.with_norm(NormKind::Group { groups: 2 }).init(&cpu);
    let unet = unet.with_grad_checkpoint(Policy::EveryBlock);
    let images = Tensor::<4>::random([2, 1, 16, 20], Distribution::Default, &Device::flex());
    let gradients = |device: &Device| {
        let unet = unet.valid().fork(&device.clone().inner()).train();
        let images = images.clone().to_device(&device.clone().inner()).autodiff();
        let grads = unet.forward(images).square().mean().backward();
        let mut collect = Collect(&grads, Vec::new());
        unet.visit(&mut collect);
        collect.1
    };
    let (got, expected) = (gradients(&gpu), gradients(&cpu));
    assert!(!expected.is_empty() && got.len() == expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        let largest = expected.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
        for (got, expected) in got.iter::<f32>().zip(expected.iter::<f32>()) {
            assert!(
                (got - expected).abs() <= 1e-4 * largest,
                "{got} is not {expected}"
            );
        }
    }
}

#[test]
fn exact_tiles_of_a_unet_are_the_whole_image() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    use burn_memopt::chunked::{ExactTiles, Reach};

    let device = test_device();
    let unet = tiny(2).with_upsample(Upsample::Transposed).init(&device);
    let unet = unet.valid();
    let reach = Reach::measure([1, 64, 64], 4, &device, |x| unet.forward(x));
    let halo = reach.halo().expect("a limited reach");
    assert!((10..32).contains(&halo), "{halo}");

    let image = Tensor::<4>::random([1, 1, 150, 111], Distribution::Default, &device);
    let whole = unet.forward(image.clone());
    let tiled = ExactTiles::new([48, 32], &reach).infer(image, |x| unet.forward(x));
    let off = (tiled - whole.clone()).abs().max().into_scalar::<f32>();
    let scale = whole.abs().max().into_scalar::<f32>();
    assert!(off <= 1e-6 * scale, "off by {off} of {scale}");
}
