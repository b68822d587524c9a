//! A small network that learns to read class and azimuth off real images, and judges rendered ones.

use std::f64::consts::TAU;

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::optim::AdamConfig;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_memopt::nn::{conv2d, leaky_relu, relu};
use burn_memopt::train::{MicroBatchTrainerConfig, MicroLoss};
use burn_memopt_models::gan::class_loss;

use super::data::Views;
use crate::train::job::Load;

const CHANNELS: [usize; 4] = [3, 16, 32, 64];
/// Sides of the features that are left of an image.
const SIDE: usize = 4;
/// Values that images are compared by.
pub const FEATURES: usize = 64;
const SLOPE: f64 = 0.2;
/// Passes over the images.
const EPOCHS: usize = 30;
const BATCH_SIZE: usize = 32;
const RATE: f64 = 2e-3;

/// Reads class and azimuth off an image.
#[derive(Module, Debug)]
pub struct Judge {
    convs: Vec<Conv2d>,
    features: Linear,
    classes: Linear,
    /// Sine and cosine.
    azimuth: Linear,
}

impl Judge {
    fn new(num_classes: usize, device: &Device) -> Self {
        let conv = |pair: &[usize]| {
            let config = Conv2dConfig::new([pair[0], pair[1]], [3, 3]).with_stride([2, 2]);
            config
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device)
        };
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        Self {
            convs: CHANNELS.windows(2).map(conv).collect(),
            features: linear(CHANNELS[3] * SIDE * SIDE, FEATURES),
            classes: linear(FEATURES, num_classes),
            azimuth: linear(FEATURES, 2),
        }
    }

    /// Trains a judge on the images that a GAN learns from; the same seed gives the same judge.
    pub fn train(views: &Views, num_classes: usize, seed: u64, device: &Device) -> Result<Self> {
        let device = device.clone().autodiff();
        device.seed(seed);
        let mut judge = Self::new(num_classes, &device);
        let mut train = MicroBatchTrainerConfig::new().init(AdamConfig::new().init());
        let loader = views.loader(&Load::with_defaults(BATCH_SIZE), &device)?;
        for _ in 0..EPOCHS {
            for batch in loader.batches() {
                let batch = batch?;
                let labels = batch.labels.unwrap_or_default();
                let classes: Vec<i32> = labels.iter().map(|label| label.class as i32).collect();
                let classes = Tensor::<1, Int>::from_data(&classes[..], &device);
                let turned = labels
                    .iter()
                    .map(|label| label.azimuth.to_radians().sin_cos());
                let turned: Vec<f32> = turned
                    .flat_map(|(sin, cos)| [sin as f32, cos as f32])
                    .collect();
                let turned =
                    Tensor::<2>::from_data(TensorData::new(turned, [labels.len(), 2]), &device);
                train.micro_batch(&judge, batch.images, Self::read, |(_, logits, azimuth)| {
                    let distance = (azimuth - turned).square().mean();
                    MicroLoss::mean(class_loss(logits, classes) + distance, labels.len() as f64)
                });
                let (next, outcome) = train.step(judge, RATE);
                outcome?;
                judge = next;
            }
        }
        Ok(judge.valid())
    }

    /// Features, logits of the classes, and sine and cosine of the azimuth.
    fn read(&self, images: Tensor<4>) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let run = |x, conv: &Conv2d| leaky_relu(conv2d(conv, x), SLOPE);
        let x = self.convs.iter().fold(images, run);
        let x = adaptive_avg_pool2d(x, [SIDE, SIDE]).flatten::<2>(1, 3);
        let features = relu(self.features.forward(x));
        let logits = self.classes.forward(features.clone());
        let azimuth = self.azimuth.forward(features.clone());
        (features, logits, azimuth)
    }

    /// What is seen on images.
    pub fn judge(&self, images: Tensor<4>) -> Seen {
        let (features, logits, azimuth) = self.read(images);
        let classes = logits.argmax(1).into_data();
        let azimuth = azimuth.into_data();
        let azimuth: Vec<f64> = azimuth.iter::<f64>().collect();
        Seen {
            features,
            classes: classes.iter::<i64>().map(|class| class as usize).collect(),
            azimuths: azimuth
                .chunks(2)
                .map(|pair| pair[0].atan2(pair[1]).rem_euclid(TAU).to_degrees())
                .collect(),
        }
    }
}

/// What a judge reads off images.
pub struct Seen {
    /// `[images, FEATURES]`.
    pub features: Tensor<2>,
    pub classes: Vec<usize>,
    /// Degrees.
    pub azimuths: Vec<f64>,
}

/// How well a judge does on real images: the share of classes that are right, and the mean error of the azimuth in
/// degrees.
pub fn check(
    judge: &Judge,
    views: &burn_memopt_datasets::views::ViewFolder,
    device: &Device,
) -> Result<(f64, f64)> {
    let (mut right, mut off, mut total) = (0, 0.0, 0);
    for index in 0..views.len() {
        let item = views.item(index)?;
        let Some(label) = item.label else { continue };
        let [height, width] = views.size();
        let images = Tensor::from_data(TensorData::new(item.pixels, [1, 3, height, width]), device);
        let seen = judge.judge(images);
        right += usize::from(seen.classes[0] == label.class);
        off += apart(seen.azimuths[0], label.azimuth.into());
        total += 1;
    }
    let total = total.max(1);
    Ok((right as f64 / total as f64, off / total as f64))
}

/// Degrees between two angles, from 0 to 180.
pub fn apart(left: f64, right: f64) -> f64 {
    let turned = (left - right).rem_euclid(360.0);
    turned.min(360.0 - turned)
}
