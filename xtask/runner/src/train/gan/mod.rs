//! `train gan`: a radiance field against a discriminator.

mod data;
mod evaluation;
mod judge;
mod pictures;

use std::path::Path;

use anyhow::{Result, bail};
use burn::data::dataset::Dataset;
use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use burn_memopt::memory::Bytes;
use burn_memopt::train::MicroBatchTrainerConfig;
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::synthetic::solids::CLASS_NAMES;
use burn_memopt_datasets::views::ViewItem;
use burn_memopt_models::gan::{
    Camera, CcsrConfig, GanBatch, GanConfig, GanStep, Generator, Networks,
    PatchDiscriminatorConfig, RadianceFieldConfig, Renderer,
};

use super::job::{Job, Load, Metrics, stepped_rate};
use super::network::{drawn, first_weights};
use super::saved::CutPlan;
use crate::choices::RayChunkChoice;
use crate::run_dir::RunDir;
use crate::settings::{GanSettings, Settings, UsageError};
use data::Views;

/// What the activations of the rays that are rendered at a time may take.
const RAY_BYTES: Bytes = Bytes::mib(512);
/// Steps after which the learning rates of the published training halve.
const FALLS: [u64; 3] = [80_000, 120_000, 150_000];
/// Directions that have a code of their own.
const NUM_VIEWS: usize = 8;
/// Values of a code.
const CODE: usize = 128;

/// A GAN on generated solids, or on a folder of images.
pub struct GanJob {
    settings: Settings<GanSettings>,
}

impl Job for GanJob {
    type Settings = GanSettings;
    type Network = Networks;
    type Trainer = GanStep;
    type Data = Views;
    type Item = ViewItem;
    type Batch = GanBatch;

    const IS_COMPARED: bool = false;

    fn new(settings: Settings<GanSettings>) -> Result<Self> {
        let Settings { model, run } = &settings;
        if run.grad_checkpoint != "none" {
            bail!(UsageError(
                "--grad-checkpoint must be none for a GAN: --ray-chunk says what is recomputed"
                    .into()
            ));
        }
        if run.auto_micro_batch {
            bail!(UsageError(
                "--auto-micro-batch cannot undo a step of two networks; leave it out, and give a \
                 smaller --batch-size with more --accumulation-steps"
                    .into()
            ));
        }
        let networks = &model.networks;
        if networks.far <= networks.near {
            bail!(UsageError(format!(
                "--far must be above --near, {}, got {}",
                networks.near, networks.far
            )));
        }
        if networks.fine_samples > 0 && networks.samples < 3 {
            bail!(UsageError(format!(
                "--fine-samples needs 3 --samples or more, got {}",
                networks.samples
            )));
        }
        if !networks.field_width.is_multiple_of(2) {
            bail!(UsageError(format!(
                "--field-width must be even, got {}",
                networks.field_width
            )));
        }
        if model.views.field_of_view >= 180.0 {
            bail!(UsageError(format!(
                "--field-of-view must be below 180, got {}",
                model.views.field_of_view
            )));
        }
        Ok(Self { settings })
    }

    fn trainer(
        &self,
        data: &Views,
        config: &MicroBatchTrainerConfig,
        optimizer: &ModuleOptimizer,
    ) -> GanStep {
        let step = || config.init(optimizer.clone());
        GanStep::new(self.config(data), step(), step())
    }

    fn learning_rate(rate: f64, step: u64) -> f64 {
        stepped_rate(rate, step, 0.5, &FALLS)
    }

    fn open(&self) -> Result<Option<Views>> {
        Views::open(&self.settings.model, &self.settings.run)
    }

    fn generate(&self, folder: &Path) -> Result<Views> {
        Views::generate(folder, &self.settings.model, &self.settings.run)
    }

    fn parts(data: &Views) -> Vec<&dyn Dataset<ViewItem>> {
        data.parts()
    }

    fn item_name(data: &Views, index: usize) -> String {
        data.training
            .item(index)
            .map_or_else(|_| format!("item {index}"), |item| item.name)
    }

    fn network(&self, data: Option<&Views>, _: &mut CutPlan, device: &Device) -> Result<Networks> {
        let Settings { model, run } = &self.settings;
        let networks = &model.networks;
        let num_classes = match data {
            Some(views) => views.num_classes(),
            None => (!model.views.unlabelled).then_some(CLASS_NAMES.len()),
        };
        device.seed(run.seed);
        let field = self.field(num_classes).init(device);
        let field = first_weights(field, networks.weights.as_deref(), "--weights")?;
        let ccsr = (num_classes.is_some() && !networks.no_ccsr).then(|| {
            CcsrConfig::new()
                .with_patch_size(networks.patch_size)
                .with_num_views(NUM_VIEWS)
                .init(device)
        });
        let discriminator = PatchDiscriminatorConfig::new(networks.patch_size)
            .with_base_channels(networks.base_channels)
            .with_num_classes(num_classes)
            .init(device);
        let generator = drawn(Generator { field, ccsr });
        Ok(Networks::new(generator, drawn(discriminator)))
    }

    fn check_side(&self, data: &Views, side: usize) -> Result<()> {
        let [whole, _] = data.training.size();
        let patch = self.settings.model.networks.patch_size;
        if side > whole || !whole.is_multiple_of(side) || side < patch {
            bail!(UsageError(format!(
                "--progressive {side} must divide the {whole} pixels of the images' sides and be at \
                 least the {patch} of --patch-size"
            )));
        }
        Ok(())
    }

    fn loader(
        &self,
        data: &Views,
        load: &Load,
        device: &Device,
    ) -> Result<Loader<ViewItem, GanBatch>> {
        data.loader(load, device)
    }

    fn num_items(batch: &GanBatch) -> usize {
        batch.images.dims()[0]
    }

    fn micro_batch(&self, networks: &Networks, train: &mut GanStep, batch: GanBatch) {
        train.micro_batch(networks, batch);
    }

    fn evaluate(
        &self,
        networks: &Networks,
        data: &Views,
        batch_size: usize,
        run: &RunDir,
        devices: &[Device],
    ) -> Result<Metrics> {
        let device = &devices[0];
        evaluation::evaluate(self, networks, data, batch_size, run, device)
    }
}

impl GanJob {
    fn field(&self, num_classes: Option<usize>) -> RadianceFieldConfig {
        let networks = &self.settings.model.networks;
        let appearance = if num_classes.is_some() { 0 } else { CODE };
        RadianceFieldConfig::new()
            .with_depth(networks.field_depth)
            .with_width(networks.field_width)
            .with_shape_code(CODE)
            .with_appearance_code(appearance)
            .with_num_classes(num_classes)
            .with_position_frequencies(networks.frequencies)
    }

    /// How the networks are trained on `data`.
    fn config(&self, data: &Views) -> GanConfig {
        let GanSettings {
            views, networks, ..
        } = &self.settings.model;
        let camera = Camera::new(data.training.size())
            .with_field_of_view(views.field_of_view)
            .with_radius(views.radius);
        let renderer = Renderer::new()
            .with_near(networks.near)
            .with_far(networks.far)
            .with_samples(networks.samples)
            .with_fine_samples(networks.fine_samples);
        let rays = self.settings.run.batch_size * networks.patch_size * networks.patch_size;
        let chunk = match networks.ray_chunk {
            RayChunkChoice::All => None,
            RayChunkChoice::Rays(rays) => Some(rays),
            RayChunkChoice::Auto => {
                Some(renderer.rays_within(&self.field(data.num_classes()), RAY_BYTES))
            }
        };
        GanConfig::new(camera, networks.patch_size)
            .with_renderer(renderer.with_ray_chunk(chunk.filter(|&chunk| chunk < rays)))
            .with_penalty(networks.reg_param)
            .with_average_decay(networks.average_decay)
            .with_discriminator_rate(networks.discriminator_rate)
    }
}
