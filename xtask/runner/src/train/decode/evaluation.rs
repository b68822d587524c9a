//! What a network finds in the frames held out, against the emitters that are there.

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use burn_memopt::batch::ModelReplicas;
use burn_memopt::chunked::ExactTiles;
use burn_memopt_datasets::localizations::{Localization, write_csv};
use burn_memopt_models::decode::{DetectionConfig, FoundEmitter, Score, SigmaMUNet};

use super::data::{Data, Samples};
use crate::run_dir::RunDir;
use crate::train::check_finite;
use crate::train::job::Metrics;

/// How emitters are found in data.
pub struct Localizer<'a> {
    /// The frames.
    pub data: &'a Data,
    /// What of an output is an emitter.
    pub detection: DetectionConfig,
    /// The tiles a network runs on, where it does not run on whole frames.
    pub tiles: Option<ExactTiles>,
}

impl Localizer<'_> {
    /// Localizes the frames held out, or the training frames where none are; writes
    /// `localizations.csv` and `units.json` into the run.
    ///
    /// `jaccard` is the Jaccard index of found and true emitters, `rmse_px` the root mean squared
    /// distance of the matches in pixels, where there are any; next to them `precision` and `recall`.
    pub fn evaluate(
        &self,
        network: &ModelReplicas<SigmaMUNet>,
        radius: f64,
        batch_size: usize,
        run: &RunDir,
    ) -> Result<Metrics> {
        let data = self.data;
        let samples = data.held_out.as_ref().unwrap_or(&data.training);
        let (mut rows, mut score) = (Vec::new(), Score::default());
        let frames: Vec<usize> = samples.frames.clone().collect();
        for frames in frames.chunks(batch_size * network.count()) {
            let parts = frames.chunks(batch_size).collect();
            let found = network.run(parts, |network, device, frames| {
                let device = device.clone().without_autodiff();
                self.localize(network, samples, frames, &device)
            });
            let found = found.into_iter().collect::<Result<Vec<_>>>()?;
            for (&frame, found) in frames.iter().zip(found.into_iter().flatten()) {
                let found = found.iter().map(|emitter| data.units.row(frame, emitter));
                let found: Vec<Localization> = found.collect();
                let truth = samples.emitters.emitters(frame);
                score = score.plus(Score::of_frame(&places(&found), &places(truth), radius));
                rows.extend(found);
            }
        }
        run.replace_file("localizations.csv", |path| Ok(write_csv(path, &rows)?))?;
        let units =
            serde_json::to_string_pretty(&data.units).context("cannot write units as JSON")?;
        run.replace_file("units.json", |path| Ok(std::fs::write(path, units + "\n")?))?;
        Ok(match data.held_out {
            None => Metrics::new(),
            Some(_) => metrics(&score),
        })
    }

    /// The emitters that the network finds in consecutive frames.
    fn localize(
        &self,
        network: &SigmaMUNet,
        samples: &Samples,
        frames: &[usize],
        device: &Device,
    ) -> Result<Vec<Vec<FoundEmitter>>> {
        let mut sequence = Vec::new();
        for (at, &frame) in frames.iter().enumerate() {
            let window = samples.windows.window(frame)?.frames;
            // Of the windows after the first, all frames but the last are there already.
            let known = if at == 0 { 0 } else { window.len() - 1 };
            sequence.extend_from_slice(&window[known..]);
        }
        let pixels: Vec<&[f32]> = sequence.iter().map(|frame| &frame.pixels[..]).collect();
        let batcher = self.data.batcher(network.net.size_multiple());
        let inputs = batcher.batch(&pixels, 1, device);
        let output = outputs(network, self.tiles.as_ref(), inputs);
        // One number for each frame, which is not finite if one of its values is not.
        let sums = output.clone().sum_dims(&[1, 2, 3]).try_into_data()?;
        for (&frame, sum) in frames.iter().zip(sums.iter::<f32>()) {
            let name = || samples.name(frame - samples.frames.start);
            check_finite(&[sum], name)?;
        }
        let [height, width] = batcher.size;
        let [batch_size, channels, ..] = output.dims();
        let output = output.slice([0..batch_size, 0..channels, 0..height, 0..width]);
        Ok(self.detection.find(output, &self.data.units.output))
    }
}

/// The outputs for consecutive frames, on tiles one after the other where there are tiles.
///
/// # Shapes
/// - frames: `[num_windows + num_frames - 1, 1, height, width]`
/// - output: `[num_windows, 10, height, width]`
fn outputs(network: &SigmaMUNet, tiles: Option<&ExactTiles>, frames: Tensor<4>) -> Tensor<4> {
    let Some(tiles) = tiles else {
        return network.forward_sequence(frames);
    };
    let [count, _, height, width] = frames.dims();
    // An image whose channels are the frames.
    let image = frames.reshape([1, count, height, width]);
    let output = tiles.infer(image, |tile| {
        let [_, _, height, width] = tile.dims();
        let output = network.forward_sequence(tile.reshape([count, 1, height, width]));
        output.reshape([1, -1, height as i32, width as i32])
    });
    let channels = SigmaMUNet::CHANNELS;
    let num_windows = output.dims()[1] / channels;
    output.reshape([num_windows, channels, height, width])
}

fn places(emitters: &[Localization]) -> Vec<[f32; 2]> {
    emitters
        .iter()
        .map(|emitter| [emitter.x, emitter.y])
        .collect()
}

fn metrics(score: &Score) -> Metrics {
    let mut metrics = Metrics::from([
        ("jaccard".into(), score.jaccard()),
        ("precision".into(), score.precision()),
        ("recall".into(), score.recall()),
    ]);
    if let Some(rmse) = score.rmse() {
        metrics.insert("rmse_px".into(), rmse);
    }
    metrics
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;
    use burn_memopt::grad_checkpoint::hold_random_stream;
    use burn_memopt_models::decode::{MUNetConfig, SigmaMUNetConfig};

    use super::*;

    #[test]
    fn tiles_have_the_outputs_of_whole_frames() {
        let device = Device::flex();
        let core = MUNetConfig::new()
            .with_depth_shared(1)
            .with_depth_union(1)
            .with_initial_features(4)
            .with_inter_features(4);
        let (network, frames) = {
            let _stream = hold_random_stream().seeded(&device, 5);
            let network = SigmaMUNetConfig::new().with_core(core).init(&device);
            let shape = [4, 1, 76, 90];
            let frames = Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device);
            network.forward_sequence(frames.clone());
            (network, frames)
        };
        let whole = outputs(&network, None, frames.clone());
        let off = |halo| {
            let tiles = ExactTiles::with_halo([44; 2], halo, 2);
            let tiled = outputs(&network, Some(&tiles), frames.clone());
            (tiled - whole.clone()).abs().max().into_scalar::<f32>()
        };
        assert_eq!(whole.dims(), [2, 10, 76, 90]);
        assert!(off(18) < 1e-5 && off(8) > 1e-4, "{} {}", off(18), off(8));
    }
}
