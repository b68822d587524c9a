use burn::config::Config;
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::ops::{GridSampleOptions, GridSamplePaddingMode, InterpolateMode};
use burn::tensor::{Distribution, Int, Tensor, TensorData};
use burn_memopt::precision::ops::full;
use burn_memopt::train::{
    GradientPenalty, MicroBatchTrainer, MicroBatchTrainers, MicroLoss, StepError, StepOutcome,
    frozen, gradient_penalty, update_average,
};

use super::camera::{Camera, Patch};
use super::discriminator::{PatchDiscriminator, Scores};
use super::networks::{GanBatch, Generator, Networks, ViewLabel};
use super::render::{Jitter, Renderer};

/// Settings of a [`GanStep`]. The defaults are GRAF's.
#[derive(Config, Debug, PartialEq)]
pub struct GanConfig {
    /// The camera that real images were taken with; images of another size were taken with the same field of view.
    pub camera: Camera,
    /// Pixels a side of the patches that the discriminator sees.
    pub patch_size: usize,
    /// How rays are rendered. The default is [`Renderer::new`].
    #[config(default = "Renderer::new()")]
    pub renderer: Renderer,
    /// Weight of the penalty on the discriminator's gradient, a mean over pixels. The default is `10.0`.
    #[config(default = 10.0)]
    pub penalty: f64,
    /// What stays of the generator's average at a step. The default is `0.999`.
    #[config(default = 0.999)]
    pub average_decay: f64,
    /// Learning rate of the discriminator, as a share of the generator's. The default is `0.2`.
    #[config(default = 0.2)]
    pub discriminator_rate: f64,
    /// Between which heights cameras of images without labels are; see [`Camera::pose`]. The default is from
    /// `0.2` to `0.5`.
    #[config(default = "[0.2, 0.5]")]
    pub heights: [f64; 2],
}

/// One optimizer step of a generator and of its discriminator, out of micro-batches; each has an optimizer, a loss
/// scaler and accumulated gradients of its own.
///
/// The generator's pass ends, its activations and all, before the discriminator learns from what came out; while
/// the generator learns, the discriminator's parameters are not recorded. The penalty is computed in f32.
/// Patches of images with labels show the whole image; others are of random scales, as in GRAF.
///
/// # Exactness
/// As [`MicroBatchTrainer`], micro-batch by micro-batch: each moves the estimates of the discriminator's spectral
/// norms. Both networks learn from what the other was before the step.
///
/// # Example
/// ```
/// use burn::optim::RmsPropConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::train::MicroBatchTrainerConfig;
/// use burn_memopt_models::gan::{
///     Camera, GanBatch, GanConfig, GanStep, Generator, Networks, PatchDiscriminatorConfig, RadianceFieldConfig,
///     Renderer,
/// };
///
/// let device = Device::flex().autodiff();
/// let field = RadianceFieldConfig::new().with_depth(2).with_width(8).init(&device);
/// let discriminator = PatchDiscriminatorConfig::new(32).with_base_channels(2).init(&device);
/// let networks = Networks::new(Generator { field, ccsr: None }, discriminator);
///
/// let renderer = Renderer::new().with_samples(4).with_ray_chunk(Some(512));
/// let config = GanConfig::new(Camera::new([32, 32]), 32).with_renderer(renderer);
/// let step = || MicroBatchTrainerConfig::new().init(RmsPropConfig::new().init());
/// let mut train = GanStep::new(config, step(), step());
/// let images = Tensor::zeros([2, 3, 32, 32], &device);
/// train.micro_batch(&networks, GanBatch { images, labels: None });
/// let (_networks, outcomes) = train.flush(networks, 5e-4);
/// outcomes?;
/// # Ok::<(), burn_memopt::train::StepError>(())
/// ```
///
/// # References
/// Schwarz et al. 2020, "GRAF", arXiv:2007.02442, section 3.3 and equation 8.
pub struct GanStep {
    /// Steps the generator.
    pub generator: MicroBatchTrainer,
    /// Steps the discriminator.
    pub discriminator: MicroBatchTrainer,
    config: GanConfig,
}

impl GanStep {
    /// Steps the two networks with an optimizer each.
    pub fn new(
        config: GanConfig,
        generator: MicroBatchTrainer,
        discriminator: MicroBatchTrainer,
    ) -> Self {
        Self {
            generator,
            discriminator,
            config,
        }
    }

    /// Runs one micro-batch forward and backward, through the generator and then through the discriminator, and
    /// accumulates the gradients of both.
    pub fn micro_batch(&mut self, networks: &Networks, batch: GanBatch) {
        self.generator.begin(&networks.generator);
        self.discriminator.begin(&networks.discriminator);
        let batch = self.views(batch);
        let fake = self.generator_pass(networks, &batch);
        self.discriminator_pass(networks, &batch, fake);
    }

    /// Steps both optimizers with whatever is accumulated, and returns what became of the generator and of the
    /// discriminator. In half precision each may be skipped on its own.
    ///
    /// # Errors
    /// As [`MicroBatchTrainer::step`], for either. The network that it is of is as before, the other may have been
    /// stepped.
    pub fn flush(
        &mut self,
        networks: Networks,
        lr: f64,
    ) -> (Networks, Result<[StepOutcome; 2], StepError>) {
        let Networks {
            generator,
            average,
            discriminator,
        } = networks;
        let (generator, first) = self.generator.flush(generator, lr);
        let average = match first {
            Ok(StepOutcome::Stepped { .. }) => {
                update_average(average, &generator, self.config.average_decay)
            }
            _ => average,
        };
        let rate = lr * self.config.discriminator_rate;
        let (discriminator, second) = self.discriminator.flush(discriminator, rate);
        let networks = Networks {
            generator,
            average,
            discriminator,
        };
        (networks, first.and_then(|first| Ok([first, second?])))
    }

    /// Draws the cameras of rendered images and the patches of all.
    fn views(&self, batch: GanBatch) -> Views {
        /// Two for the camera, three for each of two patches.
        const DRAWS: usize = 8;
        let GanConfig {
            camera,
            patch_size,
            heights: [low, high],
            ..
        } = &self.config;
        let device = batch.images.device();
        let [batch_size, _, height, width] = batch.images.dims();
        let camera = Camera {
            size: [height, width],
            ..camera.clone()
        };
        let plain = device.clone().without_autodiff();
        let draws =
            Tensor::<2>::random([batch_size, DRAWS], Distribution::Default, &plain).into_data();
        let draws: Vec<f64> = draws.iter::<f64>().collect();
        let least = Patch::least_scale(self.generator.state().steps);
        let patch = |draws: &[f64]| match batch.labels {
            Some(_) => Patch::whole(*patch_size),
            None => {
                let place = [draws[1], draws[2]].map(|draw| 2.0 * draw - 1.0);
                Patch::at(*patch_size, least + (1.0 - least) * draws[0], place)
            }
        };
        let (mut poses, mut patches, mut real_patches) = (Vec::new(), Vec::new(), Vec::new());
        for (number, draws) in draws.chunks(DRAWS).enumerate() {
            let (azimuth, height) = match &batch.labels {
                Some(labels) => (labels[number].azimuth / 360.0, labels[number].height),
                None => (draws[0], low + (high - low) * draws[1]),
            };
            poses.push(camera.pose(azimuth, height));
            patches.push(patch(&draws[2..5]));
            real_patches.push(patch(&draws[5..]));
        }
        let ints = |of: &dyn Fn(&ViewLabel) -> i32| {
            let labels = batch.labels.as_ref()?;
            let values: Vec<i32> = labels.iter().map(of).collect();
            Some(Tensor::from_data(&values[..], &device))
        };
        Views {
            real: sample_patches(batch.images, &real_patches),
            classes: ints(&|label| label.class as i32),
            azimuths: batch
                .labels
                .as_ref()
                .map(|labels| labels.iter().map(|label| label.azimuth).collect()),
            camera,
            poses,
            patches,
        }
    }

    /// The generator's loss backward; returns what it rendered, as a constant.
    fn generator_pass(&mut self, networks: &Networks, views: &Views) -> Tensor<4> {
        let (config, steps) = (&self.config, self.generator.state().steps);
        let device = views.real.device();
        let batch_size = views.poses.len();
        let rays = views.camera.rays(&views.poses, &views.patches, &device);
        let shape = [batch_size, rays.len(), config.renderer.samples];
        let jitter = Jitter::random(shape, Jitter::noise_at(steps), &device);
        let codes = networks
            .generator
            .codes(batch_size, views.classes.clone(), &device);
        let forward = |generator: &Generator, codes| {
            let image = config
                .renderer
                .render(&generator.field, rays, codes, Some(jitter))
                .image();
            let consistency =
                generator
                    .ccsr
                    .as_ref()
                    .zip(views.azimuths.as_ref())
                    .map(|(ccsr, azimuths)| {
                        ccsr.loss(image.clone(), ccsr.views(azimuths, &device), steps)
                    });
            (image, consistency)
        };
        let (image, consistency) =
            self.generator
                .autocast()
                .run(&networks.generator, codes, forward);
        let discriminator = frozen(&networks.discriminator);
        let scores = self.score(&discriminator, image.clone(), views);
        let mut loss = score_loss(scores.real, true);
        if let Some(classes) = scores.classes {
            loss = loss + self.class_loss(classes, views);
        }
        if let Some(consistency) = consistency {
            loss = loss + consistency;
        }
        self.generator.backward(
            &networks.generator,
            MicroLoss::mean(loss, batch_size as f64),
        );
        image.detach()
    }

    fn discriminator_pass(&mut self, networks: &Networks, views: &Views, fake: Tensor<4>) {
        let discriminator = &networks.discriminator;
        // A mean over pixels, as published, not over images.
        let pixels = (self.config.patch_size * self.config.patch_size) as f64;
        let penalty = GradientPenalty::r1(self.config.penalty / pixels);
        let forward =
            |network: &PatchDiscriminator, x| network.forward(x, views.classes.clone()).real;
        let penalty = gradient_penalty(penalty, discriminator, views.real.clone(), forward);
        let real = self.score(discriminator, views.real.clone(), views);
        let fake = self.score(discriminator, fake, views);
        let mut loss = score_loss(real.real, true) + score_loss(fake.real, false) + penalty;
        if let Some(classes) = real.classes {
            loss = loss + self.class_loss(classes, views);
        }
        let batch_size = views.poses.len() as f64;
        self.discriminator
            .backward(discriminator, MicroLoss::mean(loss, batch_size));
    }

    fn score(
        &self,
        discriminator: &PatchDiscriminator,
        patches: Tensor<4>,
        views: &Views,
    ) -> Scores {
        let forward =
            |network: &PatchDiscriminator, patches| network.forward(patches, views.classes.clone());
        self.discriminator
            .autocast()
            .run(discriminator, patches, forward)
    }

    fn class_loss(&self, logits: Tensor<2>, views: &Views) -> Tensor<1> {
        let classes = views
            .classes
            .clone()
            .expect("invariant: networks with classes have labels");
        class_loss(logits, classes)
    }
}

impl MicroBatchTrainers for GanStep {
    fn trainers(&self) -> Vec<&MicroBatchTrainer> {
        vec![&self.generator, &self.discriminator]
    }

    fn trainers_mut(&mut self) -> Vec<&mut MicroBatchTrainer> {
        vec![&mut self.generator, &mut self.discriminator]
    }
}

/// A micro-batch as both networks see it.
struct Views {
    /// Patches of real images.
    real: Tensor<4>,
    classes: Option<Tensor<1, Int>>,
    /// Degrees.
    azimuths: Option<Vec<f64>>,
    /// Of rendered images, with their patches.
    camera: Camera,
    poses: Vec<super::camera::Pose>,
    patches: Vec<Patch>,
}

/// Cuts a patch out of each image, by bilinear interpolation.
///
/// # Shapes
/// - images: `[batch_size, channels, height, width]`
/// - output: `[batch_size, channels, size, size]`
///
/// # Panics
/// If there are not as many patches as images, or patches differ in size.
pub fn sample_patches(images: Tensor<4>, patches: &[Patch]) -> Tensor<4> {
    let [batch_size, _, height, width] = images.dims();
    assert_eq!(batch_size, patches.len(), "as many patches as images");
    let size = patches.first().map_or(0, |patch| patch.size);
    assert!(
        patches.iter().all(|patch| patch.size == size),
        "patches of one batch have one size"
    );
    if size == height && size == width && patches.iter().all(|patch| *patch == Patch::whole(size)) {
        return images;
    }
    let places: Vec<f32> = patches
        .iter()
        .flat_map(Patch::places)
        .flatten()
        .map(|place| place as f32)
        .collect();
    let grid = TensorData::new(places, [batch_size, size, size, 2]);
    let options = GridSampleOptions::new(InterpolateMode::Bilinear)
        .with_padding_mode(GridSamplePaddingMode::Border)
        .with_align_corners(true);
    let grid = Tensor::from_data(grid, &images.device());
    images.grid_sample_2d(grid, options)
}

/// Binary cross-entropy of scores, the mean over a batch: small if `real` ones are above 0, or others below.
pub fn score_loss(scores: Tensor<2>, real: bool) -> Tensor<1> {
    let x = full(scores);
    let x = if real { x.neg() } else { x };
    // ln(1 + e^x), without overflow.
    (relu(x.clone()) + x.abs().neg().exp().log1p()).mean()
}

/// Cross-entropy of classes, the mean over a batch.
///
/// # Shapes
/// - logits: `[batch_size, classes]`
/// - classes: `[batch_size]`
pub fn class_loss(logits: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
    let logs = log_softmax(full(logits), 1);
    logs.gather(1, classes.unsqueeze_dim::<2>(1)).mean().neg()
}
