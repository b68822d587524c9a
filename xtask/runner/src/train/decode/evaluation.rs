//! Localizing frames the network was not trained on, and evaluating it by them.

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::Device;
use burn_memopt_datasets::localizations::{Localization, write_csv};
use burn_memopt_models::decode::{DetectionConfig, FoundEmitter, Score, SigmaMUNet};

use super::data::{Data, Samples};
use crate::run_dir::RunDir;
use crate::settings::DecodeSettings;
use crate::train::job::Metrics;

/// Localizes the frames held out, or the training frames where none are; writes
/// `localizations.csv` and `units.json` into the run.
///
/// `jaccard` is the Jaccard index of found and true emitters, `rmse_px` the root mean squared
/// distance of the matches in pixels, where there are any; next to them `precision` and `recall`.
///
/// # Errors
/// If a frame cannot be read or a file not be written.
pub fn evaluate(
    network: &SigmaMUNet,
    data: &Data,
    settings: &DecodeSettings,
    batch_size: usize,
    run: &RunDir,
    device: &Device,
) -> Result<Metrics> {
    let (network, device) = (network.valid(), device.clone().without_autodiff());
    let samples = data.held_out.as_ref().unwrap_or(&data.training);
    let detection = DetectionConfig::new().with_threshold(settings.threshold);
    let (mut rows, mut score) = (Vec::new(), Score::default());
    let frames: Vec<usize> = samples.frames.clone().collect();
    for frames in frames.chunks(batch_size) {
        let found = localize(&network, data, samples, frames, &detection, &device)?;
        for (&frame, found) in frames.iter().zip(found) {
            let found = found.iter().map(|emitter| data.units.row(frame, emitter));
            let found: Vec<Localization> = found.collect();
            let truth = samples.emitters.emitters(frame);
            let radius = settings.radius;
            score = score.plus(Score::of_frame(&places(&found), &places(truth), radius));
            rows.extend(found);
        }
    }
    run.replace_file("localizations.csv", |path| Ok(write_csv(path, &rows)?))?;
    let units = serde_json::to_string_pretty(&data.units).context("cannot write units as JSON")?;
    run.replace_file("units.json", |path| Ok(std::fs::write(path, units + "\n")?))?;
    Ok(match data.held_out {
        None => Metrics::new(),
        Some(_) => metrics(&score),
    })
}

/// The emitters that the network finds in consecutive frames.
fn localize(
    network: &SigmaMUNet,
    data: &Data,
    samples: &Samples,
    frames: &[usize],
    detection: &DetectionConfig,
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
    let batcher = data.batcher(network.net.size_multiple());
    let output = network.forward_sequence(batcher.batch(&pixels, 1, device));
    let [height, width] = batcher.size;
    let [batch_size, channels, ..] = output.dims();
    let output = output.slice([0..batch_size, 0..channels, 0..height, 0..width]);
    Ok(detection.find(output, &data.units.output))
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
