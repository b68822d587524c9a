//! What a GAN's steps take, counted exactly. One test a program: the counts are the process's.

use burn::optim::{GradientsParams, RmsPropConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::memory::{self, CountingAllocator, PeakMeter};
use burn_memopt::precision::{Autocast, Precision};
use burn_memopt::train::MicroBatchTrainerConfig;
use burn_memopt_models::gan::{
    Camera, Codes, GanBatch, GanConfig, GanStep, Generator, Jitter, Networks, Patch,
    PatchDiscriminatorConfig, RadianceField, RadianceFieldConfig, Renderer, score_loss,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

const SAMPLES: usize = 16;
const CHUNK: usize = 512;

/// The highest bytes of `step` above those before it, once its buffers are there.
fn peak(device: &Device, mut step: impl FnMut()) -> u64 {
    step();
    let meter = PeakMeter::start(device);
    step();
    meter
        .finish()
        .peak
        .expect("the allocator is installed")
        .get()
}

/// A generator's step on a batch of two patches.
fn generator_step(field: &RadianceField, size: usize, chunk: Option<usize>, precision: Precision) {
    let device = Device::flex().autodiff();
    let camera = Camera::new([size, size]);
    let rays = camera.rays(
        &[camera.pose(0.1, 0.4); 2],
        &[Patch::whole(size); 2],
        &device,
    );
    let codes = Codes {
        shape: Tensor::ones([2, 32], &device),
        appearance: None,
        classes: None,
    };
    let jitter = Jitter::random([2, rays.len(), SAMPLES], 1.0, &device);
    let renderer = Renderer::new().with_samples(SAMPLES).with_ray_chunk(chunk);
    let render =
        |field: &RadianceField, codes| renderer.render(field, rays, codes, Some(jitter)).image();
    let image = Autocast::new(precision).run(field, codes, render);
    drop(GradientsParams::from_grads(image.mean().backward(), field));
}

#[test]
fn chunks_bound_a_generators_step_and_a_discriminators_step_knows_no_generator() {
    let device = Device::flex().autodiff();
    let field = RadianceFieldConfig::new()
        .with_depth(8)
        .with_width(64)
        .with_shape_code(32)
        .with_appearance_code(0)
        .init(&device);
    let of =
        |size, chunk, precision| peak(&device, || generator_step(&field, size, chunk, precision));
    let plain = of(64, None, Precision::F32);
    let chunked = of(64, Some(CHUNK), Precision::F32);
    let half = of(64, Some(CHUNK), Precision::F16);
    let smaller = of(32, Some(CHUNK), Precision::F32);
    assert!(chunked * 100 < plain * 15, "{chunked} of {plain}");
    assert!(half * 100 < plain * 10, "{half} of {plain}");
    println!("plain {plain}, chunked {chunked}, half {half}, patch of 32 {smaller}");

    // Both networks' steps: the discriminator's peak is that on images that were there before.
    let discriminator = PatchDiscriminatorConfig::new(32)
        .with_base_channels(16)
        .init(&device);
    let render = || {
        let generator = Generator {
            field: field.clone(),
            ccsr: None,
        };
        let plain = device.clone().without_autodiff();
        let camera = Camera::new([32, 32]);
        let rays = camera.rays(&[camera.pose(0.1, 0.4); 2], &[Patch::whole(32); 2], &plain);
        let codes = Codes {
            shape: Tensor::ones([2, 32], &plain),
            appearance: None,
            classes: None,
        };
        let renderer = Renderer::new()
            .with_samples(SAMPLES)
            .with_ray_chunk(Some(CHUNK));
        let field = burn::module::Module::valid(&generator.field);
        Tensor::from_inner(renderer.render(&field, rays, codes, None).image())
    };
    let learn = |fake: Tensor<4>| {
        let loss = score_loss(discriminator.forward(fake, None).real, false);
        drop(GradientsParams::from_grads(loss.backward(), &discriminator));
    };
    let stored = render();
    // The highest of several: two threads take more where they compute at the same time.
    let on_stored = (0..3).map(|_| peak(&device, || learn(stored.clone())));
    let on_stored = on_stored.max().expect("three steps");
    let after_render = (0..3).map(|_| {
        let fake = render();
        let meter = PeakMeter::start(&device);
        learn(fake);
        let peak = meter.finish().peak;
        peak.expect("the allocator is installed").get()
    });
    let after_render = after_render.max().expect("three steps");
    assert!(
        after_render * 100 <= on_stored * 105,
        "{after_render} of {on_stored}"
    );

    // Nothing grows.
    let trainer =
        || MicroBatchTrainerConfig::new().init(RmsPropConfig::new().with_momentum(0.0).init());
    let config = GanConfig::new(Camera::new([32, 32]), 32)
        .with_renderer(Renderer::new().with_samples(4).with_ray_chunk(Some(512)));
    let mut train = GanStep::new(config, trainer(), trainer());
    let mut networks = Networks::new(Generator { field, ccsr: None }, discriminator);
    let mut live = Vec::new();
    for _ in 0..150 {
        let images = Tensor::random([2, 3, 32, 32], Distribution::Uniform(-1.0, 1.0), &device);
        train.micro_batch(
            &networks,
            GanBatch {
                images,
                labels: None,
            },
        );
        let (next, outcomes) = train.flush(networks, 1e-3);
        outcomes.unwrap();
        networks = next;
        live.push(memory::live().expect("the allocator is installed").get());
    }
    let (early, late) = (live[49], live[149]);
    assert!(early.abs_diff(late) * 100 <= early, "{early} {late}");
    // The rays and what is random of them take a little, which does not show next to larger chunks.
    assert!(
        smaller * 115 >= chunked * 100,
        "{chunked} for four times the pixels of {smaller}"
    );
}
