//! A step of a GAN's generator: rays in recomputed chunks against all at once, and in half precision.

use burn::{
    optim::GradientsParams,
    tensor::{Device, Tensor},
};
use burn_memopt::{
    chunked::BoxError,
    memory::Bytes,
    precision::{Autocast, Precision},
};
use burn_memopt_models::gan::{
    Camera, Codes, Jitter, Patch, PatchDiscriminator, PatchDiscriminatorConfig, RadianceField,
    RadianceFieldConfig, Rays, Renderer, score_loss,
};

use crate::bench::{Bench, Variant};

/// Images of a batch.
const BATCH_SIZE: usize = 2;
/// What the activations of a chunk may take.
const CHUNK_BYTES: [Bytes; 2] = [Bytes::mib(256), Bytes::mib(2)];

struct Workload {
    field: RadianceField,
    discriminator: PatchDiscriminator,
    rays: Rays,
    jitter: Jitter,
    renderer: Renderer,
    chunk: usize,
    device: Device,
}

impl Workload {
    /// The published networks, or small ones, on patches of `size` pixels a side.
    fn new(size: usize, bench: &Bench) -> Self {
        let device = bench.device.clone().autodiff();
        device.seed(0);
        let (depth, width, samples, channels) = bench.pick((8, 256, 64, 64), (4, 32, 16, 4));
        let config = RadianceFieldConfig::new()
            .with_depth(depth)
            .with_width(width);
        let renderer = Renderer::new().with_samples(samples);
        let camera = Camera::new([size, size]);
        let poses: Vec<_> = (0..BATCH_SIZE)
            .map(|image| camera.pose(0.3 * image as f64, 0.4))
            .collect();
        let rays = camera.rays(&poses, &[Patch::whole(size); BATCH_SIZE], &device);
        let discriminator = PatchDiscriminatorConfig::new(size)
            .with_base_channels(channels)
            .init(&device);
        Self {
            jitter: Jitter::random([BATCH_SIZE, rays.len(), samples], 1.0, &device),
            chunk: renderer.rays_within(&config, bench.pick(CHUNK_BYTES[0], CHUNK_BYTES[1])),
            field: config.init(&device),
            discriminator: burn::module::Module::no_grad(discriminator),
            rays,
            renderer,
            device,
        }
    }

    fn step(&self, chunk: Option<usize>, precision: Precision) -> GradientsParams {
        let code = || Tensor::ones([BATCH_SIZE, 128], &self.device);
        let codes = Codes {
            shape: code(),
            appearance: Some(code()),
            classes: None,
        };
        let renderer = self.renderer.clone().with_ray_chunk(chunk);
        let (rays, jitter) = (self.rays.clone(), Some(self.jitter.clone()));
        let autocast = Autocast::new(precision);
        let render =
            |field: &RadianceField, codes| renderer.render(field, rays, codes, jitter).image();
        let image = autocast.run(&self.field, codes, render);
        let score = |network: &PatchDiscriminator, image| network.forward(image, None);
        let scores = autocast.run(&self.discriminator, image, score);
        GradientsParams::from_grads(score_loss(scores.real, true).backward(), &self.field)
    }
}

/// Patches of `SIZE` pixels a side.
pub(crate) fn generator_step<const SIZE: usize>(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(SIZE, bench);
    // Sums of other lengths round otherwise: no gradient is equal bit for bit.
    let in_chunks = |name, precision| {
        let work = &work;
        Variant::new(name, move || work.step(Some(work.chunk), precision)).with_other_gradients()
    };
    let mut variants = vec![
        Variant::new("plain", || work.step(None, Precision::F32)),
        in_chunks("chunked", Precision::F32),
    ];
    if Precision::F16.check(&work.device).is_ok() {
        variants.push(in_chunks("chunked_f16", Precision::F16));
    }
    bench.steps(&work.field, 0, &variants);
    Ok(())
}
