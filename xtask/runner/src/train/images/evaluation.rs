//! Judging a network on data it was not trained on.

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt_models::unet::UNet;

use super::samples::{Batch, Sample, Samples};
use super::task::Task;
use crate::train::job::Metrics;

/// Probability from which a pixel belongs to the mask.
const MASK_THRESHOLD: f32 = 0.5;

/// What a network made of one sample.
pub struct Prediction {
    /// The sample.
    pub sample: Sample,
    /// Density or probability, as large as the sample's target.
    pub output: Vec<f32>,
}

/// Runs `network` on the samples, one batch at a time and without recording
/// gradients, and hands every prediction to `see`.
///
/// # Errors
/// If a sample cannot be read.
pub fn predict(
    network: &UNet,
    task: Task,
    samples: &Samples,
    indices: &[usize],
    batch_size: usize,
    device: &Device,
    mut see: impl FnMut(Prediction),
) -> Result<()> {
    let (network, device) = (network.valid(), device.clone().without_autodiff());
    for indices in indices.chunks(batch_size) {
        let items: Result<Vec<_>, _> = indices.iter().map(|&index| samples.get(index)).collect();
        let items = items?;
        let output = network.forward(Batch::of(&items, &device).images);
        let values = read_all(task.read(output))?;
        let len = values.len() / items.len();
        for (sample, output) in items.into_iter().zip(values.chunks_exact(len)) {
            see(Prediction {
                sample,
                output: output.to_vec(),
            });
        }
    }
    Ok(())
}

fn read_all(tensor: Tensor<4>) -> Result<Vec<f32>> {
    let data = tensor.try_into_data()?;
    Ok(data.iter::<f32>().collect())
}

/// The metrics of a task on all of `samples`.
///
/// Counting: `count_correlation`, Pearson's, between the emitters predicted and those
/// in the table over the frames, where it is defined, and `count_error`, the mean
/// absolute difference. Masks: `iou`, intersection over union of all pixels.
///
/// # Errors
/// If a sample cannot be read.
pub fn evaluate(
    network: &UNet,
    task: Task,
    samples: &Samples,
    batch_size: usize,
    device: &Device,
) -> Result<Metrics> {
    let all: Vec<usize> = (0..samples.len()).collect();
    let mut counts = Vec::new();
    let mut overlap = Overlap::default();
    predict(
        network,
        task,
        samples,
        &all,
        batch_size,
        device,
        |prediction| {
            let target = &prediction.sample.target;
            match task.counts() {
                true => counts.push((sum(&prediction.output), sum(target).round())),
                false => overlap.add(&prediction.output, target),
            }
        },
    )?;
    let mut metrics = Metrics::new();
    if task.counts() {
        if let Some(correlation) = correlation(&counts) {
            metrics.insert("count_correlation".into(), correlation);
        }
        let errors = counts.iter().map(|(found, truth)| (found - truth).abs());
        metrics.insert(
            "count_error".into(),
            errors.sum::<f64>() / counts.len() as f64,
        );
    } else {
        metrics.insert("iou".into(), overlap.iou());
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

/// Pixels in both masks, and in at least one.
#[derive(Default)]
struct Overlap {
    both: u64,
    either: u64,
}

impl Overlap {
    fn add(&mut self, output: &[f32], target: &[f32]) {
        for (&output, &target) in output.iter().zip(target) {
            let (found, truth) = (output > MASK_THRESHOLD, target > MASK_THRESHOLD);
            self.both += u64::from(found && truth);
            self.either += u64::from(found || truth);
        }
    }

    /// Two empty masks are the same.
    fn iou(&self) -> f64 {
        match self.either {
            0 => 1.0,
            either => self.both as f64 / either as f64,
        }
    }
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
        let mut overlap = Overlap::default();
        overlap.add(&[0.9, 0.8, 0.1], &[1.0, 0.0, 0.0]);
        overlap.add(&[0.2, 0.7], &[1.0, 1.0]);
        assert_eq!(overlap.iou(), 0.5);
        assert_eq!(Overlap::default().iou(), 1.0);
    }
}
