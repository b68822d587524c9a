//! The GAN: rendering in chunks, super-resolution, and its training step.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, RmsPropConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::memory::Bytes;
use burn_memopt::precision::{AutocastPolicy, LossScalerConfig, Precision};
use burn_memopt::train::{
    MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss, StepOutcome, TrainState,
};
use burn_memopt_models::gan::{
    Camera, CcsrConfig, Codes, GanBatch, GanConfig, GanStep, Generator, Jitter, Networks, Patch,
    PatchDiscriminatorConfig, RadianceField, RadianceFieldConfig, Rays, Renderer, ViewLabel,
};
use rstest::rstest;

const CLASSES: usize = 3;

fn field(device: &Device) -> RadianceField {
    let config = RadianceFieldConfig::conditional(CLASSES)
        .with_depth(4)
        .with_width(32);
    config.with_shape_code(16).init(device)
}

fn codes(field: &RadianceField, device: &Device) -> Codes {
    let classes = Tensor::from_ints([0, 2], device);
    let generator = Generator {
        field: field.clone(),
        ccsr: None,
    };
    generator.codes(2, Some(classes), device)
}

fn rays(size: usize, device: &Device) -> Rays {
    let camera = Camera::new([size, size]);
    let poses = [camera.pose(0.1, 0.4), camera.pose(0.7, 0.2)];
    camera.rays(&poses, &[Patch::whole(size); 2], device)
}

/// Gradients of all parameters, one after the other.
fn flat<M: Module>(module: &M, grads: &GradientsParams) -> Vec<(String, Vec<f32>)> {
    struct Flat<'a> {
        grads: &'a GradientsParams,
        path: Vec<String>,
        all: Vec<(String, Vec<f32>)>,
    }
    impl ModuleVisitor for Flat<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = match self.grads.get::<D>(param.id) {
                Some(grad) => grad.into_data().iter::<f32>().collect(),
                None => Vec::new(),
            };
            self.all.push((self.path.join("."), values));
        }

        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
    }
    let mut flat = Flat {
        grads,
        path: Vec::new(),
        all: Vec::new(),
    };
    module.visit(&mut flat);
    flat.all
}

#[rstest]
fn chunks_of_rays_give_the_image_and_the_gradients_of_all_at_once(#[values(0, 5)] fine: usize) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff();
    device.seed(1);
    let field = field(&device);
    let (codes, rays) = (codes(&field, &device), rays(12, &device));
    let jitter = Jitter::random([2, rays.len(), 8], 1.0, &device);
    let weight = Tensor::<3>::random([2, rays.len(), 3], Distribution::Default, &device);
    let run = |chunk| {
        let renderer = Renderer::new()
            .with_samples(8)
            .with_fine_samples(fine)
            .with_ray_chunk(chunk);
        let rendered = renderer.render(&field, rays.clone(), codes.clone(), Some(jitter.clone()));
        let grads = (rendered.colours.clone() * weight.clone()).sum().backward();
        let grads = flat(&field, &GradientsParams::from_grads(grads, &field));
        (rendered.colours.into_data(), grads)
    };
    let (image, grads) = run(None);
    // Chunks that do not divide the rays, one ray an image, and more than there are.
    for chunk in [50, 1, 10_000] {
        let (in_chunks, its_grads) = run(Some(chunk));
        image.assert_approx_eq::<f32>(&in_chunks, burn::tensor::Tolerance::rel_abs(1e-5, 1e-5));
        for ((name, whole), (_, part)) in grads.iter().zip(&its_grads) {
            let scale = whole
                .iter()
                .fold(0.0_f32, |max, value| max.max(value.abs()));
            assert!(!whole.is_empty() && whole.len() == part.len(), "{name}");
            let off = whole
                .iter()
                .zip(part)
                .fold(0.0_f32, |max, (a, b)| max.max((a - b).abs()));
            assert!(off <= 1e-4 * scale, "{name}: off by {off} of {scale}");
        }
    }
}

#[test]
fn the_chunk_of_a_budget_grows_with_it_and_shrinks_with_the_samples() {
    let config = RadianceFieldConfig::new();
    let rays = |samples, mib| {
        Renderer::new()
            .with_samples(samples)
            .rays_within(&config, Bytes::mib(mib))
    };
    assert!(rays(64, 64) < rays(64, 256) && rays(64, 256) < rays(16, 256));
    assert_eq!(rays(64, 0), 1);
}

#[test]
fn every_parameter_of_the_super_resolution_learns_and_the_render_too() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff();
    let ccsr = CcsrConfig::new()
        .with_patch_size(16)
        .with_num_views(2)
        .init(&device);
    let render = Tensor::<4>::random([2, 3, 16, 16], Distribution::Uniform(-1.0, 1.0), &device)
        .require_grad();
    let views = ccsr.views(&[10.0, 350.0], &device);
    assert_eq!(views.to_data().iter::<i64>().collect::<Vec<_>>(), [0, 1]);
    let grads = ccsr.loss(render.clone(), views, 0).backward();
    assert!(
        render
            .grad(&grads)
            .expect("the render is tracked")
            .abs()
            .max()
            .into_scalar::<f32>()
            > 0.0
    );
    let grads = GradientsParams::from_grads(grads, &ccsr);
    for (name, grad) in flat(&ccsr, &grads) {
        assert!(
            grad.iter().any(|value| *value != 0.0),
            "{name} does not learn"
        );
    }
}

#[test]
fn the_loss_of_the_super_resolution_fades_with_its_calls() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex();
    let (image, render) = (
        Tensor::ones([1, 3, 4, 4], &device),
        Tensor::zeros([1, 3, 4, 4], &device),
    );
    let loss = |calls| {
        let loss = burn_memopt_models::gan::Ccsr::loss_of(image.clone(), render.clone(), calls);
        loss.into_scalar::<f32>()
    };
    assert_eq!(loss(0), 1.0);
    assert!((loss(10_000) - (-1.0_f32).exp()).abs() < 1e-6);
}

fn trainer(precision: Precision) -> MicroBatchTrainer {
    MicroBatchTrainerConfig::new()
        .with_precision(precision)
        .with_policy(AutocastPolicy::default().keep_type("BatchNorm"))
        .with_accumulation_steps(2)
        .init(RmsPropConfig::new().with_momentum(0.0).init())
}

fn gan(num_classes: Option<usize>, precision: Precision, device: &Device) -> (Networks, GanStep) {
    device.seed(5);
    let appearance = if num_classes.is_some() { 0 } else { 8 };
    let field = RadianceFieldConfig::new()
        .with_depth(2)
        .with_width(16)
        .with_shape_code(8)
        .with_appearance_code(appearance)
        .with_num_classes(num_classes)
        .init(device);
    let ccsr = num_classes.map(|_| CcsrConfig::new().with_patch_size(32).init(device));
    let discriminator = PatchDiscriminatorConfig::new(32)
        .with_base_channels(4)
        .with_num_classes(num_classes)
        .init(device);
    let renderer = Renderer::new().with_samples(4).with_ray_chunk(Some(700));
    let config = GanConfig::new(Camera::new([40, 40]), 32).with_renderer(renderer);
    let networks = Networks::new(Generator { field, ccsr }, discriminator);
    (
        networks,
        GanStep::new(config, trainer(precision), trainer(precision)),
    )
}

fn batch(labelled: bool, device: &Device) -> GanBatch {
    let label = |class, azimuth| ViewLabel {
        class,
        azimuth,
        height: 0.4,
    };
    GanBatch {
        images: Tensor::random([2, 3, 40, 40], Distribution::Uniform(-1.0, 1.0), device),
        labels: labelled.then(|| vec![label(0, 15.0), label(CLASSES - 1, 345.0)]),
    }
}

#[rstest]
fn a_step_moves_both_networks_and_the_average_a_little(
    #[values(true, false)] labelled: bool,
    #[values(Precision::F32, Precision::F16, Precision::Bf16)] precision: Precision,
) {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff();
    let (mut networks, mut train) = gan(labelled.then_some(CLASSES), precision, &device);
    let weights = |generator: &Generator| generator.field.rgb_linear.weight.val().into_data();
    let first = weights(&networks.generator);
    // In f16 the first loss scales are too high.
    let mut left = 8;
    let networks = loop {
        for _ in 0..2 {
            train.micro_batch(&networks, batch(labelled, &device));
        }
        let (next, outcomes) = train.flush(networks, 1e-2);
        networks = next;
        let is_stepped = |outcome: &StepOutcome| matches!(outcome, StepOutcome::Stepped { loss, .. } if loss.is_finite());
        if outcomes.unwrap().iter().all(is_stepped) {
            break networks;
        }
        left -= 1;
        assert!(precision == Precision::F16 && left > 0, "no step was made");
    };
    let (now, average) = (weights(&networks.generator), weights(&networks.average));
    assert_ne!(first, now);
    assert_ne!(first, average);
    let moved = |data: &burn::tensor::TensorData| {
        let pairs = data.iter::<f64>().zip(first.iter::<f64>());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    assert!(moved(&average) < 0.1 * moved(&now));
}

#[test]
fn an_overflow_of_one_network_skips_it_alone() {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    let device = Device::flex().autodiff();
    let (networks, mut train) = gan(None, Precision::F16, &device);
    train.generator.load_state(scaled(1.0)).unwrap();
    train.micro_batch(&networks, batch(false, &device));
    let score = networks
        .discriminator
        .forward(Tensor::ones([1, 3, 32, 32], &device), None)
        .real;
    let infinite = MicroLoss::mean(score.sum().mul_scalar(f32::INFINITY), 1.0);
    train
        .discriminator
        .backward(&networks.discriminator, infinite);
    let (_, outcomes) = train.flush(networks, 1e-3);
    let [generator, discriminator] = outcomes.unwrap();
    assert!(
        matches!(generator, StepOutcome::Stepped { .. }),
        "{generator:?}"
    );
    assert!(
        matches!(discriminator, StepOutcome::Skipped { .. }),
        "{discriminator:?}"
    );
}

/// The state of a run in f16 whose loss scale has settled.
fn scaled(scale: f64) -> TrainState {
    let scaler = LossScalerConfig::new().with_init_scale(scale).init();
    TrainState {
        steps: 0,
        skipped_in_a_row: 0,
        scaler: Some(scaler),
    }
}

#[test]
#[should_panic(expected = "32, 64 and 128")]
fn a_patch_size_without_a_discriminator_is_refused() {
    PatchDiscriminatorConfig::new(48).init(&Device::flex());
}

#[test]
#[should_panic(expected = "give those of the images")]
fn a_field_with_classes_needs_them() {
    let _stream = hold_random_stream();
    let device = Device::flex();
    let field = field(&device);
    let codes = Codes {
        classes: None,
        ..codes(&field, &device)
    };
    Renderer::new()
        .with_samples(2)
        .render(&field, rays(4, &device), codes, None);
}
