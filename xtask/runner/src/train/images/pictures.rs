//! Sample predictions as pictures: input, target and prediction side by side.

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use burn_memopt_models::unet::UNet;
use image::{Rgb, RgbImage};

use super::evaluation::{Prediction, predict};
use super::samples::Samples;
use super::task::Task;
use crate::run_dir::RunDir;

/// Pictures that are written at most.
const NUM_PICTURES: usize = 4;
/// Samples that are looked at to choose among.
const NUM_LOOKED_AT: usize = 256;
/// Images smaller than this are enlarged.
const LEAST_SIDE: usize = 192;
/// White columns between two panels.
const GAP: usize = 4;

/// Writes pictures of the samples that have most in their target into `samples/` of
/// the run.
///
/// # Errors
/// If a sample cannot be read or a picture not be written.
pub fn write_pictures(
    run: &RunDir,
    network: &UNet,
    task: Task,
    samples: &Samples,
    device: &Device,
) -> Result<()> {
    let mut filled = Vec::new();
    for index in 0..samples.len().min(NUM_LOOKED_AT) {
        let target = samples.get(index)?.target;
        filled.push((target.iter().sum::<f32>(), index));
    }
    filled.sort_by(|left, right| right.0.total_cmp(&left.0));
    let chosen: Vec<usize> = filled
        .iter()
        .take(NUM_PICTURES)
        .map(|(_, index)| *index)
        .collect();
    let mut pictures = Vec::new();
    predict(network, task, samples, &chosen, 1, device, |prediction| {
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
        match column < panel_width {
            true => panels[panel].color((y / factor) * width + column / factor),
            false => Rgb([255; 3]),
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
    use crate::train::images::Sample;

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
