//! How good a GAN's images are.

use std::path::Path;

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use burn_memopt_datasets::views::ELEVATIONS;
use burn_memopt_models::gan::{Codes, GanConfig, Generator, Networks, Patch, ViewLabel};
use burn_memopt_models::metric::{
    FeatureStatistics, Features, InceptionV3, frechet_distance, kernel_distance,
};
use burn_memopt_models::weights::StateDict;

use super::GanJob;
use super::data::{Views, label};
use super::judge::{Judge, apart, check};
use crate::report::note;
use crate::run_dir::RunDir;
use crate::train::job::{Job, Metrics};
use crate::train::network::first_weights;
use crate::train::saved::CutPlan;

/// Rays that are rendered at a time.
const RAY_CHUNK: usize = 4096;
/// Images that are compared at most.
const MAX_JUDGED: usize = 512;
/// Objects of each class that are turned.
const NUM_TURNED: usize = 4;
/// Turns that are asked for, in degrees.
const TURNS: [f64; 7] = [45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0];

/// Judges the average generator, and writes samples.
///
/// `kernel_distance` and `frechet_distance` compare rendered with held-out images, by the features of a
/// classifier that is trained on the run's own images; `kernel_distance_before` is that of the weights that training
/// began with. `class_accuracy` is the share of rendered images in which the classifier sees the class that was asked
/// for, `turn_error_degrees` how far a turn of the camera is from the turn that it sees. With weights of the Inception
/// network there are FID and KID as well. Without labels there are
/// pictures alone.
pub fn evaluate(
    job: &GanJob,
    networks: &Networks,
    data: &Views,
    batch_size: usize,
    run: &RunDir,
    device: &Device,
) -> Result<Metrics> {
    let plain = device.clone().without_autodiff();
    let studio = Studio::new(job, data, batch_size, &plain);
    let average = networks.average.valid();
    studio.write_samples(&average, data, run)?;
    write_weights(run, "field", &average.field)?;
    write_weights(run, "discriminator", &networks.discriminator)?;
    if let Some(ccsr) = &average.ccsr {
        write_weights(run, "ccsr", ccsr)?;
    }
    let Some(num_classes) = data.num_classes() else {
        note("images without labels: samples are written, but nothing is measured");
        return Ok(Metrics::new());
    };
    let judge = Judge::train(data, num_classes, job.settings.run.seed, &plain)?;
    let (accuracy, off) = check(&judge, data.judged(), &plain)?;
    let first = job
        .network(Some(data), &mut CutPlan::default(), device)?
        .average
        .valid();
    let seen = |images| judge.judge(images).features;
    let real = studio.real_features(data, &seen)?;
    let now = studio.rendered_features(&average, data, &seen)?;
    let before = studio.rendered_features(&first, data, &seen)?;
    let mut metrics = Metrics::from([
        ("kernel_distance".into(), kernel_distance(&real, &now)?),
        (
            "kernel_distance_before".into(),
            kernel_distance(&real, &before)?,
        ),
        ("frechet_distance".into(), frechet(&real, &now)?),
        (
            "class_accuracy".into(),
            studio.class_accuracy(&average, &judge, data),
        ),
        (
            "turn_error_degrees".into(),
            studio.turn_error(&average, &judge, num_classes),
        ),
        ("judge_accuracy".into(), accuracy),
        ("judge_azimuth_error_degrees".into(), off),
    ]);
    if let Some(weights) = &job.settings.model.networks.inception {
        let inception = load_inception(weights, &plain)?;
        let features = |images| inception.forward(images);
        let real = studio.real_features(data, &features)?;
        let now = studio.rendered_features(&average, data, &features)?;
        metrics.insert("fid".into(), frechet(&real, &now)?);
        metrics.insert("kid".into(), kernel_distance(&real, &now)?);
    }
    Ok(metrics)
}

fn load_inception(weights: &Path, device: &Device) -> Result<InceptionV3> {
    first_weights(InceptionV3::new(device), Some(weights), "--inception")
}

fn frechet(left: &Features, right: &Features) -> Result<f64> {
    let of = |features: &Features| -> Result<FeatureStatistics> {
        let mut statistics = FeatureStatistics::new(features.dims());
        statistics.add(features)?;
        Ok(statistics)
    };
    Ok(frechet_distance(&of(left)?, &of(right)?)?)
}

/// Renders images without recording anything.
pub(super) struct Studio {
    config: GanConfig,
    batch_size: usize,
    pub(super) seed: u64,
    pub(super) device: Device,
}

impl Studio {
    fn new(job: &GanJob, data: &Views, batch_size: usize, device: &Device) -> Self {
        let config = job.config(data);
        let renderer = config.renderer.clone().with_ray_chunk(Some(RAY_CHUNK));
        Self {
            config: config.with_renderer(renderer),
            batch_size,
            seed: job.settings.run.seed,
            device: device.clone(),
        }
    }

    /// Renders images, `[images, 3, patch_size, patch_size]`.
    pub(super) fn render(
        &self,
        generator: &Generator,
        labels: &[ViewLabel],
        codes: Codes,
    ) -> Tensor<4> {
        let camera = &self.config.camera;
        let poses = labels
            .iter()
            .map(|label| camera.pose(label.azimuth / 360.0, label.height));
        let poses: Vec<_> = poses.collect();
        let patches = vec![Patch::whole(self.config.patch_size); poses.len()];
        let rays = camera.rays(&poses, &patches, &self.device);
        self.config
            .renderer
            .render(&generator.field, rays, codes, None)
            .image()
    }

    fn classes(&self, labels: &[ViewLabel]) -> Tensor<1, Int> {
        let classes: Vec<i32> = labels.iter().map(|label| label.class as i32).collect();
        Tensor::from_data(&classes[..], &self.device)
    }

    pub(super) fn codes(&self, generator: &Generator, labels: &[ViewLabel]) -> Codes {
        generator.codes(labels.len(), Some(self.classes(labels)), &self.device)
    }

    /// Labels of the images that are judged.
    fn labels(&self, data: &Views) -> Vec<ViewLabel> {
        let views = data.judged();
        let len = burn::data::dataset::Dataset::len(views).min(MAX_JUDGED);
        (0..len)
            .filter_map(|index| views.label(index))
            .map(label)
            .collect()
    }

    /// What `features` makes of real images.
    fn real_features(
        &self,
        data: &Views,
        features: &dyn Fn(Tensor<4>) -> Tensor<2>,
    ) -> Result<Features> {
        let views = data.judged();
        let [height, width] = views.size();
        let mut all: Option<Features> = None;
        let indices: Vec<usize> = (0..self.labels(data).len()).collect();
        for indices in indices.chunks(self.batch_size) {
            let mut pixels = Vec::new();
            for &index in indices {
                pixels.extend(views.item(index)?.pixels);
            }
            let images = TensorData::new(pixels, [indices.len(), 3, height, width]);
            append(&mut all, features(Tensor::from_data(images, &self.device)))?;
        }
        all.context("there are no images to judge by")
    }

    /// Renders an object for each label of the images that are judged, always the same ones.
    fn rendered<'a>(
        &'a self,
        generator: &'a Generator,
        labels: &'a [ViewLabel],
    ) -> impl Iterator<Item = (&'a [ViewLabel], Tensor<4>)> {
        self.device.seed(self.seed);
        let batches = labels.chunks(self.batch_size);
        batches.map(|labels| {
            (
                labels,
                self.render(generator, labels, self.codes(generator, labels)),
            )
        })
    }

    /// What `features` makes of rendered images.
    fn rendered_features(
        &self,
        generator: &Generator,
        data: &Views,
        features: &dyn Fn(Tensor<4>) -> Tensor<2>,
    ) -> Result<Features> {
        let mut all: Option<Features> = None;
        for (_, images) in self.rendered(generator, &self.labels(data)) {
            append(&mut all, features(images))?;
        }
        all.context("there are no images to judge by")
    }

    /// Share of rendered images in which a judge sees the class that was asked for.
    fn class_accuracy(&self, generator: &Generator, judge: &Judge, data: &Views) -> f64 {
        let labels = self.labels(data);
        let right = self.rendered(generator, &labels).map(|(labels, images)| {
            let seen = judge.judge(images).classes;
            seen.iter()
                .zip(labels)
                .filter(|(seen, label)| **seen == label.class)
                .count()
        });
        right.sum::<usize>() as f64 / labels.len() as f64
    }

    /// Mean difference in degrees of the turn that a judge sees and the turn of the camera.
    fn turn_error(&self, generator: &Generator, judge: &Judge, num_classes: usize) -> f64 {
        self.device.seed(self.seed.wrapping_add(1));
        let (mut off, mut total) = (0.0, 0);
        for class in 0..num_classes {
            for _ in 0..NUM_TURNED {
                let start =
                    Tensor::<1>::random([1], Distribution::Uniform(0.0, 360.0), &self.device);
                let start = start.into_data().iter::<f64>().sum::<f64>();
                let turned = std::iter::once(0.0).chain(TURNS).map(|turn| ViewLabel {
                    class,
                    azimuth: start + turn,
                    height: ELEVATIONS[1],
                });
                let labels: Vec<ViewLabel> = turned.collect();
                let codes = repeated(self.codes(generator, &labels[..1]), labels.len());
                let seen = judge.judge(self.render(generator, &labels, codes)).azimuths;
                for (azimuth, turn) in seen[1..].iter().zip(TURNS) {
                    off += apart(azimuth - seen[0], turn);
                    total += 1;
                }
            }
        }
        off / f64::from(total)
    }
}

/// Writes the weights of a network into the folder `weights` of the run, under the published names.
fn write_weights<M: StateDict>(run: &RunDir, name: &str, network: &M) -> Result<()> {
    run.replace_file(&format!("weights/{name}.safetensors"), |path| {
        network
            .save_safetensors(path)
            .context("cannot write the weights")
    })
}

fn append(features: &mut Option<Features>, batch: Tensor<2>) -> Result<()> {
    let batch = Features::from_tensor(batch)?;
    match features {
        Some(features) => features.append(batch)?,
        None => *features = Some(batch),
    }
    Ok(())
}

/// The codes of one image, for several.
pub(super) fn repeated(codes: Codes, count: usize) -> Codes {
    Codes {
        shape: codes.shape.repeat_dim(0, count),
        appearance: codes.appearance.map(|code| code.repeat_dim(0, count)),
        classes: codes.classes.map(|classes| classes.repeat_dim(0, count)),
    }
}
