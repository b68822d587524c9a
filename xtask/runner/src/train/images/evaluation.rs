//! Evaluating a network on data it was not trained on, and pictures of what it predicts.

use anyhow::{Context, Result};
use burn::data::dataset::Dataset;
use burn::tensor::{Device, Tensor};
use burn_memopt::batch::ModelReplicas;
use burn_memopt::chunked::ExactTiles;
use burn_memopt_models::unet::UNet;
use image::{Rgb, RgbImage};

use super::data::{Batch, Data, Sample, Samples};
use super::task::{Task, most_probable};
use crate::run_dir::RunDir;
use crate::train::check_finite;
use crate::train::job::Metrics;

/// Probability from which a pixel belongs to the mask.
const MASK_THRESHOLD: f32 = 0.5;
/// Pictures that are written at most.
const NUM_PICTURES: usize = 4;
/// Samples that they are chosen among.
const NUM_CONSIDERED: usize = 256;
/// Images smaller than this are enlarged.
const LEAST_SIDE: usize = 192;
/// White columns between two panels.
const GAP: usize = 4;

/// How a network is run on samples, and what its output is.
pub struct Forward {
    /// What it is for.
    pub task: Task,
    /// The tiles it runs on, where it does not run on whole images.
    pub tiles: Option<ExactTiles>,
}

impl Forward {
    fn run(&self, network: &UNet, images: Tensor<4>) -> Tensor<4> {
        let output = match &self.tiles {
            Some(tiles) => {
                let [output] = tiles.infer_many(images, |tiles| [network.forward_tiles(tiles)]);
                output
            }
            None => network.forward(images),
        };
        self.task.read(output)
    }
}

/// What a network made of one sample.
struct Prediction {
    /// The sample.
    sample: Sample,
    /// Density, probability or class, as large as the sample's target.
    output: Vec<f32>,
}

/// Runs `network` on the samples, one batch at a time on each device and without recording
/// gradients, and hands every prediction to `see`, in their order.
fn predict(
    network: &ModelReplicas<UNet>,
    forward: &Forward,
    samples: &Samples,
    indices: &[usize],
    batch_size: usize,
    mut see: impl FnMut(Prediction),
) -> Result<()> {
    for indices in indices.chunks(batch_size * network.count()) {
        let parts = indices.chunks(batch_size).map(|indices| {
            let items = indices.iter().map(|&index| samples.get(index));
            items.collect::<Result<Vec<_>, _>>()
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let outputs = network.run(parts, |network, device, items| {
            let device = device.clone().without_autodiff();
            let output = forward.run(network, Batch::new(&items, &device).images);
            let channels = output.dims()[1];
            (items, channels, output.try_into_data())
        });
        for (items, channels, values) in outputs {
            let values: Vec<f32> = values?.iter::<f32>().collect();
            let len = values.len() / items.len();
            for (sample, output) in items.into_iter().zip(values.chunks_exact(len)) {
                check_finite(output, || sample.name.clone())?;
                see(Prediction {
                    sample,
                    output: most_probable(output, channels).into_owned(),
                });
            }
        }
    }
    Ok(())
}

/// The metrics on what was held out, and the pictures of some of it.
pub fn evaluate(
    network: &UNet,
    forward: &Forward,
    data: &Data,
    batch_size: usize,
    run: &RunDir,
    devices: &[Device],
) -> Result<Metrics> {
    let network =
        &ModelReplicas::new(network, devices).context("cannot start a thread for each device")?;
    let seen = data.held_out.as_ref().unwrap_or(&data.training);
    write_pictures(run, network, forward, seen)?;
    match &data.held_out {
        None => Ok(Metrics::new()),
        Some(held_out) => metrics(network, forward, held_out, batch_size),
    }
}

/// The metrics of a task on all of `samples`.
///
/// Counting: `count_correlation`, Pearson's, between the emitters predicted and those
/// in the table over the frames, where it is defined, and `count_error`, the mean
/// absolute difference. Masks: `iou`, intersection over union of all pixels; of classes
/// `mean_iou`, its mean over the classes that occur.
fn metrics(
    network: &ModelReplicas<UNet>,
    forward: &Forward,
    samples: &Samples,
    batch_size: usize,
) -> Result<Metrics> {
    let all: Vec<usize> = (0..samples.len()).collect();
    let mut counts = Vec::new();
    let mut overlap = Overlap::new(forward.task.classes().unwrap_or(2));
    let see = |Prediction { sample, output }: Prediction| {
        if forward.task.counts() {
            counts.push((sum(&output), sum(&sample.target).round()));
        } else {
            for (&found, &truth) in output.iter().zip(&sample.target) {
                if forward.task.classes().is_some() {
                    overlap.add(found as usize, class(truth));
                } else {
                    let class = |value| usize::from(value > MASK_THRESHOLD);
                    overlap.add(class(found), Some(class(truth)));
                }
            }
        }
    };
    predict(network, forward, samples, &all, batch_size, see)?;
    let mut metrics = Metrics::new();
    if forward.task.counts() {
        if let Some(correlation) = correlation(&counts) {
            metrics.insert("count_correlation".into(), correlation);
        }
        let errors = counts.iter().map(|(found, truth)| (found - truth).abs());
        let error = errors.sum::<f64>() / counts.len() as f64;
        metrics.insert("count_error".into(), error);
    } else {
        let (name, value) = match forward.task.classes() {
            None => ("iou", overlap.iou(1)),
            Some(_) => ("mean_iou", overlap.mean_iou()),
        };
        metrics.insert(name.into(), value);
    }
    Ok(metrics)
}

fn sum(values: &[f32]) -> f64 {
    values.iter().copied().map(f64::from).sum()
}

/// Pearson's correlation, `None` if one side never changes.
fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let len = pairs.len() as f64;
    let (sum_x, sum_y) = pairs
        .iter()
        .fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let (mean_x, mean_y) = (sum_x / len, sum_y / len);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        let (x, y) = (x - mean_x, y - mean_y);
        xx += x * x;
        yy += y * y;
        xy += x * y;
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

/// The class of a pixel, if it has one.
fn class(target: f32) -> Option<usize> {
    (target >= 0.0).then_some(target as usize)
}

/// Of each class, the pixels in both masks, and in at least one.
struct Overlap {
    both: Vec<u64>,
    either: Vec<u64>,
}

impl Overlap {
    fn new(num_classes: usize) -> Self {
        Self {
            both: vec![0; num_classes],
            either: vec![0; num_classes],
        }
    }

    fn add(&mut self, found: usize, truth: Option<usize>) {
        let Some(truth) = truth else {
            return;
        };
        self.either[truth] += 1;
        if found == truth {
            self.both[truth] += 1;
        } else {
            self.either[found] += 1;
        }
    }

    /// Two empty masks are the same.
    fn iou(&self, class: usize) -> f64 {
        match self.either[class] {
            0 => 1.0,
            either => self.both[class] as f64 / either as f64,
        }
    }

    /// Over the classes that occur.
    fn mean_iou(&self) -> f64 {
        let occurs = |class: &usize| self.either[*class] > 0;
        let classes: Vec<usize> = (0..self.either.len()).filter(occurs).collect();
        let sum: f64 = classes.iter().map(|&class| self.iou(class)).sum();
        sum / classes.len().max(1) as f64
    }
}

/// Writes pictures of the samples that have most in their target into `samples/` of
/// the run.
fn write_pictures(
    run: &RunDir,
    network: &ModelReplicas<UNet>,
    forward: &Forward,
    samples: &Samples,
) -> Result<()> {
    let mut filled = Vec::new();
    for index in 0..samples.len().min(NUM_CONSIDERED) {
        let target = samples.get(index)?.target;
        filled.push((target.iter().sum::<f32>(), index));
    }
    filled.sort_by(|left, right| right.0.total_cmp(&left.0));
    let chosen = filled.iter().take(NUM_PICTURES).map(|(_, index)| *index);
    let chosen: Vec<usize> = chosen.collect();
    let mut pictures = Vec::new();
    predict(network, forward, samples, &chosen, 1, |prediction| {
        pictures.push((prediction.sample.name.clone(), picture(&prediction)));
    })?;
    for (name, picture) in pictures {
        run.replace_file(&format!("samples/{name}.png"), |path| {
            Ok(picture.save(path)?)
        })?;
    }
    Ok(())
}

/// `[3 panels]`, each scaled by whole factors, so that single pixels can be seen.
fn picture(prediction: &Prediction) -> RgbImage {
    let sample = &prediction.sample;
    let (height, width) = (sample.height, sample.width);
    let factor = LEAST_SIDE.div_ceil(height.min(width)).max(1);
    let (image_low, image_high) = range(&sample.image);
    // One scale for both, so that they can be compared.
    let high = range(&sample.target).1;
    let panels = [
        Panel::new(&sample.image, height * width, image_low, image_high),
        Panel::new(&sample.target, height * width, 0.0, high),
        Panel::new(&prediction.output, height * width, 0.0, high),
    ];
    let panel_width = width * factor;
    let total_width = 3 * panel_width + 2 * GAP;
    RgbImage::from_fn(total_width as u32, (height * factor) as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        let (panel, column) = (x / (panel_width + GAP), x % (panel_width + GAP));
        if column < panel_width {
            panels[panel].color((y / factor) * width + column / factor)
        } else {
            Rgb([255; 3])
        }
    })
}

/// Values shown from black at `low` to white at `high`; one plane is gray, three are colours.
struct Panel<'a> {
    values: &'a [f32],
    plane: usize,
    low: f32,
    high: f32,
}

impl<'a> Panel<'a> {
    fn new(values: &'a [f32], plane: usize, low: f32, high: f32) -> Self {
        Self {
            values,
            plane,
            low,
            high,
        }
    }

    fn color(&self, pixel: usize) -> Rgb<u8> {
        let last = self.values.len() / self.plane - 1;
        let range = (self.high - self.low).max(f32::MIN_POSITIVE);
        Rgb([0, 1, 2].map(|channel: usize| {
            let value = self.values[channel.min(last) * self.plane + pixel];
            (255.0 * ((value - self.low) / range).clamp(0.0, 1.0)).round() as u8
        }))
    }
}

fn range(values: &[f32]) -> (f32, f32) {
    let ends = (f32::INFINITY, f32::NEG_INFINITY);
    values.iter().fold(ends, |(low, high), &value| {
        (low.min(value), high.max(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_is_that_of_the_textbook() {
        let line = [(1.0, 3.0), (2.0, 5.0), (3.0, 7.0)];
        assert!((correlation(&line).unwrap() - 1.0).abs() < 1e-12);
        let bent = [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0)];
        assert!((correlation(&bent).unwrap() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn what_never_changes_has_no_correlation() {
        assert_eq!(correlation(&[(1.0, 2.0), (3.0, 2.0)]), None);
        assert_eq!(correlation(&[]), None);
    }

    #[test]
    fn overlap_counts_pixels_of_all_images_together() {
        let mut overlap = Overlap::new(3);
        for (found, truth) in [(1, Some(1)), (1, Some(0)), (0, Some(1)), (1, Some(1))] {
            overlap.add(found, truth);
        }
        overlap.add(2, None);
        assert_eq!(overlap.iou(1), 0.5);
        assert_eq!(overlap.mean_iou(), 0.25);
        assert_eq!(Overlap::new(2).iou(1), 1.0);
    }

    #[test]
    fn target_and_prediction_share_a_scale() {
        let prediction = Prediction {
            sample: Sample {
                name: "a".into(),
                height: 1,
                width: 2,
                image: vec![5.0, 7.0],
                target: vec![0.0, 2.0],
            },
            output: vec![1.0, 4.0],
        };
        let picture = picture(&prediction);
        let side = LEAST_SIDE as u32;
        let gap = GAP as u32;
        assert_eq!(picture.dimensions(), (6 * side + 2 * gap, side));
        let value = |panel: u32, pixel: u32| {
            picture
                .get_pixel(panel * (2 * side + gap) + pixel * side, 0)
                .0[0]
        };
        assert_eq!((value(0, 0), value(0, 1)), (0, 255));
        assert_eq!((value(1, 0), value(1, 1)), (0, 255));
        assert_eq!((value(2, 0), value(2, 1)), (128, 255));
    }
}
